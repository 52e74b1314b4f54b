// What the scans of recurrent mixers are, for the kernels: pointers and strides, in floats. One call goes through rows of
// one sequence, one after the other in the order of their positions, so a row's bits do not hang on how many come along.
#pragma once

#include "kernels.h"

namespace kernels {

// Each channel's last `taps` inputs weighted and added (, then silu). Before the first row stand those of the window.
struct Conv {
  const float* x;  // (rows, x_stride)
  size_t x_stride;
  const float* window;  // (taps - 1, channels), or null: zeros
  const float* weight;  // (taps, channels), oldest first
  const float* bias;    // (channels), or null
  float* y;             // (rows, y_stride)
  size_t y_stride;
  int rows, channels, taps;
  bool silu;
};

// Of n values each, in rows: low <= softplus(x + bias) <= high; e^(rate softplus(x + bias)); e^(low sigmoid(rate (x + bias))).
enum PaceBy : uint8_t { Softplus, ExpSoftplus, ExpSigmoid };
struct Pacing {
  PaceBy by;
  const float* bias;  // (n)
  const float* rate;  // (n)
  float low, high;
};

// Mamba 1: S = exp(dt a) S + (dt u) b^T; y = S c + skip u.
struct Selective {
  const float *u, *dt, *b, *c;
  size_t u_stride, dt_stride, bc_stride;
  const float* a;     // 16 channels side by side: (channels / 16, state, 16), zeros behind the last
  const float* skip;  // (channels)
  const float* from;  // (channels, state), or null: zeros
  float* to;          // may be `from`
  float* y;           // (rows, y_stride); may be u
  size_t y_stride;
  int rows, channels, state;
};

// Mamba 2: S = exp(dt rate) S + (dt u) b^T; y = S c + skip u, by heads of which some share b and c.
struct StateSpace {
  const float *u, *b, *c;  // u (heads, dim), b and c (groups, state) in each row
  size_t stride;           // of all three
  const float* dt;         // (rows, heads)
  const float *rate, *skip;  // (heads)
  const float* from;       // (heads, dim, state), or null: zeros
  float* to;               // may be `from`
  float* y;                // (rows, y_stride), heads end to end
  size_t y_stride;
  int rows, heads, dim, groups, state;
};

// The gated delta rule: S = decay S; S = S + beta (v - S k) k^T; y = S q, by value heads of which some share q and k.
struct Delta {
  const float *q, *k, *v;     // q and k (k_heads, k_dim), v (v_heads, v_dim) in each row
  size_t stride;              // of all three
  const float *decay, *beta;  // (rows, v_heads)
  bool by_channel;            // decay (rows, v_heads, k_dim)
  const float* from;          // (v_heads, v_dim, k_dim), or null: zeros
  float* to;                  // may be `from`
  float* y;                   // (rows, y_stride), heads end to end
  size_t y_stride;
  int rows, k_heads, v_heads, k_dim, v_dim;
};

// RG-LRU: h = a h + sigmoid(into) x sqrt(1 - a^2), a = e^(rate sigmoid(decay)); a sequence's first x comes in whole.
struct Linear {
  const float *x, *into, *decay;  // (rows, stride)
  size_t stride;
  const float *into_bias, *decay_bias, *rate;  // (channels)
  const float* from;                           // (channels), or null: the sequence begins
  float* to;                                   // may be `from`
  float* y;                                    // (rows, stride)
  int rows, channels;
};

// Floats of scratch that a scan needs beside a state of rows of so many.
constexpr size_t scan_scratch(int state) { return (size_t)((state + 15) / 16 * 16) * 20; }

}  // namespace kernels
