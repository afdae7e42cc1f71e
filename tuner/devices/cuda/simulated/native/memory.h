/* Device memory of the simulated driver, which is the host's. */

#pragma once

#include "state.h"

struct Hash {
  uint64_t low, high;
};

struct Allocation {
  char *begin;
  size_t bytes;
  bool changed; /* since the hash was taken */
  Hash hash;
};

CUresult allocate(CUdeviceptr *pointer, size_t bytes);
CUresult release(CUdeviceptr pointer);
size_t free_bytes(void);
Allocation *allocation_at(uintptr_t address);
const Hash &hash_of(Allocation *allocation);
void all_changed(void);
void mix(Hash &hash, const void *data, size_t bytes);
/* Whether these bytes lie in one allocation; then it counts as changed where `write` is true. */
bool touch(CUdeviceptr pointer, size_t bytes, bool write);
