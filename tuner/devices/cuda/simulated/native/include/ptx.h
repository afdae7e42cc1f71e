/* The instructions of PTX that sources contain; `compiler.py` puts a call in the place of each. */

#pragma once

static inline void ptx_cp_async(unsigned to, const void *from, unsigned bytes) {
  simt_copy_async(to, from, bytes, bytes);
}
static inline void ptx_cp_async(unsigned to, const void *from, unsigned bytes, unsigned read) {
  simt_copy_async(to, from, bytes, read);
}
/* Where the predicate is 0 the other words are stored at once, as by any store. */
template <class... W>
static inline void ptx_cp_async_where(unsigned to, const void *from, unsigned bytes, int predicate, W... words) {
  const unsigned other[] = {(unsigned)words...};
  if (predicate == 1) simt_copy_async(to, from, bytes, bytes);
  else simt_store_shared(to, other, sizeof other);
}
static inline void ptx_cp_async_commit_group() { simt_commit_async(); }
static inline void ptx_cp_async_wait_group(unsigned left) { simt_wait_async(left); }
static inline void ptx_cp_async_wait_all() { simt_wait_async(0); }
static inline void ptx_dp4a_u32_s32(int &r, unsigned a, int b, int c) { r = simt_dp4a(a, b, c); }
static inline void ptx_dp4a_s32_u32(int &r, int a, unsigned b, int c) { r = simt_dp4a(a, b, c); }

template <class T> static inline void ptx_laneid(T &lane) { lane = (T)nvcuda::wmma::lane_here(); }

/* --- ldmatrix and mma.sync: PTX ISA, "Matrix Fragments for mma.m16n8k8" and following, "ldmatrix" ------------------ */

/* Each of the first 8 lanes (16, 32) gives the address of a row of the first matrix (second, third and fourth). */
struct alignas(16) SimtRows {
  uint16_t row[8];
  unsigned *taken[4];
  int count;
  bool transposed;
};
UNCHECKED static void simt_deal_rows(void **lanes, unsigned present) {
  if (present != 0xFFFFFFFFu) simt_trap();
  for (int lane = 0; lane < 32; ++lane) {
    SimtRows &own = *(SimtRows *)lanes[lane];
    for (int m = 0; m < own.count; ++m) {
      unsigned word = 0;
      for (int i = 0; i < 2; ++i) {
        const int beside = lane % 4 * 2 + i, across = lane / 4;
        const int row = own.transposed ? beside : across, column = own.transposed ? across : beside;
        word |= (unsigned)((SimtRows *)lanes[8 * m + row])->row[column] << 16 * i;
      }
      *own.taken[m] = word;
    }
  }
}
static inline void simt_ldmatrix(SimtRows own, unsigned from) {
  if (nvcuda::wmma::lane_here() < 8u * own.count) simt_load_shared(own.row, from, sizeof own.row);
  simt_meet(0xFFFFFFFFu, simt_deal_rows, &own, 0);
}
template <int count, bool transposed> static inline void ptx_ldmatrix(unsigned &a, unsigned from) {
  static_assert(count == 1, "registers that are not those of the instruction");
  simt_ldmatrix({{}, {&a}, 1, transposed}, from);
}
template <int count, bool transposed> static inline void ptx_ldmatrix(unsigned &a, unsigned &b, unsigned from) {
  static_assert(count == 2, "registers that are not those of the instruction");
  simt_ldmatrix({{}, {&a, &b}, 2, transposed}, from);
}
template <int count, bool transposed>
static inline void ptx_ldmatrix(unsigned &a, unsigned &b, unsigned &c, unsigned &d, unsigned from) {
  static_assert(count == 4, "registers that are not those of the instruction");
  simt_ldmatrix({{}, {&a, &b, &c, &d}, 4, transposed}, from);
}

/* An element of a register: its bytes, and its value. */
struct SimtF16 {
  enum { bytes = 2 };
  static float value(unsigned word, int i) { return (float)simt_as<__half>((uint16_t)(word >> 16 * i)); }
};
struct SimtBf16 {
  enum { bytes = 2 };
  static float value(unsigned word, int i) { return simt_as<float>((uint32_t)(word >> 16 * i) << 16); }
};
struct SimtS8 {
  enum { bytes = 1 };
  static int value(unsigned word, int i) { return (int8_t)(word >> 8 * i); }
};
struct SimtE4m3 {
  enum { bytes = 1 };
  static float value(unsigned word, int i) {
    const unsigned v = word >> 8 * i & 0xFF, exponent = v >> 3 & 15, mantissa = v & 7;
    if ((v & 0x7F) == 0x7F) return NAN;
    const float size = exponent ? std::ldexp(8.0f + mantissa, (int)exponent - 10) : std::ldexp((float)mantissa, -9);
    return v & 0x80 ? -size : size;
  }
};

