/* Blocks of threads on one CPU: every thread is a fiber, and a barrier is where it stops until all have come.

   Threads run in another order after every barrier (rising, falling, shuffled), so that code which only works in one
   of them shows. A launch fails as a whole: its fibers are left where they are. */

#include "state.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

char launch_failure[512];
const Launch *current_launch;
unsigned block_epoch;

static const size_t STACK = 256 << 10;

enum State { READY, AT_BARRIER, AT_MEETING, ENDED };

struct Copy {
  const char *from;
  unsigned to_offset, bytes, read, group;
  char data[16];
};

struct Fiber {
  void *stack_pointer;
  State state;
  SimtIndex index;
  int predicate, count;
  unsigned mask;
  int fence;
  void (*work)(void **, unsigned);
  void *argument;
  Copy *copies;
  unsigned copies_held, copies_made, groups;
};

static Fiber fibers[MAX_THREADS];
static unsigned order[MAX_THREADS], threads, running;
static unsigned warp_epochs[MAX_THREADS / WARP];
static SimtIndex block_index;
static char *stacks;
static void *main_stack_pointer;
static CUresult failure;
static uint64_t shuffled;

static char dynamic_memory[MAX_DYNAMIC_SHARED + 4096] __attribute__((aligned(1024)));
char *const dynamic_shared = dynamic_memory;

/* --- switching ------------------------------------------------------------------------------------------- */

#if defined(__x86_64__)
extern "C" void simt_switch(void **save, void *load);
asm(".text\n.globl simt_switch\n.hidden simt_switch\nsimt_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");

static void *prepared(char *top, void (*entry)(void)) {
  void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15);
  *--sp = nullptr; /* keeps the stack as the ABI wants it at an entry */
  *--sp = (void *)entry;
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  return sp;
}
#elif defined(__aarch64__)
extern "C" void simt_switch(void **save, void *load);
asm(".text\n.globl simt_switch\n.hidden simt_switch\nsimt_switch:\n"
    "  sub sp, sp, #160\n"
    "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n  stp x25, x26, [sp, #48]\n"
    "  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n"
    "  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x9, sp\n  str x9, [x0]\n  mov sp, x1\n"
    "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n  ldp x25, x26, [sp, #48]\n"
    "  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n"
    "  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #160\n  ret\n");

static void *prepared(char *top, void (*entry)(void)) {
  void **sp = (void **)(((uintptr_t)top & ~(uintptr_t)15) - 160);
  memset(sp, 0, 160);
  sp[11] = (void *)entry;
  return sp;
}
#else
#error "fibers are written for x86-64 and AArch64"
#endif

static void yield(void) { simt_switch(&fibers[running].stack_pointer, main_stack_pointer); }

void fail_launch(CUresult error, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int used = vsnprintf(launch_failure, sizeof launch_failure, format, arguments);
  va_end(arguments);
  const SimtIndex t = fibers[running].index;
  if (used > 0 && used < (int)sizeof launch_failure)
    snprintf(launch_failure + used, sizeof launch_failure - used, " (%s, block %u,%u,%u, thread %u,%u,%u)",
             current_launch->kernel->name, block_index.x, block_index.y, block_index.z, t.x, t.y, t.z);
  failure = error;
  yield();
  abort();
}

bool on_a_stack(const void *address) {
  return (uintptr_t)address - (uintptr_t)stacks < MAX_THREADS * STACK;
}
unsigned current_thread(void) { return running; }
unsigned warp_epoch(unsigned warp) { return warp_epochs[warp]; }

/* --- what threads call ------------------------------------------------------------------------------------ */

static unsigned lanes_alive(unsigned warp) {
  unsigned alive = 0;
  for (unsigned lane = 0, t = warp * WARP; lane < WARP && t < threads; ++lane, ++t)
    if (fibers[t].state != ENDED) alive |= 1u << lane;
  return alive;
}

/* Runs the work of lanes that all wait for the same, once every one of their mask that lives has come. */
static void try_meeting(unsigned warp, unsigned lane) {
  Fiber *lanes = fibers + warp * WARP;
  const Fiber &first = lanes[lane];
  const unsigned wanted = first.mask & lanes_alive(warp);
  void *arguments[WARP] = {};
  for (unsigned l = 0; l < WARP; ++l) {
    if (!(wanted >> l & 1)) continue;
    if (lanes[l].state != AT_MEETING || lanes[l].work != first.work || lanes[l].mask != first.mask) return;
    arguments[l] = lanes[l].argument;
  }
  if (first.work) first.work(arguments, wanted);
  if (first.fence && wanted == lanes_alive(warp)) ++warp_epochs[warp];
  for (unsigned l = 0; l < WARP; ++l)
    if (wanted >> l & 1) lanes[l].state = READY;
}

