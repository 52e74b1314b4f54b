// Products with packed weights: y_i = norm(x) . w_i^T + b_i for several weights at once, a whole
// feed-forward network, and rows of a packed table.
#include "project.h"

#include <atomic>
#include <iterator>

#include "parts.h"
#include "primitive.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

void check_inputs(const mx::array& x, const Packed& w, const std::string& name) {
  if (w.experts) wrong(name + " is a stack of experts; this takes one matrix");
  if (x.ndim() == 0 || x.shape(-1) != w.layout.cols)
    wrong("x must have " + std::to_string(w.layout.cols) + " values in its last axis, as many as " + name + " has inputs");
}

void check_vector(const mx::array& v, int size, const char* name) {
  type_of(v.dtype(), name);
  if (v.ndim() != 1 || v.shape(0) != size) wrong(std::string(name) + " must have shape (" + std::to_string(size) + ",)");
}

class Project : public CpuPrimitive {
 public:
  struct Part {
    Weight w;
    int bias;  // which input, or -1
  };
  Project(std::vector<Part> parts, int norm, float eps, int residual, Precision precision)
      : parts_(std::move(parts)), norm_(norm), residual_(residual), eps_(eps), precision_(precision) {}

  const char* name() const override { return "mlxrun::Project"; }

  // inputs: x, the weights' data, then norm, biases and residual where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    std::vector<parts::Product> products;
    std::vector<Vector> biases;
    for (size_t i = 0; i < parts_.size(); i++) {
      Weight w = parts_[i].w;
      w.data = in[1 + i].data<uint8_t>();
      products.push_back({w, allocate(outs[i]), nullptr});
      biases.emplace_back(in, parts_[i].bias);
    }
    std::optional<View> residual;
    if (residual_ >= 0) residual.emplace(in[residual_]);
    dispatch([x = RowsOf(in[0]), products = std::move(products), biases = std::move(biases), norm = Vector(in, norm_), residual,
              eps = eps_, precision = precision_]() mutable {
      Scratch scratch;
      for (size_t i = 0; i < products.size(); i++) products[i].bias = biases[i].floats(scratch);
      parts::run(products, normed(x.source(scratch), norm.floats(scratch), eps), x.count, x.cols,
                 residual ? residual->ordered(scratch) : nullptr, precision);
    });
  }

 private:
  std::vector<Part> parts_;
  int norm_, residual_;
  float eps_;
  Precision precision_;
};

class FeedForward : public CpuPrimitive {
 public:
  FeedForward(std::vector<Weight> w, bool gated, bool residual, int norm, float eps, Activation act, Precision precision)
      : w_(std::move(w)), gated_(gated), residual_(residual), norm_(norm), eps_(eps), act_(act), precision_(precision) {}

  const char* name() const override { return "mlxrun::FeedForward"; }

  // inputs: x, data of [gate,] up, down, then the norm's weight where there is one
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    std::vector<Weight> w = w_;
    for (size_t i = 0; i < w.size(); i++) w[i].data = in[1 + i].data<uint8_t>();
    uint8_t* out = allocate(outs[0]);
    dispatch([layer = parts::FeedForward{std::move(w), gated_, act_, precision_}, x = RowsOf(in[0]), norm = Vector(in, norm_),
              eps = eps_, residual = residual_, out] {
      Scratch scratch;
      const Source source = x.source(scratch);
      parts::run(layer, normed(source, norm.floats(scratch), eps), x.count, residual ? &source : nullptr, out);
    });
  }

 private:
  std::vector<Weight> w_;
  bool gated_, residual_;
  int norm_;
  float eps_;
  Activation act_;
  Precision precision_;
};

class TableRows : public CpuPrimitive {
 public:
  TableRows(Weight w, Type type) : w_(w), type_(type) {}
  const char* name() const override { return "mlxrun::TableRows"; }

  // inputs: ids (int32), the table's data. An id outside the table gives a row of NaN.
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Weight w = w_;
    w.data = in[1].data<uint8_t>();
    dispatch([w, ids = View(in[0]), type = type_, out = allocate(outs[0])] {
      Scratch scratch;
      const auto* id = reinterpret_cast<const int32_t*>(ids.ordered(scratch));
      const size_t n = ids.size(), step = std::max<size_t>(1, 8192 / w.cols);
      pool::run((uint32_t)((n + step - 1) / step), [&](uint32_t i) {
        Scratch mine;
        float* row = mine.take<float>(w.cols);
        for (size_t r = i * step; r < std::min(n, (i + 1) * step); r++) {
          if (id[r] >= 0 && id[r] < w.rows) best().unpack_row(w, id[r], row);
          else std::fill(row, row + w.cols, __builtin_nanf(""));
          best().narrow(type, row, out + r * w.cols * size_of(type), w.cols);
        }
      });
    });
  }

 private:
  Weight w_;
  Type type_;
};

std::atomic<int> default_precision{Fast};

}  // namespace

