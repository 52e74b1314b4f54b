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

// (onto +) down(act(gate(n)) * up(n)) with n = x, normed where the source says so. `onto` may lie where the result does.
struct FeedForward {
  std::vector<Weight> w;  // [gate,] up, down
  bool gated = false;
  Activation act = Silu;
  Precision precision = Fast;
  const float* biases[3] = {nullptr, nullptr, nullptr};  // of gate, up, down
};
void run(const FeedForward& layer, const Source& x, int count, const Source* onto, uint8_t* out);

// The experts of a layer: matrices are of the first one, biases (experts, rows).
struct Mixture {
  Weight gate, up, down;
  size_t gate_bytes = 0, up_bytes = 0, down_bytes = 0;  // from one expert to the next
  bool gated = false;
  int experts = 0;
  Activation act = Silu;
  Precision precision = Fast;
  const float *gate_bias = nullptr, *up_bias = nullptr, *down_bias = nullptr;
};
// sum (count, rows of down) += for each row the sum over its choices of weight * down(act(gate(x)) * up(x)) by that choice's
// expert; ids and weights (count, choices). NaN for a row with an expert that is not there.
void run(const Mixture& mixture, const Source& x, int count, const int32_t* ids, const float* weights, int choices, float* sum);

// tile (panels, m, 16) of a unit += the bias of its columns
inline void add_bias(const float* bias, int rows, size_t unit, int panels, int m, float* tile) {
  for (int p = 0; p < panels; p++) {
    const int first = (int)(unit * kUnit + p) * kRows, n = std::min(kRows, rows - first);
    for (int r = 0; r < m; r++)
      for (int i = 0; i < n; i++) tile[(p * m + r) * kRows + i] += bias[first + i];
  }
}

// cos and sin, times scale, of position / frequency for one row: (half, 2)
void angles_of(int position, const float* freqs, int half, float scale, float* table);
// The first 2 half values of x turn by the angles of its row.
void rotate(float* x, const float* table, int half, bool interleaved);

void run(const Attention& attention);
void run(const std::vector<Attention>& calls);  // that have nothing to do with each other

}  // namespace parts
