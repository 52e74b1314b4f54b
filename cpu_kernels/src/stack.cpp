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

// Where the layers of a pass keep their keys.
struct Kept {
  std::vector<PagePlace> places;
  std::vector<std::shared_ptr<const PagedBatch>> batches;  // of each layer
};

// What is computed when the node's turn comes.
struct Step {
  std::shared_ptr<Stack::Layers> layers;
  std::shared_ptr<const Kept> kept;
  RowsOf x;
  std::optional<View> positions;
  Vector freqs;
  bool interleaved;
  float rope_scale;
  Precision precision;
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
      heads.kept = type_of(kept->places[i].type, "keys"), heads.precision = precision;
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
    const PagePlace& place = kept->places[i];
    const PagedBatch& batch = *kept->batches[i];
    const size_t size = size_of(x.type), narrow = size_of(heads.kept), n = x.count;
    const int wide = heads.w[0].rows, kv_wide = heads.w[1].rows, dim = heads.dim;
    uint8_t* q = scratch.take<uint8_t>(n * wide * size);
    uint8_t* fresh[2] = {scratch.take<uint8_t>(n * kv_wide * narrow), scratch.take<uint8_t>(n * kv_wide * narrow)};
    uint8_t* looked = scratch.take<uint8_t>(n * wide * size);
    uint8_t* const to[3] = {q, fresh[0], fresh[1]};
    parts::run(heads, {x.type, from, (size_t)x.cols}, x.count, x.cols, to);
    parts::copy_pages(place, batch);
    parts::write_pages(place, batch, {fresh[0], fresh[1], kv_wide, dim, kv_wide, dim});
    Paged a = parts::paged_over(place, batch, layer.attention.rule);
    a.q_type = a.out_type = x.type, a.heads = wide / dim, a.sinks = layer.sinks.data();
    a.q = q, a.q_row = wide, a.q_head = dim, a.out = looked;
    parts::run(a, batch);
    return looked;
  }
};

class StackStep : public CpuPrimitive {
 public:
  struct Plan {
    std::shared_ptr<Stack::Layers> layers;
    std::shared_ptr<const Kept> kept;
    bool turned = false, interleaved = false;
    float rope_scale = 1;
    Precision precision = Fast;
  };
  explicit StackStep(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::Stack"; }

  // inputs: x, then positions and freqs where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Step step{p_.layers,      p_.kept,       RowsOf(in[0]), std::nullopt,     Vector(in, p_.turned ? 2 : -1),
              p_.interleaved, p_.rope_scale, p_.precision,  allocate(outs[0])};
    if (p_.turned) step.positions.emplace(in[1]);
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

mx::array Stack::operator()(const mx::array& x, const Rotation& rotation, const std::vector<const PagePlace*>& places,
                            const std::vector<int>& groups, const std::vector<std::shared_ptr<const PagedBatch>>& batches,
                            int wish) {
  StackStep::Plan plan;
  const size_t layers = layers_->all.size();
  if (x.ndim() != 2 || x.shape(1) != layers_->width) wrong("x must be (rows, " + std::to_string(layers_->width) + ")");
  type_of(x.dtype(), "x");
  if (places.size() != layers || groups.size() != layers) wrong("places and groups must have one entry for each layer");
  auto kept = std::make_shared<Kept>();
  for (size_t i = 0; i < layers; i++) {
    const StackedAttention& own = layers_->all[i].attention;
    if (!places[i] || groups[i] < 0 || (size_t)groups[i] >= batches.size() || !batches[groups[i]]) wrong("groups must name batches");
    const PagePlace& place = *places[i];
    const PagedBatch& batch = *batches[groups[i]];
    if (place.heads != own.heads[1].layout.rows / own.dim || place.dim != own.dim || place.v_dim != own.dim || !place.own_values)
      wrong("a place must keep the heads of its layer");
    if (batch.rows() != x.shape(0)) wrong("batches must have the rows of x");
    batch.check(place);
    kept->places.push_back(place);
    kept->batches.push_back(batches[groups[i]]);
  }
  if (layers == 0 || x.shape(0) == 0) return x;
  std::vector<mx::array> inputs{x};
  if (rotation.freqs) {
    const mx::array& freqs = *rotation.freqs;
    for (const LayerOf& layer : layers_->all)
      if (freqs.ndim() != 1 || freqs.dtype() != mx::float32 || 2 * freqs.shape(0) > layer.attention.dim)
        wrong("freqs must be float32 (n,) with 2 n at most dim");
    if (!rotation.positions || rotation.positions->dtype() != mx::int32 || rotation.positions->shape() != mx::Shape{x.shape(0)})
      wrong("positions must be int32 with one value for each row of x");
    plan.turned = true, plan.interleaved = rotation.interleaved, plan.rope_scale = rotation.scale;
    inputs.push_back(*rotation.positions);
    inputs.push_back(freqs);
  }
  plan.precision = precision_of(wish);
  layers_->place();
  plan.layers = layers_, plan.kept = std::move(kept);
  return mx::array(x.shape(), x.dtype(), std::make_shared<StackStep>(std::move(plan)), std::move(inputs));
}
