/* Threads: barriers, votes, shuffles, atomics and what else they do together. */

#pragma once

typedef SimtIndex uint3_index;
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
static const int warpSize = 32;

static inline void __syncthreads() { simt_barrier(); }
static inline int __syncthreads_count(int p) { return simt_barrier_count(p); }
static inline int __syncthreads_or(int p) { return simt_barrier_count(p) != 0; }
static inline int __syncthreads_and(int p) { return simt_barrier_count(!p) == 0; }
static inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { simt_meet(mask, nullptr, nullptr, 1); }
static inline void __threadfence() {}
static inline void __threadfence_block() {}
static inline void __threadfence_system() {}
static inline unsigned __activemask() { return simt_active_lanes(); }
static inline void __trap() { simt_trap(); }
static inline long long clock64() { return (long long)simt_clock_ns(); }
static inline void __nanosleep(unsigned) {}
static inline size_t __cvta_generic_to_shared(const void *p) { return simt_shared_address(p); }

/* --- shuffles and votes: the last lane that comes does it for all ------------------------------------------------ */

struct SimtShuffle {
  uint64_t given, taken;
  int kind, amount, width; /* kind: 0 lane, 1 up, 2 down, 3 xor */
};
UNCHECKED static void simt_shuffle(void **lanes, unsigned present) {
  for (int lane = 0; lane < 32; ++lane) {
    if (!(present >> lane & 1)) continue;
    SimtShuffle &own = *(SimtShuffle *)lanes[lane];
    const int first = lane / own.width * own.width;
    int from = own.kind == 0   ? first + (own.amount & (own.width - 1))
               : own.kind == 1 ? lane - own.amount
               : own.kind == 2 ? lane + own.amount
                               : lane ^ own.amount;
    if (from < first || (own.kind == 2 && from >= first + own.width) || (own.kind == 3 && from >= first + own.width))
      from = lane;
    /* the value of a lane that does not take part is undefined: something that shows */
    own.taken = present >> from & 1 ? ((SimtShuffle *)lanes[from])->given : ~0ull;
  }
}
template <class T> static inline T simt_shuffled(unsigned mask, T value, int kind, int amount, int width) {
  static_assert(sizeof(T) <= 8, "shuffles take up to eight bytes");
  SimtShuffle own = {0, 0, kind, amount, width};
  memcpy(&own.given, &value, sizeof(T));
  simt_meet(mask, simt_shuffle, &own, 0);
  memcpy(&value, &own.taken, sizeof(T));
  return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T v, int lane, int width = 32) {
  return simt_shuffled(mask, v, 0, lane, width);
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32) {
  return simt_shuffled(mask, v, 1, (int)by, width);
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32) {
  return simt_shuffled(mask, v, 2, (int)by, width);
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int with, int width = 32) {
  return simt_shuffled(mask, v, 3, with, width);
}

struct SimtVote {
  int predicate;
  unsigned ballot, present;
};
UNCHECKED static void simt_vote(void **lanes, unsigned present) {
  unsigned ballot = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (present >> lane & 1 && ((SimtVote *)lanes[lane])->predicate) ballot |= 1u << lane;
  for (int lane = 0; lane < 32; ++lane)
    if (present >> lane & 1) ((SimtVote *)lanes[lane])->ballot = ballot, ((SimtVote *)lanes[lane])->present = present;
}
static inline SimtVote simt_voted(unsigned mask, int predicate) {
  SimtVote own = {predicate, 0, 0};
  simt_meet(mask, simt_vote, &own, 0);
  return own;
}
static inline unsigned __ballot_sync(unsigned mask, int p) { return simt_voted(mask, p).ballot; }
static inline int __any_sync(unsigned mask, int p) { return simt_voted(mask, p).ballot != 0; }
static inline int __all_sync(unsigned mask, int p) {
  SimtVote v = simt_voted(mask, p);
  return v.ballot == v.present;
}

/* --- atomics: no thread is interrupted between two barriers -------------------------------------------------------- */

template <class T, class F> UNCHECKED static T simt_updated(T *at, F change) {
  simt_atomic(at, sizeof(T));
  T before;
  memcpy(&before, at, sizeof(T));
  T after = change(before);
  memcpy(at, &after, sizeof(T));
  return before;
}
#define SIMT_ATOMIC(NAME, RESULT)                                            \
  template <class T> static inline T NAME(T *at, std::common_type_t<T> v) { \
    return simt_updated(at, [v](T x) -> T { return RESULT; });              \
  }
SIMT_ATOMIC(atomicAdd, (T)(x + v))
SIMT_ATOMIC(atomicSub, (T)(x - v))
SIMT_ATOMIC(atomicMax, (x < v ? v : x))
SIMT_ATOMIC(atomicMin, (v < x ? v : x))
SIMT_ATOMIC(atomicAnd, (T)(x & v))
SIMT_ATOMIC(atomicOr, (T)(x | v))
SIMT_ATOMIC(atomicXor, (T)(x ^ v))
SIMT_ATOMIC(atomicExch, v)
template <class T> static inline T atomicCAS(T *at, std::common_type_t<T> is, std::common_type_t<T> v) {
  return simt_updated(at, [is, v](T x) -> T { return x == is ? v : x; });
}
template <class T> static inline T __ldg(const T *p) { return *p; }
