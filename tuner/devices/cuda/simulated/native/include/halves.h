/* float16 and bfloat16: each operation is done in float32 and rounded once, as the instructions of a GPU round. */

#pragma once

struct __half {
  _Float16 value;
  __half() = default;
  template <class T, std::enable_if_t<std::is_arithmetic<T>::value, int> = 0>
  __half(T v) : value((_Float16)v) {}
  explicit __half(_Float16 v) : value(v) {}
  operator float() const { return (float)value; }
  static __half rounded(float v) { return __half((_Float16)v); }
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  template <class T, std::enable_if_t<std::is_arithmetic<T>::value, int> = 0>
  __nv_bfloat16(T v) : bits(of((float)v)) {}
  operator float() const {
    const uint32_t word = (uint32_t)bits << 16;
    float v;
    memcpy(&v, &word, 4);
    return v;
  }
  static uint16_t of(float v) {
    uint32_t word;
    memcpy(&word, &v, 4);
    if (v != v) return 0x7FFF;
    return (uint16_t)((word + 0x7FFF + (word >> 16 & 1)) >> 16);
  }
  static __nv_bfloat16 rounded(float v) { return __nv_bfloat16(v); }
};

typedef __half half;
typedef __nv_bfloat16 nv_bfloat16;

#define SIMT_HALF(T, PAIR, MAKE)                                                                      \
  struct alignas(4) PAIR {                                                                            \
    T x, y;                                                                                           \
    PAIR() = default;                                                                                 \
    PAIR(T a, T b) : x(a), y(b) {}                                                                    \
  };                                                                                                  \
  static inline T operator+(T a, T b) { return T::rounded((float)a + (float)b); }                     \
  static inline T operator-(T a, T b) { return T::rounded((float)a - (float)b); }                     \
  static inline T operator*(T a, T b) { return T::rounded((float)a * (float)b); }                     \
  static inline T operator/(T a, T b) { return T::rounded((float)a / (float)b); }                     \
  static inline T operator-(T a) { return T::rounded(-(float)a); }                                    \
  static inline T &operator+=(T &a, T b) { return a = a + b; }                                        \
  static inline T &operator-=(T &a, T b) { return a = a - b; }                                        \
  static inline T &operator*=(T &a, T b) { return a = a * b; }                                        \
  static inline T &operator/=(T &a, T b) { return a = a / b; }                                        \
  static inline bool operator==(T a, T b) { return (float)a == (float)b; }                            \
  static inline bool operator!=(T a, T b) { return (float)a != (float)b; }                            \
  static inline bool operator<(T a, T b) { return (float)a < (float)b; }                              \
  static inline bool operator>(T a, T b) { return (float)a > (float)b; }                              \
  static inline bool operator<=(T a, T b) { return (float)a <= (float)b; }                            \
  static inline bool operator>=(T a, T b) { return (float)a >= (float)b; }                            \
  static inline T __hadd(T a, T b) { return a + b; }                                                  \
  static inline T __hsub(T a, T b) { return a - b; }                                                  \
  static inline T __hmul(T a, T b) { return a * b; }                                                  \
  static inline T __hdiv(T a, T b) { return a / b; }                                                  \
  static inline T __hneg(T a) { return -a; }                                                          \
  static inline T __habs(T a) { return T::rounded(std::fabs((float)a)); }                             \
  static inline T __hfma(T a, T b, T c) { return T::rounded(std::fma((float)a, (float)b, (float)c)); } \
  static inline bool __heq(T a, T b) { return a == b; }                                               \
  static inline bool __hne(T a, T b) { return a != b; }                                               \
  static inline bool __hlt(T a, T b) { return a < b; }                                                \
  static inline bool __hgt(T a, T b) { return a > b; }                                                \
  static inline bool __hle(T a, T b) { return a <= b; }                                               \
  static inline bool __hge(T a, T b) { return a >= b; }                                               \
  static inline bool __hisnan(T a) { return a != a; }                                                 \
  static inline T __hmax(T a, T b) { return a != a || a < b ? b : a; }                                \
  static inline T __hmin(T a, T b) { return a != a || b < a ? b : a; }                                \
  static inline T hexp(T a) { return T::rounded(std::exp((float)a)); }                                \
  static inline T hexp2(T a) { return T::rounded(std::exp2((float)a)); }                              \
  static inline T hexp10(T a) { return T::rounded(std::pow(10.0f, (float)a)); }                       \
  static inline T hlog(T a) { return T::rounded(std::log((float)a)); }                                \
  static inline T hlog2(T a) { return T::rounded(std::log2((float)a)); }                              \
  static inline T hlog10(T a) { return T::rounded(std::log10((float)a)); }                            \
  static inline T hsin(T a) { return T::rounded(std::sin((float)a)); }                                \
  static inline T hcos(T a) { return T::rounded(std::cos((float)a)); }                                \
  static inline T htanh(T a) { return T::rounded(std::tanh((float)a)); }                              \
  static inline T hsqrt(T a) { return T::rounded(std::sqrt((float)a)); }                              \
  static inline T hrsqrt(T a) { return T::rounded(1.0f / std::sqrt((float)a)); }                      \
  static inline T hrcp(T a) { return T::rounded(1.0f / (float)a); }                                   \
  static inline T hfloor(T a) { return T::rounded(std::floor((float)a)); }                            \
  static inline T hceil(T a) { return T::rounded(std::ceil((float)a)); }                              \
  static inline T htrunc(T a) { return T::rounded(std::trunc((float)a)); }                            \
  static inline T hrint(T a) { return T::rounded(std::nearbyint((float)a)); }                         \
  static inline PAIR MAKE(T a, T b) { return PAIR(a, b); }                                            \
  static inline PAIR __hadd2(PAIR a, PAIR b) { return {a.x + b.x, a.y + b.y}; }                       \
  static inline PAIR __hsub2(PAIR a, PAIR b) { return {a.x - b.x, a.y - b.y}; }                       \
  static inline PAIR __hmul2(PAIR a, PAIR b) { return {a.x * b.x, a.y * b.y}; }                       \
  static inline PAIR __hfma2(PAIR a, PAIR b, PAIR c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; } \
  static inline PAIR operator+(PAIR a, PAIR b) { return __hadd2(a, b); }                              \
  static inline PAIR operator-(PAIR a, PAIR b) { return __hsub2(a, b); }                              \
  static inline PAIR operator*(PAIR a, PAIR b) { return __hmul2(a, b); }