linear::Precision precision_of(int wish) {
  if (wish == -1) wish = default_precision.load(std::memory_order_relaxed);
  if (wish < 0 || wish > 1) wrong("precision must be 0 (exact), 1 (fast) or -1 (the setting)");
  return static_cast<Precision>(wish);
}

void set_default_precision(int wish) { default_precision.store(precision_of(wish), std::memory_order_relaxed); }

std::vector<mx::array> project(const mx::array& x, const std::vector<const Packed*>& weights,
                               const std::vector<std::optional<mx::array>>& biases, const std::optional<mx::array>& norm,
                               float eps, const std::optional<mx::array>& residual, int wish) {
  const Precision precision = precision_of(wish);
  type_of(x.dtype(), "x");
  if (weights.empty()) wrong("weights is empty");
  if (!biases.empty() && biases.size() != weights.size()) wrong("biases must have one entry for each weight");
  std::vector<mx::array> inputs{x};
  std::vector<Project::Part> parts;
  std::vector<mx::Shape> shapes;
  for (const Packed* w : weights) {
    if (!w) wrong("weights has None in it");
    check_inputs(x, *w, "the weight");
    inputs.push_back(w->data);
    parts.push_back({w->layout, -1});
    shapes.push_back(x.shape());
    shapes.back().back() = w->layout.rows;
  }
  int norm_at = -1, residual_at = -1;
  if (norm) {
    check_vector(*norm, x.shape(-1), "norm");
    norm_at = (int)inputs.size();
    inputs.push_back(*norm);
  }
  for (size_t i = 0; i < biases.size(); i++) {
    if (!biases[i]) continue;
    check_vector(*biases[i], weights[i]->layout.rows, "bias");
    parts[i].bias = (int)inputs.size();
    inputs.push_back(*biases[i]);
  }
  if (residual) {
    if (weights.size() != 1) wrong("residual goes with one weight, not several");
    if (residual->shape() != shapes[0] || residual->dtype() != x.dtype()) wrong("residual must have the shape of the result and the type of x");
    residual_at = (int)inputs.size();
    inputs.push_back(*residual);
  }
  const std::vector<mx::Dtype> types(weights.size(), x.dtype());
  auto primitive = std::make_shared<Project>(std::move(parts), norm_at, eps, residual_at, precision);
  if (weights.size() == 1) return {mx::array(shapes[0], x.dtype(), primitive, std::move(inputs))};
  return mx::array::make_arrays(std::move(shapes), types, primitive, inputs);
}

mx::array feed_forward(const mx::array& x, const Packed* gate, const Packed& up, const Packed& down, const std::string& act,
                       const std::optional<mx::array>& norm, float eps, bool residual, int wish) {
  const Precision precision = precision_of(wish);
  type_of(x.dtype(), "x");
  if (gate) check_inputs(x, *gate, "gate");
  check_inputs(x, up, "up");
  if (gate && gate->layout.rows != up.layout.rows) wrong("gate and up must have the same number of rows");
  if (down.experts || down.layout.cols != up.layout.rows) wrong("down must have as many inputs as up has rows");
  if (residual && down.layout.rows != x.shape(-1)) wrong("residual needs a down with as many rows as x has values");
  const Activation kind = activation_of(act);
  if (kind == ClampedSwiglu && !gate) wrong("act clamped_swiglu needs a gate");
  std::vector<mx::array> inputs{x};
  std::vector<Weight> weights;
  for (const Packed* w : {gate, &up, &down}) {
    if (!w) continue;
    inputs.push_back(w->data);
    weights.push_back(w->layout);
  }
  int norm_at = -1;
  if (norm) {
    check_vector(*norm, x.shape(-1), "norm");
    norm_at = (int)inputs.size();
    inputs.push_back(*norm);
  }
  mx::Shape shape = x.shape();
  shape.back() = down.layout.rows;
  return mx::array(shape, x.dtype(),
                   std::make_shared<FeedForward>(std::move(weights), gate != nullptr, residual, norm_at, eps, kind, precision),
                   std::move(inputs));
}

mx::array table_rows(const mx::array& ids, const Packed& table, mx::Dtype dtype) {
  if (table.experts) wrong("table is a stack of experts; this takes one matrix");
  if (ids.dtype() != mx::int32) wrong("ids must be int32");
  mx::Shape shape = ids.shape();
  shape.push_back(table.layout.cols);
  return mx::array(shape, dtype, std::make_shared<TableRows>(table.layout, type_of(dtype, "dtype")), {ids, table.data});
}

kernels::Activation activation_of(const std::string& name) {
  const char* const names[] = {"silu", "gelu", "gelu_tanh", "relu", "relu2", "clamped_swiglu"};
  for (size_t i = 0; i < std::size(names); i++)
    if (name == names[i]) return static_cast<Activation>(i);
  wrong("act must be silu, gelu, gelu_tanh, relu, relu2 or clamped_swiglu, not '" + name + "'");
}
