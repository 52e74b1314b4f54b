// Work on single rows: conversions, norms, activations, int8 forms.
// Included once by each instruction set's file, after its simd_*.h.
#pragma once

#include <math.h>

#include "kernels.h"

namespace {

using namespace kernels;

inline F load_as(Type type, const void* p, size_t i) {
  if (type == F32) return load((const float*)p + i);
  return type == F16 ? load_f16((const uint16_t*)p + i) : load_bf16((const uint16_t*)p + i);
}

inline void store_as(Type type, void* p, size_t i, F x) {
  if (type == F32) store((float*)p + i, x);
  else if (type == F16) store_f16((uint16_t*)p + i, x);
  else store_bf16((uint16_t*)p + i, x);
}

// The last, short part of a row, with zeros behind it.
inline F load_tail(Type type, const void* p, size_t i, size_t n) {
  alignas(64) uint8_t copy[sizeof(F)] = {};
  const size_t size = type == F32 ? 4 : 2;
  std::memcpy(copy, (const uint8_t*)p + i * size, (n - i) * size);
  return load_as(type, copy, 0);
}

inline void store_tail(Type type, void* p, size_t i, size_t n, F x) {
  alignas(64) uint8_t copy[sizeof(F)];
  const size_t size = type == F32 ? 4 : 2;
  store_as(type, copy, 0, x);
  std::memcpy((uint8_t*)p + i * size, copy, (n - i) * size);
}

// Loads of a row, whole vectors first: f(i, values, whole).
template <class Each> inline void each16(Type type, const void* p, size_t n, Each&& f) {
  size_t i = 0;
  for (; i + 16 <= n; i += 16) f(i, load_as(type, p, i));
  if (i < n) f(i, load_tail(type, p, i, n));
}

inline void put16(Type type, void* p, size_t i, size_t n, F x) {
  if (i + 16 <= n) store_as(type, p, i, x);
  else store_tail(type, p, i, n, x);
}

void widen(Type type, const void* src, float* dst, size_t n) {
  each16(type, src, n, [&](size_t i, F x) { put16(F32, dst, i, n, x); });
}

void narrow(Type type, const float* src, void* dst, size_t n) {
  each16(F32, src, n, [&](size_t i, F x) { put16(type, dst, i, n, x); });
}

inline bool abs_below(float x, float most) { return -most < x && x < most; }

// Whole numbers below 2^20 are summed, so their order does not matter.
bool quantize(const float* x, int wide, int row, const Rows& to) {
  constexpr float top = 127.0f * 128.0f + 63.0f;
  const F eighth = set1(1.0f / 128.0f), back = set1(-128.0f);
  const int blocks = wide / kBlock;
  size_t slot = (size_t)(row / kSlots) * blocks * kSlots + row % kSlots;
  bool fits = true;
  for (int g = 0; g < blocks; g++, slot += kSlots) {
    const F a = load(x + g * kBlock), b = load(x + g * kBlock + 16);
    const float most = largest(vmax(abs(a), abs(b)));
    const float unit = most / top, inverse = most > 0.0f ? top / most : 0.0f;
    const F qa = round(mul(a, set1(inverse))), qb = round(mul(b, set1(inverse)));
    const F ha = round(mul(qa, eighth)), hb = round(mul(qb, eighth));
    int8_t* q = const_cast<int8_t*>(to.q) + slot * 2 * kBlock;
    store_bytes(q, ha), store_bytes(q + 16, hb);
    store_bytes(q + 32, fma(ha, back, qa)), store_bytes(q + 48, fma(hb, back, qb));
    const float low = total(qa), high = total(qb);  // not a number where a value is infinite or none
    const bool sound = abs_below(low, 1e6f) && abs_below(high, 1e6f) && most < 1e34f && (most == 0.0f || most > 1e-30f);
    fits &= sound;
    const float half = sound ? low : 0.0f, whole = sound ? low + high : 0.0f;
    const_cast<float*>(to.scale)[slot] = unit;
    const_cast<float*>(to.low)[slot] = unit * half;
    const_cast<float*>(to.sum)[slot] = unit * whole;
    const_cast<int32_t*>(to.first)[slot] = (int32_t)half;
    const_cast<int32_t*>(to.whole)[slot] = (int32_t)whole;
  }
  return fits;
}

void rms_norm(const float* x, const float* weight, float eps, int n, float* y) {
  F squares = zero();
  each16(F32, x, n, [&](size_t, F v) { squares = fma(v, v, squares); });
  const F factor = set1(1.0f / sqrtf(total(squares) / n + eps));
  each16(F32, x, n, [&](size_t i, F v) {
    v = mul(v, factor);
    if (weight) v = mul(v, (int)i + 16 <= n ? load(weight + i) : load_tail(F32, weight, i, n));
    put16(F32, y, i, n, v);
  });
}

void layer_norm(const float* x, const float* weight, const float* bias, float eps, int n, float* y) {
  F sum = zero(), squares = zero();
  each16(F32, x, n, [&](size_t, F v) { sum = add(sum, v); });
  const float mean = total(sum) / n;
  const int whole = n / 16 * 16;
  for (int i = 0; i < whole; i += 16) {
    const F off = sub(load(x + i), set1(mean));
    squares = fma(off, off, squares);
  }
  float rest = 0;
  for (int i = whole; i < n; i++) rest += (x[i] - mean) * (x[i] - mean);
  const F factor = set1(1.0f / sqrtf((total(squares) + rest) / n + eps));
  const auto of = [&](const float* w, size_t i) { return (int)i + 16 <= n ? load(w + i) : load_tail(F32, w, i, n); };
  each16(F32, x, n, [&](size_t i, F v) {
    v = mul(sub(v, set1(mean)), factor);
    if (weight) v = mul(v, of(weight, i));
    if (bias) v = add(v, of(bias, i));
    put16(F32, y, i, n, v);
  });
}

// e^x: 2^n e^r with |r| <= ln 2 / 2, the Taylor series of e^r to its 7th power; within 2 ulp. NaN stays.
inline F exp(F x) {
  const F inside = vmin(set1(88.8f), vmax(set1(-104.0f), x));  // NaN in x: both return the second
  const F n = round(mul(inside, set1(1.44269504f)));
  F r = fma(n, set1(-0.693359375f), inside);
  r = fma(n, set1(2.12194440e-4f), r);
  F p = set1(1.0f / 5040);
  p = fma(p, r, set1(1.0f / 720));
  p = fma(p, r, set1(1.0f / 120));
  p = fma(p, r, set1(1.0f / 24));
  p = fma(p, r, set1(1.0f / 6));
  p = fma(p, r, set1(0.5f));
  p = fma(p, r, set1(1.0f));
  p = fma(p, r, set1(1.0f));
  return mul(p, pow2(n));
}

// Of a score that is so far from the greatest, its share; below 2^-100 nothing. Subnormal numbers, of which e^x would make
// many where scores are peaked or masked, make all that they are in many times as slow. NaN stays.
inline F share_of(F apart) {
  const F p = exp(vmax(set1(-80.0f), apart));
  return vmax(zero(), sub(p, set1(0x1p-100f)));
}

inline F sigmoid(F x) { return div(set1(1.0f), add(set1(1.0f), exp(sub(zero(), x)))); }

inline F tanh(F x) { return sub(mul(set1(2.0f), sigmoid(add(x, x))), set1(1.0f)); }

// x P(x^2) / Q(x^2), fitted to erf by least squares; within 4e-7, and 1 from 3.92 on. NaN stays.
inline F erf(F x) {
  const F inside = vmin(set1(3.92f), vmax(set1(-3.92f), x)), t = mul(inside, inside);
  F p = set1(2.05008691e-06f);
  p = fma(p, t, set1(0.000284883668f));
  p = fma(p, t, set1(0.00376564417f));
  p = fma(p, t, set1(0.0527488112f));
  p = fma(p, t, set1(0.190407069f));
  p = fma(p, t, set1(1.12837926f));
  F q = set1(3.80917572e-05f);
  q = fma(q, t, set1(0.00116254262f));
  q = fma(q, t, set1(0.0149692697f));
  q = fma(q, t, set1(0.114109358f));
  q = fma(q, t, set1(0.502076595f));
  q = fma(q, t, set1(1.0f));
  return vmin(set1(1.0f), vmax(set1(-1.0f), div(mul(inside, p), q)));
}

inline F gelu(F x) { return mul(mul(set1(0.5f), x), add(set1(1.0f), erf(mul(x, set1(0.70710678f))))); }

inline F activated(Activation act, F g) {
  switch (act) {
    case Silu: return mul(g, sigmoid(g));
    case Gelu: return gelu(g);
    case GeluTanh: {
      const F cube = mul(g, mul(g, g));
      const F inner = mul(set1(0.79788456f), fma(cube, set1(0.044715f), g));
      return mul(mul(set1(0.5f), g), add(set1(1.0f), tanh(inner)));
    }
    case Relu: return vmax(zero(), g);
    case Relu2: { const F r = vmax(zero(), g); return mul(r, r); }
    case Sigmoid: return sigmoid(g);
    default: return g;
  }
}

// y = act(gate) * up, or act(gate) where up is null.
void activate(Activation act, const float* gate, const float* up, int n, float* y) {
  each16(F32, gate, n, [&](size_t i, F g) {
    F u = !up ? set1(1.0f) : (int)i + 16 <= n ? load(up + i) : load_tail(F32, up, i, n);
    if (act == ClampedSwiglu) {  // GPT-OSS: limit 7, slope 1.702, up + 1
      g = vmin(set1(7.0f), g);
      u = add(vmin(set1(7.0f), vmax(set1(-7.0f), u)), set1(1.0f));
      put16(F32, y, i, n, mul(mul(g, sigmoid(mul(g, set1(1.702f)))), u));
      return;
    }
    const F a = activated(act, g);
    put16(F32, y, i, n, up ? mul(a, u) : a);
  });
}

}  // namespace
