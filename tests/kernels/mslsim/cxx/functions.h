// Metal's mathematics and type traits. Transcendentals are libm's: their last bits differ from a GPU's.
#pragma once
#include "types.h"

#ifndef MSLSIM_COUNTED  // where operations are counted, what follows must not be among them
namespace mslsim {
extern bool nan_wins, nan_met;  // which of a number and what is none comes out; whether a launch asked that
}
#endif

namespace metal {

template <class T> concept Real = std::is_same_v<T, float> || std::is_same_v<T, half> || std::is_same_v<T, bfloat>;

#define UNARY(name, expression)           \
  template <Real T> inline T name(T value) { \
    float x = float(value);               \
    return T(expression);                 \
  }                                       \
  namespace precise { using metal::name; } \
  namespace fast { using metal::name; }
UNARY(exp, ::expf(x))
UNARY(exp2, ::exp2f(x))
UNARY(log, ::logf(x))
UNARY(log2, ::log2f(x))
UNARY(sqrt, ::sqrtf(x))
UNARY(rsqrt, 1.0f / ::sqrtf(x))
UNARY(tanh, ::tanhf(x))
UNARY(sin, ::sinf(x))
UNARY(cos, ::cosf(x))
UNARY(floor, ::floorf(x))
UNARY(ceil, ::ceilf(x))
UNARY(rint, ::rintf(x))
UNARY(round, ::roundf(x))
UNARY(fabs, ::fabsf(x))

template <class T> inline T abs(T x) { return x < T(0) ? T(-x) : x; }
// Of a number and what is none Metal leaves open which comes out: hardware gives the number, MLX's own forms the other.
#ifndef MSLSIM_COUNTED
#define OR_NOT_A_NUMBER                                      \
  if constexpr (Real<T>) {                                   \
    const bool odd = float(a) != float(a);                   \
    if (odd != (float(b) != float(b))) {                     \
      mslsim::nan_met = true;                                \
      return odd == mslsim::nan_wins ? a : b;                \
    }                                                        \
  }
#else
#define OR_NOT_A_NUMBER
#endif
template <class T> inline T min(T a, T b) {
  OR_NOT_A_NUMBER
  return b < a ? b : a;
}
template <class T> inline T max(T a, T b) {
  OR_NOT_A_NUMBER
  return a < b ? b : a;
}
template <class T> inline T clamp(T x, T low, T high) { return min(max(x, low), high); }
template <Real T> inline T fma(T a, T b, T c) { return T(::fmaf(float(a), float(b), float(c))); }
template <Real T> inline T pow(T a, T b) { return T(::powf(float(a), float(b))); }
template <class T> inline T select(T a, T b, bool second) { return second ? b : a; }
template <Real T> inline bool isnan(T x) { return float(x) != float(x); }
template <Real T> inline bool isinf(T x) { return __builtin_isinf(float(x)); }
template <Real T> inline bool isfinite(T x) { return __builtin_isfinite(float(x)); }
template <Real T> inline bool signbit(T x) { return __builtin_signbit(float(x)); }
inline int popcount(uint x) { return __builtin_popcount(x); }
inline uint clz(uint x) { return x ? __builtin_clz(x) : 32; }
inline uint ctz(uint x) { return x ? __builtin_ctz(x) : 32; }

template <class T> struct numeric_limits : std::numeric_limits<T> {};
template <> struct numeric_limits<half> {
  static constexpr half max() { return half(65504.0f); }
  static constexpr half lowest() { return half(-65504.0f); }
  static constexpr half infinity() { return half(__builtin_inff()); }
};
template <> struct numeric_limits<bfloat> {
  static constexpr bfloat max() { return __builtin_bit_cast(bfloat, uint16_t(0x7f7f)); }
  static constexpr bfloat lowest() { return __builtin_bit_cast(bfloat, uint16_t(0xff7f)); }
  static constexpr bfloat infinity() { return __builtin_bit_cast(bfloat, uint16_t(0x7f80)); }
};

using std::bool_constant;
using std::conditional_t;
using std::enable_if_t;
using std::false_type;
using std::integral_constant;
using std::is_same;
using std::is_same_v;
using std::remove_const_t;
using std::remove_pointer_t;
using std::true_type;

}  // namespace metal
