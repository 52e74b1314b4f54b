// Norms, rotary positions, and the front of an attention layer as one node.
#include "nodes.h"

#include "parts.h"
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

class NormRows : public CpuPrimitive {
 public:
  NormRows(float eps, int weight, int bias, bool centred) : eps_(eps), weight_(weight), bias_(bias), centred_(centred) {}
  const char* name() const override { return centred_ ? "mlxrun::LayerNorm" : "mlxrun::RmsNorm"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    dispatch([x = RowsOf(in[0]), w = Vector(in, weight_), b = Vector(in, bias_), out = allocate(outs[0]),
              type = type_of(outs[0].dtype(), "x"), eps = eps_, centred = centred_] {
      if (x.count == 0) return;
      Scratch scratch;
      const float *weight = w.floats(scratch), *bias = b.floats(scratch);
      const Source source = x.source(scratch);
      const int step = std::max(1, 16384 / x.cols);
      pool::run((x.count + step - 1) / step, [&](uint32_t piece) {
        Scratch mine;
        float* row = mine.take<float>(x.cols);
        for (int r = piece * step; r < std::min<int>(x.count, (piece + 1) * step); r++) {
          best().widen(x.type, source.data + r * source.stride * size_of(x.type), row, x.cols);
          if (centred) best().layer_norm(row, weight, bias, eps, x.cols, row);
          else best().rms_norm(row, weight, eps, x.cols, row);
          best().narrow(type, row, out + (size_t)r * x.cols * size_of(type), x.cols);
        }
      });
    });
  }

 private:
  float eps_;
  int weight_, bias_;  // which inputs, or -1
  bool centred_;
};

mx::array norm_rows(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias, float eps,
                    bool centred) {
  type_of(x.dtype(), "x");
  if (x.ndim() == 0) wrong("x must have at least 1 axis");
  std::vector<mx::array> inputs{x};
  mx::Dtype out = x.dtype();
  auto add = [&](const std::optional<mx::array>& a, const char* name) {
    if (!a) return -1;
    check_vector(*a, x.shape(-1), name);
    out = mx::promote_types(out, a->dtype());
    inputs.push_back(*a);
    return (int)inputs.size() - 1;
  };
  const int weight_at = add(weight, "weight"), bias_at = add(bias, "bias");
  return mx::array(x.shape(), out, std::make_shared<NormRows>(eps, weight_at, bias_at, centred), std::move(inputs));
}

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
    parts::Heads heads;
    int biases[3] = {-1, -1, -1};  // which inputs
    int norm = -1, q_norm = -1, k_norm = -1, positions = -1, freqs = -1;
    bool one_sequence = true;
  };
  explicit HeadsOf(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::HeadsOf"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    parts::Heads heads = p_.heads;
    std::vector<Vector> biases;
    std::vector<uint8_t*> to;
    std::optional<View> positions;
    if (p_.positions >= 0) positions.emplace(in[p_.positions]);
    for (size_t i = 0; i < heads.w.size(); i++) {
      heads.w[i].data = in[1 + i].data<uint8_t>();
      biases.emplace_back(in, p_.biases[i]);
      if (p_.one_sequence) folded(outs[i]);
      else outs[i].set_data(mx::allocator::malloc(outs[i].nbytes()));
      to.push_back(outs[i].data<uint8_t>());
    }
    dispatch([heads = std::move(heads), x = RowsOf(in[0]), norm = Vector(in, p_.norm), q_norm = Vector(in, p_.q_norm),
              k_norm = Vector(in, p_.k_norm), freqs = Vector(in, p_.freqs), biases = std::move(biases), positions,
              to = std::move(to)]() mutable {
      Scratch scratch;
      heads.norm = norm.floats(scratch), heads.q_norm = q_norm.floats(scratch), heads.k_norm = k_norm.floats(scratch);
      heads.freqs = freqs.floats(scratch);
      for (size_t i = 0; i < biases.size(); i++) heads.biases[i] = biases[i].floats(scratch);
      if (positions) heads.positions = reinterpret_cast<const int32_t*>(positions->ordered(scratch));
      parts::run(heads, x.source(scratch), x.count, x.cols, to.data());
    });
  }

 private:
  Plan p_;
};

}  // namespace

mx::array rms_norm(const mx::array& x, const std::optional<mx::array>& weight, float eps) {
  return norm_rows(x, weight, std::nullopt, eps, false);
}

mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias, float eps) {
  return norm_rows(x, weight, bias, eps, true);
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
  parts::Heads& heads = plan.heads;
  heads.precision = precision_of(wish);
  heads.dim = dim, heads.eps = norms.eps, heads.head_eps = norms.head_eps, heads.kept = type_of(kept, "kept");
  plan.one_sequence = one_sequence;
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
    heads.w.push_back(w->layout);
    const int count = w->layout.rows / dim, rows = x.shape(0);
    shapes.push_back(one_sequence ? mx::Shape{1, count, rows, dim} : mx::Shape{rows, count, 1, dim});
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
    heads.rope_dims = 2 * rotation.freqs->shape(0);
    heads.interleaved = rotation.interleaved, heads.rope_scale = rotation.scale;
    plan.freqs = add(rotation.freqs, rotation.freqs->shape(0), "freqs");
    inputs.push_back(*rotation.positions);
    plan.positions = (int)inputs.size() - 1;
  }
  auto primitive = std::make_shared<HeadsOf>(std::move(plan));
  if (weights.size() == 1) return {mx::array(shapes[0], types[0], primitive, std::move(inputs))};
  return mx::array::make_arrays(std::move(shapes), types, primitive, inputs);
}

void release_scratch() {
  put_no_more();
  mx::cpu::get_command_encoder(mx::default_stream(mx::Device::cpu)).dispatch([] { Scratch::release(); });
}
