/* The simulated driver's clock, errors and graphs. */

#pragma once

#include "state.h"

struct Node {
  CUfunction function;
  Launch launch;
};

CUresult sticky(void);                              /* the error that every later call answers with */
CUresult fail(CUresult error, const char *words);   /* makes an error sticky; told by the next call that waits */
CUresult explain(CUresult error, const char *words); /* an error with words of its own */
int64_t now_ns(void);
void stop_clock_since(int64_t began_ns); /* what the host took to simulate a kernel is no time of the device */
void enqueue(int64_t ns);
CUresult finish(int64_t until_ns);
int64_t enqueued_ns(void);
bool captured(const Node &node);
CUresult launch_now(const Node &node);

#define ALIVE() do { if (sticky()) return sticky(); } while (0)
