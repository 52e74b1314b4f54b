// 16 lanes as four NEON registers, with the dot products of ARMv8.2. Same names as the other simd_*.h.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace {

struct F { float32x4_t v[4]; };
struct I { int32x4_t v[4]; };
struct B { uint8x16_t v[4]; };  // four rows each

constexpr bool kHasDot = true;
constexpr bool kSignedCodes = true;
constexpr bool kPairs = false;
constexpr int kBothPlanes = 2;
constexpr int kTile = 4;
constexpr int kTileRows = 3, kTileColumns = 2;  // of a product whose sums stay in registers, columns by 16

#define EACH(type, expr) type r; for (int i = 0; i < 4; i++) r.v[i] = (expr); return r
inline F zero() { EACH(F, vdupq_n_f32(0)); }
inline F set1(float x) { EACH(F, vdupq_n_f32(x)); }
inline F load(const float* p) { EACH(F, vld1q_f32(p + 4 * i)); }
inline void store(float* p, F x) { for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.v[i]); }
inline F add(F x, F y) { EACH(F, vaddq_f32(x.v[i], y.v[i])); }
inline F sub(F x, F y) { EACH(F, vsubq_f32(x.v[i], y.v[i])); }
inline F mul(F x, F y) { EACH(F, vmulq_f32(x.v[i], y.v[i])); }
inline F div(F x, F y) { EACH(F, vdivq_f32(x.v[i], y.v[i])); }
inline F fma(F x, F y, F z) { EACH(F, vfmaq_f32(z.v[i], x.v[i], y.v[i])); }
// as x86: the second where either is not a number
inline F vmax(F x, F y) { EACH(F, vbslq_f32(vcgtq_f32(x.v[i], y.v[i]), x.v[i], y.v[i])); }
inline F vmin(F x, F y) { EACH(F, vbslq_f32(vcltq_f32(x.v[i], y.v[i]), x.v[i], y.v[i])); }
inline F abs(F x) { EACH(F, vabsq_f32(x.v[i])); }
inline F round(F x) { EACH(F, vrndnq_f32(x.v[i])); }
inline int32x4_t exponent(float32x4_t n) {
  const float32x4_t inside = vmaxnmq_f32(vminnmq_f32(n, vdupq_n_f32(128)), vdupq_n_f32(-127));
  return vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(inside), vdupq_n_s32(127)), 23);
}
inline F pow2(F n) { EACH(F, vreinterpretq_f32_s32(exponent(n.v[i]))); }  // n whole; 0 below 2^-126
inline float total(F x) { return vaddvq_f32(vaddq_f32(vaddq_f32(x.v[0], x.v[1]), vaddq_f32(x.v[2], x.v[3]))); }
inline float largest(F x) {
  return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.v[0], x.v[1]), vmaxnmq_f32(x.v[2], x.v[3])));
}

inline F load_f16(const uint16_t* p) { EACH(F, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i)))); }
inline F load_bf16(const uint16_t* p) { EACH(F, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16))); }
inline F load_s8(const int8_t* p) {
  const int8x16_t codes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(codes)), high = vmovl_s8(vget_high_s8(codes));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(low))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)))}};
}
inline void store_f16(uint16_t* p, F x) {
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(x.v[i])));
}
inline void store_bf16(uint16_t* p, F x) {
  for (int i = 0; i < 4; i++) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x.v[i]);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t up = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(p + 4 * i, vshrn_n_u32(vbslq_u32(vceqq_f32(x.v[i], x.v[i]), up, quiet), 16));
  }
}

inline I izero() { EACH(I, vdupq_n_s32(0)); }
inline I iset1(int x) { EACH(I, vdupq_n_s32(x)); }
inline I iadd(I x, I y) { EACH(I, vaddq_s32(x.v[i], y.v[i])); }
template <int n> inline I ishl(I x) { EACH(I, vshlq_n_s32(x.v[i], n)); }
inline F to_float(I x) { EACH(F, vcvtq_f32_s32(x.v[i])); }
inline void store_bytes(int8_t* p, F x) {
  int16x4_t s[4];
  for (int i = 0; i < 4; i++) s[i] = vqmovn_s32(vcvtnq_s32_f32(x.v[i]));
  vst1_s8(p, vqmovn_s16(vcombine_s16(s[0], s[1])));
  vst1_s8(p + 8, vqmovn_s16(vcombine_s16(s[2], s[3])));
}

