// The part of the Metal Shading Language that kernels use, on top of runtime.h.
//
// Strict where Metal leaves things undefined: a collective needs every lane of its simdgroup, a lane
// that is not there cannot be read. Not modelled: textures, function constants, address-space
// overloads, how fast anything is.
#pragma once
#include "runtime.h"  // before types.h makes keywords of some of its names

#include "functions.h"
#include "types.h"

// The simulator rewrites `threadgroup T name[n];` to this; elsewhere the keyword stands before pointers only.
#define MSLSIM_THREADGROUP(type, name, extent)         \
  static mslsim::Variable name##_record{#name, nullptr, 0}; \
  auto& name = mslsim::threadgroup_memory<type extent>(name##_record);

#define HERE const std::source_location& here = std::source_location::current()

namespace metal {

using mslsim::Collective;
using mslsim::gather;
using mslsim::SIMD_WIDTH;

// ------------------------------------------------------------------ barriers
enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2 };
inline mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
inline void threadgroup_barrier(mem_flags flags, HERE) {
  mslsim::wait(mslsim::State::AT_THREADGROUP_BARRIER, uint8_t(flags), "threadgroup_barrier", here);
}
inline void simdgroup_barrier(mem_flags flags, HERE) {
  mslsim::wait(mslsim::State::AT_SIMDGROUP_BARRIER, uint8_t(flags), "simdgroup_barrier", here);
}

// ------------------------------------------------------------------ reductions
// simd_sum adds in a fixed tree, as hardware does; which tree is not documented.
template <class T> inline T simd_sum(T value, HERE) {
  Collective all = gather(value, "simd_sum", here);
  return mslsim::shared_result<T>(all, [&] {
    T sums[SIMD_WIDTH];
    for (int i = 0; i < SIMD_WIDTH; i++) sums[i] = i < all.size ? all.of<T>(i) : T(0);
    for (int step = SIMD_WIDTH / 2; step; step /= 2) {
      for (int i = 0; i < step; i++) sums[i] = T(sums[i] + sums[i + step]);
    }
    return sums[0];
  });
}
#define REDUCTION(name, expression)                    \
  template <class T> inline T name(T value, HERE) {    \
    Collective all = gather(value, #name, here);       \
    return mslsim::shared_result<T>(all, [&] {         \
      T r = all.of<T>(0);                              \
      for (int i = 1; i < all.size; i++) {             \
        T x = all.of<T>(i);                            \
        r = T(expression);                             \
      }                                                \
      return r;                                        \
    });                                                \
  }
REDUCTION(simd_max, max(r, x))
REDUCTION(simd_min, min(r, x))
REDUCTION(simd_or, r | x)
REDUCTION(simd_and, r & x)
REDUCTION(simd_xor, r ^ x)
REDUCTION(simd_product, r * x)
inline bool simd_any(bool value, HERE) { return simd_or(uint(value), here); }
inline bool simd_all(bool value, HERE) { return simd_and(uint(value), here); }

#define QUAD_REDUCTION(name, expression)             \
  template <class T> inline T name(T value, HERE) {  \
    Collective all = gather(value, #name, here);     \
    T r = all.of<T>(all.lane & ~3);                  \
    for (int i = (all.lane & ~3) + 1; i <= (all.lane | 3); i++) { \
      T x = all.of<T>(i);                            \
      r = T(expression);                             \
    }                                                \
    return r;                                        \
  }
QUAD_REDUCTION(quad_sum, r + x)
QUAD_REDUCTION(quad_max, max(r, x))

template <class T> inline T simd_prefix_inclusive_sum(T value, HERE) {
  Collective all = gather(value, "simd_prefix_inclusive_sum", here);
  T sum = T(0);
  for (int i = 0; i <= all.lane; i++) sum = T(sum + all.of<T>(i));
  return sum;
}
template <class T> inline T simd_prefix_exclusive_sum(T value, HERE) {
  Collective all = gather(value, "simd_prefix_exclusive_sum", here);
  T sum = T(0);
  for (int i = 0; i < all.lane; i++) sum = T(sum + all.of<T>(i));
  return sum;
}

// ------------------------------------------------------------------ shuffles
template <class T> inline T picked(const Collective& all, int lane, const char* name) {
  if (lane < 0 || lane >= all.size) mslsim::fail("%s: lane %d reads lane %d, which is not there", name, all.lane, lane);
  return all.of<T>(lane);
}
#define SHUFFLE(name, source)                                  \
  template <class T> inline T name(T value, ushort n, HERE) {  \
    Collective all = gather(value, #name, here);               \
    return picked<T>(all, source, #name);                      \
  }
SHUFFLE(simd_shuffle, n)
SHUFFLE(simd_broadcast, n)
SHUFFLE(simd_shuffle_xor, all.lane ^ n)
SHUFFLE(quad_shuffle_xor, all.lane ^ n)
// the outermost lanes of these keep their own value: Metal leaves it undefined, so a kernel must not use it
template <class T> inline T simd_shuffle_down(T value, ushort n, HERE) {
  Collective all = gather(value, "simd_shuffle_down", here);
  return all.lane + n < all.size ? all.of<T>(all.lane + n) : value;
}
template <class T> inline T simd_shuffle_up(T value, ushort n, HERE) {
  Collective all = gather(value, "simd_shuffle_up", here);
  return all.lane >= n ? all.of<T>(all.lane - n) : value;
}
template <class T> inline T simd_broadcast_first(T value, HERE) {
  return gather(value, "simd_broadcast_first", here).template of<T>(0);
}

// ------------------------------------------------------------------ 8x8 matrices
// Where a lane's two elements lie: the map that MLX's own kernels are written against.
inline int matrix_row(int lane) { return (lane / 16) * 4 + (lane / 2) % 4; }
inline int matrix_column(int lane) { return (lane / 8) % 2 * 4 + (lane % 2) * 2; }

template <class T, int R = 8, int C = 8> struct simdgroup_matrix {
  static_assert(R == 8 && C == 8);
  using storage_type = vec<T, 2>;
  storage_type elements;
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T diagonal) {
    int row = matrix_row(mslsim::current->lane), column = matrix_column(mslsim::current->lane);
    for (int j = 0; j < 2; j++) elements[j] = row == column + j ? diagonal : T(0);
  }
  storage_type& thread_elements() { return elements; }
};
using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

template <class T, int R, int C> inline simdgroup_matrix<T, R, C> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, R, C> m;
  m.elements = vec<T, 2>(value);
  return m;
}
template <class T>
inline void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const T* from, ulong stride = 8, ulong2 origin = ulong2(0),
                           bool transpose = false, HERE) {
  Collective all = gather(0, "simdgroup_load", here);
  int row = matrix_row(all.lane), column = matrix_column(all.lane);
  from += origin.y * stride + origin.x;
  for (int j = 0; j < 2; j++) m.elements[j] = transpose ? from[(column + j) * stride + row] : from[row * stride + column + j];
}
template <class T>
inline void simdgroup_store(const simdgroup_matrix<T, 8, 8>& m, T* to, ulong stride = 8, ulong2 origin = ulong2(0),
                            bool transpose = false, HERE) {
  Collective all = gather(0, "simdgroup_store", here);
  int row = matrix_row(all.lane), column = matrix_column(all.lane);
  to += origin.y * stride + origin.x;
  for (int j = 0; j < 2; j++) (transpose ? to[(column + j) * stride + row] : to[row * stride + column + j]) = m.elements[j];
}

// d = a b + c, summed in float along k in rising order
template <class D, class A, class B, class C>
inline void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                          const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c, HERE) {
  struct Operands { float a[2], b[2], c[2]; };
  struct Product { float at[8][8]; };
  Operands mine;
  for (int j = 0; j < 2; j++) mine.a[j] = a.elements[j], mine.b[j] = b.elements[j], mine.c[j] = c.elements[j];
  Collective all = gather(mine, "simdgroup_multiply_accumulate", here);
  if (all.size != SIMD_WIDTH) mslsim::fail("a matrix product needs all 32 lanes of a simdgroup, there are %d", all.size);
  Product product = mslsim::shared_result<Product>(all, [&] {
    float am[8][8], bm[8][8];
    Product p;
    for (int lane = 0; lane < SIMD_WIDTH; lane++) {
      auto o = all.of<Operands>(lane);
      int row = matrix_row(lane), column = matrix_column(lane);
      for (int j = 0; j < 2; j++) {
        am[row][column + j] = o.a[j], bm[row][column + j] = o.b[j], p.at[row][column + j] = o.c[j];
      }
    }
    for (int i = 0; i < 8; i++)
      for (int k = 0; k < 8; k++)
        for (int j = 0; j < 8; j++) p.at[i][j] += am[i][k] * bm[k][j];
    return p;
  });
  int row = matrix_row(all.lane), column = matrix_column(all.lane);
  for (int j = 0; j < 2; j++) d.elements[j] = D(product.at[row][column + j]);
}

// ------------------------------------------------------------------ atomics
// Relaxed, as Metal has them: they never race with each other and order nothing else.
enum memory_order { memory_order_relaxed };
template <class T> struct atomic { T value; };
using atomic_uint = atomic<uint>;
using atomic_int = atomic<int>;
#define ATOMIC(name, expression)                                                                     \
  template <class T>                                                                                 \
  __attribute__((noinline, no_sanitize("thread"))) T atomic_##name##_explicit(                       \
      atomic<T>* p, std::type_identity_t<T> x, memory_order) {                                       \
    mslsim::atomic_access(p, sizeof(T));                                                             \
    T old = p->value;                                                                                \
    p->value = T(expression);                                                                        \
    return old;                                                                                      \
  }
ATOMIC(fetch_add, old + x)
ATOMIC(fetch_max, old < x ? x : old)
ATOMIC(fetch_min, x < old ? x : old)
ATOMIC(fetch_or, old | x)
ATOMIC(exchange, x)
ATOMIC(store, x)

}  // namespace metal

#undef HERE
