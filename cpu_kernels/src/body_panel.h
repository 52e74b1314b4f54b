// Products of activations with one panel of a packed weight. Included once by each instruction set's
// file, after its simd_*.h; see kernels.h for the layout. Every output is summed in the order of its
// inputs whatever the number of rows, so results do not depend on how the work was cut.
#pragma once

#include "kernels.h"

namespace {

using namespace kernels;

alignas(16) constexpr uint8_t kFp4[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};  // 2 v + 12

inline float scale_e8m0(uint8_t code) {
  const uint32_t bits = code == 255 ? 0x7fc00000u : code == 0 ? 0x00400000u : (uint32_t)code << 23;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float scale_e4m3(uint8_t code) {
  const uint32_t bits = (uint32_t)(code & 127) << 20;
  float value;
  std::memcpy(&value, &bits, 4);
  value *= 0x1p120f;
  return code & 128 ? -value : value;
}

// 16 scales as floats; p moves on.
inline F next_scales(Type type, const uint8_t*& p) {
  switch (type) {
    case F32: p += 64; return load((const float*)(p - 64));
    case F16: p += 32; return load_f16((const uint16_t*)(p - 32));
    case BF16: p += 32; return load_bf16((const uint16_t*)(p - 32));
    default: break;
  }
  float s[16];
  for (int i = 0; i < 16; i++) s[i] = type == E8M0 ? scale_e8m0(p[i]) : scale_e4m3(p[i]);
  p += 16;
  return load(s);
}

constexpr int bits_of(Codes c) {
  return c == U2 ? 2 : c == U3 ? 3 : c == U4 || c == FP4 ? 4 : c == U5 ? 5 : c == U6 ? 6 : 8;
}
constexpr size_t block_bytes(int bits) { return (size_t)bits * kRows * kBlock / 8; }

inline void steps_u2(const uint8_t* p, B* s) {
  for (int i = 0; i < 2; i++) {
    const B v = bload(p + 64 * i);
    s[4 * i] = mask(v, 3);
    s[4 * i + 1] = mask(shr<2>(v), 3);
    s[4 * i + 2] = mask(shr<4>(v), 3);
    s[4 * i + 3] = mask(shr<6>(v), 3);
  }
}
inline void steps_u4(const uint8_t* p, B* s) {
  for (int i = 0; i < 4; i++) {
    const B v = bload(p + 64 * i);
    s[2 * i] = mask(v, 15);
    s[2 * i + 1] = mask(shr<4>(v), 15);
  }
}
template <int by> inline B moved(B v) {
  if constexpr (by > 0) return shl<by>(v);
  else if constexpr (by < 0) return shr<-by>(v);
  else return v;
}
// the plane of one upper bit, which is worth 1 << at
template <int at> inline void add_bit(const uint8_t* p, B* s) {
  constexpr uint8_t m = 1 << at;
  const B v = bload(p);
  s[0] = bor(s[0], mask(moved<at>(v), m));
  s[1] = bor(s[1], mask(moved<at - 1>(v), m));
  s[2] = bor(s[2], mask(moved<at - 2>(v), m));
  s[3] = bor(s[3], mask(moved<at - 3>(v), m));
  s[4] = bor(s[4], mask(moved<at - 4>(v), m));
  s[5] = bor(s[5], mask(moved<at - 5>(v), m));
  s[6] = bor(s[6], mask(moved<at - 6>(v), m));
  s[7] = bor(s[7], mask(moved<at - 7>(v), m));
}

// The codes of one block, one byte each.
template <Codes C> inline void load_steps(const uint8_t* p, B* s) {
  if constexpr (C == U8 || C == FP8) {
    for (int j = 0; j < 8; j++) s[j] = bload(p + 64 * j);
  } else if constexpr (C == U4) {
    steps_u4(p, s);
  } else if constexpr (C == FP4) {
    steps_u4(p, s);
    for (int j = 0; j < 8; j++) s[j] = lookup(s[j], kFp4);
  } else if constexpr (C == U2) {
    steps_u2(p, s);
  } else if constexpr (C == U3) {
    steps_u2(p, s);
    add_bit<2>(p + 128, s);
  } else if constexpr (C == U5) {
    steps_u4(p, s);
    add_bit<4>(p + 256, s);
  } else {
    B upper[8];
    steps_u4(p, s);
    steps_u2(p + 256, upper);
    for (int j = 0; j < 8; j++) s[j] = bor(s[j], shl<4>(upper[j]));
  }
}

// Groups of 16 (NVFP4) have two scales in a block; `halves` sees them apart.
template <Codes C, bool two, int M>
void tile_integer(const Weight& w, const uint8_t* panel, const Rows& r, int m0, float* y) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  constexpr int offset = C == U8 ? kDotOffset8 : 0;
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = w.group >= kBlock ? w.group / kBlock : 1;
  const bool halves = w.group < kBlock;
  const uint8_t *scales = panel, *codes = panel + w.scale_bytes;
  const int zero_code = (w.has_bias ? 0 : w.zero) - offset;
  F acc[M];
  for (int m = 0; m < M; m++) acc[m] = zero();
  F s = zero(), s2 = zero(), b = zero();
  const F half_unit = set1(0.5f);
  for (int i = 0, left = 0; i < blocks; i++, left--) {
    if (left == 0) {
      left = per_group;
      s = next_scales(w.scale_type, scales);
      if (w.has_bias) b = next_scales(w.scale_type, scales);
      if (halves) s2 = next_scales(w.scale_type, scales);
      if constexpr (C == FP4) s = mul(s, half_unit), s2 = mul(s2, half_unit);
    }
    B st[8];
    load_steps<C>(codes + i * bytes, st);
    for (int m = 0; m < M; m++) {
      const int8_t* hi = r.hi + (m0 + m) * r.q_stride + i * kBlock;
      const int8_t* lo = two ? r.lo + (m0 + m) * r.q_stride + i * kBlock : nullptr;
      const size_t at = (m0 + m) * r.g_stride + i;
      const F unit = set1(r.scale[at]);
      I d = izero();
      for (int j = 0; j < 4; j++) d = dot(d, st[j], hi + 4 * j);
      if (halves) {
        I e = izero();
        for (int j = 4; j < 8; j++) e = dot(e, st[j], hi + 4 * j);
        if constexpr (two) {
          d = ishl<kShift>(d), e = ishl<kShift>(e);
          for (int j = 0; j < 4; j++) d = dot(d, st[j], lo + 4 * j);
          for (int j = 4; j < 8; j++) e = dot(e, st[j], lo + 4 * j);
        }
        d = iadd(d, iset1(-zero_code * r.isum[2 * at]));
        e = iadd(e, iset1(-zero_code * r.isum[2 * at + 1]));
        acc[m] = fma(to_float(d), mul(s, unit), acc[m]);
        acc[m] = fma(to_float(e), mul(s2, unit), acc[m]);
        continue;
      }
      for (int j = 4; j < 8; j++) d = dot(d, st[j], hi + 4 * j);
      if constexpr (two) {
        d = ishl<kShift>(d);
        for (int j = 0; j < 8; j++) d = dot(d, st[j], lo + 4 * j);
      }
      if (zero_code) d = iadd(d, iset1(-zero_code * (r.isum[2 * at] + r.isum[2 * at + 1])));
      acc[m] = fma(to_float(d), mul(s, unit), acc[m]);
      if (w.has_bias) acc[m] = fma(b, set1(r.sum[at]), acc[m]);
    }
  }
  for (int m = 0; m < M; m++) store(y + (size_t)(m0 + m) * kRows, acc[m]);
}

template <Codes C, int b, int M>
inline void add_input(B step, F s, F bias, const float* x, size_t stride, F* acc) {
  F f;
  if constexpr (C == FP8) f = mul(byte_e4m3<b>(step), s);
  else f = fma(byte<b>(step), s, bias);
  for (int m = 0; m < M; m++) acc[m] = fma(f, set1(x[m * stride]), acc[m]);
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
      s = next_scales(w.scale_type, scales);
      if (w.has_bias) b = next_scales(w.scale_type, scales);
      if (halves) s2 = next_scales(w.scale_type, scales);
      if constexpr (C == FP4) s = mul(s, set1(0.5f)), s2 = mul(s2, set1(0.5f));
      if (!w.has_bias) b = mul(minus_zero, s), b2 = mul(minus_zero, s2);
    }
    B st[8];
    load_steps<C>(codes + i * bytes, st);
    const float* x = r.x + m0 * r.x_stride + i * kBlock;
    for (int j = 0; j < 8; j++, x += 4) {
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
    for (int m = 0; m < M; m++) acc[m] = fma(f, set1(x[m * r.x_stride + k]), acc[m]);
  }
  for (int m = 0; m < M; m++) store(y + (size_t)(m0 + m) * kRows, acc[m]);
}

