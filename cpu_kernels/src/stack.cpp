#include "stack.h"

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "parts.h"
#include "primitive.h"
#include "project.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

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

Weight placed(const Packed& w) {
  Weight here = w.layout;
  here.data = w.data.data<uint8_t>();
  return here;
}

void check(const Packed& w, int inputs, const char* name) {
  if (w.experts) wrong(std::string(name) + " is a stack of experts; this takes one matrix");
  if (w.layout.cols != inputs) wrong(std::string(name) + " must have " + std::to_string(inputs) + " inputs");
}

// One layer: what came in, and what the kernels are handed once the weights are there.
struct LayerOf {
  StackedAttention attention;
  StackedFeedForward feed;
  Floats norm, q_norm, k_norm, biases[3], out_bias, sinks, feed_norm;
  parts::Heads heads;
  parts::FeedForward hidden;
  Weight out;

  LayerOf(const StackedAttention& a, const StackedFeedForward& f, int width)
      : attention(a),
        feed(f),
        norm(a.norms.input, width, "the norm of attention"),
        q_norm(a.norms.q, a.dim, "q_norm"),
        k_norm(a.norms.k, a.dim, "k_norm"),
        biases{{a.biases[0], a.heads[0].layout.rows, "bias"},
               {a.biases[1], a.heads[1].layout.rows, "bias"},
               {a.biases[2], a.heads[2].layout.rows, "bias"}},
        out_bias(a.out_bias, width, "out_bias"),
        sinks(a.sinks, a.heads[0].layout.rows / a.dim, "sinks"),
        feed_norm(f.norm, width, "norm") {
    hidden.gated = f.gate.has_value(), hidden.residual = true, hidden.act = activation_of(f.act);
  }

  void gather(std::vector<mx::array>& all) const {
    for (const Packed& w : attention.heads) all.push_back(w.data);
    for (const Packed* w : {&attention.out, feed.gate ? &*feed.gate : nullptr, &feed.up, &feed.down})
      if (w) all.push_back(w->data);
    for (const Floats* f : {&norm, &q_norm, &k_norm, &biases[0], &biases[1], &biases[2], &out_bias, &sinks, &feed_norm})
      f->gather(all);
  }

  void place() {
    for (const Packed& w : attention.heads) heads.w.push_back(placed(w));
    heads.dim = attention.dim, heads.eps = attention.norms.eps, heads.head_eps = attention.norms.head_eps;
    heads.norm = norm.data(), heads.q_norm = q_norm.data(), heads.k_norm = k_norm.data();
    for (int i = 0; i < 3; i++) heads.biases[i] = biases[i].data();
    out = placed(attention.out);
    if (feed.gate) hidden.w.push_back(placed(*feed.gate));
    hidden.w.push_back(placed(feed.up));
    hidden.w.push_back(placed(feed.down));
  }
};

// Where one sequence's keys or values of one layer lie, and how far apart its heads are.
struct Kept {
  uint8_t* data;
  int64_t capacity;
};

}  // namespace

struct Stack::Layers {
  std::vector<LayerOf> all;
  int width = 0;
  bool placed = false;

  // Weights may still be on their way from a file; once they are here they stay.
  void place() {
    if (placed) return;
    std::vector<mx::array> waited;
    for (const LayerOf& layer : all) layer.gather(waited);
    mx::eval(std::move(waited));
    for (LayerOf& layer : all) layer.place();
    placed = true;
  }
};

namespace {

// What is computed when the node's turn comes.
struct Step {
  std::shared_ptr<Stack::Layers> layers;
  RowsOf x;
  std::optional<View> positions;
  Vector freqs;
  bool interleaved;
  float rope_scale;
  Type kept;
  Precision precision;
  std::vector<Kept> keys, values;
  std::vector<int> at;
  uint8_t* out;

