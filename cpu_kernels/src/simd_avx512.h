// 16 lanes as one AVX-512 register. Same names as the other simd_*.h.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

struct F { __m512 v; };    // 16 floats
struct I { __m512i v; };   // 16 int32
struct B { __m512i v; };   // 64 bytes

constexpr bool kHasDot = true;
constexpr bool kSignedCodes = false;  // what `dot` takes: bytes without a sign, or with one
constexpr bool kPairs = true;         // enough registers to take two panels at a time
constexpr int kBothPlanes = 8;        // at most so many products go through both planes at once
constexpr int kTile = 8;        // rows of activations that one pass over a panel serves
constexpr int kTileRows = 6, kTileColumns = 4;  // of a product whose sums stay in registers, columns by 16

inline F zero() { return {_mm512_setzero_ps()}; }
inline F set1(float x) { return {_mm512_set1_ps(x)}; }
inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline F add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F vmax(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F vmin(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm512_abs_ps(a.v)}; }
inline F round(F a) { return {_mm512_roundscale_ps(a.v, 8)}; }
inline F pow2(F n) { return {_mm512_scalef_ps(_mm512_set1_ps(1.0f), n.v)}; }  // n whole
inline float total(F a) { return _mm512_reduce_add_ps(a.v); }
inline float largest(F a) { return _mm512_reduce_max_ps(a.v); }

inline F load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline F load_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
inline F load_s8(const int8_t* p) { return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))}; }
inline void store_f16(uint16_t* p, F a) { _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a.v, 0)); }
inline void store_bf16(uint16_t* p, F a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  up = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}

inline I izero() { return {_mm512_setzero_si512()}; }
inline I iload(const int32_t* p) { return {_mm512_load_si512(p)}; }
inline I iset1(int x) { return {_mm512_set1_epi32(x)}; }
inline I iadd(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
template <int n> inline I ishl(I a) { return {_mm512_slli_epi32(a.v, n)}; }
inline F to_float(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
// to the nearest whole number; 16 values as bytes
inline void store_bytes(int8_t* p, F a) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a.v))); }

inline B bload(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void bstore(uint8_t* p, B a) { _mm512_storeu_si512(p, a.v); }
template <int n> inline B shr(B a) { return {_mm512_srli_epi16(a.v, n)}; }  // bits of the neighbour come in: mask after
template <int n> inline B shl(B a) { return {_mm512_slli_epi16(a.v, n)}; }
inline B mask(B a, uint8_t m) { return {_mm512_and_si512(a.v, _mm512_set1_epi8((char)m))}; }
inline B less(B a, uint8_t x) { return {_mm512_sub_epi8(a.v, _mm512_set1_epi8((char)x))}; }
inline B bor(B a, B b) { return {_mm512_or_si512(a.v, b.v)}; }
inline B lookup(B a, const uint8_t* table16) {
  return {_mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)table16)), a.v)};
}
// byte b of each of 16 rows, as a float
template <int b> inline F byte(B a) {
  __m512i v = b ? _mm512_srli_epi32(a.v, 8 * b) : a.v;
  if (b < 3) v = _mm512_and_si512(v, _mm512_set1_epi32(255));
  return {_mm512_cvtepi32_ps(v)};
}
// the same, the byte read as a float of 4 exponent and 3 mantissa bits
template <int b> inline F byte_e4m3(B a) {
  const __m512i v = b == 3 ? a.v : _mm512_slli_epi32(a.v, 24 - 8 * b);
  const __m512i sign = _mm512_and_si512(v, _mm512_set1_epi32((int)0x80000000u));
  const __m512i rest = _mm512_srli_epi32(_mm512_and_si512(v, _mm512_set1_epi32(0x7f000000)), 4);
  const __m512 value = _mm512_mul_ps(_mm512_castsi512_ps(rest), _mm512_set1_ps(0x1p120f));
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign))};
}
// 16 bytes, the lowest of each lane
inline B widened(const uint8_t* p) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))}; }
// 2 to the power of a lane's byte less 127; 255 is not a number
inline F power(B a) {
  const __m512i quiet = _mm512_set1_epi32(0x400000);  // alone it is 2^-127
  const __m512i v = _mm512_max_epu32(_mm512_slli_epi32(a.v, 23), quiet);
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(a.v, _mm512_set1_epi32(255));
  return {_mm512_castsi512_ps(_mm512_mask_or_epi32(v, nan, v, quiet))};
}
// 4 bytes of x against each row's 4 codes
inline I dot(I acc, B w, const int8_t* x) {
  // the compiler would load and spread x apart from the product: twice the instructions
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(acc.v) : "v"(w.v), "m"(*(const int32_t(*)[1])x));
  return acc;
}

struct X { __m512i v; };  // 4 bytes, in every lane
inline X spread(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, 4);
  return {_mm512_set1_epi32(four)};
}
inline I dot(I acc, B w, X x) { return {_mm512_dpbusd_epi32(acc.v, w.v, x.v)}; }

inline void transpose(F* r) {
  __m512 a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    a[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      b[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a[i + j]), _mm512_castps_pd(a[i + j + 2])));
      b[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a[i + j]), _mm512_castps_pd(a[i + j + 2])));
    }
  for (int i = 0; i < 4; i++) {
    a[i] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
    a[i + 4] = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
    a[i + 8] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
    a[i + 12] = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
  }
  for (int i = 0; i < 8; i++) {
    r[i].v = _mm512_shuffle_f32x4(a[i], a[i + 8], 0x88);
    r[i + 8].v = _mm512_shuffle_f32x4(a[i], a[i + 8], 0xdd);
  }
}

}  // namespace
