// What a stack of layers is made of: steps over rows of float32 that lie beside each other under a name. Everything is
// checked when a step is added; a step that runs only computes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "mlx/ops.h"
#include "packed.h"
#include "pages.h"
#include "parts.h"

namespace steps {

using namespace linear;

[[noreturn]] inline void wrong(const std::string& what) { throw std::invalid_argument(what); }

// A vector kept as float32 beside the node; its place in memory never changes.
class Floats {
 public:
  Floats(const std::optional<mx::array>& from, int size, const char* name) {
    if (!from) return;
    type_of(from->dtype(), name);
    if (from->ndim() != 1 || from->shape(0) != size) wrong(std::string(name) + " must have shape (" + std::to_string(size) + ",)");
    kept_ = mx::contiguous(mx::astype(*from, mx::float32));
  }
  void gather(std::vector<mx::array>& all) const {
    if (kept_) all.push_back(*kept_);
  }
  const float* data() const { return kept_ ? kept_->data<float>() : nullptr; }

 private:
  std::optional<mx::array> kept_;
};

// A packed weight, whose data is looked up once it is there.
class Kept {
 public:
  explicit Kept(const Packed& w) : packed_(w) {}
  void gather(std::vector<mx::array>& all) const { all.push_back(packed_.data); }
  Weight weight() const {
    Weight here = packed_.layout;
    here.data = packed_.data.data<uint8_t>();
    return here;
  }
  const Packed& packed() const { return packed_; }

 private:
  Packed packed_;
};

struct NormSpec {
  std::optional<mx::array> weight, bias;
  float eps = 0;
  bool centred = false;  // a layer norm, which takes the mean away; else an RMS norm
};

// Of rows of `size` values; weight and bias may be longer, for rows that have their own.
class Norm {
 public:
  Norm(const NormSpec& spec, int size, int weights, const char* name)
      : size_(size), eps_(spec.eps), centred_(spec.centred), weight_(spec.weight, weights, name), bias_(spec.bias, weights, name) {
    if (spec.bias && !spec.centred) wrong(std::string(name) + ": only a layer norm has a bias");
  }
  void gather(std::vector<mx::array>& all) const { weight_.gather(all), bias_.gather(all); }
  // That rows are normed as they are taken in by a product.
  Source on_the_way(Source x) const {
    x.normed = true, x.norm = weight_.data(), x.eps = eps_;
    return x;
  }
  // y may be x; weights from `at` on
  void operator()(const float* x, float* y, int at = 0) const {
    const float *w = weight_.data(), *b = bias_.data();
    if (centred_) best().layer_norm(x, w ? w + at : nullptr, b ? b + at : nullptr, eps_, size_, y);
    else best().rms_norm(x, w ? w + at : nullptr, eps_, size_, y);
  }

 private:
  int size_;
  float eps_;
  bool centred_;
  Floats weight_, bias_;
};

// Rows under a name: which, and how many values each has where a step uses them.
struct Rows {
  int buffer = 0, width = 0;
};

// Rows of one sequence, end to end.
struct Sequence {
  int first, count;
};

// What a sequence remembers at a step: read here (null: it begins) and left there, which may be the same place.
struct State {
  const float* from;
  float* to;
};

// What an adapter adds to a product y = x . w^T: scale * b . (a . x), and all of it times `gain` where there is one.
struct LowRank {
  Kept a, b;  // (rank, inputs), (outputs, rank)
  float scale;
  Floats gain;  // (outputs,), or nothing
  int rank() const { return a.packed().layout.rows; }
};

struct Adapter {
  std::shared_ptr<const void> of;  // the stack that it was made for
  std::vector<std::unique_ptr<LowRank>> slots;  // null: that product stays as it is
};

// Rows of sequences that have the same adapter.
struct AdaptedRows {
  int start, count;
  std::shared_ptr<const Adapter> by;
};

// What a pass has while it is computed.
struct Pass {
  int count;
  std::vector<float*> rows;           // by buffer, (count, width) as a step says
  std::vector<const float*> angles;   // by rope, (count, half, 2) cos and sin
  const std::vector<PagePlace>* places;  // by attending step
  const std::vector<std::shared_ptr<const PagedBatch>>* batches;
  const std::vector<AdaptedRows>* adapted;
  Precision precision;
  std::vector<Sequence> sequences;
  std::vector<std::vector<State>> states;  // by remembering step and sequence

