// Products of activations with one panel of a packed weight. Included once by each instruction set's
// file, after its simd_*.h; see kernels.h for the layout. Every output is summed in the order of its
// inputs whatever the number of rows, so results do not depend on how the work was cut.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

alignas(16) constexpr uint8_t kFp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};  // 2 v + 12

inline float scale_e4m3(uint8_t code) {
  const uint32_t bits = (uint32_t)(code & 127) << 20;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1p120f;
  return code & 128 ? -value : value;
}

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
inline F next_scales(Codes codes, Type type, const uint8_t*& p) {
  return codes == FP4 || codes == FP8 ? byte_scales(type, p) : wide_scales(type, p);
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

// d[m] = steps [first, last) . rows, in both planes
template <int M, int first, int last>
inline void dots_of(const B* st, const int8_t* q, I* d) {
  UNROLL for (int m = 0; m < M; m++) d[m] = izero();
  UNROLL for (int j = first; j < last; j++)
    UNROLL for (int m = 0; m < M; m++) d[m] = dot(d[m], st[j], q + 2 * kBlock * m + 4 * j);
  if constexpr (M <= 2) {  // few rows: two chains are shorter than one
    I e[M];
    UNROLL for (int m = 0; m < M; m++) e[m] = izero();
    UNROLL for (int j = first; j < last; j++)
      UNROLL for (int m = 0; m < M; m++) e[m] = dot(e[m], st[j], q + 2 * kBlock * m + kBlock + 4 * j);
    UNROLL for (int m = 0; m < M; m++) d[m] = iadd(ishl<kShift>(d[m]), e[m]);
  } else {
    UNROLL for (int m = 0; m < M; m++) d[m] = ishl<kShift>(d[m]);
    UNROLL for (int j = first; j < last; j++)
      UNROLL for (int m = 0; m < M; m++) d[m] = dot(d[m], st[j], q + 2 * kBlock * m + kBlock + 4 * j);
  }
}

// `halved`: groups of 16, so each half of a block has its own scale and bias.
template <Codes C, bool halved, int M>
void tile_integer(const Weight& w, const uint8_t* panel, const Rows& r, int m0, float* y) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  constexpr int offset = C == U8 ? kDotOffset8 : 0;
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = halved ? 1 : w.group / kBlock;
  const size_t per_block = w.panel_bytes / blocks;
  const uint8_t *scales = panel, *codes = panel + w.scale_bytes;
  const F minus_zero = set1((float)(offset - w.zero));
  const bool biased = w.has_bias;
  const size_t slot = (size_t)(m0 / kSlots) * blocks * kSlots + m0 % kSlots;
  const int8_t* q = r.q + slot * 2 * kBlock;
  const float *scale = r.scale + slot, *sum = r.sum + slot, *low = r.low + slot;
  F acc[M];
  UNROLL for (int m = 0; m < M; m++) acc[m] = zero();
  F s = zero(), s2 = zero(), b = zero(), b2 = zero();
  for (int i = 0, left = 0; i < blocks; i++, left--) {
    if (M <= 2) ahead(panel, i, per_block);
    if (left == 0) {
      left = per_group;
      s = next_scales<C>(w.scale_type, scales);
      if (biased) b = next_scales<C>(w.scale_type, scales);
      if constexpr (halved) s2 = next_scales<C>(w.scale_type, scales);
      if (halved && biased) b2 = next_scales<C>(w.scale_type, scales);
      if constexpr (offset != 0)
        if (biased) b = fma(s, set1((float)offset), b), b2 = fma(s2, set1((float)offset), b2);
      if constexpr (C == FP4) s = mul(s, set1(0.5f)), s2 = mul(s2, set1(0.5f));
      if (!biased) b = mul(minus_zero, s), b2 = mul(minus_zero, s2);
    }
    B st[8];
    load_steps<C>(codes + i * bytes, st);
    if constexpr (offset != 0)
      for (B& codes_of_step : st) codes_of_step = centred(codes_of_step);
    I d[M];
    dots_of<M, 0, halved ? 4 : 8>(st, q, d);
    UNROLL for (int m = 0; m < M; m++) {
      acc[m] = fma(to_float(d[m]), mul(s, set1(scale[m])), acc[m]);
      acc[m] = fma(b, set1(halved ? low[m] : sum[m]), acc[m]);
    }
    if constexpr (halved) {
      dots_of<M, 4, 8>(st, q, d);
      UNROLL for (int m = 0; m < M; m++) {
        acc[m] = fma(to_float(d[m]), mul(s2, set1(scale[m])), acc[m]);
        acc[m] = fma(b2, set1(sum[m] - low[m]), acc[m]);
      }
    }
    q += 2 * kBlock * kSlots, scale += kSlots, sum += kSlots, low += kSlots;
  }
  UNROLL for (int m = 0; m < M; m++) store(y + (size_t)(m0 + m) * kRows, acc[m]);
}

// Two panels at once, so that each row of activations is read half as often.
template <Codes C, int M, int j>
inline void step_of_pair(const uint8_t* a, const uint8_t* b, const int8_t* q, I (&hi)[2][M], I (&lo)[2][M]) {
  const B first = step<C, j>(a), second = step<C, j>(b);
  UNROLL for (int m = 0; m < M; m++) {
    const X x = spread(q + 2 * kBlock * m + 4 * j), z = spread(q + 2 * kBlock * m + kBlock + 4 * j);
    hi[0][m] = dot(hi[0][m], first, x), hi[1][m] = dot(hi[1][m], second, x);
    lo[0][m] = dot(lo[0][m], first, z), lo[1][m] = dot(lo[1][m], second, z);
  }
}

