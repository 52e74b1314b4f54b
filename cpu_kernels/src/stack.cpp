#include "stack_layers.h"

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "primitive.h"
#include "project.h"

using linear::Precision;
using linear::Scratch;
using stacked::check;
using stacked::Keeping;
using stacked::Rope;
using steps::Rows;
using steps::wrong;

namespace {

// Where the keys of a pass lie, and how its sequences turn.
struct Told {
  std::vector<PagePlace> places;
  std::vector<std::shared_ptr<const PagedBatch>> batches;  // of each place
  std::vector<std::vector<int>> tables;                    // by rope and sequence
  std::vector<steps::Sequence> sequences;                  // where steps remember
  std::vector<steps::AdaptedRows> adapted;
  std::vector<std::vector<int32_t>> turns;                 // by coordinate and row, or none: every row by its position
};

// What a sequence will go on from: its place is known when the pass begins.
struct Left {
  mx::array state;
};
using LeftPtr = std::shared_ptr<Left>;

// What is computed when the node's turn comes.
struct Work {
  std::shared_ptr<Stack::Layers> layers;
  Rows going;  // out
  std::shared_ptr<const Told> told;
  RowsOf x;
  std::optional<View> extra;
  Precision precision;
  uint8_t* out;
  std::vector<std::optional<View>> before;  // by remembering step and sequence
  std::vector<LeftPtr> after;

  void operator()() const {
    Scratch scratch;
    steps::Pass pass{x.count, {}, {}, &told->places, &told->batches, &told->adapted, precision, told->sequences, {}};
    for (size_t i = 0; i < before.size(); i++) {
      if (i % told->sequences.size() == 0) pass.states.emplace_back();
      const float* from = before[i] ? reinterpret_cast<const float*>(before[i]->ordered(scratch)) : nullptr;
      pass.states.back().push_back({from, after[i]->state.data<float>()});
    }
    for (size_t i = 0; i < layers->most.size(); i++) pass.rows.push_back(rows_of((int)i, scratch));
    std::memcpy(pass.rows[0], x.view.ordered(scratch), (size_t)x.count * x.cols * sizeof(float));
    for (size_t i = 0; i < layers->ropes.size(); i++) pass.angles.push_back(angles_of(i, scratch));
    for (const steps::StepPtr& step : layers->all) step->run(pass);
    if (going.buffer != 0) std::memcpy(out, pass.of(going), (size_t)x.count * going.width * sizeof(float));
  }

 private:
  float* rows_of(int buffer, Scratch& scratch) const {
    if (buffer == 0 && going.buffer == 0) return reinterpret_cast<float*>(out);
    if (buffer == 1 && extra) return const_cast<float*>(reinterpret_cast<const float*>(extra->ordered(scratch)));  // only read
    return scratch.take<float>((size_t)x.count * layers->most[buffer]);
  }
  const float* angles_of(size_t rope, Scratch& scratch) const {
    const Rope& own = layers->ropes[rope];
    if (told->batches.empty()) return nullptr;  // nobody turns
    const PagedBatch& batch = *told->batches[0];  // every group has the same rows
    float* table = scratch.take<float>((size_t)x.count * own.half * 2);
    pool::run((uint32_t)((x.count + 15) / 16), [&](uint32_t piece) {
      for (int r = piece * 16; r < std::min<int>(x.count, piece * 16 + 16); r++) {
        const size_t sequence = std::upper_bound(batch.starts.begin(), batch.starts.end(), r) - batch.starts.begin() - 1;
        const int which = told->tables[rope].empty() ? 0 : told->tables[rope][sequence];
        float* to = table + (size_t)r * own.half * 2;
        if (told->turns.empty()) {
          parts::angles_of(batch.positions[r], own.freqs[which].data(), own.half, own.scales[which], to);
        } else {
          for (int i = 0; i < own.half; i++)
            parts::angles_of(told->turns[own.axes.empty() ? 0 : own.axes[i]][r], own.freqs[which].data() + i, 1, own.scales[which], to + 2 * i);
        }
      }
    });
    return table;
  }
};

class StackStep : public CpuPrimitive {
 public:
  StackStep(std::shared_ptr<Stack::Layers> layers, Rows going, std::shared_ptr<const Told> told, Precision precision,
            std::vector<int> before, std::vector<LeftPtr> after)
      : layers_(std::move(layers)),
        going_(going),
        told_(std::move(told)),
        precision_(precision),
        before_(std::move(before)),
        after_(std::move(after)) {}
  const char* name() const override { return "mlxrun::Stack"; }

