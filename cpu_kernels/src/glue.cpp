// Norms, rotary positions, and the front of an attention layer as one node.
#include "nodes.h"

#include <cmath>

#include "primitive.h"
#include "project.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

void check_vector(const mx::array& v, int size, const char* name) {
  type_of(v.dtype(), name);
  if (v.ndim() != 1 || v.shape(0) != size) wrong(std::string(name) + " must have shape (" + std::to_string(size) + ",)");
}

// An optional vector input, read as float32 when the work runs.
struct Vector {
  std::optional<View> view;
  Type type = F32;

  Vector(const std::vector<mx::array>& in, int at) {
    if (at < 0) return;
    view.emplace(in[at]);
    type = type_of(in[at].dtype(), "vector");
  }
  const float* floats(Scratch& scratch) const { return view ? floats_of(*view, type, scratch) : nullptr; }
};

// cos and sin of position / frequency, (rows, dims / 2, 2). Layers of one pass ask for the same ones,
// so the last table is kept.
class Angles {
 public:
  const float* of(const int32_t* positions, int count, const float* freqs, int half, float scale) {
    const bool same = scale == scale_ && positions_.size() == (size_t)count && freqs_.size() == (size_t)half &&
                      std::memcmp(positions_.data(), positions, count * 4) == 0 &&
                      std::memcmp(freqs_.data(), freqs, half * 4) == 0;
    if (same) return table_.data();
    scale_ = scale;
    positions_.assign(positions, positions + count);
    freqs_.assign(freqs, freqs + half);
    table_.resize((size_t)count * half * 2);
    pool::run((count + 15) / 16, [&](uint32_t piece) {
      for (int r = piece * 16; r < std::min<int>(count, piece * 16 + 16); r++)
        for (int i = 0; i < half; i++) {
          const double angle = (double)positions[r] / freqs[i];
          table_[((size_t)r * half + i) * 2] = (float)(std::cos(angle) * scale);
          table_[((size_t)r * half + i) * 2 + 1] = (float)(std::sin(angle) * scale);
        }
    });
    return table_.data();
  }

 private:
  std::vector<int32_t> positions_;
  std::vector<float> freqs_, table_;
  float scale_ = 0;
};

const float* angles(const int32_t* positions, int count, const float* freqs, int half, float scale) {
  static thread_local Angles kept;
  return kept.of(positions, count, freqs, half, scale);
}

void rotate(float* x, const float* table, int half, bool interleaved) {
  for (int i = 0; i < half; i++) {
    float &a = interleaved ? x[2 * i] : x[i], &b = interleaved ? x[2 * i + 1] : x[half + i];
    const float c = table[2 * i], s = table[2 * i + 1], was = a;
    a = was * c - b * s;
    b = was * s + b * c;
  }
}

class RmsNorm : public CpuPrimitive {
 public:
  RmsNorm(float eps, bool weight) : eps_(eps), weight_(weight) {}
  const char* name() const override { return "mlxrun::RmsNorm"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    dispatch([x = RowsOf(in[0]), w = Vector(in, weight_ ? 1 : -1), out = allocate(outs[0]), type = type_of(outs[0].dtype(), "x"),
              eps = eps_] {
      if (x.count == 0) return;
      Scratch scratch;
      const float* weight = w.floats(scratch);
      const Source source = x.source(scratch);
      const int step = std::max(1, 16384 / x.cols);
      pool::run((x.count + step - 1) / step, [&](uint32_t piece) {
        Scratch mine;
        float* row = mine.take<float>(x.cols);
        for (int r = piece * step; r < std::min<int>(x.count, (piece + 1) * step); r++) {
          best().widen(x.type, source.data + r * source.stride * size_of(x.type), row, x.cols);
          best().rms_norm(row, weight, eps, x.cols, row);
          best().narrow(type, row, out + (size_t)r * x.cols * size_of(type), x.cols);
        }
      });
    });
  }

 private:
  float eps_;
  bool weight_;
};

// Rows (T, heads, D) in memory, shown as (1, heads, T, D).
void folded(mx::array& out) {
  const int64_t h = out.shape(1), t = out.shape(2), d = out.shape(3);
  mx::array::Flags flags{true, h == 1 || t == 1, false};
  flags.col_contiguous = out.size() <= 1;
  out.set_data(mx::allocator::malloc(out.nbytes()), out.size(), {t * h * d, d, h * d, 1}, flags);
}

