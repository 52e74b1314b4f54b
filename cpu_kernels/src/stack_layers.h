// What a stack has while layers are told to it, for the files that tell them.
#pragma once

#include "mlx/transforms.h"
#include "spare.h"
#include "stack.h"

namespace stacked {

using steps::Rows;
using steps::wrong;

inline void check(const Packed& w, int inputs, const std::string& name, int experts = 0) {
  if (w.experts && !experts) wrong(name + " is a stack of experts; this takes one matrix");
  if (w.experts != experts) wrong(name + " must be a stack of " + std::to_string(experts));
  if (w.layout.cols != inputs) wrong(name + " must have " + std::to_string(inputs) + " inputs");
}

struct Rope {
  std::vector<steps::Floats> freqs;
  std::vector<float> scales;
  int half;
  bool interleaved;
  std::vector<int> axes;  // of each pair, by which coordinate it turns; none: by the first
};

// What a pass is told of the place where a step keeps or finds its keys.
struct Keeping {
  int heads, dim, v_dim, q_heads;
  bool own_values;
};

}  // namespace stacked

struct Stack::Layers {
  using Rows = steps::Rows;
  std::vector<steps::StepPtr> all;
  std::vector<stacked::Rope> ropes;
  std::vector<stacked::Keeping> keeping;
  std::vector<mx::Shape> states;  // of one sequence, by remembering step
  std::shared_ptr<Spare> spare = std::make_shared<Spare>();
  std::map<std::string, int> names;
  std::vector<int> widths, most;  // of each buffer: as it was written last, and at most
  int width = 0, extra = 0;
  std::string out;
  std::vector<std::pair<int, int>> slots;  // inputs and outputs of the products that adapters may change
  bool placed = false;

  Rows written(const std::string& name, int values) {
    if (values <= 0) steps::wrong(name + " would have no values");
    const auto [at, is_new] = names.emplace(name, (int)widths.size());
    if (is_new) widths.push_back(0), most.push_back(0);
    if (name == "x" && values != width) steps::wrong("x must stay " + std::to_string(width) + " values wide");
    if (name == "extra" && !is_new) steps::wrong("extra comes from outside; no step writes it");
    widths[at->second] = values, most[at->second] = std::max(most[at->second], values);
    return {at->second, values};
  }
  Rows read(const std::string& name) const {
    const auto at = names.find(name);
    if (at == names.end()) steps::wrong("no step before this one writes " + name);
    return {at->second, widths[at->second]};
  }
  std::optional<Rows> below(const std::optional<std::string>& name, int values) const {
    if (!name) return std::nullopt;
    const Rows found = read(*name);
    if (found.width != values) steps::wrong(*name + " must have " + std::to_string(values) + " values, as many as are added");
    return found;
  }
  void add(steps::StepPtr step) { all.push_back(std::move(step)); }
  void may_change() const {
    if (placed) steps::wrong("the stack is in use; its layers stay as they are");
  }

  void check(const std::vector<steps::AdaptedRows>& adapted, int count) const;  // stack_adapt.cpp

  // Weights may still be on their way from a file; once they are here they stay.
  void place() {
    if (placed) return;
    std::vector<mx::array> waited;
    for (const steps::StepPtr& step : all) step->gather(waited);
    for (const stacked::Rope& rope : ropes)
      for (const steps::Floats& freqs : rope.freqs) freqs.gather(waited);
    mx::eval(std::move(waited));
    placed = true;
  }
};