SIMT_HALF(__half, __half2, make_half2)
SIMT_HALF(__nv_bfloat16, __nv_bfloat162, simt_make_bfloat162)
typedef __half2 half2;
typedef __nv_bfloat162 nv_bfloat162;
#define make_bfloat162 simt_make_bfloat162

static inline float __half2float(half v) { return v; }
static inline half __float2half(float v) { return half::rounded(v); }
static inline half __float2half_rn(float v) { return half::rounded(v); }
static inline half __double2half(double v) { return half((_Float16)v); }
static inline int __half2int_rn(half v) { return (int)std::nearbyint((float)v); }
static inline half __int2half_rn(int v) { return half(v); }
static inline half __ushort_as_half(unsigned short v) { half h; memcpy(&h, &v, 2); return h; }
static inline unsigned short __half_as_ushort(half h) { unsigned short v; memcpy(&v, &h, 2); return v; }
static inline half2 __halves2half2(half a, half b) { return {a, b}; }
static inline half2 __half2half2(half a) { return {a, a}; }
static inline float __low2float(half2 v) { return v.x; }
static inline float __high2float(half2 v) { return v.y; }
static inline float __bfloat162float(nv_bfloat16 v) { return v; }
static inline nv_bfloat16 __float2bfloat16(float v) { return nv_bfloat16::rounded(v); }
static inline nv_bfloat16 __float2bfloat16_rn(float v) { return nv_bfloat16::rounded(v); }
static inline nv_bfloat16 __double2bfloat16(double v) { return nv_bfloat16((float)v); }
static inline nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { nv_bfloat16 b; b.bits = v; return b; }
static inline unsigned short __bfloat16_as_ushort(nv_bfloat16 b) { return b.bits; }
