// Products in float32 of activations with one panel of a packed weight, and its rows as floats. Included once by each
// instruction set's file, after body_codes.h. Every output is summed in the order of its inputs whatever the number of
// rows, so results do not depend on how the work was cut.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

template <Codes C, int b, int M>
inline void add_input(B step, F s, F bias, const float* x, size_t stride, F* acc) {
  F f;
  if constexpr (C == FP8) f = mul(byte_e4m3<b>(step), s);
  else f = fma(byte<b>(step), s, bias);
  UNROLL for (int m = 0; m < M; m++) acc[m] = fma(f, set1(x[m * stride]), acc[m]);
}

template <Codes C, int M>
void tile_float(const Weight& w, const uint8_t* panel, const Rows& r, int m0, float* y) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = w.group >= kBlock ? w.group / kBlock : 1;
  const bool halves = w.group < kBlock;
  const uint8_t *scales = panel, *codes = panel + w.scale_bytes;
  F acc[M];
  for (int m = 0; m < M; m++) acc[m] = zero();
  F s = zero(), s2 = zero(), b = zero(), b2 = zero();
  const F minus_zero = set1(-(float)w.zero);
  for (int i = 0, left = 0; i < blocks; i++, left--) {
    if (left == 0) {
      left = per_group;
      s = next_scales<C>(w.scale_type, scales);
      if (w.has_bias) b = next_scales<C>(w.scale_type, scales);
      if (halves) s2 = next_scales<C>(w.scale_type, scales);
      if (halves && w.has_bias) b2 = next_scales<C>(w.scale_type, scales);
      if constexpr (C == FP4) s = mul(s, set1(0.5f)), s2 = mul(s2, set1(0.5f));
      if (!w.has_bias) b = mul(minus_zero, s), b2 = mul(minus_zero, s2);
    }
    if (M <= 2) ahead(panel, i, w.panel_bytes / blocks);
    B st[8];
    load_steps<C>(codes + i * bytes, st);
    const float* x = r.x + m0 * r.x_stride + i * kBlock;
    UNROLL for (int j = 0; j < 8; j++, x += 4) {
      const F sj = halves && j >= 4 ? s2 : s, bj = halves && j >= 4 ? b2 : b;
      add_input<C, 0, M>(st[j], sj, bj, x, r.x_stride, acc);
      add_input<C, 1, M>(st[j], sj, bj, x + 1, r.x_stride, acc);
      add_input<C, 2, M>(st[j], sj, bj, x + 2, r.x_stride, acc);
      add_input<C, 3, M>(st[j], sj, bj, x + 3, r.x_stride, acc);
    }
  }
  for (int m = 0; m < M; m++) store(y + (size_t)(m0 + m) * kRows, acc[m]);
}

template <Codes C, int M>
void tile_plain(const Weight& w, const uint8_t* panel, const Rows& r, int m0, float* y) {
  constexpr int size = C == D32 ? 4 : 2;
  F acc[M];
  for (int m = 0; m < M; m++) acc[m] = zero();
  const float* x = r.x + m0 * r.x_stride;
  for (int k = 0; k < w.cols; k++) {
    const uint8_t* p = panel + (size_t)k * kRows * size;
    F f;
    if constexpr (C == D32) f = load((const float*)p);
    else if constexpr (C == D16) f = load_f16((const uint16_t*)p);
    else f = load_bf16((const uint16_t*)p);
    UNROLL for (int m = 0; m < M; m++) acc[m] = fma(f, set1(x[m * r.x_stride + k]), acc[m]);
  }
  for (int m = 0; m < M; m++) store(y + (size_t)(m0 + m) * kRows, acc[m]);
}

// Cuts M rows into tiles of kTile, 4, 2, 1.
#define TILES(from, call)                                                \
  do {                                                                   \
    int m0 = from;                                                       \
    if constexpr (kTile == 8) for (; m - m0 >= 8; m0 += 8) { constexpr int T = 8; call; } \
    if constexpr (kTile >= 4) for (; m - m0 >= 4; m0 += 4) { constexpr int T = 4; call; } \
    for (; m - m0 >= 2; m0 += 2) { constexpr int T = 2; call; }          \
    for (; m - m0 >= 1; m0 += 1) { constexpr int T = 1; call; }          \
  } while (0)