class HeadsOf : public CpuPrimitive {
 public:
  struct Plan {
    std::vector<Weight> w;       // q [, k [, v]]
    int biases[3] = {-1, -1, -1};
    int norm = -1, q_norm = -1, k_norm = -1, positions = -1, freqs = -1;
    float eps = 0, head_eps = 0, rope_scale = 1;
    int dim = 0, rope_dims = 0;
    bool interleaved = false, one_sequence = true;
    Type kept = F32;             // of k and v
    Precision precision = Fast;
  };
  explicit HeadsOf(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::HeadsOf"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Work work{p_, RowsOf(in[0]), Vector(in, p_.norm), Vector(in, p_.q_norm), Vector(in, p_.k_norm), Vector(in, p_.freqs), {}, {}, {}};
    if (p_.positions >= 0) work.positions.emplace(in[p_.positions]);
    for (size_t i = 0; i < p_.w.size(); i++) {
      work.plan.w[i].data = in[1 + i].data<uint8_t>();
      work.biases.emplace_back(in, p_.biases[i]);
      if (p_.one_sequence) folded(outs[i]);
      else outs[i].set_data(mx::allocator::malloc(outs[i].nbytes()));
      work.outs.push_back(outs[i].data<uint8_t>());
    }
    dispatch([work = std::move(work)] { work.run(); });
  }

 private:
  struct Work {
    Plan plan;
    RowsOf x;
    Vector norm, q_norm, k_norm, freqs;
    std::optional<View> positions;
    std::vector<Vector> biases;
    std::vector<uint8_t*> outs;

    void run() const {
      Scratch scratch;
      const int count = x.count;
      if (count == 0) return;
      Source source = x.source(scratch);
      if (norm.view) source.normed = true, source.norm = norm.floats(scratch), source.eps = plan.eps;
      bool integer = false;
      size_t all = 0, wide = 0, bytes = 1;
      std::vector<size_t> starts, first_unit;
      std::vector<const float*> bias;
      for (size_t i = 0; i < plan.w.size(); i++) {
        const Weight& w = plan.w[i];
        integer |= can_integer(w, plan.precision);
        starts.push_back(wide);
        bias.push_back(biases[i].floats(scratch));
        wide += (w.rows + kRows - 1) / kRows * kRows;
        first_unit.push_back(all);
        all += units_of(w);
        bytes = std::max(bytes, w.panel_bytes);
      }
      const Input input = prepare(scratch, source, count, x.cols, integer);
      float* rows = scratch.take<float>((size_t)count * wide);
      each_unit(all, bytes, count, row_bytes(input, x.cols), [&](size_t unit, int m0, int m) {
        size_t i = plan.w.size() - 1;
        while (first_unit[i] > unit) i--;
        unit -= first_unit[i];
        alignas(64) float tile[kTileFloats];
        const int n = multiply(plan.w[i], unit, input, m0, m, input.integer && can_integer(plan.w[i], plan.precision), tile);
        for (int p = 0; p < n; p++)
          for (int r = 0; r < m; r++)
            std::memcpy(rows + (m0 + r) * wide + starts[i] + (unit * kUnit + p) * kRows, tile + (p * m + r) * kRows,
                        kRows * sizeof(float));
      });
      const float* table = nullptr;
      if (plan.rope_dims)
        table = angles(reinterpret_cast<const int32_t*>(positions->ordered(scratch)), count, freqs.floats(scratch),
                       plan.rope_dims / 2, plan.rope_scale);
      const float* head_norms[3] = {q_norm.floats(scratch), k_norm.floats(scratch), nullptr};
      const bool normed[3] = {(bool)q_norm.view, (bool)k_norm.view, false};
      const int step = std::max(1, (int)(8192 / wide));
      pool::run((count + step - 1) / step, [&](uint32_t piece) {
        for (int r = piece * step; r < std::min<int>(count, (piece + 1) * step); r++)
          for (size_t i = 0; i < plan.w.size(); i++) {
            float* row = rows + r * wide + starts[i];
            const Weight& w = plan.w[i];
            if (bias[i])
              for (int j = 0; j < w.rows; j++) row[j] += bias[i][j];
            for (int h = 0; h < w.rows; h += plan.dim) {
              if (normed[i]) best().rms_norm(row + h, head_norms[i], plan.head_eps, plan.dim, row + h);
              if (i < 2 && table) rotate(row + h, table + (size_t)r * plan.rope_dims, plan.rope_dims / 2, plan.interleaved);
            }
            const Type type = i == 0 ? x.type : plan.kept;
            best().narrow(type, row, outs[i] + (size_t)r * w.rows * size_of(type), w.rows);
          }
      });
    }
  };

