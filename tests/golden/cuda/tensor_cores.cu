// [3,[[1,2,2,1,1],[4,1,1,1,1],[1,1,4],2,3,1],""]
// version: 1
// arguments: [{"shape": [64, 64], "dtype": "float16"}, {"shape": [64, 64], "dtype": "float16"}, {"shape": [64, 64], "dtype": "float32"}]
// num_outputs: 1
// workspaces: []
// launches: [{"kernel": "main_kernel", "args": [0, 1, 2], "grid": [2, 4, 1], "block": [32, 2, 1], "dynamic_shared_bytes": 9728, "static_shared_bytes": 0, "cluster": [1, 1, 1], "cooperative": false}]

#ifdef __CUDACC_RTC__
  #include <cuda/std/cstdint>
  using cuda::std::uint8_t;
  using cuda::std::uint16_t;
  using cuda::std::uint32_t;
  using cuda::std::uint64_t;
  using cuda::std::int8_t;
  using cuda::std::int16_t;
  using cuda::std::int32_t;
  using cuda::std::int64_t;

  #include <cuda/std/type_traits>
  namespace std {
    using cuda::std::is_same;
    using cuda::std::is_same_v;
    using cuda::std::is_integral;
    using cuda::std::is_signed;
    using cuda::std::is_unsigned;
    using cuda::std::is_floating_point;
    using cuda::std::enable_if;
    using cuda::std::conditional;
  }

  // NVRTC uses asm/volatile instead of __asm__/__volatile__ (gcc extension).
  #ifndef __asm__
  #define __asm__ asm
  #endif
  #ifndef __volatile__
  #define __volatile__ volatile
  #endif
#else
  #include <cstdint>
  #include <type_traits>
  #include <cuda.h>
#endif

#if !defined(__CUDA_ARCH__) || (__CUDA_ARCH__ >= 530)
#include <cuda_fp16.h>
__device__ half max(half a, half b)
{
  return __hgt(__half(a), __half(b)) ? a : b;
}
__device__ half min(half a, half b)
{
  return __hlt(__half(a), __half(b)) ? a : b;
}
#endif // __CUDA_ARCH__ >= 530

// Pack two half values.
static inline __device__ __host__ unsigned
__pack_half2(const half x, const half y) {
  unsigned v0 = *((unsigned short *)&x);
  unsigned v1 = *((unsigned short *)&y);
  return (v1 << 16) | v0;
}

#define CUDA_UNSUPPORTED_HALF_MATH_BINARY(HALF_MATH_NAME, FP32_MATH_NAME) \
static inline __device__ __host__ half HALF_MATH_NAME(half x, half y) {   \
  float tmp_x = __half2float(x);                                          \
  float tmp_y = __half2float(y);                                          \
  float result = FP32_MATH_NAME(tmp_x, tmp_y);                            \
  return __float2half(result);                                            \
}

#define CUDA_UNSUPPORTED_HALF_MATH_UNARY(HALF_MATH_NAME, FP32_MATH_NAME) \
static inline __device__ __host__ half HALF_MATH_NAME(half x) {          \
  float tmp_x = __half2float(x);                                         \
  float result = FP32_MATH_NAME(tmp_x);                                  \
  return __float2half(result);                                           \
}

// Some fp16 math functions are not supported in cuda_fp16.h,
// so we define them here to make sure the generated CUDA code
// is valid.
#if defined(__CUDA_ARCH__)
#if (__CUDA_ARCH__ >= 530)
CUDA_UNSUPPORTED_HALF_MATH_BINARY(hpow, powf)
#if ((__CUDACC_VER_MAJOR__ < 12) || ((__CUDACC_VER_MAJOR__ == 12) && (__CUDACC_VER_MINOR__ < 8)))
CUDA_UNSUPPORTED_HALF_MATH_UNARY(htanh, tanhf)
#endif
CUDA_UNSUPPORTED_HALF_MATH_UNARY(htan, tanf)
CUDA_UNSUPPORTED_HALF_MATH_UNARY(hatan, atanf)
CUDA_UNSUPPORTED_HALF_MATH_UNARY(herf, erf)
#else
CUDA_UNSUPPORTED_HALF_MATH_UNARY(hexp, exp)
#endif
#endif

