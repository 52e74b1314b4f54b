// Softmax attention of some query rows over a range of keys, in one pass over the keys with a running
// maximum. Included once by each instruction set's file, after body_tile.h.
//
// The rows of one key head are numbered query * (heads / key heads) + head, so rows that share keys lie
// together. Keys go by kChunk: scores of a chunk, softmax, values.
#pragma once

#include "attention.h"

namespace {

using namespace kernels;

constexpr int kChunk = 64;

inline float load_one(Type type, const uint8_t* p, int64_t i) {
  if (type == F32) return ((const float*)p)[i];
  alignas(32) uint16_t copy[16] = {((const uint16_t*)p)[i]};
  float out[16];
  store(out, load_as(type, copy, 0));
  return out[0];
}

// kt (dim, kChunk), from one of its columns on: 16 keys side by side, zeros where there are fewer.
void turn_keys(Type type, const uint8_t* k, int64_t stride, int keys, int dim, float* kt) {
  const int64_t bytes = stride * (type == F32 ? 4 : 2);
  for (int d = 0; d < dim; d += 16) {
    F r[16];
    for (int i = 0; i < 16; i++) {
      if (i >= keys) r[i] = zero();
      else if (d + 16 <= dim) r[i] = load_as(type, k + i * bytes, d);
      else r[i] = load_tail(type, k + i * bytes, d, dim);
    }
    transpose(r);
    for (int i = 0; i < 16 && d + i < dim; i++) store(kt + (size_t)(d + i) * kChunk, r[i]);
  }
}

struct RowAt {
  int query, head;
};

inline RowAt row_at(const Attention& a, int kv_head, int row) {
  const int share = a.heads / a.kv_heads;
  return {row / share, kv_head * share + row % share};
}

// Keys [begin, end) that a query may see at all.
inline void seen_range(const Attention& a, int query, int& begin, int& end) {
  begin = 0, end = a.keys;
  if (a.sight == Near) begin = query > a.window ? query - a.window : 0, end = end - query - 1 > a.window ? query + a.window + 1 : end;
  if (a.sight != Causal) return;
  end = a.keys - a.queries + query + 1;
  if (a.window > 0 && end - a.window > 0) begin = end - a.window;
}

// Soft cap, what distance adds, masks; s (keys) is changed in place.
void look(const Attention& a, int batch, RowAt row, int first, int keys, float* s) {
  constexpr float hidden = -__builtin_inff();
  if (a.softcap > 0) {
    const F cap = set1(a.softcap), inverse = set1(1.0f / a.softcap);
    for (int i = 0; i < kChunk; i += 16) store(s + i, mul(cap, tanh(mul(load(s + i), inverse))));
  }
  if (a.apart) {
    const float* by = a.apart + (size_t)row.head * (2 * a.far + 1) + a.far;
    for (int i = 0; i < keys; i++) {
      const int ahead = first + i - row.query;
      s[i] += by[ahead < -a.far ? -a.far : ahead > a.far ? a.far : ahead];
    }
  }
  if (a.sight == Causal || a.sight == Near) {
    int begin, end;
    seen_range(a, row.query, begin, end);
    for (int i = 0; i < keys && first + i < begin; i++) s[i] = hidden;
    for (int i = end > first ? end - first : 0; i < keys; i++) s[i] = hidden;
  } else if (a.sight != Everything) {
    const int64_t at = batch * a.mask_strides[0] + row.head * a.mask_strides[1] + row.query * a.mask_strides[2];
    for (int i = 0; i < keys; i++) {
      const int64_t where = at + (first + i) * a.mask_strides[3];
      if (a.sight == Bools) s[i] = a.mask[where] ? s[i] : hidden;
      else s[i] += load_one(a.mask_type, a.mask, where);
    }
  }
  for (int i = keys; i < kChunk; i++) s[i] = hidden;
}

// Scores become weights; what was gathered so far is brought to the new maximum.
void soften(float* s, float* part, int v_dim) {
  F top = load(s);
  for (int i = 16; i < kChunk; i += 16) top = vmax(load(s + i), top);
  const float most = largest(top), before = part[0], now = most > before ? most : before;
  if (now == -__builtin_inff()) {
    bool number = true;
    for (int i = 0; i < kChunk; i++) number &= s[i] == s[i];
    const F none = set1(number ? 0.0f : __builtin_nanf(""));
    for (int i = 0; i < kChunk; i += 16) store(s + i, none);
    part[1] += number ? 0.0f : __builtin_nanf("");
    return;
  }
  F sum = zero();
  for (int i = 0; i < kChunk; i += 16) {
    const F p = share_of(sub(load(s + i), set1(now)));
    store(s + i, p);
    sum = add(sum, p);
  }
  if (now != before) {
    const float factor = expf(before - now);
    part[1] *= factor;
    for (int i = 0; i < v_dim; i += 16) store(part + kPartHead + i, mul(load(part + kPartHead + i), set1(factor)));
  }
  part[0] = now;
  part[1] += total(sum);
}

inline int padded(int n) { return (n + 15) / 16 * 16; }

void attend(const Attention& a, int batch, int kv_head, int first_row, int rows, int first_key, int keys, float* parts,
            float* scratch) {
  const size_t q_size = a.q_type == F32 ? 4 : 2, kv_size = a.kv_type == F32 ? 4 : 2;
  const int wide = padded(a.v_dim);
  const size_t ldp = kPartHead + wide;
  float* q = scratch;                           // (rows, dim), times scale
  float* kt = q + (size_t)rows * padded(a.dim);   // (dim, kChunk)
  float* v = kt + (size_t)padded(a.dim) * kChunk; // (kChunk, wide)
  float* s = v + (size_t)kChunk * wide;         // (rows, kChunk)
  int begin = a.keys, end = 0;
  for (int r = 0; r < rows; r++) {
    const RowAt row = row_at(a, kv_head, first_row + r);
    const int64_t at = batch * a.q_strides[0] + row.head * a.q_strides[1] + row.query * a.q_strides[2];
    widen(a.q_type, a.q + at * q_size, q + (size_t)r * a.dim, a.dim);
    for (int d = 0; d < a.dim; d++) q[(size_t)r * a.dim + d] *= a.scale;
    float* part = parts + r * ldp;
    part[0] = -__builtin_inff(), part[1] = 0;
    for (int i = 0; i < wide; i++) part[kPartHead + i] = 0;
    int from, to;
    seen_range(a, row.query, from, to);
    begin = from < begin ? from : begin, end = to > end ? to : end;
  }
  if (end > first_key + keys) end = first_key + keys;
  const uint8_t* k_head = a.k + (batch * a.k_strides[0] + kv_head * a.k_strides[1]) * kv_size;
  const uint8_t* v_head = a.v + (batch * a.v_strides[0] + kv_head * a.v_strides[1]) * kv_size;
  for (int at = first_key; at < end; at += kChunk) {
    const int n = end - at < kChunk ? end - at : kChunk;
    if (at + n <= begin) continue;
    for (int i = 0; i < n; i += 16)
      turn_keys(a.kv_type, k_head + (at + i) * a.k_strides[2] * kv_size, a.k_strides[2], n - i, a.dim, kt + i);
    product<false>(rows, q, a.dim, kt, kChunk, a.dim, (n + 15) / 16 * 16, s, kChunk);
    for (int i = 0; i < n; i++)
      widen(a.kv_type, v_head + (at + i) * a.v_strides[2] * kv_size, v + (size_t)i * wide, a.v_dim);
    for (int r = 0; r < rows; r++) {
      look(a, batch, row_at(a, kv_head, first_row + r), at, n, s + (size_t)r * kChunk);
      soften(s + (size_t)r * kChunk, parts + r * ldp, wide);
    }
    product<true>(rows, s, kChunk, v, wide, n, wide, parts + kPartHead, ldp);
  }
}

// Joins the parts of one row, `stride` floats apart, and writes it.
void finish(const float* parts, size_t stride, int count, int v_dim, const float* sink, Type type, void* out) {
  float top = sink ? *sink : -__builtin_inff();
  for (int i = 0; i < count; i++) top = parts[i * stride] > top ? parts[i * stride] : top;
  float below = sink ? expf(*sink - top) : 0.0f;
  float factors[kMaxParts];
  for (int i = 0; i < count; i++) {
    factors[i] = expf(parts[i * stride] - top);
    if (parts[i * stride + 1] != parts[i * stride + 1]) factors[i] = 1.0f;
    below += factors[i] * parts[i * stride + 1];
  }
  const float inverse = 1.0f / below;
  for (int d = 0; d < v_dim; d += 16) {
    F y = zero();
    for (int i = 0; i < count; i++) y = fma(load(parts + i * stride + kPartHead + d), set1(factors[i]), y);
    put16(type, out, d, v_dim, mul(y, set1(inverse)));
  }
}

}  // namespace
