// 16 lanes as two AVX2 registers. Same names as the other simd_*.h. `dot` needs AVX-VNNI.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

struct F { __m256 a, b; };
struct I { __m256i a, b; };
struct B { __m256i a, b; };  // rows 0-7, rows 8-15

#if defined(__AVXVNNI__)
constexpr bool kHasDot = true;
#else
constexpr bool kHasDot = false;
#endif
constexpr bool kSignedCodes = false;
constexpr bool kPairs = false;
constexpr int kBothPlanes = 2;
constexpr int kTile = 4;
constexpr int kTileRows = 3, kTileColumns = 2;  // of a product whose sums stay in registers, columns by 16

#define BOTH(expr_a, expr_b) {expr_a, expr_b}
inline F zero() { return BOTH(_mm256_setzero_ps(), _mm256_setzero_ps()); }
inline F set1(float x) { return BOTH(_mm256_set1_ps(x), _mm256_set1_ps(x)); }
inline F load(const float* p) { return BOTH(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
inline void store(float* p, F x) { _mm256_storeu_ps(p, x.a), _mm256_storeu_ps(p + 8, x.b); }
inline F add(F x, F y) { return BOTH(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
inline F sub(F x, F y) { return BOTH(_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)); }
inline F mul(F x, F y) { return BOTH(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
inline F div(F x, F y) { return BOTH(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
inline F fma(F x, F y, F z) { return BOTH(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)); }
inline F vmax(F x, F y) { return BOTH(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
inline F vmin(F x, F y) { return BOTH(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
inline F abs(F x) {
  const __m256 m = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return BOTH(_mm256_and_ps(x.a, m), _mm256_and_ps(x.b, m));
}
inline F round(F x) { return BOTH(_mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8)); }
inline __m256 pow2_half(__m256 n) {
  const __m256 inside = _mm256_max_ps(n, _mm256_set1_ps(-127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(inside), _mm256_set1_epi32(127)), 23));
}
inline F pow2(F n) { return BOTH(pow2_half(n.a), pow2_half(n.b)); }  // n whole, at most 128; 0 below 2^-126
inline float total(F x) {
  const __m256 s = _mm256_add_ps(x.a, x.b);
  __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(q, _mm_movehdup_ps(q)));
}
inline float largest(F x) {
  const __m256 s = _mm256_max_ps(x.a, x.b);
  __m128 q = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
  q = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(q, _mm_movehdup_ps(q)));
}

inline __m128i half_line(const void* p) { return _mm_loadu_si128((const __m128i*)p); }
inline F load_f16(const uint16_t* p) {
  return BOTH(_mm256_cvtph_ps(half_line(p)), _mm256_cvtph_ps(half_line(p + 8)));
}
inline __m256 bf16_half(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half_line(p)), 16));
}
inline F load_bf16(const uint16_t* p) { return BOTH(bf16_half(p), bf16_half(p + 8)); }
inline F load_s8(const int8_t* p) {
  const __m128i codes = half_line(p);
  return BOTH(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes)), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(codes, 8))));
}
inline void store_f16(uint16_t* p, F x) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.a, 0));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(x.b, 0));
}
inline void store_bf16_half(uint16_t* p, __m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  up = _mm256_blendv_epi8(up, _mm256_or_si256(bits, _mm256_set1_epi32(0x400000)), nan);
  up = _mm256_srli_epi32(up, 16);
  _mm_storeu_si128((__m128i*)p, _mm_packus_epi32(_mm256_castsi256_si128(up), _mm256_extracti128_si256(up, 1)));
}
inline void store_bf16(uint16_t* p, F x) { store_bf16_half(p, x.a), store_bf16_half(p + 8, x.b); }

