/* The part of nvcuda::wmma that TVM's sources use, by mma.sync and ldmatrix, for sm_80 and later.

   A fragment has the layout of the PTX ISA ("Matrix Fragments for mma.m16n8k16"): a lane is in group lane / 4, at
   place lane % 4. A register of A or B has the elements of one row or column that lie beside one another. A product
   [16, 16] is two of m16n8k16, of 8 columns each. Shared memory may be swizzled (`Swizzled`). */
namespace warp_mma {

struct matrix_a;
struct matrix_b;
struct accumulator;
struct row_major;
struct col_major;
enum layout_t { mem_row_major, mem_col_major };

template <class A, class B> struct Same { enum { value = 0 }; };
template <class A> struct Same<A, A> { enum { value = 1 }; };
template <class L> struct ByRows { enum { value = 0 }; };
template <> struct ByRows<row_major> { enum { value = 1 }; };

/* 16 x 16 elements of A or B in 2 registers a byte of an element; B's first 8 columns are the first half of them. */
template <class Use, int M, int N, int K, class T, class L = void> struct fragment {
  static_assert(M == 16 && N == 16 && K == 16, "tiles of 16 x 16");
  unsigned x[2 * sizeof(T)];
};
template <> struct fragment<accumulator, 16, 16, 16, float> { float x[8]; };
template <> struct fragment<accumulator, 16, 16, 16, int> { int x[8]; };
template <> struct fragment<accumulator, 16, 16, 16, half> { unsigned x[4]; };

static __device__ __forceinline__ int lane() {
  int number;
  asm("mov.u32 %0, %%laneid;" : "=r"(number));
  return number;
}

/* What lies so many elements behind the beginning of a tile. */
template <class T> __device__ __forceinline__ T* at(T* tile, int offset) { return tile + offset; }

template <class C> __device__ __forceinline__ void fill_fragment(C& c, float value) {
  for (auto& x : c.x) x = value;
}
static __device__ __forceinline__ unsigned pair(half low, half high) {
  return *(unsigned short*)&low | (unsigned)*(unsigned short*)&high << 16;
}
__device__ __forceinline__ void fill_fragment(fragment<accumulator, 16, 16, 16, half>& c, half value) {
  for (auto& x : c.x) x = pair(value, value);
}

static __device__ __forceinline__ void rows(unsigned (&x)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
}
static __device__ __forceinline__ void columns(unsigned (&x)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
}
static __device__ __forceinline__ void rows(unsigned (&x)[2], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(x[0]), "=r"(x[1])
               : "r"((unsigned)__cvta_generic_to_shared(row)));
}

/* Elements of 2 bytes: four matrices of 8 x 8. A's go down first, then right; those of B that lies by rows, too, which
   is k first, then n. Where the tile lies the other way, so do its matrices. */
template <class Use, class T, class L, class P>
__device__ __forceinline__ void load_pairs(fragment<Use, 16, 16, 16, T, L>& f, P tile, int stride) {
  const int l = lane(), inner = l % 8, first = l / 8 % 2 * 8, second = l / 16 * 8;
  const bool is_a = Same<Use, matrix_a>::value, by_rows = ByRows<L>::value;
  const int row = inner + (by_rows ? first : second), column = by_rows ? second : first;
  if (is_a == by_rows) rows(f.x, at(tile, row * stride + column));
  else columns(f.x, at(tile, row * stride + column));
}

/* Elements of one byte: A by rows and B by columns are two matrices of 8 rows of 16 bytes. ldmatrix cannot transpose
   bytes: the others are gathered. */
template <class T, class P>
__device__ __forceinline__ unsigned gathered(P tile, int stride, int from, int across) {
  unsigned word = 0;
  for (int i = 0; i < 4; ++i) word |= (unsigned)(unsigned char)*at(tile, (from + i) * stride + across) << 8 * i;
  return word;
}
template <class Use, class T, class L, class P>
__device__ __forceinline__ void load_bytes(fragment<Use, 16, 16, 16, T, L>& f, P tile, int stride) {
  const int l = lane();
  if (Same<Use, matrix_a>::value == (bool)ByRows<L>::value) {
    rows(f.x, at(tile, l % 16 * stride));
  } else {
    for (int half = 0; half < 2; ++half) f.x[half] = gathered<T>(tile, stride, l % 4 * 4, l / 4 + 8 * half);
  }
}

template <int bytes> struct Load;
template <> struct Load<2> {
  template <class F, class P> static __device__ __forceinline__ void run(F& f, P tile, int stride) { load_pairs(f, tile, stride); }
};
template <> struct Load<1> {
  template <class F, class P> static __device__ __forceinline__ void run(F& f, P tile, int stride) { load_bytes(f, tile, stride); }
};
template <class Use, class T, class L, class P>
__device__ __forceinline__ void load_matrix_sync(fragment<Use, 16, 16, 16, T, L>& f, P tile, int stride) {
  Load<sizeof(T)>::run(f, tile, stride);
}

/* 16 x 8 = 16 x 16 * 16 x 8, and the sums before. */
static __device__ __forceinline__ void product(half, float* c, const unsigned* a, const unsigned* b) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void product(half, unsigned* c, const unsigned* a, const unsigned* b) {
  asm("mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%0, %1}, {%2, %3, %4, %5}, {%6, %7}, {%0, %1};"
               : "+r"(c[0]), "+r"(c[1])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void product(__nv_bfloat16, float* c, const unsigned* a, const unsigned* b) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void product(signed char, int* c, const unsigned* a, const unsigned* b) {
  asm(
      "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}
template <class T, class LA, class LB, class Sum>
__device__ __forceinline__ void mma_sync(fragment<accumulator, 16, 16, 16, Sum>& d,
                                         const fragment<matrix_a, 16, 16, 16, T, LA>& a,
                                         const fragment<matrix_b, 16, 16, 16, T, LB>& b,
                                         const fragment<accumulator, 16, 16, 16, Sum>& c) {
  const int words = sizeof(d.x) / sizeof(d.x[0]);
  for (int i = 0; i < words; ++i) d.x[i] = c.x[i];
  product(T(), d.x, a.x, b.x);
  product(T(), d.x + words / 2, a.x, b.x + sizeof(T));
}

/* Two sums that lie beside one another. */
static __device__ __forceinline__ void put(float* to, const float* x) { *(float2*)to = make_float2(x[0], x[1]); }
static __device__ __forceinline__ void put(int* to, const int* x) { *(int2*)to = make_int2(x[0], x[1]); }
static __device__ __forceinline__ void put(half* to, const unsigned* x) { *(unsigned*)to = *x; }

template <class P, class Sum>
__device__ __forceinline__ void store_matrix_sync(P tile, const fragment<accumulator, 16, 16, 16, Sum>& c, int stride,
                                                  layout_t) {
  const int l = lane(), each = sizeof(c.x) / sizeof(c.x[0]) / 4;
  for (int part = 0; part < 4; ++part)
    put(at(tile, (l / 4 + part % 2 * 8) * stride + part / 2 * 8 + l % 4 * 2), c.x + part * each);
}

}  // namespace warp_mma
