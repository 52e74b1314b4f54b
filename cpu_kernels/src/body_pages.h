// Softmax attention over one part of the keys of a sequence that lie in pages, and how parts are joined. Included once
// by each instruction set's file, after body_attend.h.
//
// A row's result depends on its own query and on the keys it sees, and on nothing else: not on the rows beside it, on
// how a prompt was cut, or on the size of a page. So chunks and parts begin at multiples of their size, a key that is
// not seen weighs nothing, and what lies where no key was written is never read.
#pragma once

#include "attention.h"

namespace {

using namespace kernels;

// The keys [first, end) that a row sees.
inline void paged_sight(const Paged& a, int position, int& first, int& end) {
  first = 0, end = position + 1;
  if (a.window > 0 && end - a.window > first) first = end - a.window;
  if (a.chunk > 0) first = position / a.chunk * a.chunk > first ? position / a.chunk * a.chunk : first;
}

inline const uint8_t* paged_row(const Paged& a, const int32_t* table, size_t at, int kv_head, int step, size_t item, int p) {
  const int size = 1 << a.shift;
  return a.base + table[p >> a.shift] * a.page_bytes + at +
         ((size_t)kv_head * size + (p & (size - 1))) * (size_t)step * item;
}

// kt (dim, 16): keys [at, at + 16), zeros outside of [first, end).
void turn_paged(const Paged& a, const int32_t* table, int kv_head, int at, int first, int end, float* kt, uint8_t* rows) {
  const size_t item = a.kv_type == F32 ? 4 : 2, bytes = (size_t)a.dim * item;
  const int stop = at + 16 < end ? at + 16 : end;
  if (at >= first && at >> a.shift == (stop - 1) >> a.shift) {
    turn_keys(a.kv_type, paged_row(a, table, a.k_at, kv_head, a.dim, item, at), a.dim, stop - at, a.dim, kt);
    return;
  }
  for (int i = 0; i < 16; i++) {
    if (at + i < first || at + i >= end) std::memset(rows + i * bytes, 0, bytes);
    else std::memcpy(rows + i * bytes, paged_row(a, table, a.k_at, kv_head, a.dim, item, at + i), bytes);
  }
  turn_keys(a.kv_type, rows, a.dim, 16, a.dim, kt);
}

void look_paged(const Paged& a, int head, int position, int at, float* s) {
  constexpr float hidden = -__builtin_inff();
  int first, end;
  paged_sight(a, position, first, end);
  if (a.softcap > 0) {
    const F cap = set1(a.softcap), inverse = set1(1.0f / a.softcap);
    for (int i = 0; i < kChunk; i += 16) store(s + i, mul(cap, tanh(mul(load(s + i), inverse))));
  }
  if (a.slopes)
    for (int i = 0; i < kChunk; i++) s[i] += a.slopes[head] * (float)(at + i);
  for (int i = 0; i < kChunk && at + i < first; i++) s[i] = hidden;
  for (int i = end > at ? end - at : 0; i < kChunk; i++) s[i] = hidden;
}

void attend_part(const Paged& a, int kv_head, const int32_t* table, int part, const int32_t* rows, int count, float* parts,
                 float* scratch) {
  const size_t q_size = a.q_type == F32 ? 4 : 2, kv_size = a.kv_type == F32 ? 4 : 2;
  const int wide = padded(a.v_dim), share = a.heads / a.kv_heads, all = count * share;
  const size_t ldp = kPartHead + wide;
  float* q = scratch;                           // (all, dim), times scale
  float* kt = q + (size_t)all * padded(a.dim);  // (dim, 16)
  float* v = kt + (size_t)padded(a.dim) * 16;   // (kChunk, wide)
  float* s = v + (size_t)kChunk * wide;         // (all, kChunk)
  int first = part * kPartKeys + kPartKeys, end = 0;
  for (int r = 0; r < all; r++) {
    const int row = rows[r / share], head = kv_head * share + r % share;
    widen(a.q_type, a.q + (row * a.q_row + head * a.q_head) * q_size, q + (size_t)r * a.dim, a.dim);
    for (int d = 0; d < a.dim; d++) q[(size_t)r * a.dim + d] *= a.scale;
    float* sum = parts + r * ldp;
    sum[0] = -__builtin_inff(), sum[1] = 0;
    for (int i = 0; i < wide; i++) sum[kPartHead + i] = 0;
    int from, to;
    paged_sight(a, a.positions[row], from, to);
    first = from < first ? from : first, end = to > end ? to : end;
  }
  first = first < part * kPartKeys ? part * kPartKeys : first;
  end = end > (part + 1) * kPartKeys ? (part + 1) * kPartKeys : end;
  for (int at = first / kChunk * kChunk; at < end; at += kChunk) {
    const int n = end - at < kChunk ? end - at : kChunk, begin = first > at ? first - at : 0;
    for (int i = 0; i < kChunk; i += 16) {
      if (i >= n || i + 16 <= begin) continue;
      turn_paged(a, table, kv_head, at + i, first, end, kt, reinterpret_cast<uint8_t*>(v));
      outer_rows<false>(all, q, a.dim, kt, 16, a.dim, s + i, kChunk);
    }
    const int from = begin / kChains * kChains, whole = (n + kChains - 1) / kChains * kChains;
    for (int i = from; i < whole; i++) {
      if (i >= begin && i < n)
        widen(a.kv_type, paged_row(a, table, a.v_at, kv_head, a.v_step, kv_size, at + i), v + (size_t)i * wide, a.v_dim);
      else std::memset(v + (size_t)i * wide, 0, wide * sizeof(float));
    }
    for (int r = 0; r < all; r++) {
      look_paged(a, kv_head * share + r % share, a.positions[rows[r / share]], at, s + (size_t)r * kChunk);
      soften(s + (size_t)r * kChunk, parts + r * ldp, wide);
    }
    for (int d = 0; d < wide; d += 16)
      outer_rows<true>(all, s + from, kChunk, v + (size_t)from * wide + d, wide, whole - from, parts + kPartHead + d, ldp);
  }
}

void join(float* sum, const float* part, int n) {
  if (part[0] == -__builtin_inff() && part[1] == 0) return;  // nothing was seen
  const float now = part[0] > sum[0] ? part[0] : sum[0];
  const float before = sum[0] == now ? 1.0f : expf(sum[0] - now), more = part[0] == now ? 1.0f : expf(part[0] - now);
  sum[0] = now;
  sum[1] = sum[1] * before + part[1] * more;
  for (int i = 0; i < n; i += 16)
    store(sum + kPartHead + i, fma(load(part + kPartHead + i), set1(more), mul(load(sum + kPartHead + i), set1(before))));
}

void put_sum(const float* sum, int v_dim, Type type, void* out) {
  const F inverse = set1(1.0f / sum[1]);
  for (int d = 0; d < v_dim; d += 16) put16(type, out, d, v_dim, mul(load(sum + kPartHead + d), inverse));
}

}  // namespace
