// The experts of a layer as one node: each row goes through the experts it was sent to, and their answers
// are summed by weight. Rows are laid out by expert, so that an expert's weights are read once.
#include "nodes.h"

#include <algorithm>
#include <numeric>

#include "parts.h"
#include "primitive.h"
#include "project.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

// Which (row, choice) pairs an expert has: positions [first, first + count) of the layout.
struct Share {
  int expert, first, count;
};

// Pairs by expert; each expert's begin at a whole number of slots.
struct Layout {
  std::vector<Share> shares;
  std::vector<int32_t> row;  // of each position, -1 for none
  std::vector<float> weight;
  std::vector<int32_t> own;  // the position itself, -1 for none
  std::vector<bool> lost;    // rows that were sent to an expert that is not there

  Layout(const int32_t* ids, const float* weights, int rows, int choices, int experts) : lost(rows, false) {
    std::vector<int> count(experts, 0);
    for (int i = 0; i < rows * choices; i++) {
      if (ids[i] >= 0 && ids[i] < experts) count[ids[i]]++;
      else lost[i / choices] = true;
    }
    std::vector<int> next(experts, 0);
    int total = 0;
    for (int e = 0; e < experts; e++) {
      if (!count[e]) continue;
      shares.push_back({e, total, count[e]});
      next[e] = total;
      total += (count[e] + kSlots - 1) / kSlots * kSlots;
    }
    row.assign(total, -1), own.assign(total, -1), weight.assign(total, 0.0f);
    for (int i = 0; i < rows * choices; i++) {
      if (ids[i] < 0 || ids[i] >= experts) continue;
      const int at = next[ids[i]]++;
      row[at] = i / choices, own[at] = at, weight[at] = weights[i];
    }
  }
  int positions() const { return (int)row.size(); }
};

// One call of a layer's experts.
class Work {
 public:
  Work(const parts::Mixture& mixture, const Source& x, int count, const Layout& layout)
      : m_(mixture), x_(x), count_(count), layout_(layout) {}

  void run(float* sum) const {
    if (!layout_.shares.empty()) {
      Scratch scratch;
      const size_t wide = ((size_t)m_.up.rows + kBlock - 1) / kBlock * kBlock;
      float* hidden = scratch.take<float>((size_t)layout_.positions() * wide);
      inward(scratch, hidden, wide);
      outward(scratch, hidden, wide, sum);
    }
    const size_t cols = m_.down.rows;
    for (int r = 0; r < count_; r++)
      if (layout_.lost[r]) std::fill_n(sum + r * cols, cols, __builtin_nanf(""));
  }

 private:
  static Weight of(const Weight& w, size_t bytes, int expert) {
    Weight one = w;
    one.data += (size_t)expert * bytes;
    return one;
  }

  // hidden = act(gate . x) * (up . x), by position
  void inward(Scratch& scratch, float* hidden, size_t wide) const {
    const bool up_int = can_integer(m_.up, m_.precision), gate_int = m_.gated && can_integer(m_.gate, m_.precision);
    Source source = x_;
    source.pick = layout_.row.data(), source.gathered = true;
    const Input input = prepare(scratch, source, layout_.positions(), m_.up.cols, up_int || gate_int);
    const size_t rows = m_.up.rows;
    each_piece(units_of(m_.up), [&](const Share& share, size_t unit) {
      alignas(64) float g[kTileFloats], u[kTileFloats];
      for (int m0 = 0; m0 < share.count; m0 += kMostRows) {
        const int m = std::min(kMostRows, share.count - m0), at = share.first + m0;
        const int n = multiply(of(m_.up, m_.up_bytes, share.expert), unit, input, at, m, up_int, u);
        if (m_.up_bias) parts::add_bias(m_.up_bias + share.expert * rows, (int)rows, unit, n, m, u);
        if (m_.gated) {
          multiply(of(m_.gate, m_.gate_bytes, share.expert), unit, input, at, m, gate_int, g);
          if (m_.gate_bias) parts::add_bias(m_.gate_bias + share.expert * rows, (int)rows, unit, n, m, g);
        }
        best().activate(m_.act, m_.gated ? g : u, m_.gated ? u : nullptr, n * m * kRows, u);
        for (int p = 0; p < n; p++) {
          const size_t first = (unit * kUnit + p) * kRows, some = std::min<size_t>(kRows, wide - first);
          for (int r = 0; r < m; r++)
            std::memcpy(hidden + (at + r) * wide + first, u + (p * m + r) * kRows, some * sizeof(float));
        }
      }
    });
    for (int at : layout_.own)
      if (at >= 0 && rows < wide) std::memset(hidden + at * wide + rows, 0, (wide - rows) * sizeof(float));
  }