  void operator()() const {
    Scratch scratch;
    const size_t bytes = (size_t)x.count * x.cols * size_of(x.type);
    const uint8_t* from = x.view.ordered(scratch);
    uint8_t* middle = scratch.take<uint8_t>(bytes);
    const float* turn = freqs.floats(scratch);
    const int32_t* where = positions ? reinterpret_cast<const int32_t*>(positions->ordered(scratch)) : nullptr;
    for (size_t i = 0; i < layers->all.size(); i++) {
      Scratch own;
      const LayerOf& layer = layers->all[i];
      parts::Heads heads = layer.heads;
      heads.kept = kept, heads.precision = precision;
      if (turn && layer.attention.turned) {
        heads.rope_dims = 2 * freqs.view->shape[0], heads.freqs = turn, heads.positions = where;
        heads.interleaved = interleaved, heads.rope_scale = rope_scale;
      }
      const uint8_t* looked = look(own, layer, heads, from, i);
      const int inputs = heads.w[0].rows;
      parts::run({{layer.out, middle, layer.out_bias.data()}}, {x.type, looked, (size_t)inputs}, x.count, inputs, from, precision);
      parts::FeedForward feed = layer.hidden;
      feed.precision = precision;
      parts::run(feed, normed({x.type, middle, (size_t)x.cols}, layer.feed_norm.data(), layer.feed.eps), x.count, out);
      from = out;
    }
  }

 private:
  // Every row's attention over its sequence's keys, its own among them: (T, heads * dim)
  const uint8_t* look(Scratch& scratch, const LayerOf& layer, const parts::Heads& heads, const uint8_t* from, size_t i) const {
    const size_t size = size_of(x.type), narrow = size_of(kept), n = x.count;
    const int wide = heads.w[0].rows, kv_wide = heads.w[1].rows, dim = heads.dim;
    uint8_t* q = scratch.take<uint8_t>(n * wide * size);
    uint8_t* fresh[2] = {scratch.take<uint8_t>(n * kv_wide * narrow), scratch.take<uint8_t>(n * kv_wide * narrow)};
    uint8_t* looked = scratch.take<uint8_t>(n * wide * size);
    uint8_t* const to[3] = {q, fresh[0], fresh[1]};
    parts::run(heads, {x.type, from, (size_t)x.cols}, x.count, x.cols, to);
    Attention a{};
    a.q_type = a.out_type = x.type, a.kv_type = kept, a.batch = a.queries = 1;
    a.heads = wide / dim, a.kv_heads = kv_wide / dim, a.dim = a.v_dim = dim;
    a.scale = layer.attention.scale, a.sinks = layer.sinks.data();
    a.q_strides[0] = a.q_strides[2] = a.out_strides[0] = a.out_strides[2] = wide;
    a.q_strides[1] = a.out_strides[1] = dim;
    std::vector<Attention> all(n, a);
    for (size_t s = 0; s < n; s++) {
      const Kept own[2] = {keys[i * n + s], values[i * n + s]};
      for (int part = 0; part < 2; part++)
        for (int h = 0; h < a.kv_heads; h++)
          std::memcpy(own[part].data + (h * own[part].capacity + at[s]) * dim * narrow,
                      fresh[part] + (s * kv_wide + (size_t)h * dim) * narrow, dim * narrow);
      Attention& one = all[s];
      one.keys = at[s] + 1;
      one.q = q + s * wide * size, one.out = looked + s * wide * size;
      one.k = own[0].data, one.v = own[1].data;
      one.k_strides[0] = one.k_strides[1] = own[0].capacity * dim, one.k_strides[2] = dim;
      one.v_strides[0] = one.v_strides[1] = own[1].capacity * dim, one.v_strides[2] = dim;
    }
    parts::run(all);
    return looked;
  }
};

class StackStep : public CpuPrimitive {
 public:
  struct Plan {
    std::shared_ptr<Stack::Layers> layers;
    std::vector<int> at;
    bool turned = false, interleaved = false;
    float rope_scale = 1;
    Type kept = F32;
    Precision precision = Fast;
  };
  explicit StackStep(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::Stack"; }

  // inputs: x, keys, values, then positions and freqs where there are any, then what must be done before
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    const size_t buffers = p_.layers->all.size() * p_.at.size(), rest = 1 + 2 * buffers;
    Step step{p_.layers,     RowsOf(in[0]),  std::nullopt, Vector(in, p_.turned ? (int)rest + 1 : -1),
              p_.interleaved, p_.rope_scale, p_.kept,      p_.precision,
              {},            {},             p_.at,        allocate(outs[0])};
    if (p_.turned) step.positions.emplace(in[rest]);
    for (size_t i = 0; i < 2 * buffers; i++) {
      const mx::array& buffer = in[1 + i];
      if (!buffer.flags().row_contiguous) throw std::runtime_error("a buffer of keys or values does not lie in order");
      auto* data = const_cast<uint8_t*>(buffer.data<uint8_t>());
      (i < buffers ? step.keys : step.values).push_back({data, buffer.shape(2)});
    }
    dispatch([step = std::move(step)] { step(); });
  }

 private:
  Plan p_;
};

}  // namespace

