/* Allocations in the order of their addresses, so that an address finds its own, and hashes of what they hold. */

#include "memory.h"

#include <stdlib.h>
#include <string.h>

static const size_t TOTAL = 4ull << 30;
static const size_t APART = 4096; /* bytes after each that belong to none: to run over an end is to be noticed */

static Allocation *table;
static size_t count, held, used_bytes;

static size_t position(uintptr_t address) {
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if ((uintptr_t)table[middle].begin <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

CUresult allocate(CUdeviceptr *pointer, size_t bytes) {
  if (!bytes) return CUDA_ERROR_INVALID_VALUE;
  if (bytes > TOTAL - used_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  char *begin = (char *)aligned_alloc(4096, (bytes + APART + 4095) / 4096 * 4096);
  if (!begin) return CUDA_ERROR_OUT_OF_MEMORY;
  memset(begin, 0xFF, bytes); /* NaN: what nobody wrote is to be seen */
  if (count == held) {
    held = held ? 2 * held : 64;
    table = (Allocation *)realloc(table, held * sizeof *table);
  }
  const size_t at = position((uintptr_t)begin);
  memmove(table + at + 1, table + at, (count - at) * sizeof *table);
  table[at] = {begin, bytes, true, {}};
  ++count;
  used_bytes += bytes;
  *pointer = (CUdeviceptr)begin;
  return CUDA_SUCCESS;
}

CUresult release(CUdeviceptr pointer) {
  Allocation *found = allocation_at(pointer);
  if (!found || (CUdeviceptr)found->begin != pointer) return CUDA_ERROR_INVALID_VALUE;
  used_bytes -= found->bytes;
  free(found->begin);
  const size_t at = (size_t)(found - table);
  memmove(found, found + 1, (--count - at) * sizeof *table);
  return CUDA_SUCCESS;
}

size_t free_bytes(void) { return TOTAL - used_bytes; }

Allocation *allocation_at(uintptr_t address) {
  const size_t at = position(address);
  if (!at) return nullptr;
  Allocation *found = table + at - 1;
  return address - (uintptr_t)found->begin < found->bytes ? found : nullptr;
}

bool touch(CUdeviceptr pointer, size_t bytes, bool write) {
  if (!bytes) return true;
  Allocation *found = allocation_at(pointer);
  if (!found || pointer + bytes > (CUdeviceptr)found->begin + found->bytes) return false;
  found->changed |= write;
  return true;
}

void all_changed(void) {
  for (size_t i = 0; i < count; ++i) table[i].changed = true;
}

void mix(Hash &hash, const void *data, size_t bytes) {
  const char *p = (const char *)data;
  uint64_t a = hash.low ^ bytes, b = hash.high + 0x9E3779B97F4A7C15ull;
  for (; bytes >= 8; p += 8, bytes -= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    a = (a ^ word) * 0x9FB21C651E98DF25ull;
    a ^= a >> 29;
    b = (b + word) * 0xD6E8FEB86659FD93ull;
    b ^= b >> 32;
  }
  uint64_t rest = 0;
  memcpy(&rest, p, bytes);
  hash.low = (a ^ rest) * 0x9FB21C651E98DF25ull;
  hash.high = (b + rest) * 0xD6E8FEB86659FD93ull ^ a >> 31;
}

const Hash &hash_of(Allocation *allocation) {
  if (allocation->changed) {
    allocation->hash = {};
    mix(allocation->hash, allocation->begin, allocation->bytes);
    allocation->changed = false;
  }
  return allocation->hash;
}