  // sum of a row += weight * (down . hidden), expert by expert, so that the order is always the same
  void outward(Scratch& scratch, const float* hidden, size_t wide, float* sum) const {
    const bool down_int = can_integer(m_.down, m_.precision);
    Source source{F32, reinterpret_cast<const uint8_t*>(hidden), wide};
    source.pick = layout_.own.data();
    const Input input = prepare(scratch, source, layout_.positions(), (int)wide, down_int);
    const size_t cols = m_.down.rows;
    pool::run((uint32_t)units_of(m_.down), [&](uint32_t unit) {
      alignas(64) float tile[kTileFloats];
      for (const Share& share : layout_.shares)
        for (int m0 = 0; m0 < share.count; m0 += kMostRows) {
          const int m = std::min(kMostRows, share.count - m0), at = share.first + m0;
          const int n = multiply(of(m_.down, m_.down_bytes, share.expert), unit, input, at, m, down_int, tile);
          if (m_.down_bias) parts::add_bias(m_.down_bias + share.expert * cols, (int)cols, unit, n, m, tile);
          for (int p = 0; p < n; p++) {
            const size_t first = (unit * kUnit + p) * kRows;
            const int some = (int)std::min<size_t>(kRows, cols - first);
            for (int r = 0; r < m; r++) {
              float* to = sum + layout_.row[at + r] * cols + first;
              for (int i = 0; i < some; i++) to[i] += layout_.weight[at + r] * tile[(p * m + r) * kRows + i];
            }
          }
        }
    });
  }

  // f(share, unit) for every unit of every expert in use, over the pool; a few units at a time.
  template <class F>
  void each_piece(size_t units, F&& f) const {
    const size_t all = layout_.shares.size() * units, step = std::max<size_t>(1, all / ((size_t)pool::threads() * 16));
    pool::run((uint32_t)((all + step - 1) / step), [&](uint32_t piece) {
      for (size_t i = piece * step; i < std::min(all, (piece + 1) * step); i++) f(layout_.shares[i / units], i % units);
    });
  }

  const parts::Mixture& m_;
  const Source& x_;
  int count_;
  const Layout& layout_;
};

class Experts : public CpuPrimitive {
 public:
  struct Plan {
    parts::Mixture mixture;
    int gate_bias = -1, up_bias = -1, down_bias = -1, residual = -1;  // which input
  };
  explicit Experts(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::Experts"; }

  // inputs: x, ids, weights, data of up, down [, gate], then biases and residual where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    parts::Mixture m = p_.mixture;
    m.up.data = in[3].data<uint8_t>(), m.down.data = in[4].data<uint8_t>();
    if (m.gated) m.gate.data = in[5].data<uint8_t>();
    dispatch([m, x = RowsOf(in[0]), ids = View(in[1]), weights = View(in[2]), gate = Vector(in, p_.gate_bias),
              up = Vector(in, p_.up_bias), down = Vector(in, p_.down_bias), residual = Vector(in, p_.residual),
              out = allocate(outs[0])]() mutable {
      if (x.count == 0) return;
      Scratch scratch;
      m.gate_bias = gate.floats(scratch), m.up_bias = up.floats(scratch), m.down_bias = down.floats(scratch);
      const size_t cols = m.down.rows, all = x.count * cols;
      float* sum = scratch.take<float>(all);
      if (const float* from = residual.floats(scratch)) std::memcpy(sum, from, all * sizeof(float));
      else std::memset(sum, 0, all * sizeof(float));
      parts::run(m, x.source(scratch), x.count, reinterpret_cast<const int32_t*>(ids.ordered(scratch)),
                 reinterpret_cast<const float*>(weights.ordered(scratch)), (int)(ids.size() / x.count), sum);
      best().narrow(x.type, sum, out, all);
    });
  }

