// All layers of a plain decoder as one node, for any rows of any sequences. Keys and values are written to pages, as a side
// effect: passes over the same pages are computed in turn.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nodes.h"
#include "packed.h"
#include "pages.h"

struct StackedAttention {
  std::vector<Packed> heads;  // q, k, v
  std::vector<std::optional<mx::array>> biases;
  Packed out;
  std::optional<mx::array> out_bias, sinks;
  HeadNorms norms;
  int dim;
  PagedRule rule;
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
  // `places[i]` is where layer i keeps its keys, in pages of the group that `batches[groups[i]]` tells of.
  mx::array operator()(const mx::array& x, const Rotation& rotation, const std::vector<const PagePlace*>& places,
                       const std::vector<int>& groups, const std::vector<std::shared_ptr<const PagedBatch>>& batches, int wish);
  struct Layers;

 private:
  std::shared_ptr<Layers> layers_;
};
