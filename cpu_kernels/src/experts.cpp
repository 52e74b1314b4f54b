// The experts of a layer as one node: each row goes through the experts it was sent to, and their answers
// are summed by weight. Rows are laid out by expert, so that an expert's weights are read once.
#include "nodes.h"

#include <algorithm>
#include <numeric>

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

class Experts : public CpuPrimitive {
 public:
  struct Plan {
    Weight gate, up, down;  // of one expert each
    size_t gate_bytes, up_bytes, down_bytes;
    bool gated;
    int gate_bias = -1, up_bias = -1, down_bias = -1, residual = -1;  // which input
    int experts;
    Activation act;
    Precision precision;
  };
  explicit Experts(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::Experts"; }

  // inputs: x, ids, weights, data of up, down [, gate], then biases and residual where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Work work{p_, RowsOf(in[0]), View(in[1]), View(in[2]), {}, {}, {}, {}, allocate(outs[0])};
    work.plan.up.data = in[3].data<uint8_t>();
    work.plan.down.data = in[4].data<uint8_t>();
    if (p_.gated) work.plan.gate.data = in[5].data<uint8_t>();
    auto add = [&](int at, Floats& to) {
      if (at >= 0) to.view.emplace(in[at]), to.type = type_of(in[at].dtype(), "bias");
    };
    add(p_.gate_bias, work.gate_bias), add(p_.up_bias, work.up_bias), add(p_.down_bias, work.down_bias);
    add(p_.residual, work.residual);
    dispatch([work = std::move(work)] { work.run(); });
  }

 private:
  struct Floats {
    std::optional<View> view;
    Type type = F32;
    const float* all(Scratch& scratch) const { return view ? floats_of(*view, type, scratch) : nullptr; }
  };

  struct Work {
    Plan plan;
    RowsOf x;
    View ids, weights;
    Floats gate_bias, up_bias, down_bias, residual;
    uint8_t* out;

    static Weight of(const Weight& w, size_t bytes, int expert) {
      Weight one = w;
      one.data += (size_t)expert * bytes;
      return one;
    }
    static void add_bias(const float* bias, int rows, size_t unit, int panels, int m, float* tile) {
      for (int p = 0; p < panels; p++) {
        const int first = (int)(unit * kUnit + p) * kRows, n = std::min(kRows, rows - first);
        for (int r = 0; r < m; r++)
          for (int i = 0; i < n; i++) tile[(p * m + r) * kRows + i] += bias[first + i];
      }
    }

    void run() const {
      if (x.count == 0) return;
      Scratch scratch;
      const int choices = (int)(ids.size() / x.count), cols = plan.down.rows;
      const Layout layout(reinterpret_cast<const int32_t*>(ids.ordered(scratch)),
                          reinterpret_cast<const float*>(weights.ordered(scratch)), x.count, choices, plan.experts);
      float* sum = scratch.take<float>((size_t)x.count * cols);
      if (const float* from = residual.all(scratch)) std::memcpy(sum, from, (size_t)x.count * cols * 4);
      else std::memset(sum, 0, (size_t)x.count * cols * 4);
      if (!layout.shares.empty()) {
        const size_t wide = ((size_t)plan.up.rows + kBlock - 1) / kBlock * kBlock;
        float* hidden = scratch.take<float>((size_t)layout.positions() * wide);
        inward(scratch, layout, hidden, wide);
        outward(scratch, layout, hidden, wide, sum);
      }
      for (int r = 0; r < x.count; r++) {
        if (layout.lost[r]) std::fill_n(sum + (size_t)r * cols, cols, __builtin_nanf(""));
        best().narrow(x.type, sum + (size_t)r * cols, out + (size_t)r * cols * size_of(x.type), cols);
      }
    }

