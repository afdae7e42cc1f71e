/* Functions of numbers that CUDA has without a header. The fast ones are as exact here as the others. */

#pragma once

#define SIMT_EXTREMES(T)                                             \
  static inline T max(T a, T b) { return a < b ? b : a; }            \
  static inline T min(T a, T b) { return b < a ? b : a; }
SIMT_EXTREMES(int)
SIMT_EXTREMES(unsigned)
SIMT_EXTREMES(long)
SIMT_EXTREMES(unsigned long)
SIMT_EXTREMES(long long)
SIMT_EXTREMES(unsigned long long)
static inline unsigned max(int a, unsigned b) { return max((unsigned)a, b); }
static inline unsigned max(unsigned a, int b) { return max(a, (unsigned)b); }
static inline unsigned min(int a, unsigned b) { return min((unsigned)a, b); }
static inline unsigned min(unsigned a, int b) { return min(a, (unsigned)b); }
/* of a number and NaN it is the number, as a GPU's instructions have it */
static inline float max(float a, float b) { return std::fmax(a, b); }
static inline float min(float a, float b) { return std::fmin(a, b); }
static inline double max(double a, double b) { return std::fmax(a, b); }
static inline double min(double a, double b) { return std::fmin(a, b); }
static inline double max(float a, double b) { return std::fmax((double)a, b); }
static inline double max(double a, float b) { return std::fmax(a, (double)b); }
static inline double min(float a, double b) { return std::fmin((double)a, b); }
static inline double min(double a, float b) { return std::fmin(a, (double)b); }

/* the C library has functions of these names for itself */
#define __expf simt__expf
#define __exp10f simt__exp10f
#define __logf simt__logf
#define __log2f simt__log2f
#define __log10f simt__log10f
#define __sinf simt__sinf
#define __cosf simt__cosf
#define __tanf simt__tanf
#define __powf simt__powf
static inline float simt__expf(float x) { return std::exp(x); }
static inline float simt__exp10f(float x) { return std::pow(10.0f, x); }
static inline float simt__logf(float x) { return std::log(x); }
static inline float simt__log2f(float x) { return std::log2(x); }
static inline float simt__log10f(float x) { return std::log10(x); }
static inline float simt__sinf(float x) { return std::sin(x); }
static inline float simt__cosf(float x) { return std::cos(x); }
static inline float simt__tanf(float x) { return std::tan(x); }
static inline float simt__powf(float x, float y) { return std::pow(x, y); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return std::sqrt(x); }
static inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
static inline float __fadd_rn(float x, float y) { volatile float r = x + y; return r; }
static inline float __fmul_rn(float x, float y) { volatile float r = x * y; return r; }
static inline float __saturatef(float x) { return x < 0 || x != x ? 0.0f : x > 1 ? 1.0f : x; }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
static inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
static inline float rcbrtf(float x) { return 1.0f / std::cbrt(x); }
#ifndef __APPLE__
#define exp10f(x) powf(10.0f, (x))
#endif

template <class To, class From> static inline To simt_as(From from) {
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static inline int __float_as_int(float x) { return simt_as<int>(x); }
static inline unsigned __float_as_uint(float x) { return simt_as<unsigned>(x); }
static inline float __int_as_float(int x) { return simt_as<float>(x); }
static inline float __uint_as_float(unsigned x) { return simt_as<float>(x); }
static inline long long __double_as_longlong(double x) { return simt_as<long long>(x); }
static inline double __longlong_as_double(long long x) { return simt_as<double>(x); }
static inline int __float2int_rn(float x) { return (int)std::nearbyint(x); }
static inline int __float2int_rz(float x) { return (int)x; }
static inline float __int2float_rn(int x) { return (float)x; }

static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; ++i) r |= (x >> i & 1) << (31 - i);
  return r;
}
static inline int __mul24(int a, int b) { return (a << 8 >> 8) * (b << 8 >> 8); }
static inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }

template <class A, class B> static inline int simt_dp4a(A a, B b, int c) {
  for (int i = 0; i < 4; ++i) {
    const int x = std::is_signed<A>::value ? (int)(int8_t)(a >> 8 * i) : (int)(uint8_t)(a >> 8 * i);
    const int y = std::is_signed<B>::value ? (int)(int8_t)(b >> 8 * i) : (int)(uint8_t)(b >> 8 * i);
    c += x * y;
  }
  return c;
}
static inline int __dp4a(int a, int b, int c) { return simt_dp4a(a, b, c); }
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) { return (unsigned)simt_dp4a(a, b, (int)c); }