  Plan p_;
};

}  // namespace

mx::array rms_norm(const mx::array& x, const std::optional<mx::array>& weight, float eps) {
  type_of(x.dtype(), "x");
  if (x.ndim() == 0) wrong("x must have at least 1 axis");
  std::vector<mx::array> inputs{x};
  if (weight) {
    check_vector(*weight, x.shape(-1), "weight");
    inputs.push_back(*weight);
  }
  const mx::Dtype out = weight ? mx::promote_types(x.dtype(), weight->dtype()) : x.dtype();
  return mx::array(x.shape(), out, std::make_shared<RmsNorm>(eps, weight.has_value()), std::move(inputs));
}

std::vector<mx::array> heads_of(const mx::array& x, const std::vector<const Packed*>& weights,
                                const std::vector<std::optional<mx::array>>& biases, int dim, const HeadNorms& norms,
                                const Rotation& rotation, bool one_sequence, mx::Dtype kept, int wish) {
  HeadsOf::Plan plan;
  if (x.ndim() != 2) wrong("x must have 2 axes (rows, values)");
  type_of(x.dtype(), "x");
  if (weights.empty() || weights.size() > 3) wrong("weights must be q, or q, k, or q, k, v");
  if (!biases.empty() && biases.size() != weights.size()) wrong("biases must have one entry for each weight");
  if (dim <= 0) wrong("dim must be above 0");
  plan.precision = precision_of(wish);
  plan.dim = dim, plan.eps = norms.eps, plan.head_eps = norms.head_eps, plan.one_sequence = one_sequence;
  plan.kept = type_of(kept, "kept");
  std::vector<mx::array> inputs{x};
  std::vector<mx::Shape> shapes;
  std::vector<mx::Dtype> types;
  auto add = [&](const std::optional<mx::array>& a, int size, const char* name) {
    if (!a) return -1;
    check_vector(*a, size, name);
    inputs.push_back(*a);
    return (int)inputs.size() - 1;
  };
  for (const Packed* w : weights) {
    if (!w) wrong("weights has None in it");
    if (w->experts || w->layout.cols != x.shape(1)) wrong("weights must be matrices with as many inputs as x has values");
    if (w->layout.rows % dim || w->layout.rows == 0) wrong("weights must have a whole number of heads of dim rows");
    inputs.push_back(w->data);
    plan.w.push_back(w->layout);
    const int heads = w->layout.rows / dim, rows = x.shape(0);
    shapes.push_back(one_sequence ? mx::Shape{1, heads, rows, dim} : mx::Shape{rows, heads, 1, dim});
    types.push_back(types.empty() ? x.dtype() : kept);
  }
  for (size_t i = 0; i < biases.size(); i++) plan.biases[i] = add(biases[i], weights[i]->layout.rows, "bias");
  plan.norm = add(norms.input, x.shape(1), "norm");
  plan.q_norm = add(norms.q, dim, "q_norm");
  plan.k_norm = add(norms.k, dim, "k_norm");
  if (rotation.freqs) {
    if (rotation.freqs->ndim() != 1 || rotation.freqs->dtype() != mx::float32 || 2 * rotation.freqs->shape(0) > dim)
      wrong("freqs must be float32 (n,) with 2 n at most dim");
    if (!rotation.positions || rotation.positions->dtype() != mx::int32 || rotation.positions->shape() != mx::Shape{x.shape(0)})
      wrong("positions must be int32 with one value for each row of x");
    plan.rope_dims = 2 * rotation.freqs->shape(0);
    plan.interleaved = rotation.interleaved, plan.rope_scale = rotation.scale;
    plan.freqs = add(rotation.freqs, rotation.freqs->shape(0), "freqs");
    inputs.push_back(*rotation.positions);
    plan.positions = (int)inputs.size() - 1;
  }
  auto primitive = std::make_shared<HeadsOf>(std::move(plan));
  if (weights.size() == 1) return {mx::array(shapes[0], types[0], primitive, std::move(inputs))};
  return mx::array::make_arrays(std::move(shapes), types, primitive, inputs);
}

void release_scratch() {
  mx::cpu::get_command_encoder(mx::default_stream(mx::Device::cpu)).dispatch([] { Scratch::release(); });
}