  // inputs: x, then extra where there is any, then what sequences remember; outputs: rows, and what says that they are done
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Work work{layers_, going_, told_, RowsOf(in[0]), std::nullopt, precision_, allocate(outs[0]), {}, after_};
    if (layers_->extra) work.extra.emplace(in[1]);
    for (int at : before_) work.before.push_back(at < 0 ? std::nullopt : std::optional<View>(in[at]));
    std::map<size_t, size_t> sizes;
    for (const LeftPtr& left : after_) {
      layers_->spare->give(left->state);
      sizes[left->state.nbytes()]++;
    }
    layers_->spare->keep(sizes);
    if (outs.size() > 1) *reinterpret_cast<float*>(allocate(outs[1])) = 0;
    dispatch([work = std::move(work)] { work(); });
  }

 private:
  std::shared_ptr<Stack::Layers> layers_;
  Rows going_;
  std::shared_ptr<const Told> told_;
  Precision precision_;
  std::vector<int> before_;  // which inputs are states, by remembering step and sequence; -1: none
  std::vector<LeftPtr> after_;
};

// A state that a pass leaves, as an array. As outputs of the pass each would know all others: 600 for 8 sequences.
class LeftState : public CpuPrimitive {
 public:
  explicit LeftState(LeftPtr left) : left_(std::move(left)) {}
  const char* name() const override { return "mlxrun::LeftState"; }
  // input: what says that the pass is done
  void eval_cpu(const std::vector<mx::array>&, std::vector<mx::array>& outs) override {
    outs[0].copy_shared_buffer(left_->state);
    dispatch([left = left_] {});  // the pass may still be about to write
  }

 private:
  LeftPtr left_;
};

// The rows of sequences, where steps remember.
std::vector<steps::Sequence> sequences_of(const std::vector<int>& counts, int rows) {
  std::vector<steps::Sequence> found;
  int64_t first = 0;
  for (int count : counts) {
    if (count < 1) wrong("every sequence of a pass must have rows");
    found.push_back({(int)first, count});
    first += count;
    if (first > rows) break;
  }
  if (first != rows) wrong("counts must add up to the rows of x");
  return found;
}

steps::Feeding network_of(const NetworkSpec& n, Rows source, int outputs, int experts) {
  if (!n.up || !n.down) wrong("a network has up and down");
  check(*n.up, source.width, "up", experts), check(*n.down, n.up->layout.rows, "down", experts);
  if (n.gate) check(*n.gate, source.width, "gate", experts);
  if (n.gate && n.gate->layout.rows != n.up->layout.rows) wrong("gate and up must have the same number of rows");
  if (n.gate_bias && !n.gate) wrong("a bias of the gate needs a gate");
  steps::Feeding f{source, {}, std::nullopt, std::nullopt, *n.up, *n.down, n.gate_bias, n.up_bias, n.down_bias, activation_of(n.act)};
  if (f.act == kernels::ClampedSwiglu && !n.gate) wrong("act clamped_swiglu needs a gate");
  if (n.gate) f.gate = *n.gate;
  f.to.width = outputs;
  return f;
}

template <class T>
T one_of(const std::string& name, const std::vector<std::pair<const char*, T>>& known, const char* what) {
  for (const auto& [own, value] : known)
    if (name == own) return value;
  wrong(std::string(what) + " may not be '" + name + "'");
}

}  // namespace

Stack::Stack(int width, int extra, const std::string& out) : layers_(std::make_shared<Layers>()) {
  if (width <= 0 || extra < 0) wrong("width must be above 0, extra not below");
  layers_->width = width, layers_->extra = extra, layers_->out = out;
  layers_->written("x", width);
  if (extra) layers_->written("extra", extra);
}
Stack::~Stack() = default;

