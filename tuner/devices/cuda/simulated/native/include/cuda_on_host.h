/* CUDA C++ as a host compiler reads it: every name of a kernel's source stands for what one thread does on the host.

   It is included before the source. NVIDIA's headers of the same names are not used: those here are empty. */

#pragma once

#include "../simt.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __CUDA_ARCH__ 900
#define __CUDACC__ 1
#define __CUDACC_VER_MAJOR__ 13
#define __CUDACC_VER_MINOR__ 0
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define UNCHECKED __attribute__((no_sanitize("thread"), unused))

#include "threads.h"
#include "vectors.h"
#include "halves.h"
#include "mathematics.h"
#include "fragments.h"
#include "ptx.h"

/* --- what the driver is told of a kernel ---------------------------------------------------------------------- */

template <class T> UNCHECKED inline T simt_parameter(const char *&at) {
  at = (const char *)(((uintptr_t)at + sizeof(T) - 1) / sizeof(T) * sizeof(T));
  T value;
  memcpy(&value, at, sizeof(T));
  at += sizeof(T);
  return value;
}
template <class... A> struct SimtSignature {
  static constexpr uint16_t sizes[] = {(uint16_t)sizeof(A)..., 0};
  UNCHECKED static void call(void (*kernel)(A...), const char *at) {
    struct Unpacked { /* braces keep the order of the arguments */
      void (*kernel)(A...);
      UNCHECKED Unpacked(void (*k)(A...), A... values) { k(values...); }
    };
    Unpacked{kernel, simt_parameter<A>(at)...};
  }
};
template <class... A> constexpr SimtSignature<A...> simt_signature(void (*)(A...)) { return {}; }

#define SIMT_CALLER(NAME) \
  UNCHECKED static void simt_call_##NAME(const char *p) { decltype(simt_signature(NAME))::call(NAME, p); }
#define SIMT_KERNEL(NAME, BEGIN, END, THREADS, REGISTERS, SECONDS)                                           \
  {#NAME, simt_call_##NAME, decltype(simt_signature(NAME))::sizes,                                           \
   sizeof(decltype(simt_signature(NAME))::sizes) / sizeof(uint16_t) - 1, THREADS, REGISTERS, BEGIN, END, SECONDS}