inline I izero() { return BOTH(_mm256_setzero_si256(), _mm256_setzero_si256()); }
inline I iset1(int x) { return BOTH(_mm256_set1_epi32(x), _mm256_set1_epi32(x)); }
inline I iadd(I x, I y) { return BOTH(_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
template <int n> inline I ishl(I x) { return BOTH(_mm256_slli_epi32(x.a, n), _mm256_slli_epi32(x.b, n)); }
inline F to_float(I x) { return BOTH(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
inline __m128i eight_shorts(__m256 x) {
  const __m256i i = _mm256_cvtps_epi32(x);
  return _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
}
inline void store_bytes(int8_t* p, F x) {
  _mm_storeu_si128((__m128i*)p, _mm_packs_epi16(eight_shorts(x.a), eight_shorts(x.b)));
}

inline __m256i line(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline B bload(const uint8_t* p) { return BOTH(line(p), line(p + 32)); }
inline void bstore(uint8_t* p, B x) {
  _mm256_storeu_si256((__m256i*)p, x.a), _mm256_storeu_si256((__m256i*)(p + 32), x.b);
}
template <int n> inline B shr(B x) { return BOTH(_mm256_srli_epi16(x.a, n), _mm256_srli_epi16(x.b, n)); }
template <int n> inline B shl(B x) { return BOTH(_mm256_slli_epi16(x.a, n), _mm256_slli_epi16(x.b, n)); }
inline B mask(B x, uint8_t m) {
  const __m256i v = _mm256_set1_epi8((char)m);
  return BOTH(_mm256_and_si256(x.a, v), _mm256_and_si256(x.b, v));
}
inline B less(B x, uint8_t y) { return BOTH(_mm256_sub_epi8(x.a, _mm256_set1_epi8((char)y)), _mm256_sub_epi8(x.b, _mm256_set1_epi8((char)y))); }
inline B bor(B x, B y) { return BOTH(_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)); }
inline B lookup(B x, const uint8_t* table16) {
  const __m256i t = _mm256_broadcastsi128_si256(half_line(table16));
  return BOTH(_mm256_shuffle_epi8(t, x.a), _mm256_shuffle_epi8(t, x.b));
}
template <int b> inline __m256 byte_half(__m256i v) {
  if (b) v = _mm256_srli_epi32(v, 8 * b);
  if (b < 3) v = _mm256_and_si256(v, _mm256_set1_epi32(255));
  return _mm256_cvtepi32_ps(v);
}
template <int b> inline F byte(B x) { return BOTH(byte_half<b>(x.a), byte_half<b>(x.b)); }
template <int b> inline __m256 e4m3_half(__m256i v) {
  if (b < 3) v = _mm256_slli_epi32(v, 24 - 8 * b);
  const __m256i sign = _mm256_and_si256(v, _mm256_set1_epi32((int)0x80000000u));
  const __m256i rest = _mm256_srli_epi32(_mm256_and_si256(v, _mm256_set1_epi32(0x7f000000)), 4);
  return _mm256_or_ps(_mm256_mul_ps(_mm256_castsi256_ps(rest), _mm256_set1_ps(0x1p120f)), _mm256_castsi256_ps(sign));
}
template <int b> inline F byte_e4m3(B x) { return BOTH(e4m3_half<b>(x.a), e4m3_half<b>(x.b)); }
// 16 bytes, the lowest of each lane
inline B widened(const uint8_t* p) {
  const __m128i v = half_line(p);
  return BOTH(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8)));
}
// 2 to the power of a lane's byte less 127; 255 is not a number
inline __m256 power_half(__m256i v) {
  const __m256i quiet = _mm256_set1_epi32(0x400000);  // alone it is 2^-127
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi32(v, _mm256_set1_epi32(255)), quiet);
  return _mm256_castsi256_ps(_mm256_or_si256(_mm256_max_epu32(_mm256_slli_epi32(v, 23), quiet), nan));
}
inline F power(B x) { return BOTH(power_half(x.a), power_half(x.b)); }
#if defined(__AVXVNNI__)
inline I dot(I acc, B w, const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  const __m256i v = _mm256_set1_epi32(four);
  return BOTH(_mm256_dpbusd_avx_epi32(acc.a, w.a, v), _mm256_dpbusd_avx_epi32(acc.b, w.b, v));
}
#else
inline I dot(I acc, B, const int8_t*) { return acc; }  // never called: kHasDot is false
#endif
#undef BOTH

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