int Stack::rope(const std::vector<RopeTable>& tables, bool interleaved, const std::vector<int>& axes) {
  layers_->may_change();
  if (tables.empty()) wrong("a rope has at least one table");
  Rope rope{{}, {}, 0, interleaved, axes};
  for (const RopeTable& table : tables) {
    if (table.freqs.ndim() != 1 || table.freqs.dtype() != mx::float32 || table.freqs.size() == 0) wrong("freqs must be float32 (n,)");
    if (rope.half && rope.half != table.freqs.shape(0)) wrong("all tables of a rope have as many freqs");
    rope.half = table.freqs.shape(0);
    rope.freqs.emplace_back(table.freqs, rope.half, "freqs"), rope.scales.push_back(table.scale);
  }
  if (!axes.empty() && (int)axes.size() != rope.half) wrong("axes must have one entry for each of freqs");
  for (int axis : axes)
    if (axis < 0) wrong("axes are numbers of coordinates");
  layers_->ropes.push_back(std::move(rope));
  return (int)layers_->ropes.size() - 1;
}

void Stack::combine(const std::string& source, const std::string& to, const std::optional<steps::NormSpec>& norm,
                    const std::optional<std::string>& onto, float factor, const std::optional<mx::array>& scale) {
  layers_->may_change();
  const Rows from = layers_->read(source);
  const auto below = layers_->below(onto, from.width);
  steps::Combining spec{from, from, below, norm, factor, scale};
  spec.to = layers_->written(to, from.width);
  layers_->add(steps::combine(spec));
}

void Stack::project(const std::string& source, const std::vector<const Packed*>& weights,
                    const std::vector<std::optional<mx::array>>& biases, const std::vector<std::string>& to,
                    const std::optional<std::string>& onto, const std::optional<steps::NormSpec>& norm) {
  layers_->may_change();
  const Rows from = layers_->read(source);
  if (weights.empty() || weights.size() != to.size() || weights.size() != biases.size())
    wrong("weights, biases and their rows must be as many");
  if (onto && weights.size() != 1) wrong("onto goes with one weight, not several");
  std::vector<steps::Projection> products;
  std::optional<Rows> below;
  for (size_t i = 0; i < weights.size(); i++) {
    if (!weights[i]) wrong("weights has None in it");
    check(*weights[i], from.width, to[i]);
    if (to[i] == source) wrong("rows cannot be multiplied where they lie");
    if (i == 0) below = layers_->below(onto, weights[i]->layout.rows);
    products.push_back({*weights[i], biases[i], layers_->written(to[i], weights[i]->layout.rows)});
  }
  layers_->add(steps::project(from, products, below, norm));
}

void Stack::activate(const std::string& gate, const std::string& act, const std::optional<std::string>& up, int up_at,
                     const std::string& to, int at, int size) {
  layers_->may_change();
  const Rows from = layers_->read(gate);
  if (at < 0 || size < 0 || at >= from.width || size > from.width - at) wrong("the gate must have as many values from at on");
  const int values = size ? size : from.width - at;
  std::optional<Rows> with;
  if (up) with = layers_->read(*up);
  if (with && (up_at < 0 || up_at > with->width - values)) wrong("up must have as many values from up_at on as the gate");
  if ((to == gate && values != from.width) || (with && to == *up && values != with->width)) wrong("a part of a row goes elsewhere");
  const kernels::Activation by = act == "identity" ? kernels::Identity : act == "sigmoid" ? kernels::Sigmoid : activation_of(act);
  if (by == kernels::ClampedSwiglu && !up) wrong("act clamped_swiglu needs a gate");
  layers_->add(steps::activate(from, at, by, with, up_at, layers_->written(to, values)));
}