template <Codes C> void all_float(const Weight& w, const uint8_t* panel, const Rows& r, int m, float* y) {
  if constexpr (C >= D32) TILES(0, (tile_plain<C, T>(w, panel, r, m0, y)));
  else TILES(0, (tile_float<C, T>(w, panel, r, m0, y)));
}

void panel_float(const Weight& w, size_t index, const Rows& r, int m, float* y) {
  const uint8_t* panel = w.data + index * w.panel_bytes;
  switch (w.codes) {
    case U2: return all_float<U2>(w, panel, r, m, y);
    case U3: return all_float<U3>(w, panel, r, m, y);
    case U4: return all_float<U4>(w, panel, r, m, y);
    case U5: return all_float<U5>(w, panel, r, m, y);
    case U6: return all_float<U6>(w, panel, r, m, y);
    case U8: return all_float<U8>(w, panel, r, m, y);
    case FP4: return all_float<FP4>(w, panel, r, m, y);
    case FP8: return all_float<FP8>(w, panel, r, m, y);
    case D32: return all_float<D32>(w, panel, r, m, y);
    case D16: return all_float<D16>(w, panel, r, m, y);
    case DB16: return all_float<DB16>(w, panel, r, m, y);
  }
}

template <Codes C> void codes_of_row(const uint8_t* block, int lane, uint8_t* codes) {
  alignas(64) uint8_t step[64];
  B st[8];
  load_steps<C>(block, st);
  for (int j = 0; j < 8; j++) {
    bstore(step, st[j]);
    std::memcpy(codes + 4 * j, step + 4 * lane, 4);
  }
}

void codes_of_row(Codes c, const uint8_t* block, int lane, uint8_t* codes) {
  switch (c) {
    case U2: return codes_of_row<U2>(block, lane, codes);
    case U3: return codes_of_row<U3>(block, lane, codes);
    case U4: return codes_of_row<U4>(block, lane, codes);
    case U5: return codes_of_row<U5>(block, lane, codes);
    case U6: return codes_of_row<U6>(block, lane, codes);
    case FP4: return codes_of_row<FP4>(block, lane, codes);
    default: return codes_of_row<U8>(block, lane, codes);
  }
}

void unpack_plain_row(const Weight& w, const uint8_t* panel, int lane, float* dst) {
  float lanes[16];
  for (int k = 0; k < w.cols; k++) {
    const uint8_t* p = panel + (size_t)k * kRows * (w.codes == D32 ? 4 : 2);
    if (w.codes == D32) store(lanes, load((const float*)p));
    else store(lanes, w.codes == D16 ? load_f16((const uint16_t*)p) : load_bf16((const uint16_t*)p));
    dst[k] = lanes[lane];
  }
}

inline float scale_e4m3(uint8_t code) {
  const uint32_t bits = (uint32_t)(code & 127) << 20;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1p120f;
  return code & 128 ? -value : value;
}

inline F next_scales(Codes codes, Type type, const uint8_t*& p) {
  return codes == FP4 || codes == FP8 ? byte_scales(type, p) : wide_scales(type, p);
}

void unpack_row(const Weight& w, size_t row, float* dst) {
  const uint8_t* panel = w.data + row / kRows * w.panel_bytes;
  const int lane = (int)(row % kRows);
  if (w.codes >= D32) return unpack_plain_row(w, panel, lane, dst);
  const size_t bytes = block_bytes(bits_of(w.codes));
  const uint8_t* scales = panel;
  float s[16], b[16];
  uint8_t codes[kBlock];
  for (int k = 0; k < w.cols; k++) {
    const int at = k % kBlock;
    if (at == 0) codes_of_row(w.codes, panel + w.scale_bytes + k / kBlock * bytes, lane, codes);
    if (k % w.group == 0) {
      store(s, next_scales(w.codes, w.scale_type, scales));
      if (w.codes == FP4) s[lane] *= 0.5f;
      if (w.has_bias) store(b, next_scales(w.codes, w.scale_type, scales));
      else b[lane] = -(float)w.zero * s[lane];
    }
    if (w.codes == FP8) dst[k] = scale_e4m3(codes[at]) * s[lane];
    else dst[k] = __builtin_fmaf((float)codes[at], s[lane], b[lane]);
  }
}

}  // namespace
