#include "stack.h"

#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "primitive.h"
#include "project.h"

using linear::Precision;
using linear::Scratch;
using steps::Rows;
using steps::wrong;

namespace {

void check(const Packed& w, int inputs, const std::string& name, int experts = 0) {
  if (w.experts && !experts) wrong(name + " is a stack of experts; this takes one matrix");
  if (w.experts != experts) wrong(name + " must be a stack of " + std::to_string(experts));
  if (w.layout.cols != inputs) wrong(name + " must have " + std::to_string(inputs) + " inputs");
}

struct Rope {
  std::vector<steps::Floats> freqs;
  std::vector<float> scales;
  int half;
  bool interleaved;
};

// What a pass is told of the place where a step keeps or finds its keys.
struct Keeping {
  int heads, dim, v_dim, q_heads;
  bool own_values;
};

}  // namespace

struct Stack::Layers {
  std::vector<steps::StepPtr> all;
  std::vector<Rope> ropes;
  std::vector<Keeping> keeping;
  std::map<std::string, int> names;
  std::vector<int> widths, most;  // of each buffer: as it was written last, and at most
  int width = 0, extra = 0;
  std::string out;
  bool placed = false;

  Rows written(const std::string& name, int values) {
    if (values <= 0) wrong(name + " would have no values");
    const auto [at, is_new] = names.emplace(name, (int)widths.size());
    if (is_new) widths.push_back(0), most.push_back(0);
    if (name == "x" && values != width) wrong("x must stay " + std::to_string(width) + " values wide");
    if (name == "extra" && !is_new) wrong("extra comes from outside; no step writes it");
    widths[at->second] = values, most[at->second] = std::max(most[at->second], values);
    return {at->second, values};
  }
  Rows read(const std::string& name) const {
    const auto at = names.find(name);
    if (at == names.end()) wrong("no step before this one writes " + name);
    return {at->second, widths[at->second]};
  }
  std::optional<Rows> below(const std::optional<std::string>& name, int values) const {
    if (!name) return std::nullopt;
    const Rows found = read(*name);
    if (found.width != values) wrong(*name + " must have " + std::to_string(values) + " values, as many as are added");
    return found;
  }
  void add(steps::StepPtr step) { all.push_back(std::move(step)); }
  void may_change() const {
    if (placed) wrong("the stack is in use; its layers stay as they are");
  }

  // Weights may still be on their way from a file; once they are here they stay.
  void place() {
    if (placed) return;
    std::vector<mx::array> waited;
    for (const steps::StepPtr& step : all) step->gather(waited);
    for (const Rope& rope : ropes)
      for (const steps::Floats& freqs : rope.freqs) freqs.gather(waited);
    mx::eval(std::move(waited));
    placed = true;
  }
};

namespace {

// Where the keys of a pass lie, and how its sequences turn.
struct Told {
  std::vector<PagePlace> places;
  std::vector<std::shared_ptr<const PagedBatch>> batches;  // of each place
  std::vector<std::vector<int>> tables;                    // by rope and sequence
};

// What is computed when the node's turn comes.
struct Work {
  std::shared_ptr<Stack::Layers> layers;
  Rows going;  // out
  std::shared_ptr<const Told> told;
  RowsOf x;
  std::optional<View> extra;
  Precision precision;
  uint8_t* out;

  void operator()() const {
    Scratch scratch;
    steps::Pass pass{x.count, {}, {}, &told->places, &told->batches, precision};
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
        parts::angles_of(batch.positions[r], own.freqs[which].data(), own.half, own.scales[which], table + (size_t)r * own.half * 2);
      }
    });
    return table;
  }
};

class StackStep : public CpuPrimitive {
 public:
  StackStep(std::shared_ptr<Stack::Layers> layers, Rows going, std::shared_ptr<const Told> told, Precision precision)
      : layers_(std::move(layers)), going_(going), told_(std::move(told)), precision_(precision) {}
  const char* name() const override { return "mlxrun::Stack"; }

  // inputs: x, then extra where there is any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Work work{layers_, going_, told_, RowsOf(in[0]), std::nullopt, precision_, allocate(outs[0])};
    if (in.size() > 1) work.extra.emplace(in[1]);
    dispatch([work = std::move(work)] { work(); });
  }

 private:
  std::shared_ptr<Stack::Layers> layers_;
  Rows going_;
  std::shared_ptr<const Told> told_;
  Precision precision_;
};

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

int Stack::rope(const std::vector<RopeTable>& tables, bool interleaved) {
  layers_->may_change();
  if (tables.empty()) wrong("a rope has at least one table");
  Rope rope{{}, {}, 0, interleaved};
  for (const RopeTable& table : tables) {
    if (table.freqs.ndim() != 1 || table.freqs.dtype() != mx::float32 || table.freqs.size() == 0) wrong("freqs must be float32 (n,)");
    if (rope.half && rope.half != table.freqs.shape(0)) wrong("all tables of a rope have as many freqs");
    rope.half = table.freqs.shape(0);
    rope.freqs.emplace_back(table.freqs, rope.half, "freqs"), rope.scales.push_back(table.scale);
  }
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
                     const std::string& to) {
  layers_->may_change();
  const Rows from = layers_->read(gate);
  std::optional<Rows> with;
  if (up) with = layers_->read(*up);
  if (with && (up_at < 0 || up_at > with->width - from.width)) wrong("up must have as many values from up_at on as the gate");
  if (activation_of(act) == kernels::ClampedSwiglu && !up) wrong("act clamped_swiglu needs a gate");
  layers_->add(steps::activate(from, activation_of(act), with, up_at, layers_->written(to, from.width)));
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

mx::array Stack::operator()(const mx::array& x, const std::optional<mx::array>& extra, const std::vector<const PagePlace*>& places,
                            const std::vector<int>& groups, const std::vector<std::shared_ptr<const PagedBatch>>& batches,
                            const std::vector<std::vector<int>>& tables, int wish) {
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
  const Rows going = layers_->read(layers_->out);
  if (x.shape(0) == 0) return mx::zeros({0, going.width}, mx::float32, mx::Device::cpu);
  const Precision precision = precision_of(wish);
  layers_->place();
  std::vector<mx::array> inputs{x};
  if (extra) inputs.push_back(*extra);
  return mx::array({x.shape(0), going.width}, mx::float32, std::make_shared<StackStep>(layers_, going, std::move(told), precision),
                   std::move(inputs));
}
