// Codes and scales of a packed weight, as they lie in a panel: see kernels.h. Included once by each instruction set's
// file, after its simd_*.h.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

// 2 v + 12, as a weight's `zero` says
alignas(16) constexpr uint8_t kFp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

// 16 scales as floats; p moves on. In line: a call would have the sums put aside and taken up again.
inline F byte_scales(Type type, const uint8_t*& p) {
  p += 16;
  const B codes = widened(p - 16);
  return type == E8M0 ? power(codes) : byte_e4m3<0>(codes);
}
inline F wide_scales(Type type, const uint8_t*& p) {
  if (type == F32) return p += 64, load((const float*)(p - 64));
  p += 32;
  return type == F16 ? load_f16((const uint16_t*)(p - 32)) : load_bf16((const uint16_t*)(p - 32));
}
template <Codes C> inline F next_scales(Type type, const uint8_t*& p) {
  if constexpr (C == FP4 || C == FP8) return byte_scales(type, p);
  else return wide_scales(type, p);
}
constexpr int bits_of(Codes c) {
  return c == U2 ? 2 : c == U3 ? 3 : c == U4 || c == FP4 ? 4 : c == U5 ? 5 : c == U6 ? 6 : 8;
}
constexpr size_t block_bytes(int bits) { return (size_t)bits * kRows * kBlock / 8; }

template <int by> inline B moved(B v) {
  if constexpr (by > 0) return shl<by>(v);
  else if constexpr (by < 0) return shr<-by>(v);
  else return v;
}

// The codes of step j of a block, one byte each.
template <Codes C, int j> inline B step(const uint8_t* p) {
  if constexpr (C == U4) return mask(moved<-4 * (j % 2)>(bload(p + 64 * (j / 2))), 15);
  else if constexpr (C == FP4) return lookup(step<U4, j>(p), kFp4);
  else if constexpr (C == U2) return mask(moved<-2 * (j % 4)>(bload(p + 64 * (j / 4))), 3);
  else if constexpr (C == U3) return bor(step<U2, j>(p), mask(moved<2 - j>(bload(p + 128)), 4));
  else if constexpr (C == U5) return bor(step<U4, j>(p), mask(moved<4 - j>(bload(p + 256)), 16));
  else if constexpr (C == U6) return bor(step<U4, j>(p), shl<4>(step<U2, j>(p + 256)));
  else return bload(p + 64 * j);
}

template <Codes C> inline void load_steps(const uint8_t* p, B* s) {
  s[0] = step<C, 0>(p), s[1] = step<C, 1>(p), s[2] = step<C, 2>(p), s[3] = step<C, 3>(p);
  s[4] = step<C, 4>(p), s[5] = step<C, 5>(p), s[6] = step<C, 6>(p), s[7] = step<C, 7>(p);
}

// Asks for the panel's next stretch of memory, as many lines as a block takes on average. Panels lie one
// after the other, so this reaches into the next one; past the end of the weight it does nothing.
inline void ahead(const uint8_t* panel, int block, size_t bytes) {
  constexpr size_t kDistance = 4096;
  const uint8_t* at = panel + block * bytes + kDistance;
  for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(at + i);
}

#define UNROLL _Pragma("GCC unroll 8")

}  // namespace