template <Codes C, int M, int half>
inline void half_of_pair(const uint8_t* a, const uint8_t* b, const int8_t* q, I (&hi)[2][M], I (&lo)[2][M]) {
  step_of_pair<C, M, 4 * half>(a, b, q, hi, lo), step_of_pair<C, M, 4 * half + 1>(a, b, q, hi, lo);
  step_of_pair<C, M, 4 * half + 2>(a, b, q, hi, lo), step_of_pair<C, M, 4 * half + 3>(a, b, q, hi, lo);
}

template <Codes C, bool halved, int M>
void pair_integer(const Weight& w, const uint8_t* panel, const Rows& r, int m0, size_t ldy, float* y) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = halved ? 1 : w.group / kBlock;
  const uint8_t* scales[2] = {panel, panel + w.panel_bytes};
  const uint8_t *a = panel + w.scale_bytes, *b = a + w.panel_bytes;
  const F minus_zero = set1(-(float)w.zero);
  const size_t slot = (size_t)(m0 / kSlots) * blocks * kSlots + m0 % kSlots;
  const int8_t* q = r.q + slot * 2 * kBlock;
  const float *scale = r.scale + slot, *sum = r.sum + slot, *low = r.low + slot;
  F acc[2][M], s[2] = {zero(), zero()}, bias[2] = {zero(), zero()};
  UNROLL for (int m = 0; m < M; m++) acc[0][m] = acc[1][m] = zero();
  const auto group = [&] {
    UNROLL for (int p = 0; p < 2; p++) {
      s[p] = next_scales<C>(w.scale_type, scales[p]);
      if (w.has_bias) bias[p] = next_scales<C>(w.scale_type, scales[p]);
      if constexpr (C == FP4) s[p] = mul(s[p], set1(0.5f));
      if (!w.has_bias) bias[p] = mul(minus_zero, s[p]);
    }
  };
  I hi[2][M], lo[2][M];
  const auto begin = [&] { UNROLL for (int m = 0; m < M; m++) hi[0][m] = hi[1][m] = lo[0][m] = lo[1][m] = izero(); };
  const auto add = [&](auto of) {  // of(m): the sum of what these inputs of row m are
    UNROLL for (int p = 0; p < 2; p++)
      UNROLL for (int m = 0; m < M; m++) {
        const F whole = to_float(iadd(ishl<kShift>(hi[p][m]), lo[p][m]));
        acc[p][m] = fma(whole, mul(s[p], set1(scale[m])), acc[p][m]);
        acc[p][m] = fma(bias[p], set1(of(m)), acc[p][m]);
      }
  };
  for (int i = 0, left = 0; i < blocks; i++, left--) {
    if (left == 0) left = per_group, group();
    begin();
    half_of_pair<C, M, 0>(a, b, q, hi, lo);
    if constexpr (halved) {
      add([&](int m) { return low[m]; });
      group(), begin();
    }
    half_of_pair<C, M, 1>(a, b, q, hi, lo);
    add([&](int m) { return halved ? sum[m] - low[m] : sum[m]; });
    a += bytes, b += bytes, q += 2 * kBlock * kSlots, scale += kSlots, sum += kSlots, low += kSlots;
  }
  UNROLL for (int p = 0; p < 2; p++)
    UNROLL for (int m = 0; m < M; m++) store(y + p * ldy + (size_t)(m0 + m) * kRows, acc[p][m]);
}

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

template <Codes C>
void all_integer(const Weight& w, const uint8_t* panel, int panels, const Rows& r, int m, size_t ldy, float* y) {
  if constexpr (!kHasDot) return;  // the caller asks for floats
  else {
    const bool halved = w.group < kBlock;
    int done = 0;
    if constexpr (kPairs) {
      // NVFP4's scales take longer to read than its codes, and a tile of 8 rows reads them less often
      if (panels == 2 && !(halved && C == FP4))
        for (; done + 4 <= m; done += 4) {
          if (halved) pair_integer<C, C != FP4, 4>(w, panel, r, done, ldy, y);
          else pair_integer<C, false, 4>(w, panel, r, done, ldy, y);
        }
    }
    for (int p = 0; p < panels; p++, panel += w.panel_bytes, y += ldy) {
      if (halved) TILES(done, (tile_integer<C, true, T>(w, panel, r, m0, y)));
      else TILES(done, (tile_integer<C, false, T>(w, panel, r, m0, y)));
    }
  }
}
template <Codes C> void all_float(const Weight& w, const uint8_t* panel, const Rows& r, int m, float* y) {
  if constexpr (C >= D32) TILES(0, (tile_plain<C, T>(w, panel, r, m0, y)));
  else TILES(0, (tile_float<C, T>(w, panel, r, m0, y)));
}

void panels_integer(const Weight& w, size_t index, int panels, const Rows& r, int m, size_t ldy, float* y) {
  const uint8_t* panel = w.data + index * w.panel_bytes;
  switch (w.codes) {
    case U2: return all_integer<U2>(w, panel, panels, r, m, ldy, y);
    case U3: return all_integer<U3>(w, panel, panels, r, m, ldy, y);
    case U4: return all_integer<U4>(w, panel, panels, r, m, ldy, y);
    case U5: return all_integer<U5>(w, panel, panels, r, m, ldy, y);
    case U6: return all_integer<U6>(w, panel, panels, r, m, ldy, y);
    case U8: return all_integer<U8>(w, panel, panels, r, m, ldy, y);
    case FP4: return all_integer<FP4>(w, panel, panels, r, m, ldy, y);
    default: return;  // the caller asks for floats
  }
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
