// Metal's names in CUDA, as far as kernels without 8x8 matrices use them. A warp is a simdgroup.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
using int16_t = short;
using int32_t = int;
using int64_t = long long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long long;
using half = __half;
using float16_t = __half;
using bfloat16_t = __nv_bfloat16;
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

namespace metal {
template <class T, int N> struct alignas(N * sizeof(T)) vec {
  T v[N];
  __device__ T& operator[](int i) { return v[i]; }
  __device__ const T& operator[](int i) const { return v[i]; }
};
enum class mem_flags : uint { mem_none, mem_device, mem_threadgroup };
__device__ inline void threadgroup_barrier(mem_flags) { __syncthreads(); }
__device__ inline void simdgroup_barrier(mem_flags) { __syncwarp(); }
#define REDUCTION(name, expression)                                  \
  template <class T> __device__ inline T name(T a) {                 \
    for (int step = 16; step; step /= 2) {                           \
      T b = __shfl_xor_sync(0xffffffffu, a, step);                   \
      a = expression;                                                \
    }                                                                \
    return a;                                                        \
  }
REDUCTION(simd_sum, a + b)
REDUCTION(simd_max, b > a ? b : a)
REDUCTION(simd_min, b < a ? b : a)
template <class T> __device__ inline T simd_broadcast(T a, ushort lane) { return __shfl_sync(0xffffffffu, a, lane); }
template <class T> __device__ inline T abs(T a) { return a < T(0) ? -a : a; }
template <class T> __device__ inline T max(T a, T b) { return a < b ? b : a; }
template <class T> __device__ inline T min(T a, T b) { return b < a ? b : a; }
template <class T> __device__ inline T clamp(T a, T low, T high) { return min(max(a, low), high); }
__device__ inline float exp(float a) { return expf(a); }
namespace precise {
__device__ inline float cos(float a) { return cosf(a); }
__device__ inline float sin(float a) { return sinf(a); }
__device__ inline float tanh(float a) { return tanhf(a); }
__device__ inline float rsqrt(float a) { return rsqrtf(a); }
}  // namespace precise
}  // namespace metal
using metal::mem_flags;
using metal::simd_broadcast;
using metal::simd_max;
using metal::simd_min;
using metal::simd_sum;
using metal::simdgroup_barrier;
using metal::threadgroup_barrier;
template <class To, class From> __device__ inline To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

#define ushort2 metal::vec<ushort, 2>
#define ushort4 metal::vec<ushort, 4>
#define uchar4 metal::vec<uchar, 4>
#define uint2 metal::vec<uint, 2>
#define threadgroup_position_in_grid blockIdx
#define thread_index_in_threadgroup threadIdx.x
#define thread_index_in_simdgroup (threadIdx.x & 31u)
#define simdgroup_index_in_threadgroup (threadIdx.x >> 5)
#define METAL_FUNC inline
// last: CUDA's own headers use the first of these words
#define thread
#define constant
#define device
