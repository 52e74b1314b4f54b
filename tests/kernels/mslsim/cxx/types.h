// Metal's keywords, scalars and vectors as C++20. Address spaces are erased; tests/kernels/lint looks at those.
#pragma once
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#define device
#define constant
#define thread
#define threadgroup
#define kernel
#define METAL_FUNC inline __attribute__((always_inline))
#define __METAL_VERSION__ 320

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using half = _Float16;

// Widens by itself, narrows only when told to, as the Metal specification has it.
struct bfloat {
  uint16_t bits;
  bfloat() = default;
  template <class T, class = std::enable_if_t<std::is_arithmetic_v<T> || std::is_same_v<T, half>>>
  explicit constexpr bfloat(T value) : bits(round(float(value))) {}
  constexpr operator float() const { return __builtin_bit_cast(float, uint32_t(bits) << 16); }
  static constexpr uint16_t round(float value) {  // to nearest, ties to even
    uint32_t u = __builtin_bit_cast(uint32_t, value);
    if ((u & 0x7fffffffu) > 0x7f800000u) return uint16_t((u >> 16) | 0x40);
    return uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
#define BFLOAT_OPERATOR(op)                                                                      \
  friend constexpr bfloat operator op(bfloat a, bfloat b) { return bfloat(float(a) op float(b)); } \
  bfloat& operator op##=(bfloat b) { return *this = *this op b; }
  BFLOAT_OPERATOR(+)
  BFLOAT_OPERATOR(-)
  BFLOAT_OPERATOR(*)
  BFLOAT_OPERATOR(/)
  friend constexpr bfloat operator-(bfloat a) { return bfloat(-float(a)); }
};
using float16_t = half;  // MLX's names
using bfloat16_t = bfloat;

namespace metal {

template <class T, int N> struct vec;
template <class T> struct alignas(2 * sizeof(T)) vec<T, 2> {
  union { struct { T x, y; }; T v[2]; };
  vec() = default;
  constexpr explicit vec(T a) : v{a, a} {}
  constexpr vec(T a, T b) : v{a, b} {}
  template <class U> constexpr explicit vec(const vec<U, 2>& o) : v{T(o.v[0]), T(o.v[1])} {}
  T& operator[](int i) { return v[i]; }
  const T& operator[](int i) const { return v[i]; }
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 3> {
  union { struct { T x, y, z; }; T v[4]; };
  vec() = default;
  constexpr explicit vec(T a) : v{a, a, a} {}
  constexpr vec(T a, T b, T c) : v{a, b, c} {}
  template <class U> constexpr explicit vec(const vec<U, 3>& o) : v{T(o.v[0]), T(o.v[1]), T(o.v[2])} {}
  T& operator[](int i) { return v[i]; }
  const T& operator[](int i) const { return v[i]; }
};
template <class T> struct alignas(4 * sizeof(T)) vec<T, 4> {
  union { struct { T x, y, z, w; }; T v[4]; };
  vec() = default;
  constexpr explicit vec(T a) : v{a, a, a, a} {}
  constexpr vec(T a, T b, T c, T d) : v{a, b, c, d} {}
  template <class U> constexpr explicit vec(const vec<U, 4>& o) : v{T(o.v[0]), T(o.v[1]), T(o.v[2]), T(o.v[3])} {}
  T& operator[](int i) { return v[i]; }
  const T& operator[](int i) const { return v[i]; }
};

#define VECTOR_OPERATOR(op)                                                                        \
  template <class T, int N> inline vec<T, N> operator op(const vec<T, N>& a, const vec<T, N>& b) { \
    vec<T, N> r;                                                                                   \
    for (int i = 0; i < N; i++) r.v[i] = T(a.v[i] op b.v[i]);                                      \
    return r;                                                                                      \
  }                                                                                                \
  template <class T, int N> inline vec<T, N> operator op(const vec<T, N>& a, std::type_identity_t<T> b) { \
    return a op vec<T, N>(b);                                                                      \
  }                                                                                                \
  template <class T, int N> inline vec<T, N> operator op(std::type_identity_t<T> a, const vec<T, N>& b) { \
    return vec<T, N>(a) op b;                                                                      \
  }                                                                                                \
  template <class T, int N, class U> inline vec<T, N>& operator op##=(vec<T, N>& a, const U& b) {  \
    return a = a op b;                                                                             \
  }
VECTOR_OPERATOR(+)
VECTOR_OPERATOR(-)
VECTOR_OPERATOR(*)
VECTOR_OPERATOR(/)
#define VECTOR_BIT_OPERATOR(op)                                                                    \
  template <class T, int N> inline vec<T, N> operator op(const vec<T, N>& a, std::type_identity_t<T> b) { \
    vec<T, N> r;                                                                                   \
    for (int i = 0; i < N; i++) r.v[i] = T(a.v[i] op b);                                           \
    return r;                                                                                      \
  }
VECTOR_BIT_OPERATOR(&)
VECTOR_BIT_OPERATOR(|)
VECTOR_BIT_OPERATOR(>>)
VECTOR_BIT_OPERATOR(<<)

}  // namespace metal

#define VECTOR_NAMES(t)         \
  using t##2 = metal::vec<t, 2>; \
  using t##3 = metal::vec<t, 3>; \
  using t##4 = metal::vec<t, 4>;
VECTOR_NAMES(float)
VECTOR_NAMES(half)
VECTOR_NAMES(bfloat)
VECTOR_NAMES(int)
VECTOR_NAMES(uint)
VECTOR_NAMES(short)
VECTOR_NAMES(ushort)
VECTOR_NAMES(char)
VECTOR_NAMES(uchar)
VECTOR_NAMES(long)
VECTOR_NAMES(ulong)

template <class To, class From> inline To as_type(From value) {
  static_assert(sizeof(To) == sizeof(From), "as_type keeps the size");
  return __builtin_bit_cast(To, value);
}
