/* Every access of a kernel is looked at before it happens: is it within memory that the kernel may touch, aligned, and
   in order with those of other threads? Compilers call these functions when they instrument code for ThreadSanitizer,
   whose own runtime is not used.

   Two accesses of shared memory to the same byte by different threads, at least one of them a write and not both
   atomic, race unless a barrier lies between them, or a __syncwarp where both are of one warp. */

#include "state.h"

#include <stdlib.h>
#include <string.h>

static const uint16_t NOBODY = 0xFFFF;
static const uint8_t MANY_WARPS = 0xFF;

/* Who touched a byte last, and when (epochs of the block and of the warp). */
struct Cell {
  uint32_t write_block, read_block;
  uint16_t write_warp_epoch, read_warp_epoch;
  uint16_t writer, reader; /* threads; a reader is NOBODY where there were several */
  uint8_t reader_warp;
  uint8_t atomic;  /* the last write */
  uint32_t pending; /* the launch in which an asynchronous copy to it has not been waited for; 0: none */
};

static Cell *static_cells, *dynamic_cells;
static uintptr_t last_begin, last_end;
static uint32_t launch_number;

void begin_checks(const Launch &launch) {
  if (!static_cells) {
    static_cells = (Cell *)calloc(MAX_STATIC_SHARED, sizeof(Cell));
    dynamic_cells = (Cell *)calloc(MAX_DYNAMIC_SHARED, sizeof(Cell));
  }
  last_begin = last_end = 0;
  ++block_epoch;
  ++launch_number;
}

static Cell *cells_of(const char *address, unsigned bytes) {
  const SimtKernel &kernel = *current_launch->kernel;
  size_t offset = (size_t)(address - kernel.shared_begin);
  if (offset < (size_t)(kernel.shared_end - kernel.shared_begin)) {
    if (offset + bytes <= (size_t)(kernel.shared_end - kernel.shared_begin)) return static_cells + offset;
    fail_launch(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered: beyond shared memory");
  }
  offset = (size_t)(address - dynamic_shared);
  if (offset < MAX_DYNAMIC_SHARED) {
    if (offset + bytes <= current_launch->dynamic_shared) return dynamic_cells + offset;
    fail_launch(CUDA_ERROR_ILLEGAL_ADDRESS,
                "an illegal memory access was encountered: byte %zu of %u of dynamic shared memory", offset,
                current_launch->dynamic_shared);
  }
  return nullptr;
}

static void race(const char *what, unsigned other) {
  fail_launch(CUDA_ERROR_LAUNCH_FAILED,
              "unspecified launch failure: a data race in shared memory: %s, and thread %u too, without a barrier "
              "between them", what, other);
}

static void order_of(Cell &cell, bool write, bool atomic) {
  const unsigned me = current_thread(), warp = me / WARP, epoch = warp_epoch(warp);
  if (cell.pending == launch_number && !write)
    fail_launch(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure: shared memory is read before the asynchronous "
                "copy to it was waited for");
  if (cell.write_block == block_epoch && cell.writer != me && !(atomic && cell.atomic) &&
      (cell.writer / WARP != warp || cell.write_warp_epoch == epoch))
    race(write ? "it is written" : "it is read where it was written", cell.writer);
  if (!write) {
    if (cell.read_block != block_epoch || cell.reader == me) {
      cell.reader = (uint16_t)me;
      cell.reader_warp = (uint8_t)warp;
    } else {
      cell.reader = NOBODY;
      if (cell.reader_warp != warp) cell.reader_warp = MANY_WARPS;
    }
    cell.read_block = block_epoch;
    cell.read_warp_epoch = (uint16_t)epoch;
    return;
  }
  if (cell.read_block == block_epoch && cell.reader != me &&
      (cell.reader_warp != warp || cell.read_warp_epoch == epoch))
    race("it is written where it was read", cell.reader);
  cell.write_block = block_epoch;
  cell.write_warp_epoch = (uint16_t)epoch;
  cell.writer = (uint16_t)me;
  cell.atomic = atomic;
}

void check_access(const void *address, unsigned bytes, bool write, bool atomic) {
  const uintptr_t at = (uintptr_t)address;
  if (at >= last_begin && at + bytes <= last_end) return;
  if (Cell *cells = cells_of((const char *)address, bytes)) {
    for (unsigned i = 0; i < bytes; ++i) order_of(cells[i], write, atomic);
    return;
  }
  if (on_a_stack(address)) return;
  uintptr_t begin, end;
  if (find_allocation(at, &begin, &end) && at + bytes <= end) {
    last_begin = begin;
    last_end = end;
    return;
  }
  const char *p = (const char *)address;
  if (p >= current_launch->module_begin && p < current_launch->module_end) return;
  if (p >= current_launch->parameters && p < current_launch->parameters + sizeof current_launch->parameters) return;
  fail_launch(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered: %s of %u bytes at %p",
              write ? "a write" : "a read", bytes, address);
}

void mark_async(const char *to, unsigned bytes, bool pending) {
  if (Cell *cells = cells_of(to, bytes))
    for (unsigned i = 0; i < bytes; ++i) cells[i].pending = pending ? launch_number : 0;
}

void simt_atomic(void *address, unsigned bytes) { check_access(address, bytes, true, true); }

/* --- what instrumented code calls --------------------------------------------------------------------------- */

void simt_misaligned(const void *address, unsigned bytes) {
  fail_launch(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address: %u bytes at %p", bytes, address);
}

static inline void aligned(const void *address, unsigned bytes, bool write) {
  if (__builtin_expect((uintptr_t)address % bytes != 0, 0)) simt_misaligned(address, bytes);
  check_access(address, bytes, write, false);
}

#define SIZES(DO) DO(1) DO(2) DO(4) DO(8) DO(16)
#define HOOKS(N)                                                                                            \
  void __tsan_read##N(void *p) { aligned(p, N, false); }                                                    \
  void __tsan_write##N(void *p) { aligned(p, N, true); }                                                    \
  void __tsan_unaligned_read##N(void *p) { check_access(p, N, false, false); }                              \
  void __tsan_unaligned_write##N(void *p) { check_access(p, N, true, false); }
extern "C" {
SIZES(HOOKS)
void __tsan_read_range(void *p, unsigned long bytes) { check_access(p, (unsigned)bytes, false, false); }
void __tsan_write_range(void *p, unsigned long bytes) { check_access(p, (unsigned)bytes, true, false); }
void __tsan_func_entry(void *) {}
void __tsan_func_exit(void) {}
void __tsan_init(void) {}
void __tsan_vptr_read(void **) {}
void __tsan_vptr_update(void **, void *) {}
}
