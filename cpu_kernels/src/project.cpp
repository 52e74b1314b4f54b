// Products with packed weights: y_i = norm(x) . w_i^T + b_i for several weights at once, a whole
// feed-forward network, and rows of a packed table.
#include "project.h"

#include <atomic>

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

// tile (m, 16) + bias + residual -> rows of the output
void put_tile(const float* tile, int m, size_t panel, int cols, const float* bias, Type type, uint8_t* out, size_t ldo) {
  const Table& t = best();
  const int first = (int)panel * kRows, n = std::min(kRows, cols - first);
  float sum[kRows];
  for (int r = 0; r < m; r++) {
    const float* from = tile + r * kRows;
    if (bias) {
      for (int i = 0; i < n; i++) sum[i] = from[i] + bias[first + i];
      from = sum;
    }
    t.narrow(type, from, out + (r * ldo + first) * size_of(type), n);
  }
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
    struct Out {
      Weight w;
      uint8_t* data;
      std::optional<View> bias;
      Type bias_type;
    };
    std::vector<Out> targets;
    for (size_t i = 0; i < parts_.size(); i++) {
      Weight w = parts_[i].w;
      w.data = in[1 + i].data<uint8_t>();
      Out out{w, allocate(outs[i]), std::nullopt, F32};
      if (parts_[i].bias >= 0) {
        out.bias.emplace(in[parts_[i].bias]);
        out.bias_type = type_of(in[parts_[i].bias].dtype(), "bias");
      }
      targets.push_back(std::move(out));
    }
    std::optional<View> norm, residual;
    Type norm_type = F32;
    if (norm_ >= 0) norm.emplace(in[norm_]), norm_type = type_of(in[norm_].dtype(), "norm");
    if (residual_ >= 0) residual.emplace(in[residual_]);
    dispatch([x = RowsOf(in[0]), targets = std::move(targets), norm, norm_type, residual, eps = eps_, precision = precision_] {
      Scratch scratch;
      Source source = x.source(scratch);
      if (norm) source.normed = true, source.norm = floats_of(*norm, norm_type, scratch), source.eps = eps;
      bool integer = false, panels = false;
      for (const Out& o : targets) integer |= can_integer(o.w, precision), panels |= o.w.rows > 0;
      if (!panels || x.count == 0) return;
      const Input input = prepare(scratch, source, x.count, x.cols, integer);
      std::vector<const float*> biases;
      size_t all = 0, bytes = 1;
      for (const Out& o : targets) {
        biases.push_back(o.bias ? floats_of(*o.bias, o.bias_type, scratch) : nullptr);
        all += units_of(o.w);
        bytes = std::max(bytes, o.w.panel_bytes);
      }
      const uint8_t* added = residual ? residual->ordered(scratch) : nullptr;
      each_unit(all, bytes, x.count, row_bytes(input, x.cols), [&](size_t unit, int m0, int m) {
        size_t i = 0;
        for (; unit >= units_of(targets[i].w); i++) unit -= units_of(targets[i].w);
        const Out& o = targets[i];
        alignas(64) float tile[kTileFloats];
        const int panels = multiply(o.w, unit, input, m0, m, input.integer && can_integer(o.w, precision), tile);
        const size_t at = (size_t)m0 * o.w.rows * size_of(x.type);
        for (int p = 0; p < panels; p++) {
          const size_t panel = unit * kUnit + p;
          float* part = tile + (size_t)p * m * kRows;
          if (added) add_rows(added + at, x.type, part, m, panel, o.w.rows);
          put_tile(part, m, panel, o.w.rows, biases[i], x.type, o.data + at, o.w.rows);
        }
      });
    });
  }

  static void add_rows(const uint8_t* from, Type type, float* tile, int m, size_t panel, int cols) {
    const int first = (int)panel * kRows, n = std::min(kRows, cols - first);
    float row[kRows];
    for (int r = 0; r < m; r++) {
      best().widen(type, from + ((size_t)r * cols + first) * size_of(type), row, n);
      for (int i = 0; i < n; i++) tile[r * kRows + i] += row[i];
    }
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
    std::optional<View> norm;
    Type norm_type = F32;
    if (norm_ >= 0) norm.emplace(in[norm_]), norm_type = type_of(in[norm_].dtype(), "norm");
    dispatch([this_act = act_, x = RowsOf(in[0]), w = std::move(w), out, norm, norm_type, gated = gated_,
              residual = residual_, eps = eps_, precision = precision_] {
      Scratch scratch;
      Source source = x.source(scratch);
      if (norm) source.normed = true, source.norm = floats_of(*norm, norm_type, scratch), source.eps = eps;
      // a bounded number of rows at a time, so that the hidden rows do not outgrow the caches by much
      constexpr int kStep = 512;
      for (int first = 0; first < x.count; first += kStep) {
        Scratch inner;
        Source part = source;
        part.data += (size_t)first * source.stride * size_of(x.type);
        run(inner, part, std::min(kStep, x.count - first), w, gated, residual, this_act, precision,
            out + (size_t)first * w.back().rows * size_of(x.type));
      }
    });
  }

 private:
  static void run(Scratch& scratch, const Source& x, int rows, const std::vector<Weight>& w, bool gated, bool residual,
                  Activation act, Precision precision, uint8_t* out) {
    const Weight &up = w[w.size() - 2], &down = w.back();
    const Weight& gate = w[0];
    const bool up_int = can_integer(up, precision), gate_int = can_integer(gate, precision);
    const Input input = prepare(scratch, x, rows, up.cols, up_int || gate_int);
    const size_t wide = ((size_t)up.rows + kBlock - 1) / kBlock * kBlock;
    float* hidden = scratch.take<float>((size_t)rows * wide);
    const size_t panels = panels_of(up);
    each_unit(units_of(up), up.panel_bytes * (gated ? 2 : 1), rows, row_bytes(input, up.cols), [&](size_t unit, int m0, int m) {
      alignas(64) float g[kTileFloats], u[kTileFloats];
      const int n = multiply(up, unit, input, m0, m, up_int, u);
      if (gated) multiply(gate, unit, input, m0, m, gate_int, g);
      best().activate(act, gated ? g : u, gated ? u : nullptr, n * m * kRows, u);
      for (int p = 0; p < n; p++)
        for (int r = 0; r < m; r++)
          std::memcpy(hidden + (m0 + r) * wide + (unit * kUnit + p) * kRows, u + (p * m + r) * kRows, kRows * sizeof(float));
    });
    if (panels * kRows < wide)
      for (int r = 0; r < rows; r++) std::memset(hidden + r * wide + panels * kRows, 0, (wide - panels * kRows) * 4);
    // the rows past the last of a panel are zeros in the packed weight, so act(0) * 0 = 0 stands there
    const bool down_int = can_integer(down, precision);
    const Source h{F32, reinterpret_cast<const uint8_t*>(hidden), wide};
    const Input second = prepare(scratch, h, rows, (int)wide, down_int);
    each_unit(units_of(down), down.panel_bytes, rows, row_bytes(second, (int)wide), [&](size_t unit, int m0, int m) {
      alignas(64) float tile[kTileFloats];
      const int n = multiply(down, unit, second, m0, m, down_int, tile);
      for (int p = 0; p < n; p++) {
        const size_t panel = unit * kUnit + p;
        float* part = tile + (size_t)p * m * kRows;
        if (residual) add_strided(x, m0, part, m, panel, down.rows);
        put_tile(part, m, panel, down.rows, nullptr, x.type, out + (size_t)m0 * down.rows * size_of(x.type), down.rows);
      }
    });
  }

  static void add_strided(const Source& x, int m0, float* tile, int m, size_t panel, int cols) {
    const int first = (int)panel * kRows, n = std::min(kRows, cols - first);
    float row[kRows];
    for (int r = 0; r < m; r++) {
      best().widen(x.type, x.data + ((m0 + r) * x.stride + first) * size_of(x.type), row, n);
      for (int i = 0; i < n; i++) tile[r * kRows + i] += row[i];
    }
  }

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
  for (int i = 0; i < 6; i++)
    if (name == names[i]) return static_cast<Activation>(i);
  wrong("act must be silu, gelu, gelu_tanh, relu, relu2 or clamped_swiglu, not '" + name + "'");
}