/* A warp's operands: registers of A, B and the accumulators, which are words where two of float16 share one. */
template <class Sum> struct alignas(16) SimtMma {
  unsigned a[4], b[2];
  Sum c[4];
};
/* D = A * B + C, [16, 8] = [16, depth] * [depth, 8]; products are exact and sums in float32, integers wrap. */
template <class E, int depth, class Sum> UNCHECKED static void simt_multiply(void **lanes, unsigned present) {
  if (present != 0xFFFFFFFFu) simt_trap();
  enum { each = 4 / E::bytes, words = depth / (4 * each) };
  static Sum a[16][depth], b[depth][8];
  for (int lane = 0; lane < 32; ++lane) {
    const SimtMma<Sum> &own = *(const SimtMma<Sum> *)lanes[lane];
    for (int i = 0; i < each; ++i)
      for (int word = 0; word < words; ++word) {
        const int k = word * 4 * each + lane % 4 * each + i;
        a[lane / 4][k] = E::value(own.a[2 * word], i);
        a[lane / 4 + 8][k] = E::value(own.a[2 * word + 1], i);
        b[k][lane / 4] = E::value(own.b[word], i);
      }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      Sum &sum = ((SimtMma<Sum> *)lanes[lane])->c[i];
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < depth; ++k) {
        if (std::is_integral<Sum>::value) sum = (Sum)((unsigned)sum + (unsigned)(int)(a[row][k] * b[k][column]));
        else sum += a[row][k] * b[k][column];
      }
    }
}
template <class E, int depth, class Sum> static inline void simt_mma(SimtMma<Sum> &own) {
  simt_meet(0xFFFFFFFFu, simt_multiply<E, depth, Sum>, &own, 0);
}
/* D, A, B, C in registers, as the instruction lists them: A of four and B of two registers, or half as many. */
template <class E, int depth, class Sum>
static inline void ptx_mma(Sum &d0, Sum &d1, Sum &d2, Sum &d3, unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                           unsigned b0, unsigned b1, Sum c0, Sum c1, Sum c2, Sum c3) {
  static_assert(depth * E::bytes == 32, "registers that are not those of the shape");
  SimtMma<Sum> own = {{a0, a1, a2, a3}, {b0, b1}, {c0, c1, c2, c3}};
  simt_mma<E, depth>(own);
  d0 = own.c[0], d1 = own.c[1], d2 = own.c[2], d3 = own.c[3];
}
template <class E, int depth, class Sum>
static inline void ptx_mma(Sum &d0, Sum &d1, Sum &d2, Sum &d3, unsigned a0, unsigned a1, unsigned b0, Sum c0, Sum c1,
                           Sum c2, Sum c3) {
  static_assert(depth * E::bytes == 16, "registers that are not those of the shape");
  SimtMma<Sum> own = {{a0, a1}, {b0}, {c0, c1, c2, c3}};
  simt_mma<E, depth>(own);
  d0 = own.c[0], d1 = own.c[1], d2 = own.c[2], d3 = own.c[3];
}
/* Sums in float16: two in a register, rounded once. */
static inline unsigned simt_pair(float low, float high) {
  return (unsigned)simt_as<uint16_t>(__half::rounded(low)) | (unsigned)simt_as<uint16_t>(__half::rounded(high)) << 16;
}
template <class E, int depth>
static inline void ptx_mma(unsigned &d0, unsigned &d1, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                           unsigned b1, unsigned c0, unsigned c1) {
  static_assert(depth * E::bytes == 32, "registers that are not those of the shape");
  SimtMma<float> own = {{a0, a1, a2, a3}, {b0, b1},
                        {E::value(c0, 0), E::value(c0, 1), E::value(c1, 0), E::value(c1, 1)}};
  simt_mma<E, depth>(own);
  d0 = simt_pair(own.c[0], own.c[1]), d1 = simt_pair(own.c[2], own.c[3]);
}