void Stack::gate(const std::string& rows, const std::string& gates, int dim, int at, int step, const std::string& by) {
  layers_->may_change();
  enum By { Each, OnePerHead, Softplus };
  const By how = one_of<By>(by, {{"sigmoid", Each}, {"head_sigmoid", OnePerHead}, {"head_softplus", Softplus}}, "a gate's function");
  steps::Gating spec{layers_->read(rows), layers_->read(gates), dim, at, step, how != Each, how == Softplus};
  if (dim <= 0 || spec.rows.width % dim) wrong("gated rows must have a whole number of heads of dim values");
  const int heads = spec.rows.width / dim, last = spec.per_head ? 1 : dim;
  if (at < 0 || step < 0 || at + (int64_t)(heads - 1) * step + last > spec.gates.width) wrong("gates must have values for each head");
  layers_->add(steps::gate(spec));
}

void Stack::feed(const std::string& source, const NetworkSpec& network, const std::string& to,
                 const std::optional<std::string>& onto, const std::optional<steps::NormSpec>& norm) {
  layers_->may_change();
  if (to == source && !norm) wrong("rows cannot be multiplied where they lie");  // norms are of a copy
  const Rows from = layers_->read(source);
  if (!network.up || !network.down) wrong("a network has up and down");
  const int outputs = network.down->layout.rows;
  steps::Feeding spec = network_of(network, from, outputs, 0);
  spec.norm = norm;
  spec.onto = layers_->below(onto, outputs);
  spec.to = layers_->written(to, outputs);
  layers_->add(steps::feed(spec));
}

namespace {

void check(const steps::Routing& routing, int experts) {
  if (routing.top_k <= 0 || routing.top_k > experts) wrong("top_k must be 1 to the number of experts");
  if (routing.groups <= 0 || experts % routing.groups || routing.top_groups <= 0 || routing.top_groups > routing.groups)
    wrong("groups must divide the experts, and top_groups be some of them");
}

}  // namespace

void Stack::route(const std::string& logits, const steps::Routing& routing, const std::string& to) {
  layers_->may_change();
  const Rows scores = layers_->read(logits);
  check(routing, scores.width);
  if (to == logits) wrong("rows cannot be chosen among where they lie");
  layers_->add(steps::route(scores, routing, layers_->written(to, routing.top_k)));
}

void Stack::mix(const std::string& source, const std::string& logits, const steps::Routing& routing, bool scales_input,
                const NetworkSpec& network, const std::string& to, const std::optional<std::string>& onto) {
  layers_->may_change();
  if (to == source || to == logits) wrong("rows cannot be multiplied where they lie");
  const Rows from = layers_->read(source), scores = layers_->read(logits);
  if (!network.up || !network.down || !network.up->experts) wrong("up must be a stack of experts");
  const int experts = network.up->experts, outputs = network.down->layout.rows;
  if (scores.width != experts) wrong("there must be a logit for each expert");
  check(routing, experts);
  steps::Mixing spec{network_of(network, from, outputs, experts), scores, routing, scales_input};
  for (auto [bias, rows] : {std::pair{&network.gate_bias, network.up->layout.rows}, std::pair{&network.up_bias, network.up->layout.rows},
                            std::pair{&network.down_bias, outputs}})
    if (*bias && (*bias)->shape() != mx::Shape{experts, rows}) wrong("a bias of experts must be (experts, rows)");
  spec.network.onto = layers_->below(onto, outputs);
  spec.network.to = layers_->written(to, outputs);
  layers_->add(steps::mix(spec));
}

