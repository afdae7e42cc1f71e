/* What kernels compiled for the host and the simulated driver know of one another. */

#pragma once

#include <stddef.h>
#include <stdint.h>

extern "C" {

struct SimtIndex {
  unsigned x, y, z;
};

/* A kernel of a compiled file. `call` runs one thread with the parameters that lie packed at its argument. */
struct SimtKernel {
  const char *name;
  void (*call)(const char *parameters);
  const uint16_t *sizes; /* of the parameters, in order; they lie at multiples of their size */
  unsigned parameters;
  unsigned max_threads; /* of its launch bounds */
  unsigned registers;   /* of a thread, as they are estimated */
  char *shared_begin, *shared_end; /* what it declares static in shared memory */
  double seconds;                  /* of one launch, as they are estimated; 0 where nobody did */
};

/* Every compiled file has this table; its last entry has no name. */
extern SimtKernel simt_kernels[];

SimtIndex simt_thread(void);
SimtIndex simt_block(void);
SimtIndex simt_block_size(void);
SimtIndex simt_grid_size(void);

void simt_barrier(void);
int simt_barrier_count(int predicate); /* how many threads of the block gave a predicate that is not 0 */
unsigned simt_active_lanes(void);
char *simt_dynamic_shared(void);

/* All lanes of `mask` that have not ended meet here; then `work` runs once, with the argument of each lane that came.
   `fence`: what they wrote before is seen by all of them afterwards. */
void simt_meet(unsigned mask, void (*work)(void **arguments, unsigned lanes), void *argument, int fence);

unsigned simt_shared_address(const void *pointer);
void simt_copy_async(unsigned to, const void *from, unsigned bytes, unsigned read);
void simt_store_shared(unsigned to, const void *from, unsigned bytes);
void simt_load_shared(void *to, unsigned from, unsigned bytes); /* at a multiple of its size */
void simt_commit_async(void);
void simt_wait_async(unsigned groups_left);

/* Says that an access is atomic, so that it races with no other atomic one. */
void simt_atomic(void *address, unsigned bytes);
void simt_trap(void);
void simt_misaligned(const void *address, unsigned bytes);
unsigned long long simt_clock_ns(void);
}
