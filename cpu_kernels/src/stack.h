// All layers of a plain decoder as one node, for passes that have one row of each sequence. Keys and values are written
// where they lie, as a side effect: whoever calls knows that nobody else reads those rows.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nodes.h"
#include "packed.h"

struct StackedAttention {
  std::vector<Packed> heads;  // q, k, v
  std::vector<std::optional<mx::array>> biases;
  Packed out;
  std::optional<mx::array> out_bias, sinks;
  HeadNorms norms;
  int dim;
  float scale;
  bool turned;  // by the rotation of the pass
};

struct StackedFeedForward {
  std::optional<Packed> gate;
  Packed up, down;
  std::string act;
  mx::array norm;
  float eps;
};

class Stack {
 public:
  Stack();
  // x (T, width) -> x + attention(norm(x)), then + feed_forward(norm(.)).
  void add(const StackedAttention& attention, const StackedFeedForward& feed);
  // keys and values: (1, heads, capacity, dim) of each layer's sequences in turn; the new row of sequence i goes to
  // position `at[i]` and is seen together with those before it. `after`: computed before anything is written.
  mx::array operator()(const mx::array& x, const Rotation& rotation, const std::vector<mx::array>& keys,
                       const std::vector<mx::array>& values, const std::vector<int>& at, const std::vector<mx::array>& after,
                       int wish);
  struct Layers;

 private:
  std::shared_ptr<Layers> layers_;
};