void Stack::attend(const std::string& q, const std::optional<std::string>& k, const std::optional<std::string>& v,
                   const HeadsSpec& h, const PagedRule& rule, const std::optional<mx::array>& sinks,
                   const std::optional<mx::array>& slopes, int latent, const std::string& to) {
  layers_->may_change();
  steps::Attending s;
  s.q = layers_->read(q), s.dim = h.dim, s.step = h.step, s.rule = rule, s.sinks = sinks, s.slopes = slopes;
  if (h.dim <= 0 || h.step < h.dim || s.q.width % h.step) wrong("q must have a whole number of heads of dim values");
  const int heads = s.q.width / h.step;
  if (k) s.k = layers_->read(*k);
  if (v) s.v = layers_->read(*v);
  if (v && !k) wrong("values without keys");
  if (latent < 0 || latent > h.dim || (latent && v)) wrong("a latent value is the beginning of its key");
  if (k && !v && !latent) wrong("keys without values");
  for (const std::optional<Rows>* part : {&s.k, &s.v})
    if (*part && ((*part)->width % h.dim || heads % ((*part)->width / h.dim)))
      wrong("q must have a whole number of heads for each head of k and v");
  if (s.v && s.v->width != s.k->width) wrong("keys and values must have the same heads");
  s.q_norm = h.q_norm, s.k_norm = h.k_norm, s.v_norm = h.v_norm, s.after_rope = h.after_rope, s.clip = h.clip;
  s.scope = one_of<steps::Scope>(h.scope, {{"head", steps::Head}, {"each", steps::Each}, {"all", steps::All}}, "the scope of a norm");
  if (s.scope == steps::All && h.step != h.dim && h.q_norm) wrong("a norm of the whole row takes heads that lie together");
  if (h.k_norm_size < 0 || h.k_norm_size > h.dim || (h.k_norm_size && s.scope != steps::Head)) wrong("k_norm_size must be within a head");
  s.k_norm_size = h.k_norm_size;
  if (h.rope >= (int)layers_->ropes.size()) wrong("there is no such rope");
  if (h.rope >= 0) {
    const Rope& rope = layers_->ropes[h.rope];
    s.rope = h.rope, s.rope_at = h.rope_at, s.rope_half = rope.half, s.interleaved = rope.interleaved;
    if (h.rope_at < 0 || 2 * (int64_t)rope.half + h.rope_at > h.dim) wrong("freqs must be float32 (n,) with 2 n at most dim");
  }
  if (!h.temperature.empty()) {
    if (h.temperature.size() != 3 || !(h.temperature[1] > 0)) wrong("temperature must be beta, floor (above 0) and shift");
    s.beta = h.temperature[0], s.floor = h.temperature[1], s.shift = (int)h.temperature[2];
  }
  if (rule.window < 0 || rule.chunk < 0 || rule.softcap < 0) wrong("window, chunk and softcap must be 0 (none) or more");
  s.v_dim = latent ? latent : h.dim, s.place = (int)layers_->keeping.size();
  layers_->keeping.push_back({k ? s.k->width / h.dim : 0, h.dim, s.v_dim, heads, !latent});
  if (to == q) wrong("rows cannot be looked up where they lie");
  s.to = layers_->written(to, heads * s.v_dim);
  layers_->add(steps::attend(s));
}

void Stack::per_head(const std::string& source, const Packed& w, int carried, const std::string& to) {
  layers_->may_change();
  const Rows from = layers_->read(source);
  if (to == source) wrong("rows cannot be multiplied where they lie");
  if (!w.experts || carried < 0 || from.width != w.experts * (w.layout.cols + carried)) wrong("each head must have its matrix, and its inputs");
  layers_->add(steps::per_head(from, w, carried, layers_->written(to, w.experts * (w.layout.rows + carried))));
}

