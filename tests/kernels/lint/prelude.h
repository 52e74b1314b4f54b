// Metal's names for clang's parser, with address spaces that are kept apart. Nothing is run: bodies are missing.
// `thread` is where C++ keeps what has no address space, so a word that is missing shows in the tree, not in types.
#define device __attribute__((address_space(1)))
#define constant __attribute__((address_space(2)))
#define threadgroup __attribute__((address_space(3)))
#define thread
#define INFINITY __builtin_inff()

using int16_t = short;
using int32_t = int;
using int64_t = long;
using uint8_t = unsigned char;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long;
using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using half = _Float16;
using float16_t = _Float16;
using bfloat16_t = __bf16;
using uint2 = uint __attribute__((ext_vector_type(2)));
using uint3 = uint __attribute__((ext_vector_type(3)));
struct float2 {
  float kept[2];  // clang's own vectors are not made by float2(a, b)
  float2(float, float);
  float operator[](int) const;
};
using ushort2 = ushort __attribute__((ext_vector_type(2)));
using ushort4 = ushort __attribute__((ext_vector_type(4)));
using uchar4 = uchar __attribute__((ext_vector_type(4)));

namespace metal {
enum class mem_flags : uint { mem_none, mem_device, mem_threadgroup };
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);
template <class T> T simd_sum(T);
template <class T> T simd_max(T);
template <class T> T simd_min(T);
template <class T> T simd_broadcast(T, ushort);
template <class T> T abs(T);
template <class T> T max(T, T);
template <class T> T min(T, T);
template <class T> T clamp(T, T, T);
float exp(float);
bool isnan(float);
namespace precise {
float cos(float);
float sin(float);
float tanh(float);
float rsqrt(float);
}  // namespace precise
template <class T, int R, int C> struct simdgroup_matrix {
  simdgroup_matrix();
  explicit simdgroup_matrix(float);
  float2& thread_elements();
};
template <class M> void simdgroup_multiply_accumulate(M&, M, M, M);
}  // namespace metal
using namespace metal;
template <class To, class From> To as_type(From from) { return __builtin_bit_cast(To, from); }