 private:
  Plan p_;
};

void check_stack(const Packed& w, int experts, int rows, int cols, const char* name) {
  if (w.experts != experts || w.layout.rows != rows || w.layout.cols != cols)
    wrong(std::string(name) + " must be a stack (" + std::to_string(experts) + ", " + std::to_string(rows) + ", " +
          std::to_string(cols) + ")");
}

}  // namespace

void parts::run(const Mixture& mixture, const Source& x, int count, const int32_t* ids, const float* weights, int choices,
                float* sum) {
  const Layout layout(ids, weights, count, choices, mixture.experts);
  Work(mixture, x, count, layout).run(sum);
}

mx::array experts(const mx::array& x, const mx::array& ids, const mx::array& weights, const Packed* gate, const Packed& up,
                  const Packed& down, const std::string& act, const ExpertBiases& biases,
                  const std::optional<mx::array>& residual, int wish) {
  if (x.ndim() != 2) wrong("x must have 2 axes (rows, values)");
  type_of(x.dtype(), "x");
  if (ids.dtype() != mx::int32 || ids.ndim() != 2 || ids.shape(0) != x.shape(0)) wrong("ids must be int32 (rows of x, choices)");
  if (weights.dtype() != mx::float32 || weights.shape() != ids.shape()) wrong("weights must be float32 with the shape of ids");
  if (!up.experts || up.layout.cols != x.shape(1)) wrong("up must be a stack with as many inputs as x has values");
  const int count = up.experts, hidden = up.layout.rows;
  if (gate) check_stack(*gate, count, hidden, x.shape(1), "gate");
  check_stack(down, count, down.layout.rows, hidden, "down");
  Experts::Plan plan;
  parts::Mixture& m = plan.mixture;
  m.up = up.layout, m.down = down.layout, m.gated = gate != nullptr;
  m.up_bytes = up.expert_bytes(), m.down_bytes = down.expert_bytes();
  m.experts = count;
  m.act = activation_of(act);
  if (m.act == ClampedSwiglu && !gate) wrong("act clamped_swiglu needs a gate");
  m.precision = precision_of(wish);
  std::vector<mx::array> inputs{x, ids, weights, up.data, down.data};
  if (gate) m.gate = gate->layout, m.gate_bytes = gate->expert_bytes(), inputs.push_back(gate->data);
  auto add = [&](const std::optional<mx::array>& a, const mx::Shape& shape, const char* name) {
    if (!a) return -1;
    type_of(a->dtype(), name);
    if (a->shape() != shape) wrong(std::string(name) + " has the wrong shape");
    inputs.push_back(*a);
    return (int)inputs.size() - 1;
  };
  const mx::Shape shape{x.shape(0), down.layout.rows};
  if (biases.gate && !gate) wrong("a bias of the gate needs a gate");
  plan.gate_bias = add(biases.gate, {count, hidden}, "bias of the gate");
  plan.up_bias = add(biases.up, {count, hidden}, "bias of up");
  plan.down_bias = add(biases.down, {count, down.layout.rows}, "bias of down");
  plan.residual = add(residual, shape, "residual");
  return mx::array(shape, x.dtype(), std::make_shared<Experts>(plan), std::move(inputs));
}