std::vector<mx::array> Stack::operator()(const mx::array& x, const std::optional<mx::array>& extra,
                                         const std::vector<const PagePlace*>& places, const std::vector<int>& groups,
                                         const std::vector<std::shared_ptr<const PagedBatch>>& batches,
                                         const std::vector<std::vector<int>>& tables,
                                         const std::vector<steps::AdaptedRows>& adapted, int wish, const std::vector<int>& counts,
                                         const std::vector<std::vector<std::optional<mx::array>>>& before,
                                         std::vector<std::vector<int32_t>> turns) {
  if (x.ndim() != 2 || x.shape(1) != layers_->width) wrong("x must be (rows, " + std::to_string(layers_->width) + ")");
  if (x.dtype() != mx::float32) wrong("x must be float32");
  if (extra.has_value() != (layers_->extra > 0)) wrong("extra rows go with a stack that was made for them");
  if (extra && (extra->ndim() < 2 || extra->shape(0) != x.shape(0) || extra->size() != (size_t)x.shape(0) * layers_->extra ||
                extra->dtype() != mx::float32))
    wrong("extra must be float32 (rows of x, " + std::to_string(layers_->extra) + ")");
  if (places.size() != layers_->keeping.size() || groups.size() != places.size()) wrong("places and groups must have one entry for each layer");
  auto told = std::make_shared<Told>();
  for (size_t i = 0; i < places.size(); i++) {
    const Keeping& own = layers_->keeping[i];
    if (!places[i] || groups[i] < 0 || (size_t)groups[i] >= batches.size() || !batches[groups[i]]) wrong("groups must name batches");
    const PagePlace& place = *places[i];
    const PagedBatch& batch = *batches[groups[i]];
    if ((own.heads && place.heads != own.heads) || own.q_heads % place.heads || place.dim != own.dim || place.v_dim != own.v_dim ||
        place.own_values != own.own_values)
      wrong("a place must keep the heads of its layer");
    if (batch.rows() != x.shape(0)) wrong("batches must have the rows of x");
    batch.check(place);
    told->places.push_back(place);
    told->batches.push_back(batches[groups[i]]);
  }
  if (!tables.empty() && tables.size() != layers_->ropes.size()) wrong("tables must have one entry for each rope");
  told->tables = tables;
  told->tables.resize(layers_->ropes.size());
  for (size_t i = 0; i < layers_->ropes.size(); i++) {
    const std::vector<int>& own = told->tables[i];
    if (!own.empty() && !told->batches.empty() && own.size() != told->batches[0]->count()) wrong("tables must have one for each sequence");
    for (int which : own)
      if (which < 0 || (size_t)which >= layers_->ropes[i].freqs.size()) wrong("tables must be of their rope");
  }
  for (const std::vector<int32_t>& axis : turns)
    if ((int)axis.size() != x.shape(0)) wrong("turns must have one entry for each row of x");
  for (const Rope& rope : layers_->ropes)
    for (int axis : rope.axes)
      if (!turns.empty() && (size_t)axis >= turns.size()) wrong("turns must have every coordinate that a rope turns by");
  told->turns = std::move(turns);
  layers_->check(adapted, x.shape(0));
  told->adapted = adapted;
  const Rows going = layers_->read(layers_->out);
  if (before.size() != layers_->states.size()) wrong("before must have one entry for each step that remembers");
  if (x.shape(0) == 0 && !before.empty()) wrong("a pass of steps that remember must have rows");
  if (x.shape(0) == 0) return {mx::zeros({0, going.width}, mx::float32, mx::Device::cpu)};
  std::vector<mx::array> inputs{x};
  if (extra) inputs.push_back(*extra);
  std::vector<int> states;  // which inputs
  std::vector<LeftPtr> after;
  if (!before.empty()) told->sequences = sequences_of(counts, x.shape(0));
  for (size_t step = 0; step < before.size(); step++) {
    const mx::Shape& shape = layers_->states[step];
    if (before[step].size() != told->sequences.size()) wrong("before must have one entry for each sequence");
    for (const std::optional<mx::array>& state : before[step]) {
      after.push_back(std::make_shared<Left>(Left{mx::array(shape, mx::float32, nullptr, {})}));
      states.push_back(state ? (int)inputs.size() : -1);
      if (!state) continue;
      if (state->dtype() != mx::float32 || state->shape() != shape) wrong("what a sequence remembers must be float32, of its step's shape");
      inputs.push_back(*state);
    }
  }
  const Precision precision = precision_of(wish);
  layers_->place();
  auto node = std::make_shared<StackStep>(layers_, going, std::move(told), precision, std::move(states), after);
  const mx::Shape rows{x.shape(0), going.width};
  if (after.empty()) return {mx::array(rows, mx::float32, node, std::move(inputs))};
  const auto made = mx::array::make_arrays({rows, {1}}, {mx::float32, mx::float32}, node, inputs);
  std::vector<mx::array> all{made[0]};
  for (LeftPtr& left : after) {
    const mx::Shape shape = left->state.shape();
    all.push_back(mx::array(shape, mx::float32, std::make_shared<LeftState>(std::move(left)), {made[1]}));
  }
  return all;
}