Stack::Stack() : layers_(std::make_shared<Layers>()) {}

void Stack::add(const StackedAttention& a, const StackedFeedForward& f) {
  if (layers_->placed) wrong("the stack is in use; its layers stay as they are");
  if (a.heads.size() != 3 || a.biases.size() != 3) wrong("heads and biases must be of q, k and v");
  const int width = a.heads[0].layout.cols;
  if (!layers_->all.empty() && width != layers_->width) wrong("every layer of a stack must be as wide as the first");
  for (const Packed& w : a.heads) {
    check(w, width, "heads");
    if (a.dim <= 0 || w.layout.rows % a.dim || w.layout.rows == 0) wrong("heads must have a whole number of heads of dim rows");
  }
  if (a.heads[1].layout.rows != a.heads[2].layout.rows) wrong("keys and values must have the same heads");
  if (a.heads[0].layout.rows % a.heads[1].layout.rows) wrong("q must have a whole number of heads for each head of k");
  check(a.out, a.heads[0].layout.rows, "out");
  check(f.up, width, "up");
  if (f.gate) check(*f.gate, width, "gate");
  if (f.gate && f.gate->layout.rows != f.up.layout.rows) wrong("gate and up must have the same number of rows");
  check(f.down, f.up.layout.rows, "down");
  if (a.out.layout.rows != width || f.down.layout.rows != width) wrong("out and down must have as many rows as x has values");
  if (activation_of(f.act) == ClampedSwiglu && !f.gate) wrong("act clamped_swiglu needs a gate");
  layers_->width = width;
  layers_->all.emplace_back(a, f, width);
}

mx::array Stack::operator()(const mx::array& x, const Rotation& rotation, const std::vector<mx::array>& keys,
                            const std::vector<mx::array>& values, const std::vector<int>& at,
                            const std::vector<mx::array>& after, int wish) {
  StackStep::Plan plan;
  if (x.ndim() != 2 || x.shape(1) != layers_->width) wrong("x must be (rows, " + std::to_string(layers_->width) + ")");
  if (at.size() != (size_t)x.shape(0)) wrong("at must have one position for each row of x");
  const size_t n = at.size(), layers = layers_->all.size();
  if (n == 0 || layers == 0) return x;
  if (keys.size() != layers * n || values.size() != layers * n) wrong("keys and values must have a buffer for each layer and row");
  const mx::Dtype kept = keys[0].dtype();
  type_of(x.dtype(), "x");
  plan.kept = type_of(kept, "keys");
  for (size_t i = 0; i < layers * n; i++) {
    const LayerOf& layer = layers_->all[i / n];
    const int heads = layer.attention.heads[1].layout.rows / layer.attention.dim;
    for (const mx::array* one : {&keys[i], &values[i]}) {
      if (one->ndim() != 4 || one->shape(0) != 1 || one->shape(1) != heads || one->shape(3) != layer.attention.dim)
        wrong("keys and values must be (1, heads, positions, size) as their layer has them");
      if (one->dtype() != kept) wrong("keys and values must all have the same type");
      if (at[i % n] < 0 || at[i % n] >= one->shape(2)) wrong("at must be a position within keys and values");
    }
  }
  std::vector<mx::array> inputs{x};
  inputs.reserve(1 + 2 * layers * n + 2 + after.size());
  for (const auto* list : {&keys, &values})
    for (const mx::array& one : *list) inputs.push_back(one);
  if (rotation.freqs) {
    const mx::array& freqs = *rotation.freqs;
    for (const LayerOf& layer : layers_->all)
      if (freqs.ndim() != 1 || freqs.dtype() != mx::float32 || 2 * freqs.shape(0) > layer.attention.dim)
        wrong("freqs must be float32 (n,) with 2 n at most dim");
    if (!rotation.positions || rotation.positions->dtype() != mx::int32 || rotation.positions->shape() != mx::Shape{(int)n})
      wrong("positions must be int32 with one value for each row of x");
    plan.turned = true, plan.interleaved = rotation.interleaved, plan.rope_scale = rotation.scale;
    inputs.push_back(*rotation.positions);
    inputs.push_back(freqs);
  }
  inputs.insert(inputs.end(), after.begin(), after.end());
  plan.precision = precision_of(wish);
  plan.at = at;
  layers_->place();
  plan.layers = layers_;
  return mx::array(x.shape(), x.dtype(), std::make_shared<StackStep>(std::move(plan)), std::move(inputs));
}