// Cuts M rows into tiles of kTile, 4, 2, 1.
#define TILES(call)                                                      \
  do {                                                                   \
    int m0 = 0;                                                          \
    if constexpr (kTile == 8) for (; m - m0 >= 8; m0 += 8) { constexpr int T = 8; call; } \
    if constexpr (kTile >= 4) for (; m - m0 >= 4; m0 += 4) { constexpr int T = 4; call; } \
    for (; m - m0 >= 2; m0 += 2) { constexpr int T = 2; call; }          \
    for (; m - m0 >= 1; m0 += 1) { constexpr int T = 1; call; }          \
  } while (0)

template <Codes C> void all_integer(const Weight& w, const uint8_t* panel, const Rows& r, int m, float* y) {
  if (r.lo) TILES((tile_integer<C, true, T>(w, panel, r, m0, y)));
  else TILES((tile_integer<C, false, T>(w, panel, r, m0, y)));
}
template <Codes C> void all_float(const Weight& w, const uint8_t* panel, const Rows& r, int m, float* y) {
  if constexpr (C >= D32) TILES((tile_plain<C, T>(w, panel, r, m0, y)));
  else TILES((tile_float<C, T>(w, panel, r, m0, y)));
}

void panel_integer(const Weight& w, size_t index, const Rows& r, int m, float* y) {
  const uint8_t* panel = w.data + index * w.panel_bytes;
  switch (w.codes) {
    case U2: return all_integer<U2>(w, panel, r, m, y);
    case U3: return all_integer<U3>(w, panel, r, m, y);
    case U4: return all_integer<U4>(w, panel, r, m, y);
    case U5: return all_integer<U5>(w, panel, r, m, y);
    case U6: return all_integer<U6>(w, panel, r, m, y);
    case U8: return all_integer<U8>(w, panel, r, m, y);
    case FP4: return all_integer<FP4>(w, panel, r, m, y);
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
      store(s, next_scales(w.scale_type, scales));
      if (w.codes == FP4) s[lane] *= 0.5f;
      if (w.has_bias) store(b, next_scales(w.scale_type, scales));
      else b[lane] = -(float)w.zero * s[lane];
    }
    if (w.codes == FP8) dst[k] = scale_e4m3(codes[at]) * s[lane];
    else dst[k] = __builtin_fmaf((float)codes[at], s[lane], b[lane]);
  }
}

}  // namespace
