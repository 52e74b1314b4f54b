// What an attention call is, for the kernels: pointers and strides, in elements.
#pragma once

#include "kernels.h"

namespace kernels {

enum Sight : uint8_t { Everything, Causal, Bools, Biases };  // Biases: added to the scores

struct Attention {
  Type q_type, kv_type, out_type, mask_type;
  const uint8_t *q, *k, *v;
  uint8_t* out;
  int batch, heads, kv_heads, queries, keys, dim, v_dim;
  int64_t q_strides[3], k_strides[3], v_strides[3];  // batch, head, position; the last axis is contiguous
  int64_t out_strides[3];
  float scale;
  float softcap;  // 0: none
  Sight sight;
  int window;     // with Causal: how many keys, the newest included; 0: all
  const uint8_t* mask;
  int64_t mask_strides[4];  // batch, head, query, key
  const float* sinks;       // (heads), or null
};

// What one piece of work leaves behind for one query row: the largest score, the sum of e^(score - largest),
// and the values weighted by it, v_dim floats rounded up to 16.
constexpr int kPartHead = 2;
constexpr int kMaxParts = 64;

// Floats of scratch that `attend` needs.
constexpr size_t attend_scratch(int rows, int dim, int v_dim) {
  return (size_t)(rows + 16) * ((dim + 15) / 16 * 16) + (size_t)64 * ((v_dim + 15) / 16 * 16) + (size_t)rows * 64;
}

}  // namespace kernels
