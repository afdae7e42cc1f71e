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
void enqueue(double seconds); /* the device's clock goes on */
bool captured(const Node &node);
CUresult launch_now(const Node &node);

#define ALIVE() do { if (sticky()) return sticky(); } while (0)
