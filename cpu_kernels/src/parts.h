// What nodes do when their turn comes, for nodes that do several such things in a row. Everything runs at once, on
// this thread and the pool. Pointers to vectors are null where there is none.
#pragma once

#include <vector>

#include "attention.h"
#include "linear.h"

namespace parts {

using namespace linear;

// The front of an attention layer: norm, projections to q [, k [, v]], norm of heads, rotation of q and k.
struct Heads {
  std::vector<Weight> w;
  int dim = 0, rope_dims = 0;
  float eps = 0, head_eps = 0, rope_scale = 1;
  bool interleaved = false;
  Type kept = F32;  // of k and v
  Precision precision = Fast;
  const float *norm = nullptr, *q_norm = nullptr, *k_norm = nullptr, *freqs = nullptr;
  const float* biases[3] = {nullptr, nullptr, nullptr};
  const int32_t* positions = nullptr;
};
void run(const Heads& heads, Source x, int count, int cols, uint8_t* const* outs);  // each (count, rows of its weight)

// y_i = x . w_i^T + bias_i (+ residual, which lies as the result does).
struct Product {
  Weight w;
  uint8_t* out;
  const float* bias;
};
void run(const std::vector<Product>& products, const Source& x, int count, int cols, const uint8_t* residual, Precision precision);

// (x +) down(act(gate(n)) * up(n)) with n = x, normed where the source says so.
struct FeedForward {
  std::vector<Weight> w;  // [gate,] up, down
  bool gated, residual;
  Activation act;
  Precision precision;
};
void run(const FeedForward& layer, const Source& x, int count, uint8_t* out);

void run(const Attention& attention);

}  // namespace parts