    // hidden = act(gate . x) * (up . x), by position
    void inward(Scratch& scratch, const Layout& layout, float* hidden, size_t wide) const {
      const bool up_int = can_integer(plan.up, plan.precision);
      const bool gate_int = plan.gated && can_integer(plan.gate, plan.precision);
      Source source = x.source(scratch);
      source.pick = layout.row.data(), source.gathered = true;
      const Input input = prepare(scratch, source, layout.positions(), x.cols, up_int || gate_int);
      const float *gate_add = gate_bias.all(scratch), *up_add = up_bias.all(scratch);
      const size_t units = units_of(plan.up), rows = plan.up.rows;
      each_piece(layout, units, [&](const Share& share, size_t unit) {
        alignas(64) float g[kTileFloats], u[kTileFloats];
        for (int m0 = 0; m0 < share.count; m0 += kMostRows) {
          const int m = std::min(kMostRows, share.count - m0), at = share.first + m0;
          const int n = multiply(of(plan.up, plan.up_bytes, share.expert), unit, input, at, m, up_int, u);
          if (up_add) add_bias(up_add + share.expert * rows, (int)rows, unit, n, m, u);
          if (plan.gated) {
            multiply(of(plan.gate, plan.gate_bytes, share.expert), unit, input, at, m, gate_int, g);
            if (gate_add) add_bias(gate_add + share.expert * rows, (int)rows, unit, n, m, g);
          }
          best().activate(plan.act, plan.gated ? g : u, plan.gated ? u : nullptr, n * m * kRows, u);
          for (int p = 0; p < n; p++) {
            const size_t first = (unit * kUnit + p) * kRows, some = std::min<size_t>(kRows, wide - first);
            for (int r = 0; r < m; r++)
              std::memcpy(hidden + (at + r) * wide + first, u + (p * m + r) * kRows, some * sizeof(float));
          }
        }
      });
      for (int at : layout.own)
        if (at >= 0 && rows < wide) std::memset(hidden + at * wide + rows, 0, (wide - rows) * sizeof(float));
    }

    // sum of a row += weight * (down . hidden), expert by expert, so that the order is always the same
    void outward(Scratch& scratch, const Layout& layout, const float* hidden, size_t wide, float* sum) const {
      const bool down_int = can_integer(plan.down, plan.precision);
      Source source{F32, reinterpret_cast<const uint8_t*>(hidden), wide};
      source.pick = layout.own.data();
      const Input input = prepare(scratch, source, layout.positions(), (int)wide, down_int);
      const float* add = down_bias.all(scratch);
      const size_t cols = plan.down.rows;
      pool::run((uint32_t)units_of(plan.down), [&](uint32_t unit) {
        alignas(64) float tile[kTileFloats];
        for (const Share& share : layout.shares)
          for (int m0 = 0; m0 < share.count; m0 += kMostRows) {
            const int m = std::min(kMostRows, share.count - m0), at = share.first + m0;
            const int n = multiply(of(plan.down, plan.down_bytes, share.expert), unit, input, at, m, down_int, tile);
            if (add) add_bias(add + share.expert * cols, (int)cols, unit, n, m, tile);
            for (int p = 0; p < n; p++) {
              const size_t first = (unit * kUnit + p) * kRows;
              const int some = (int)std::min<size_t>(kRows, cols - first);
              for (int r = 0; r < m; r++) {
                float* to = sum + layout.row[at + r] * cols + first;
                for (int i = 0; i < some; i++) to[i] += layout.weight[at + r] * tile[(p * m + r) * kRows + i];
              }
            }
          }
      });
    }

    // f(share, unit) for every unit of every expert in use, over the pool; a few units at a time.
    template <class F>
    static void each_piece(const Layout& layout, size_t units, F&& f) {
      const size_t all = layout.shares.size() * units, step = std::max<size_t>(1, all / ((size_t)pool::threads() * 16));
      pool::run((uint32_t)((all + step - 1) / step), [&](uint32_t piece) {
        for (size_t i = piece * step; i < std::min(all, (piece + 1) * step); i++) f(layout.shares[i / units], i % units);
      });
    }
  };

  Plan p_;
};

void check_stack(const Packed& w, int experts, int rows, int cols, const char* name) {
  if (w.experts != experts || w.layout.rows != rows || w.layout.cols != cols)
    wrong(std::string(name) + " must be a stack (" + std::to_string(experts) + ", " + std::to_string(rows) + ", " +
          std::to_string(cols) + ")");
}

}  // namespace

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
  Experts::Plan plan{};
  plan.up = up.layout, plan.down = down.layout, plan.gated = gate != nullptr;
  plan.up_bytes = up.expert_bytes(), plan.down_bytes = down.expert_bytes();
  plan.experts = count;
  plan.act = activation_of(act);
  if (plan.act == ClampedSwiglu && !gate) wrong("act clamped_swiglu needs a gate");
  plan.precision = precision_of(wish);
  std::vector<mx::array> inputs{x, ids, weights, up.data, down.data};
  if (gate) plan.gate = gate->layout, plan.gate_bytes = gate->expert_bytes(), inputs.push_back(gate->data);
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