#undef CUDA_UNSUPPORTED_HALF_MATH_BINARY
#undef CUDA_UNSUPPORTED_HALF_MATH_UNARY

template <typename T, typename TVec2>
struct __align__(8) half4_bfloat164 {
  T x, y, z, w;
  __host__ __device__ half4_bfloat164() : x(T(0)), y(T(0)), z(T(0)), w(T(0)) {}
  __host__ __device__ half4_bfloat164(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}

};

using half4 = half4_bfloat164<__half, __half2>;
__host__ __device__ half4 make_half4(__half x, __half y, __half z, __half w) {
    return half4(x, y, z, w);
}

#include <mma.h>

#if (((__CUDACC_VER_MAJOR__ == 11) && (__CUDACC_VER_MINOR__ >= 4)) || \
     (__CUDACC_VER_MAJOR__ > 11))
#define TVM_ENABLE_L2_PREFETCH 1
#else
#define TVM_ENABLE_L2_PREFETCH 0
#endif

#ifdef _WIN32
  using uint = unsigned int;
  using uchar = unsigned char;
  using ushort = unsigned short;
  using int64_t = long long;
  using uint64_t = unsigned long long;
#else
  #define uint unsigned int
  #define uchar unsigned char
  #define ushort unsigned short
#endif
extern "C" __global__ void __launch_bounds__(64) main_kernel(half* __restrict__ a_ptr, half* __restrict__ b_ptr, float* __restrict__ c_ptr);
extern "C" __global__ void __launch_bounds__(64) main_kernel(half* __restrict__ a_ptr, half* __restrict__ b_ptr, float* __restrict__ c_ptr) {
  extern __shared__ __align__(64) uchar buf_dyn_shmem_ptr[];
  nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float> c_reindex_shared_dyn_wmma_accumulator_ptr[1];
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_a, 16, 16, 16, half, nvcuda::wmma::row_major> a_reindex_shared_dyn_wmma_matrix_a_ptr[4];
  nvcuda::wmma::fragment<nvcuda::wmma::matrix_b, 16, 16, 16, half, nvcuda::wmma::row_major> b_reindex_shared_dyn_wmma_matrix_b_ptr[4];
  nvcuda::wmma::fill_fragment(c_reindex_shared_dyn_wmma_accumulator_ptr[0], 0x0p+0f/*0.000000e+00*/);
  int cse_v1 = (((int)blockIdx.x) * 2048);
  int cse_v2 = (((int)threadIdx.y) * 256);
  int cse_v3 = (((int)threadIdx.x) >> 3);
  int cse_v4 = (((int)threadIdx.x) & 7);
  int cse_v9 = (((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8));
  int cse_v10 = (((((int)threadIdx.y) * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8));
  *(uint4*)(((half*)buf_dyn_shmem_ptr) + (((((int)threadIdx.y) * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8))) = *(uint4*)(a_ptr + (((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)));
  *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)) + 576)) = *(uint4*)(a_ptr + ((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 512));
  *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)) + 1152)) = *(uint4*)(a_ptr + ((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 1024));
  *(uint4*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 288) + ((((int)threadIdx.x) >> 3) * 72)) + ((((int)threadIdx.x) & 7) * 8)) + 1728)) = *(uint4*)(a_ptr + ((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 256)) + (((int)threadIdx.x) * 8)) + 1536));
  int cse_v5 = (((int)blockIdx.y) * 16);
  int cse_v7 = ((((int)threadIdx.x) & 7) * 2);
  int cse_v11 = (((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2));
  int cse_v12 = ((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 2304)) = *(half2*)(b_ptr + ((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 2624)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 512));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 2944)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 1024));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 3264)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 1536));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 3584)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 2048));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 3904)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 2560));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 4224)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 3072));
  *(half2*)(((half*)buf_dyn_shmem_ptr) + ((((((int)threadIdx.y) * 160) + ((((int)threadIdx.x) >> 3) * 40)) + ((((int)threadIdx.x) & 7) * 2)) + 4544)) = *(half2*)(b_ptr + (((((((int)threadIdx.y) * 256) + ((((int)threadIdx.x) >> 3) * 64)) + (((int)blockIdx.y) * 16)) + ((((int)threadIdx.x) & 7) * 2)) + 3584));
  int cse_v6 = (((int)threadIdx.y) * 1152);
  __syncthreads();
  nvcuda::wmma::load_matrix_sync(a_reindex_shared_dyn_wmma_matrix_a_ptr[0], (&(((half*)buf_dyn_shmem_ptr)[(((int)threadIdx.y) * 1152)])), 72);
  nvcuda::wmma::load_matrix_sync(a_reindex_shared_dyn_wmma_matrix_a_ptr[1], (&(((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 1152) + 16)])), 72);
  nvcuda::wmma::load_matrix_sync(a_reindex_shared_dyn_wmma_matrix_a_ptr[2], (&(((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 1152) + 32)])), 72);
  nvcuda::wmma::load_matrix_sync(a_reindex_shared_dyn_wmma_matrix_a_ptr[3], (&(((half*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 1152) + 48)])), 72);
  nvcuda::wmma::load_matrix_sync(b_reindex_shared_dyn_wmma_matrix_b_ptr[0], (&(((half*)buf_dyn_shmem_ptr)[2304])), 40);
  nvcuda::wmma::load_matrix_sync(b_reindex_shared_dyn_wmma_matrix_b_ptr[1], (&(((half*)buf_dyn_shmem_ptr)[2944])), 40);
  nvcuda::wmma::load_matrix_sync(b_reindex_shared_dyn_wmma_matrix_b_ptr[2], (&(((half*)buf_dyn_shmem_ptr)[3584])), 40);
  nvcuda::wmma::load_matrix_sync(b_reindex_shared_dyn_wmma_matrix_b_ptr[3], (&(((half*)buf_dyn_shmem_ptr)[4224])), 40);
  nvcuda::wmma::mma_sync(c_reindex_shared_dyn_wmma_accumulator_ptr[0], a_reindex_shared_dyn_wmma_matrix_a_ptr[0], b_reindex_shared_dyn_wmma_matrix_b_ptr[0], c_reindex_shared_dyn_wmma_accumulator_ptr[0]);
  nvcuda::wmma::mma_sync(c_reindex_shared_dyn_wmma_accumulator_ptr[0], a_reindex_shared_dyn_wmma_matrix_a_ptr[1], b_reindex_shared_dyn_wmma_matrix_b_ptr[1], c_reindex_shared_dyn_wmma_accumulator_ptr[0]);
  nvcuda::wmma::mma_sync(c_reindex_shared_dyn_wmma_accumulator_ptr[0], a_reindex_shared_dyn_wmma_matrix_a_ptr[2], b_reindex_shared_dyn_wmma_matrix_b_ptr[2], c_reindex_shared_dyn_wmma_accumulator_ptr[0]);
  nvcuda::wmma::mma_sync(c_reindex_shared_dyn_wmma_accumulator_ptr[0], a_reindex_shared_dyn_wmma_matrix_a_ptr[3], b_reindex_shared_dyn_wmma_matrix_b_ptr[3], c_reindex_shared_dyn_wmma_accumulator_ptr[0]);
  __syncthreads();
  nvcuda::wmma::store_matrix_sync((&(((float*)buf_dyn_shmem_ptr)[(((int)threadIdx.y) * 256)])), c_reindex_shared_dyn_wmma_accumulator_ptr[0], 16, nvcuda::wmma::mem_row_major);
  int cse_v8 = ((((int)threadIdx.y) * 32) + ((int)threadIdx.x));
  int cse_v13 = (((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15));
  __syncthreads();
  c_ptr[(((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15))] = ((float*)buf_dyn_shmem_ptr)[((((int)threadIdx.y) * 32) + ((int)threadIdx.x))];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 256)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 64)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 512)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 128)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 768)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 192)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 1024)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 256)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 1280)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 320)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 1536)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 384)];
  c_ptr[((((((((int)blockIdx.x) * 2048) + (((int)threadIdx.y) * 128)) + ((((int)threadIdx.x) >> 4) * 64)) + (((int)blockIdx.y) * 16)) + (((int)threadIdx.x) & 15)) + 1792)] = ((float*)buf_dyn_shmem_ptr)[(((((int)threadIdx.y) * 32) + ((int)threadIdx.x)) + 448)];
}