static void entry(void) {
  current_launch->kernel->call(current_launch->parameters);
  simt_wait_async(0);
  fibers[running].state = ENDED;
  const unsigned warp = running / WARP;
  for (unsigned lane = 0; lane < WARP && warp * WARP + lane < threads; ++lane)
    if (fibers[warp * WARP + lane].state == AT_MEETING) {
      try_meeting(warp, lane);
      break;
    }
  yield();
}

SimtIndex simt_thread(void) { return fibers[running].index; }
SimtIndex simt_block(void) { return block_index; }
SimtIndex simt_block_size(void) { return current_launch->block; }
SimtIndex simt_grid_size(void) { return current_launch->grid; }
char *simt_dynamic_shared(void) { return dynamic_shared; }
unsigned simt_active_lanes(void) { return lanes_alive(running / WARP); }
void simt_trap(void) { fail_launch(CUDA_ERROR_LAUNCH_FAILED, "the kernel trapped"); }

int simt_barrier_count(int predicate) {
  Fiber &fiber = fibers[running];
  fiber.predicate = predicate;
  fiber.state = AT_BARRIER;
  yield();
  return fiber.count;
}
void simt_barrier(void) { simt_barrier_count(0); }

void simt_meet(unsigned mask, void (*work)(void **, unsigned), void *argument, int fence) {
  Fiber &fiber = fibers[running];
  if (!(mask >> running % WARP & 1)) fail_launch(CUDA_ERROR_ILLEGAL_INSTRUCTION, "a lane is not in its own mask");
  fiber.mask = mask;
  fiber.work = work;
  fiber.argument = argument;
  fiber.fence = fence;
  fiber.state = AT_MEETING;
  try_meeting(running / WARP, running % WARP);
  if (fiber.state != READY) yield();
}

/* --- asynchronous copies: their bytes arrive at the wait ---------------------------------------------------- */

static const unsigned DYNAMIC = 1u << 24; /* addresses of dynamic shared memory, apart from those of static */

unsigned simt_shared_address(const void *pointer) {
  const char *p = (const char *)pointer;
  if (p >= dynamic_shared && p < dynamic_shared + sizeof dynamic_memory) return DYNAMIC + (unsigned)(p - dynamic_shared);
  const SimtKernel &kernel = *current_launch->kernel;
  if (p >= kernel.shared_begin && p < kernel.shared_end) return (unsigned)(p - kernel.shared_begin);
  fail_launch(CUDA_ERROR_INVALID_ADDRESS_SPACE, "operation not supported on global/shared address space: %p", pointer);
}

static char *shared_pointer(unsigned address) {
  return address >= DYNAMIC ? dynamic_shared + (address - DYNAMIC) : current_launch->kernel->shared_begin + address;
}

void simt_copy_async(unsigned to, const void *from, unsigned bytes, unsigned read) {
  if (bytes != 4 && bytes != 8 && bytes != 16) simt_trap();
  char *destination = shared_pointer(to);
  if (((uintptr_t)destination | (read ? (uintptr_t)from : 0)) % bytes)
    fail_launch(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address: an asynchronous copy of %u bytes from %p to %p",
                bytes, from, (void *)destination);
  if (read) check_access(from, read, false, false);
  check_access(destination, bytes, true, false);
  mark_async(destination, bytes, true);
  Fiber &fiber = fibers[running];
  if (fiber.copies_made == fiber.copies_held) {
    fiber.copies_held = fiber.copies_held ? 2 * fiber.copies_held : 16;
    fiber.copies = (Copy *)realloc(fiber.copies, fiber.copies_held * sizeof(Copy));
  }
  Copy &copy = fiber.copies[fiber.copies_made++];
  copy = {nullptr, to, bytes, read, fiber.groups, {}};
  memcpy(copy.data, from, read);
}

void simt_store_shared(unsigned to, const void *from, unsigned bytes) {
  char *destination = shared_pointer(to);
  check_access(destination, bytes, true, false);
  memcpy(destination, from, bytes);
}