inline B bload(const uint8_t* p) { EACH(B, vld1q_u8(p + 16 * i)); }
inline void bstore(uint8_t* p, B x) { for (int i = 0; i < 4; i++) vst1q_u8(p + 16 * i, x.v[i]); }
template <int n> inline B shr(B x) { EACH(B, vshrq_n_u8(x.v[i], n)); }
template <int n> inline B shl(B x) { EACH(B, vshlq_n_u8(x.v[i], n)); }
inline B mask(B x, uint8_t m) { EACH(B, vandq_u8(x.v[i], vdupq_n_u8(m))); }
inline B bor(B x, B y) { EACH(B, vorrq_u8(x.v[i], y.v[i])); }
inline B lookup(B x, const uint8_t* table16) { EACH(B, vqtbl1q_u8(vld1q_u8(table16), x.v[i])); }
inline B less(B x, uint8_t y) { EACH(B, vsubq_u8(x.v[i], vdupq_n_u8(y))); }
template <int b> inline uint32x4_t word(uint8x16_t x) {
  uint32x4_t v = vreinterpretq_u32_u8(x);
  if constexpr (b > 0) v = vshrq_n_u32(v, 8 * b);
  return vandq_u32(v, vdupq_n_u32(255));
}
template <int b> inline F byte(B x) { EACH(F, vcvtq_f32_u32(word<b>(x.v[i]))); }
inline float32x4_t e4m3_of(uint32x4_t v) {
  const uint32x4_t sign = vshlq_n_u32(vandq_u32(v, vdupq_n_u32(128)), 24);
  const float32x4_t rest = vreinterpretq_f32_u32(vshlq_n_u32(vandq_u32(v, vdupq_n_u32(127)), 20));
  return vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(vmulq_n_f32(rest, 0x1p120f)), sign));
}
template <int b> inline F byte_e4m3(B x) { EACH(F, e4m3_of(word<b>(x.v[i]))); }
// 16 bytes, the lowest of each lane
inline B widened(const uint8_t* p) {
  B r;
  for (int i = 0; i < 4; i++) {
    uint32_t four;
    std::memcpy(&four, p + 4 * i, 4);
    const uint16x8_t wide = vmovl_u8(vcreate_u8(four));
    r.v[i] = vreinterpretq_u8_u32(vmovl_u16(vget_low_u16(wide)));
  }
  return r;
}
// 2 to the power of a lane's byte less 127; 255 is not a number
inline float32x4_t power_of(uint32x4_t v) {
  const uint32x4_t quiet = vdupq_n_u32(0x400000);  // alone it is 2^-127
  const uint32x4_t nan = vandq_u32(vceqq_u32(v, vdupq_n_u32(255)), quiet);
  return vreinterpretq_f32_u32(vorrq_u32(vmaxq_u32(vshlq_n_u32(v, 23), quiet), nan));
}
inline F power(B x) { EACH(F, power_of(word<0>(x.v[i]))); }
inline I dot(I acc, B w, const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  const int8x16_t v = vreinterpretq_s8_s32(vdupq_n_s32(four));
  EACH(I, vdotq_s32(acc.v[i], vreinterpretq_s8_u8(w.v[i]), v));
}
#undef EACH

struct X {};  // for pairs of panels, which these registers are too few for
inline X spread(const int8_t*) { return {}; }
inline I dot(I acc, B, X) { return acc; }

inline void transpose(F* r) {
  float in[16][16], out[16];
  for (int i = 0; i < 16; i++) store(in[i], r[i]);
  for (int i = 0; i < 16; i++) {
    for (int j = 0; j < 16; j++) out[j] = in[j][i];
    r[i] = load(out);
  }
}

}  // namespace
