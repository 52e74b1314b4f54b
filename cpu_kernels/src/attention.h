// What an attention call is, for the kernels: pointers and strides, in elements.
#pragma once

#include "kernels.h"

namespace kernels {

enum Sight : uint8_t { Everything, Causal, Bools, Biases, Near };  // Biases: added to the scores; Near: `window` to each side

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
  int window;     // with Causal: how many keys, the newest included; 0: all. With Near: how far, in front and behind
  const uint8_t* mask;
  int64_t mask_strides[4];  // batch, head, query, key
  const float* sinks;       // (heads), or null
  const float* apart;       // (heads, 2 * far + 1), or null: a score grows by that of key - query, cut to +-far
  int far;
};

// Attention over keys that lie in pages: the row at position p sees the keys of its sequence up to p, or up to an end of
// its own (the rows of a picture, which see each other). Position p of a
// sequence is row p % size of the page that its table names at p / size. Strides and offsets of rows in elements.
struct Paged {
  Type q_type, kv_type, out_type;
  int heads, kv_heads, dim, v_dim;
  const uint8_t* q;
  int64_t q_row, q_head;
  uint8_t* out;              // (T, heads * v_dim)
  const int32_t* positions;  // (T)
  const int32_t* ends;       // (T) where what a row sees ends, or null: behind itself
  float scale, softcap;      // 0: none
  int window, chunk;         // how far a row looks back, its own key included; 0: as far as there are keys
  const float *sinks, *slopes;  // (heads), or null; a key's score grows by slope * its position
  const uint8_t* base;
  size_t page_bytes, k_at, v_at;  // bytes: of a page, and from its start to this layer's keys and values
  size_t k_scales, v_scales;      // bytes to the scales of signed bytes: (head, group of kScaled, position) in float16
  int shift;                      // positions of a page: 1 << shift
  int v_step;                     // elements between values
  bool turned;  // 16 keys lie side by side (head, keys / 16, dim, 16), or all of a smaller page; else one after the other
};

constexpr int kScaled = 64;  // numbers of a row that share a scale where they are kept as bytes

// Keys are summed in parts of so many, from multiples of it on, and parts are joined in order.
constexpr int kPartKeys = 256;

// What one piece of work leaves behind for one query row: the largest score, the sum of e^(score - largest),
// and the values weighted by it, v_dim floats rounded up to 16.
constexpr int kPartHead = 2;
constexpr int kMaxParts = 64;

// Floats of scratch that `attend` needs.
constexpr size_t attend_scratch(int rows, int dim, int v_dim) {
  return (size_t)(rows + 64) * ((dim + 15) / 16 * 16) + (size_t)64 * ((v_dim + 15) / 16 * 16) + (size_t)rows * 64;
}

// Floats that `attend_part` needs: queries (rows, dim), scores (rows, kPartKeys), as many again for what comes of them, and
// 64 keys and values.
constexpr size_t part_other(int rows, int dim) {
  const size_t scores = (size_t)rows * kPartKeys, keys = (size_t)16 * dim;
  return scores > keys ? scores : keys;
}
constexpr size_t part_scratch(int rows, int dim, int v_dim) {
  const size_t wide = (dim + 15) / 16 * 16, v_wide = (v_dim + 15) / 16 * 16;
  return (rows + 64) * wide + (size_t)rows * kPartKeys + part_other(rows, dim) + 64 * v_wide;
}

}  // namespace kernels