void simt_load_shared(void *to, unsigned from, unsigned bytes) {
  const char *source = shared_pointer(from);
  if ((uintptr_t)source % bytes) simt_misaligned(source, bytes);
  check_access(source, bytes, false, false);
  memcpy(to, source, bytes);
}

void simt_commit_async(void) { ++fibers[running].groups; }

void simt_wait_async(unsigned groups_left) {
  Fiber &fiber = fibers[running];
  unsigned done = 0;
  for (; done < fiber.copies_made; ++done) {
    const Copy &copy = fiber.copies[done];
    if (groups_left && copy.group + groups_left >= fiber.groups) break;
    char *destination = shared_pointer(copy.to_offset);
    mark_async(destination, copy.bytes, false);
    check_access(destination, copy.bytes, true, false);
    memcpy(destination, copy.data, copy.bytes);
  }
  fiber.copies_made -= done;
  memmove(fiber.copies, fiber.copies + done, fiber.copies_made * sizeof(Copy));
}

/* --- running a block ------------------------------------------------------------------------------------- */

static void reorder(void) {
  const unsigned kind = block_epoch % 3;
  for (unsigned i = 0; i < threads; ++i) order[i] = kind == 1 ? threads - 1 - i : i;
  if (kind != 2) return;
  for (unsigned i = threads - 1; i > 0; --i) {
    shuffled = shuffled * 6364136223846793005ull + 1442695040888963407ull;
    const unsigned j = (unsigned)((shuffled >> 33) % (i + 1)), other = order[j];
    order[j] = order[i];
    order[i] = other;
  }
}

/* Lets every thread go on that waits at the barrier; false while one has not come and will not. */
static bool release_barrier(void) {
  int count = 0;
  unsigned waiting = 0;
  for (unsigned t = 0; t < threads; ++t) {
    if (fibers[t].state == AT_MEETING) return false;
    if (fibers[t].state == AT_BARRIER) ++waiting, count += fibers[t].predicate != 0;
  }
  if (!waiting) return false;
  for (unsigned t = 0; t < threads; ++t)
    if (fibers[t].state == AT_BARRIER) fibers[t].state = READY, fibers[t].count = count;
  ++block_epoch;
  reorder();
  return true;
}

static void begin_block(void) {
  const SimtIndex size = current_launch->block;
  ++block_epoch;
  memset(warp_epochs, 0, sizeof warp_epochs);
  for (unsigned t = 0; t < threads; ++t) {
    Fiber &fiber = fibers[t];
    fiber.stack_pointer = prepared(stacks + (t + 1) * STACK, entry);
    fiber.state = READY;
    fiber.index = {t % size.x, t / size.x % size.y, t / size.x / size.y};
    fiber.copies_made = fiber.groups = 0;
  }
  const SimtKernel &kernel = *current_launch->kernel;
  memset(kernel.shared_begin, 0xFF, kernel.shared_end - kernel.shared_begin); /* NaN: nothing is there yet */
  memset(dynamic_shared, 0xFF, current_launch->dynamic_shared);
  reorder();
}

static void run_block(void) {
  begin_block();
  for (unsigned left = threads; left && !failure;) {
    bool moved = false;
    for (unsigned i = 0; i < threads && !failure; ++i) {
      running = order[i];
      if (fibers[running].state != READY) continue;
      moved = true;
      simt_switch(&main_stack_pointer, fibers[running].stack_pointer);
      left -= fibers[running].state == ENDED;
    }
    if (!moved && !release_barrier())
      for (;;) pause(); /* as on a GPU: threads wait for others that never come */
  }
}

CUresult run_launch(const Launch &launch) {
  if (!stacks)
    stacks = (char *)mmap(nullptr, MAX_THREADS * STACK, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stacks == MAP_FAILED) return stacks = nullptr, CUDA_ERROR_OUT_OF_MEMORY;
  current_launch = &launch;
  failure = CUDA_SUCCESS;
  threads = launch.block.x * launch.block.y * launch.block.z;
  shuffled = 1; /* every launch is run in the same order: the same arguments give the same outputs */
  begin_checks(launch);
  const uint64_t blocks = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
  for (uint64_t i = 0; i < blocks && !failure; ++i) {
    const uint64_t b = blocks % 2 ? i : blocks - 1 - i; /* nothing promises that they run from the first on */
    block_index = {(unsigned)(b % launch.grid.x), (unsigned)(b / launch.grid.x % launch.grid.y),
                   (unsigned)(b / launch.grid.x / launch.grid.y)};
    run_block();
  }
  return failure;
}
