// 16 lanes as plain arrays, for any CPU. Same names as the other simd_*.h. Slow, and the reference.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct F { float v[16]; };
struct I { int32_t v[16]; };
struct B { uint8_t v[64]; };

constexpr bool kHasDot = false;
constexpr bool kSignedCodes = false;
constexpr bool kPairs = false;
constexpr int kBothPlanes = 1;
constexpr int kTile = 2;
constexpr int kTileRows = 2, kTileColumns = 1;  // of a product whose sums stay in registers, columns by 16

#define EACH(type, expr) type r; for (int i = 0; i < 16; i++) r.v[i] = (expr); return r
#define EACH_BYTE(expr) B r; for (int i = 0; i < 64; i++) r.v[i] = (uint8_t)(expr); return r

inline float bits_float(uint32_t u) { float f; std::memcpy(&f, &u, 4); return f; }
inline uint32_t float_bits(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }
inline float half_float(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return bits_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  return bits_float(sign | float_bits(bits_float(rest << 13) * 0x1p112f));
}
inline uint16_t float_half(float f) {
  const uint32_t u = float_bits(f), sign = u >> 16 & 0x8000, rest = u & 0x7fffffff;
  if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (rest >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (rest < 0x38800000)  // subnormal: let the addition round
    return (uint16_t)(sign | (float_bits(bits_float(rest) + 0.5f) - 0x3f000000));
  return (uint16_t)(sign | (rest - 0x38000000 + 0xfff + (rest >> 13 & 1)) >> 13);
}
inline uint16_t float_bfloat(float f) {
  const uint32_t u = float_bits(f);
  return (u & 0x7fffffff) > 0x7f800000 ? (uint16_t)(u >> 16 | 0x40) : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

inline F zero() { EACH(F, 0.0f); }
inline F set1(float x) { EACH(F, x); }
inline F load(const float* p) { F r; std::memcpy(r.v, p, 64); return r; }
inline void store(float* p, F a) { std::memcpy(p, a.v, 64); }
inline F add(const F& a, const F& b) { EACH(F, a.v[i] + b.v[i]); }
inline F sub(const F& a, const F& b) { EACH(F, a.v[i] - b.v[i]); }
inline F mul(const F& a, const F& b) { EACH(F, a.v[i] * b.v[i]); }
inline F div(const F& a, const F& b) { EACH(F, a.v[i] / b.v[i]); }
inline F fma(const F& a, const F& b, const F& c) { EACH(F, a.v[i] * b.v[i] + c.v[i]); }
inline F vmax(const F& a, const F& b) { EACH(F, a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
inline F vmin(const F& a, const F& b) { EACH(F, a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
inline F abs(const F& a) { EACH(F, bits_float(float_bits(a.v[i]) & 0x7fffffff)); }
inline F round(const F& a) { EACH(F, ::nearbyintf(a.v[i])); }
inline F pow2(const F& n) { EACH(F, bits_float((uint32_t)((n.v[i] < -127 ? -127 : (int)n.v[i]) + 127) << 23)); }
inline float total(const F& a) {
  float r[16];
  std::memcpy(r, a.v, 64);
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) r[i] += r[i + half];
  return r[0];
}
inline float largest(const F& a) {
  float r = a.v[0];
  for (int i = 1; i < 16; i++) r = a.v[i] > r ? a.v[i] : r;
  return r;
}

inline F load_f16(const uint16_t* p) { EACH(F, half_float(p[i])); }
inline F load_bf16(const uint16_t* p) { EACH(F, bits_float((uint32_t)p[i] << 16)); }
inline F load_s8(const int8_t* p) { EACH(F, (float)p[i]); }
inline void store_f16(uint16_t* p, const F& a) { for (int i = 0; i < 16; i++) p[i] = float_half(a.v[i]); }
inline void store_bf16(uint16_t* p, const F& a) { for (int i = 0; i < 16; i++) p[i] = float_bfloat(a.v[i]); }

inline I izero() { EACH(I, 0); }
inline I iset1(int x) { EACH(I, x); }
inline I iadd(const I& a, const I& b) { EACH(I, a.v[i] + b.v[i]); }
template <int n> inline I ishl(const I& a) { EACH(I, (int32_t)((uint32_t)a.v[i] << n)); }
inline F to_float(const I& a) { EACH(F, (float)a.v[i]); }
inline void store_bytes(int8_t* p, const F& a) { for (int i = 0; i < 16; i++) p[i] = (int8_t)::lrintf(a.v[i]); }

inline B bload(const uint8_t* p) { B r; std::memcpy(r.v, p, 64); return r; }
inline void bstore(uint8_t* p, const B& a) { std::memcpy(p, a.v, 64); }
template <int n> inline B shr(const B& a) { EACH_BYTE(a.v[i] >> n); }
template <int n> inline B shl(const B& a) { EACH_BYTE(a.v[i] << n); }
inline B mask(const B& a, uint8_t m) { EACH_BYTE(a.v[i] & m); }
inline B less(const B& a, uint8_t x) { EACH_BYTE(a.v[i] - x); }
inline B bor(const B& a, const B& b) { EACH_BYTE(a.v[i] | b.v[i]); }
inline B lookup(const B& a, const uint8_t* table16) { EACH_BYTE(table16[a.v[i] & 15]); }
template <int b> inline F byte(const B& a) { EACH(F, (float)a.v[4 * i + b]); }
template <int b> inline F byte_e4m3(const B& a) {
  EACH(F, (a.v[4 * i + b] & 128 ? -1.0f : 1.0f) * (bits_float((uint32_t)(a.v[4 * i + b] & 127) << 20) * 0x1p120f));
}
// 16 bytes, the lowest of each lane
inline B widened(const uint8_t* p) { B r = {}; for (int i = 0; i < 16; i++) r.v[4 * i] = p[i]; return r; }
// 2 to the power of a lane's byte less 127; 255 is not a number
inline F power(const B& a) {
  EACH(F, bits_float(a.v[4 * i] == 255 ? 0x7fc00000u : a.v[4 * i] == 0 ? 0x400000u : (uint32_t)a.v[4 * i] << 23));
}
inline I dot(const I& acc, const B& w, const int8_t* x) {
  EACH(I, acc.v[i] + w.v[4 * i] * x[0] + w.v[4 * i + 1] * x[1] + w.v[4 * i + 2] * x[2] + w.v[4 * i + 3] * x[3]);
}
#undef EACH
#undef EACH_BYTE

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
