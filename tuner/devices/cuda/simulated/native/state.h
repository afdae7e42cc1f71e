/* What the files of the simulated driver share. */

#pragma once

#include "simt.h"

#include <cuda.h>

enum { MAX_THREADS = 1024, WARP = 32, MAX_DYNAMIC_SHARED = 227 << 10, MAX_STATIC_SHARED = 48 << 10 };

struct Launch {
  const SimtKernel *kernel;
  SimtIndex grid, block;
  unsigned dynamic_shared;
  const char *module_begin, *module_end; /* where its code and constants lie */
  char parameters[4096];
};

/* blocks.cc */
CUresult run_launch(const Launch &launch);
[[noreturn]] void fail_launch(CUresult error, const char *format, ...);
bool on_a_stack(const void *address);
unsigned current_thread(void);
unsigned warp_epoch(unsigned warp);
extern unsigned block_epoch; /* grows with every barrier and every block: what differs in it is in order */
extern const Launch *current_launch;
extern char *const dynamic_shared;
extern char launch_failure[512]; /* why the last launch failed, in words */

/* checks.cc */
void begin_checks(const Launch &launch);
void check_access(const void *address, unsigned bytes, bool write, bool atomic);
void mark_async(const char *to, unsigned bytes, bool pending);

/* driver.cc */
bool find_allocation(uintptr_t address, uintptr_t *begin, uintptr_t *end);
