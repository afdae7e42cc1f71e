// [0,[[8,1,1,4,2],[2,1,32,1,1],[16,2,2],1,3],""]
// version: 1
// arguments: [{"shape": [64, 64], "dtype": "float32"}, {"shape": [64, 64], "dtype": "float32"}, {"shape": [64, 64], "dtype": "float32"}]
// num_outputs: 1
// workspaces: []
// launches: [{"kernel": "main_kernel", "args": [0, 1, 2], "grid": [16, 1, 1], "block": [32, 1, 1], "dynamic_shared_bytes": 0, "static_shared_bytes": 640, "cluster": [1, 1, 1], "cooperative": false}]

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
extern "C" __global__ void __launch_bounds__(32) main_kernel(float* __restrict__ a_ptr, float* __restrict__ b_ptr, float* __restrict__ c_ptr);
extern "C" __global__ void __launch_bounds__(32) main_kernel(float* __restrict__ a_ptr, float* __restrict__ b_ptr, float* __restrict__ c_ptr) {
  alignas(64) float c_local_ptr[8];
  __shared__ alignas(64) float a_shared_ptr[32];
  __shared__ alignas(64) float b_shared_ptr[128];
  c_local_ptr[0] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[1] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[2] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[3] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[4] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[5] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[6] = 0x0p+0f/*0.000000e+00*/;
  c_local_ptr[7] = 0x0p+0f/*0.000000e+00*/;
  int cse_v4 = ((((int)blockIdx.x) >> 1) * 512);
  int cse_v5 = ((((int)blockIdx.x) & 1) * 32);
  for (int k_0 = 0; k_0 < 16; ++k_0) {
    __syncthreads();
    if (((int)threadIdx.x) < 16) {
      *(float2*)(a_shared_ptr + (((int)threadIdx.x) * 2)) = *(float2*)(a_ptr + (((((((int)blockIdx.x) >> 1) * 512) + ((((int)threadIdx.x) >> 1) * 64)) + (k_0 * 4)) + ((((int)threadIdx.x) & 1) * 2)));
    }
    *(float4*)(b_shared_ptr + (((int)threadIdx.x) * 4)) = *(float4*)(b_ptr + ((((k_0 * 256) + ((((int)threadIdx.x) >> 3) * 64)) + ((((int)blockIdx.x) & 1) * 32)) + ((((int)threadIdx.x) & 7) * 4)));
    __syncthreads();
    c_local_ptr[0] = (c_local_ptr[0] + (a_shared_ptr[0] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[1] = (c_local_ptr[1] + (a_shared_ptr[4] * b_shared_ptr[((int)threadIdx.x)]));
    int cse_v1 = (((int)threadIdx.x) + 32);
    c_local_ptr[0] = (c_local_ptr[0] + (a_shared_ptr[1] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[1] = (c_local_ptr[1] + (a_shared_ptr[5] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[2] = (c_local_ptr[2] + (a_shared_ptr[8] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[3] = (c_local_ptr[3] + (a_shared_ptr[12] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[2] = (c_local_ptr[2] + (a_shared_ptr[9] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[3] = (c_local_ptr[3] + (a_shared_ptr[13] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[4] = (c_local_ptr[4] + (a_shared_ptr[16] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[5] = (c_local_ptr[5] + (a_shared_ptr[20] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[4] = (c_local_ptr[4] + (a_shared_ptr[17] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[5] = (c_local_ptr[5] + (a_shared_ptr[21] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[6] = (c_local_ptr[6] + (a_shared_ptr[24] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[7] = (c_local_ptr[7] + (a_shared_ptr[28] * b_shared_ptr[((int)threadIdx.x)]));
    c_local_ptr[6] = (c_local_ptr[6] + (a_shared_ptr[25] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    c_local_ptr[7] = (c_local_ptr[7] + (a_shared_ptr[29] * b_shared_ptr[(((int)threadIdx.x) + 32)]));
    int cse_v2 = (((int)threadIdx.x) + 64);
    c_local_ptr[0] = (c_local_ptr[0] + (a_shared_ptr[2] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[1] = (c_local_ptr[1] + (a_shared_ptr[6] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    int cse_v3 = (((int)threadIdx.x) + 96);
    c_local_ptr[0] = (c_local_ptr[0] + (a_shared_ptr[3] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[1] = (c_local_ptr[1] + (a_shared_ptr[7] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[2] = (c_local_ptr[2] + (a_shared_ptr[10] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[3] = (c_local_ptr[3] + (a_shared_ptr[14] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[2] = (c_local_ptr[2] + (a_shared_ptr[11] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[3] = (c_local_ptr[3] + (a_shared_ptr[15] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[4] = (c_local_ptr[4] + (a_shared_ptr[18] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[5] = (c_local_ptr[5] + (a_shared_ptr[22] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[4] = (c_local_ptr[4] + (a_shared_ptr[19] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[5] = (c_local_ptr[5] + (a_shared_ptr[23] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[6] = (c_local_ptr[6] + (a_shared_ptr[26] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[7] = (c_local_ptr[7] + (a_shared_ptr[30] * b_shared_ptr[(((int)threadIdx.x) + 64)]));
    c_local_ptr[6] = (c_local_ptr[6] + (a_shared_ptr[27] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
    c_local_ptr[7] = (c_local_ptr[7] + (a_shared_ptr[31] * b_shared_ptr[(((int)threadIdx.x) + 96)]));
  }
  int cse_v6 = ((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x));
  c_ptr[((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x))] = c_local_ptr[0];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 64)] = c_local_ptr[1];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 128)] = c_local_ptr[2];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 192)] = c_local_ptr[3];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 256)] = c_local_ptr[4];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 320)] = c_local_ptr[5];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 384)] = c_local_ptr[6];
  c_ptr[(((((((int)blockIdx.x) >> 1) * 512) + ((((int)blockIdx.x) & 1) * 32)) + ((int)threadIdx.x)) + 448)] = c_local_ptr[7];
}

