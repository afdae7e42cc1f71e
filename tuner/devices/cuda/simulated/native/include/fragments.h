/* nvcuda::wmma: a warp's lanes hold a tile's elements dealt out among them, and multiply together.

   Which lane holds which element is not what a GPU has, and no program may know it. */

#pragma once

namespace nvcuda {
namespace wmma {

struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

template <class T> struct Stored { typedef T type; };
template <> struct Stored<precision::tf32> { typedef float type; };

template <class Use, int M, int N, int K> struct Tile;
template <int M, int N, int K> struct Tile<matrix_a, M, N, K> { enum { rows = M, columns = K }; };
template <int M, int N, int K> struct Tile<matrix_b, M, N, K> { enum { rows = K, columns = N }; };
template <int M, int N, int K> struct Tile<accumulator, M, N, K> { enum { rows = M, columns = N }; };

template <class Use, int M, int N, int K, class T, class Layout = void> struct fragment {
  typedef typename Stored<T>::type element_type;
  enum { rows = Tile<Use, M, N, K>::rows, columns = Tile<Use, M, N, K>::columns, num_elements = rows * columns / 32 };
  element_type x[num_elements];
};

static inline unsigned lane_here() {
  const SimtIndex t = simt_thread(), n = simt_block_size();
  return (t.x + n.x * (t.y + n.y * t.z)) & 31;
}

static inline float __float_to_tf32(float v) {
  uint32_t word = simt_as<uint32_t>(v);
  return simt_as<float>((word + 0x0FFF + (word >> 13 & 1)) & ~0x1FFFu);
}

template <class F> static inline void fill_fragment(F &f, typename F::element_type v) {
  for (auto &x : f.x) x = v;
}

/* Tiles begin at multiples of 32 bytes, or of their row where that is shorter; rows at multiples of 16 bytes (CUDA C++
   Programming Guide, "Warp Matrix Functions"; PTX ISA, "wmma.load" for int8). */
template <class F, class T> UNCHECKED static inline void check_tile(const F &, const T *p, unsigned ldm) {
  const unsigned row = F::columns * sizeof(T), wanted = row < 32 ? row : 32;
  if ((uintptr_t)p % wanted || ldm * sizeof(T) % 16) simt_misaligned(p, wanted);
}

template <class F, class T> static inline void load(F &f, const T *p, unsigned ldm, bool by_rows) {
  check_tile(f, p, ldm);
  const unsigned lane = lane_here();
  for (int i = 0; i < F::num_elements; ++i) {
    const unsigned e = i * 32 + lane, row = e / F::columns, column = e % F::columns;
    f.x[i] = by_rows ? p[row * ldm + column] : p[column * ldm + row];
  }
}
template <class Use, int M, int N, int K, class T, class L, class P>
static inline void load_matrix_sync(fragment<Use, M, N, K, T, L> &f, const P *p, unsigned ldm) {
  load(f, p, ldm, std::is_same<L, row_major>::value);
}
template <int M, int N, int K, class T>
static inline void load_matrix_sync(fragment<accumulator, M, N, K, T> &f, const T *p, unsigned ldm, layout_t layout) {
  load(f, p, ldm, layout == mem_row_major);
}
template <int M, int N, int K, class T>
static inline void store_matrix_sync(T *p, const fragment<accumulator, M, N, K, T> &f, unsigned ldm, layout_t layout) {
  check_tile(f, p, ldm);
  const unsigned lane = lane_here();
  for (int i = 0; i < f.num_elements; ++i) {
    const unsigned e = i * 32 + lane, row = e / f.columns, column = e % f.columns;
    (layout == mem_row_major ? p[row * ldm + column] : p[column * ldm + row]) = f.x[i];
  }
}

template <class D, class A, class B, class C> struct Operands {
  D *d;
  const A *a;
  const B *b;
  const C *c;
};
/* Products are exact and sums are in float32, as tensor cores nearly have them; integers wrap. */
template <class D, class A, class B, class C> UNCHECKED static void multiply(void **lanes, unsigned present) {
  typedef Operands<D, A, B, C> All;
  typedef std::conditional_t<std::is_integral<typename C::element_type>::value, int, float> Sum;
  if (present != 0xFFFFFFFFu) simt_trap();
  static Sum a[A::rows][A::columns], b[B::rows][B::columns];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const All &own = *(const All *)lanes[lane];
    for (unsigned i = 0; i < A::num_elements; ++i) (&a[0][0])[i * 32 + lane] = (Sum)own.a->x[i];
    for (unsigned i = 0; i < B::num_elements; ++i) (&b[0][0])[i * 32 + lane] = (Sum)own.b->x[i];
  }
  static Sum sums[D::rows][D::columns];
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < C::num_elements; ++i)
      (&sums[0][0])[i * 32 + lane] = (Sum)((const All *)lanes[lane])->c->x[i];
  for (int i = 0; i < D::rows; ++i)
    for (int k = 0; k < A::columns; ++k)
      for (int j = 0; j < D::columns; ++j) sums[i][j] += a[i][k] * b[k][j];
  for (unsigned lane = 0; lane < 32; ++lane)
    for (unsigned i = 0; i < D::num_elements; ++i)
      ((const All *)lanes[lane])->d->x[i] = (typename D::element_type)(&sums[0][0])[i * 32 + lane];
}
template <class D, class A, class B, class C>
static inline void mma_sync(D &d, const A &a, const B &b, const C &c, bool = false) {
  static_assert((int)A::rows == D::rows && (int)A::columns == B::rows && (int)B::columns == D::columns, "tiles that do not fit");
  Operands<D, A, B, C> own = {&d, &a, &b, &c};
  simt_meet(0xFFFFFFFFu, multiply<D, A, B, C>, &own, 0);
}

}  // namespace wmma
}  // namespace nvcuda