  float* of(const Rows& r) const { return rows[r.buffer]; }
  Source source(const Rows& r) const {
    return {F32, reinterpret_cast<const uint8_t*>(rows[r.buffer]), (size_t)r.width};
  }
};

// f(row) for each, over the pool where there is enough to do.
template <class F>
void each_row(int count, size_t width, F&& f) {
  if (count * width < 16384) {
    for (int r = 0; r < count; r++) f(r);
    return;
  }
  const int step = std::max(1, (int)(8192 / std::max<size_t>(width, 1)));
  pool::run((count + step - 1) / step, [&](uint32_t piece) {
    for (int r = piece * step; r < std::min<int>(count, (piece + 1) * step); r++) f(r);
  });
}

class Step {
 public:
  virtual ~Step() = default;
  virtual void gather(std::vector<mx::array>& all) const = 0;  // weights, so that they are there when it runs
  virtual void run(const Pass& pass) const = 0;
};
using StepPtr = std::unique_ptr<Step>;

struct Combining {
  Rows source, to;
  std::optional<Rows> onto;
  std::optional<NormSpec> norm;
  float factor = 1;
  std::optional<mx::array> scale;  // (1,), learned, or one for each value
};
StepPtr combine(const Combining& spec);

struct Projection {
  Packed w;
  std::optional<mx::array> bias;
  Rows to;
};
// `norm` is an RMS norm
StepPtr project(Rows source, const std::vector<Projection>& products, std::optional<Rows> onto, const std::optional<NormSpec>& norm);

// A product that adapters may change: which of their slots, where it lies, and the bias that is in it.
struct Adapting {
  int slot;
  Rows to;
  std::optional<mx::array> bias;
};
// `source` and `norm` as the product had them
StepPtr adapt(Rows source, const std::vector<Adapting>& products, const std::optional<NormSpec>& norm);

// to = act(values of `gate` from `at` on) (* rows of `up`, from value `up_at` on)
StepPtr activate(Rows gate, int at, Activation act, std::optional<Rows> up, int up_at, Rows to);

// Values of a row times a function of others: in each head of `dim` values, whose gates begin every `step` values from `at`
// on; one for each value, or (`per_head`) one for all of them.
struct Gating {
  Rows rows, gates;
  int dim, at, step;
  bool per_head, softplus;  // else sigmoid
};
StepPtr gate(const Gating& spec);

struct Feeding {
  Rows source, to;
  std::optional<Rows> onto;
  std::optional<Packed> gate;
  Packed up, down;
  std::optional<mx::array> gate_bias, up_bias, down_bias;
  Activation act;
  std::optional<NormSpec> norm = std::nullopt;  // an RMS norm
};
StepPtr feed(const Feeding& spec);

enum Score : uint8_t { Softmax, SoftmaxTopK, Sigmoids, SparseMixer };

struct Routing {
  int top_k = 1, groups = 1, top_groups = 1;
  Score score = Softmax;
  bool renorm = false;
  float scale = 1, jitter = 0, renorm_eps = 1e-20f;
  std::optional<mx::array> select_bias, expert_scale;
};

// to = the numbers of the experts that a row is sent to, as `mix` would choose them
StepPtr route(Rows logits, const Routing& routing, Rows to);

struct Mixing {
  Feeding network;  // its matrices are stacks, its biases (experts, rows)
  Rows logits;
  Routing routing;
  bool scales_input;  // a choice's weight multiplies what goes in, not what comes out
};
StepPtr mix(const Mixing& spec);

enum Scope : uint8_t { Head, Each, All };  // one head by the weights of all; by its own; the whole row

struct Attending {
  Rows q, to;
  std::optional<Rows> k, v;  // neither: others' keys are looked at
  int dim, step;             // of a head of q, and to the next
  std::optional<NormSpec> q_norm, k_norm, v_norm;
  Scope scope = Head;
  bool after_rope = false, values_apart = true;
  int k_norm_size = 0;  // 0: a head; else its first so many values
  float clip = 0;       // 0: none
  int rope = -1, rope_at = 0, rope_half = 0;  // which, from which value of a head on, pairs
  bool interleaved = false;
  float beta = 0, floor = 1;  // the query's temperature, where beta is not 0
  int shift = 0;
  PagedRule rule;
  std::optional<mx::array> sinks, slopes;
  int v_dim = 0;
  int place = 0;  // which of the pass
};
StepPtr attend(const Attending& spec);

// Each head of `source` times its own matrix of a stack; the `carried` values behind are copied.
StepPtr per_head(Rows source, const Packed& w, int carried, Rows to);

// `parts` neighbouring parts of a row, `size` values each from `at` on, are normed where they lie. A weight of `size` values
// is that of each part.
StepPtr normalise(Rows rows, int at, int size, int parts, const NormSpec& norm);

}  // namespace steps
