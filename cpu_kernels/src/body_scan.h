// The scans of recurrent mixers. Included once by each instruction set's file, after body_rows.h.
//
// Rows go one after the other; what is summed for a row is summed in the same order whatever rows come along, and a head
// or a channel knows nothing of its neighbours.
#pragma once

#include "scan.h"

namespace {

using namespace kernels;

inline F load_some(const float* p, int n) { return n >= 16 ? load(p) : load_tail(F32, p, 0, n); }
inline void store_some(float* p, int n, F x) { put16(F32, p, 0, n, x); }

// log(1 + e^x). The logarithm of 1 + e, 0 < e <= 1, is 2 artanh(e / (2 + e)): a series in at most 1/9, to its 8th term.
inline F softplus(F x) {
  const F e = exp(sub(zero(), abs(x))), s = div(e, add(set1(2.0f), e)), square = mul(s, s);
  F p = set1(1.0f / 15);
  for (int odd = 13; odd > 0; odd -= 2) p = fma(p, square, set1(1.0f / odd));
  return add(vmax(zero(), x), mul(add(s, s), p));
}

void pace(const Pacing& p, const float* x, int n, float* y) {
  for (int i = 0; i < n; i += 16) {
    const F in = add(load_some(x + i, n - i), load_some(p.bias + i, n - i));
    F out;
    if (p.by == Softplus) {
      out = vmin(set1(p.high), vmax(set1(p.low), softplus(in)));  // NaN stays
    } else {
      const F rate = load_some(p.rate + i, n - i);
      out = exp(p.by == ExpSoftplus ? mul(rate, softplus(in)) : mul(set1(p.low), sigmoid(mul(rate, in))));
    }
    store_some(y + i, n - i, out);
  }
}

// Channels [first, end).
void conv(const Conv& c, int first, int end) {
  const int before = c.taps - 1;
  for (int t = 0; t < c.rows; t++)
    for (int i = first; i < end; i += 16) {
      const int n = end - i;
      F sum = c.bias ? load_some(c.bias + i, n) : zero();
      for (int k = 0; k < c.taps; k++) {
        const int at = t + k - before;  // of the row that this tap meets
        const float* p = at >= 0 ? c.x + at * c.x_stride : c.window ? c.window + (size_t)(at + before) * c.channels : nullptr;
        sum = fma(p ? load_some(p + i, n) : zero(), load_some(c.weight + (size_t)k * c.channels + i, n), sum);
      }
      store_some(c.y + t * c.y_stride + i, n, c.silu ? mul(sum, sigmoid(sum)) : sum);
    }
}

// The state of `n` channels from `p` on, rows of `state` each, as (state, 16), and back.
void turn_in(const float* p, int n, int state, float* to) {
  for (int s = 0; s < state; s += 16) {
    F r[16];
    for (int i = 0; i < 16; i++) r[i] = p && i < n ? load_some(p + (size_t)i * state + s, state - s) : zero();
    transpose(r);
    for (int i = 0; i < 16 && s + i < state; i++) store(to + (s + i) * 16, r[i]);
  }
}

void turn_out(const float* from, int n, int state, float* p) {
  for (int s = 0; s < state; s += 16) {
    F r[16];
    for (int i = 0; i < 16; i++) r[i] = s + i < state ? load(from + (s + i) * 16) : zero();
    transpose(r);
    for (int i = 0; i < 16 && i < n; i++) store_some(p + (size_t)i * state + s, state - s, r[i]);
  }
}

// The channels [16 block, 16 block + 16), which lie side by side: no sum goes across a register.
void selective(const Selective& x, int block, float* scratch) {
  const int first = 16 * block, n = x.channels - first;
  const float* a = x.a + (size_t)first * x.state;
  const F skip = load_some(x.skip + first, n);
  turn_in(x.from ? x.from + (size_t)first * x.state : nullptr, n, x.state, scratch);
  for (int t = 0; t < x.rows; t++) {
    const F dt = load_some(x.dt + t * x.dt_stride + first, n);
    const F u = load_some(x.u + t * x.u_stride + first, n), du = mul(dt, u);
    const float *b = x.b + t * x.bc_stride, *c = x.c + t * x.bc_stride;
    F y = mul(skip, u);
    for (int s = 0; s < x.state; s++) {
      const F decay = exp(mul(dt, load(a + s * 16)));
      const F now = fma(decay, load(scratch + s * 16), mul(du, set1(b[s])));
      store(scratch + s * 16, now);
      y = fma(now, set1(c[s]), y);
    }
    store_some(x.y + t * x.y_stride + first, n, y);
  }
  turn_out(scratch, n, x.state, x.to + (size_t)first * x.state);
}

constexpr int kScanRows = 4;  // of a state that one pass over what they meet serves

// Rows of a state by blocks that stay in the first cache while all rows of the sequence go by. Where a row is no whole
// number of registers it goes through scratch, with zeros behind it. `go(state, row, t)` takes kScanRows rows, or one.
constexpr int kScanBlock = 16;

template <class Rows>
void by_blocks(const float* from, float* to, int rows, int size, int length, float* scratch, Rows&& go) {
  const size_t wide = (size_t)(size + 15) / 16 * 16;
  for (int first = 0; first < rows; first += kScanBlock) {
    const int count = rows - first < kScanBlock ? rows - first : kScanBlock;
    const size_t at = (size_t)first * size, bytes = (size_t)count * size * sizeof(float);
    float* s = to + at;
    if (wide != (size_t)size) {
      s = scratch;
      std::memset(s, 0, count * wide * sizeof(float));
      if (from)
        for (int i = 0; i < count; i++) std::memcpy(s + i * wide, from + at + (size_t)i * size, size * sizeof(float));
    } else if (!from) {
      std::memset(s, 0, bytes);
    } else if (from != to) {
      std::memcpy(s, from + at, bytes);
    }
    for (int t = 0; t < length; t++) go(s, wide, first, count, t);
    if (wide != (size_t)size)
      for (int i = 0; i < count; i++) std::memcpy(to + at + (size_t)i * size, s + i * wide, size * sizeof(float));
  }
}

// What meets the rows of a state, in a whole number of registers.
inline const float* whole(const float* p, int size, float* copy) {
  if (size % 16 == 0) return p;
  for (int i = 0; i < size; i += 16) store(copy + i, load_some(p + i, size - i));
  return copy;
}

// S = decay S + u b^T; y = S c + skip
template <int M>
inline void space_rows(float* s, size_t wide, F decay, const float* u, float dt, float skip, const float* b, const float* c,
                       float* y) {
  F sum[M], in[M];
  for (int m = 0; m < M; m++) sum[m] = zero(), in[m] = set1(u[m] * dt);
  for (size_t j = 0; j < wide; j += 16) {
    const F bj = load(b + j), cj = load(c + j);
    for (int m = 0; m < M; m++) {
      const F now = fma(load(s + m * wide + j), decay, mul(in[m], bj));
      store(s + m * wide + j, now);
      sum[m] = fma(now, cj, sum[m]);
    }
  }
  for (int m = 0; m < M; m++) y[m] = total(sum[m]) + skip * u[m];
}

void state_space(const StateSpace& x, int head, float* scratch) {
  const int size = x.state, wide = (size + 15) / 16 * 16, group = head / (x.heads / x.groups);
  float *b_copy = scratch + (size_t)kScanBlock * wide, *c_copy = b_copy + wide;
  const size_t own = (size_t)head * x.dim * size;
  by_blocks(x.from ? x.from + own : nullptr, x.to + own, x.dim, size, x.rows, scratch,
            [&](float* s, size_t ld, int first, int count, int t) {
              const float* b = whole(x.b + t * x.stride + (size_t)group * size, size, b_copy);
              const float* c = whole(x.c + t * x.stride + (size_t)group * size, size, c_copy);
              const float *u = x.u + t * x.stride + (size_t)head * x.dim + first, dt = x.dt[(size_t)t * x.heads + head];
              float* y = x.y + t * x.y_stride + (size_t)head * x.dim + first;
              const F decay = exp(set1(dt * x.rate[head]));
              int i = 0;
              for (; i + kScanRows <= count; i += kScanRows)
                space_rows<kScanRows>(s + i * ld, ld, decay, u + i, dt, x.skip[head], b, c, y + i);
              for (; i < count; i++) space_rows<1>(s + i * ld, ld, decay, u + i, dt, x.skip[head], b, c, y + i);
            });
}

// S = decay S + beta (v - decay S k) k^T; y = S q. `fading_k` is decay times k; `decay` one value, or one for each of a row.
template <int M, bool kByChannel>
inline void delta_rows(float* s, size_t wide, const float* decay, float beta, const float* fading_k, const float* k, const float* q,
                       const float* v, float* y) {
  F seen[M], sum[M], add_k[M];
  for (int m = 0; m < M; m++) seen[m] = sum[m] = zero();
  for (size_t j = 0; j < wide; j += 16) {
    const F kj = load(fading_k + j);
    for (int m = 0; m < M; m++) seen[m] = fma(load(s + m * wide + j), kj, seen[m]);
  }
  for (int m = 0; m < M; m++) add_k[m] = set1((v[m] - total(seen[m])) * beta);
  F less = set1(*decay);
  for (size_t j = 0; j < wide; j += 16) {
    const F kj = load(k + j), qj = load(q + j);
    if (kByChannel) less = load(decay + j);
    for (int m = 0; m < M; m++) {
      const F now = fma(load(s + m * wide + j), less, mul(add_k[m], kj));
      store(s + m * wide + j, now);
      sum[m] = fma(now, qj, sum[m]);
    }
  }
  for (int m = 0; m < M; m++) y[m] = total(sum[m]);
}

template <bool kByChannel>
void delta_of(const Delta& x, int head, float* scratch) {
  const int size = x.k_dim, wide = (size + 15) / 16 * 16, k_head = head / (x.v_heads / x.k_heads);
  float *k_copy = scratch + (size_t)kScanBlock * wide, *q_copy = k_copy + wide, *decay_copy = q_copy + wide, *fading = decay_copy + wide;
  const size_t own = (size_t)head * x.v_dim * size;
  by_blocks(x.from ? x.from + own : nullptr, x.to + own, x.v_dim, size, x.rows, scratch,
            [&](float* s, size_t ld, int first, int count, int t) {
              const float* k = whole(x.k + t * x.stride + (size_t)k_head * size, size, k_copy);
              const float* q = whole(x.q + t * x.stride + (size_t)k_head * size, size, q_copy);
              const float* v = x.v + t * x.stride + (size_t)head * x.v_dim + first;
              float* y = x.y + t * x.y_stride + (size_t)head * x.v_dim + first;
              const size_t at = (size_t)t * x.v_heads + head;
              const float* decay = kByChannel ? whole(x.decay + at * size, size, decay_copy) : x.decay + at;
              for (int j = 0; j < wide; j += 16) store(fading + j, mul(load(k + j), kByChannel ? load(decay + j) : set1(*decay)));
              int i = 0;
              for (; i + kScanRows <= count; i += kScanRows)
                delta_rows<kScanRows, kByChannel>(s + i * ld, ld, decay, x.beta[at], fading, k, q, v + i, y + i);
              for (; i < count; i++) delta_rows<1, kByChannel>(s + i * ld, ld, decay, x.beta[at], fading, k, q, v + i, y + i);
            });
}

void delta(const Delta& x, int head, float* scratch) {
  if (x.by_channel) delta_of<true>(x, head, scratch);
  else delta_of<false>(x, head, scratch);
}

inline F root(F x) {
  float v[16];
  store(v, x);
  for (float& e : v) e = sqrtf(e);
  return load(v);
}

// Channels [first, end).
void linear_scan(const Linear& x, int first, int end) {
  for (int i = first; i < end; i += 16) {
    const int n = end - i;
    const F into_bias = load_some(x.into_bias + i, n), decay_bias = load_some(x.decay_bias + i, n), rate = load_some(x.rate + i, n);
    F h = x.from ? load_some(x.from + i, n) : zero();
    for (int t = 0; t < x.rows; t++) {
      const size_t at = t * x.stride + i;
      const F log_decay = mul(rate, sigmoid(add(load_some(x.decay + at, n), decay_bias)));
      F in = mul(load_some(x.x + at, n), sigmoid(add(load_some(x.into + at, n), into_bias)));
      if (t || x.from) in = mul(in, root(vmax(zero(), sub(set1(1.0f), exp(add(log_decay, log_decay))))));
      h = fma(exp(log_decay), h, in);
      store_some(x.y + at, n, h);
    }
    store_some(x.to + i, n, h);
  }
}

}  // namespace
