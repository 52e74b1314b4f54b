// Products of rows of integers with opened blocks in the processor's tiles (AMX). Included by body_integer.h where the
// instruction set has them.
//
// A tile of activations is what lies in a tile of slots: 8 rows, of each its high and its low bytes one after the other.
// A step of codes is a tile's row just as it lies. The products are the same whole numbers as elsewhere. A tile takes as
// long for half a block as for one, so groups of 16 gain nothing here and go the other way.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

// What the tiles hold while one of these lives.
class Tiles {
 public:
  explicit Tiles(bool asked) : asked(asked) {
    if (!asked) return;
    struct alignas(64) {
      uint8_t palette = 1, start = 0, none[14] = {};
      uint16_t bytes[16] = {};
      uint8_t rows[16] = {};
    } shape;
    for (int i = 0; i < 4; i++) shape.bytes[i] = 64, shape.rows[i] = 2 * kSlots;  // sums of a panel
    shape.bytes[4] = kBlock, shape.rows[4] = 2 * kSlots;                         // activations
    for (int i = 5; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = kBlock / 4;  // codes
    asm volatile("ldtilecfg %0" ::"m"(shape));
  }
  ~Tiles() {
    if (asked) asm volatile("tilerelease");
  }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

 private:
  const bool asked;
};

inline void load_activations(const int8_t* q) {
  asm volatile("tileloadd (%0,%1,1), %%tmm4" ::"r"(q), "r"((long)kBlock) : "memory");
}
// sums (16, 16) = activations . codes
template <int p, bool signed_codes> inline void multiply_tiles(const uint8_t* codes, int32_t* sums) {
  asm volatile("tilezero %%tmm%c0\n\ttileloadd (%1,%2,1), %%tmm%c3" ::"i"(p), "r"(codes), "r"(64L), "i"(5 + p) : "memory");
  if constexpr (signed_codes) asm volatile("tdpbssd %%tmm%c1, %%tmm4, %%tmm%c0" ::"i"(p), "i"(5 + p));
  else asm volatile("tdpbsud %%tmm%c1, %%tmm4, %%tmm%c0" ::"i"(p), "i"(5 + p));
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" ::"i"(p), "r"(sums), "r"(64L) : "memory");
}

// y (P, M, 16) += up to 8 rows of the opened blocks
template <bool biased, int P>
void add_in_tiles(const Opened& w, int count, Lines<false> in, int m, size_t ldy, float* y) {
  alignas(64) int32_t sums[2][P][2 * kSlots * kRows];
  F acc[P][kSlots];
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int r = 0; r < kSlots; r++) acc[p][r] = r < m ? load(y + p * ldy + r * kRows) : zero();
  const auto multiply_run = [&](int run) {
    load_activations(in.q + (size_t)run * 2 * kBlock * kSlots);
    times<P>([&](auto p) { multiply_tiles<p, !biased>(w.codes[p] + run * kBlock * kRows, sums[run % 2][p]); });
  };
  Lines<false> at = in;
  multiply_run(0);
  for (int run = 0; run < count; run++, at.next()) {
    if (run + 1 < count) multiply_run(run + 1);
    UNROLL for (int p = 0; p < P; p++) {
      const F s = load(w.scale[p][run]), b = biased ? load(w.bias[p][run]) : zero();
      UNROLL for (int r = 0; r < kSlots; r++) {
        const int32_t* hi = sums[run % 2][p] + 2 * r * kRows;
        const I d = iadd(ishl<kShift>(iload(hi)), iload(hi + kRows));
        acc[p][r] = settle(d, s, at.scale[r], acc[p][r]);
        if constexpr (biased) acc[p][r] = fma(b, set1(at.sum[r]), acc[p][r]);
      }
    }
  }
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int r = 0; r < kSlots; r++)
      if (r < m) store(y + p * ldy + r * kRows, acc[p][r]);
}

}  // namespace
