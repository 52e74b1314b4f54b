// Softmax attention as a graph node.
#include "nodes.h"

#include <algorithm>

#include "attention.h"
#include "mlx/ops.h"
#include "parts.h"
#include "primitive.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

constexpr int kRowsOfPiece = 96;  // query rows that one piece of work takes through the keys
constexpr int kKeysOfPart = 256;  // keys of one piece where there are few query rows

// Strides (batch, head, position) where the last axis is contiguous.
bool readable(const View& v) { return v.strides[3] == 1 || v.shape[3] == 1; }

// How one attention call is cut: by rows, and by keys where rows are few.
struct Cut {
  int share, rows, block, blocks, parts, step;
  size_t ldp, pieces;
  float* partial;

  Cut(Scratch& scratch, const Attention& a) {
    share = a.heads / a.kv_heads, rows = share * a.queries;
    block = std::min(rows, kRowsOfPiece), blocks = (rows + block - 1) / block;
    const int wanted = blocks * a.kv_heads * a.batch >= 16 ? 1 : (a.keys + kKeysOfPart - 1) / kKeysOfPart;
    parts = std::clamp(wanted, 1, kMaxParts);
    step = ((a.keys + parts - 1) / parts + 63) / 64 * 64;
    ldp = kPartHead + (a.v_dim + 15) / 16 * 16;
    const size_t groups = (size_t)a.batch * a.kv_heads;
    pieces = groups * blocks * parts;
    partial = scratch.take<float>(groups * parts * rows * ldp);
  }
  void piece(const Attention& a, size_t i) const {
    const int part = i % parts, b = i / parts % blocks, group = (int)(i / parts / blocks);
    const int first = b * block, n = std::min(block, rows - first), key = part * step;
    Scratch mine;
    float* work = mine.take<float>(attend_scratch(n, a.dim, a.v_dim));
    float* to = partial + (((size_t)group * parts + part) * rows + first) * ldp;
    best().attend(a, group / a.kv_heads, group % a.kv_heads, first, n, key, std::clamp(a.keys - key, 0, step), to, work);
    if (parts == 1) finish(a, group, first, n);
  }
  void finish(const Attention& a) const {
    if (parts == 1) return;
    for (int group = 0; group < a.batch * a.kv_heads; group++) finish(a, group, 0, rows);
  }

 private:
  void finish(const Attention& a, int group, int first, int n) const {
    const int batch = group / a.kv_heads, kv_head = group % a.kv_heads;
    for (int r = first; r < first + n; r++) {
      const int head = kv_head * share + r % share;
      const int64_t at = batch * a.out_strides[0] + head * a.out_strides[1] + r / share * a.out_strides[2];
      best().finish(partial + ((size_t)group * parts * rows + r) * ldp, rows * ldp, parts, a.v_dim,
                    a.sinks ? a.sinks + head : nullptr, a.out_type, a.out + at * size_of(a.out_type));
    }
  }
};

}  // namespace

void parts::run(const Attention& a) {
  Scratch scratch;
  const Cut cut(scratch, a);
  pool::run((uint32_t)cut.pieces, [&](uint32_t i) { cut.piece(a, i); });
  cut.finish(a);
}

// Each is cut as it would be alone: what it puts out has the same bits.
void parts::run(const std::vector<Attention>& calls) {
  Scratch scratch;
  std::vector<Cut> cuts;
  std::vector<size_t> ends;
  for (const Attention& a : calls) {
    cuts.emplace_back(scratch, a);
    ends.push_back((ends.empty() ? 0 : ends.back()) + cuts.back().pieces);
  }
  if (calls.empty()) return;
  pool::run((uint32_t)ends.back(), [&](uint32_t i) {
    const size_t which = std::upper_bound(ends.begin(), ends.end(), (size_t)i) - ends.begin();
    cuts[which].piece(calls[which], i - (which ? ends[which - 1] : 0));
  });
  pool::run((uint32_t)calls.size(), [&](uint32_t i) { cuts[i].finish(calls[i]); });
}

namespace {

// Strides and data of an input (batch, heads, positions, size) whose last axis must lie in order.
void point(Scratch& scratch, const View& v, const uint8_t*& data, int64_t* strides) {
  if (readable(v)) {
    data = v.data;
    for (int i = 0; i < 3; i++) strides[i] = v.strides[i];
    return;
  }
  data = v.ordered(scratch);
  strides[2] = v.shape[3], strides[1] = strides[2] * v.shape[2], strides[0] = strides[1] * v.shape[1];
}

class Attend : public CpuPrimitive {
 public:
  Attend(Attention shape, int mask, int sinks) : a_(shape), mask_(mask), sinks_(sinks) {}
  const char* name() const override { return "mlxrun::Attend"; }

  // inputs: q (B, H, L, D), k (B, G, S, D), v (B, G, S, Dv), then mask and sinks where there are any.
  // The output lies as (B, L, H, Dv) in memory, so that the projection after it can read it as rows.
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    Attention a = a_;
    mx::array& out = outs[0];
    const int64_t h = a.heads, l = a.queries, d = a.v_dim;
    const bool rows = out.size() > 0;
    mx::array::Flags flags{true, h == 1 || l == 1, false};
    flags.col_contiguous = out.size() <= 1;
    out.set_data(mx::allocator::malloc(out.nbytes()), out.size(), {l * h * d, d, h * d, 1}, flags);
    if (!rows) return;
    a.out = out.data<uint8_t>();
    a.out_strides[0] = l * h * d, a.out_strides[1] = d, a.out_strides[2] = h * d;
    std::optional<View> mask, sinks;
    Type sink_type = F32;
    if (mask_ >= 0) mask.emplace(in[mask_]);
    if (sinks_ >= 0) sinks.emplace(in[sinks_]), sink_type = type_of(in[sinks_].dtype(), "sinks");
    dispatch([a, q = View(in[0]), k = View(in[1]), v = View(in[2]), mask, sinks, sink_type]() mutable {
      Scratch scratch;
      point(scratch, q, a.q, a.q_strides);
      point(scratch, k, a.k, a.k_strides);
      point(scratch, v, a.v, a.v_strides);
      if (mask) {
        a.mask = mask->data;
        for (int i = 0; i < 4; i++) a.mask_strides[i] = mask->shape[i] == 1 ? 0 : mask->strides[i];
      }
      a.sinks = sinks ? floats_of(*sinks, sink_type, scratch) : nullptr;
      parts::run(a);
    });
  }

 private:
  Attention a_;
  int mask_, sinks_;
};

void check_shapes(const mx::array& q, const mx::array& k, const mx::array& v) {
  for (auto [a, name] : {std::pair{&q, "q"}, std::pair{&k, "k"}, std::pair{&v, "v"}})
    if (a->ndim() != 4) wrong(std::string(name) + " must have 4 axes (batch, heads, positions, size)");
  if (k.shape(0) != q.shape(0) || v.shape(0) != q.shape(0)) wrong("q, k and v must have the same batch");
  if (k.shape(1) == 0 || q.shape(1) % k.shape(1)) wrong("q must have a whole number of heads for each head of k");
  if (k.shape(3) != q.shape(3)) wrong("k must have heads of the size of q's");
  if (v.shape(1) != k.shape(1) || v.shape(2) != k.shape(2)) wrong("v must have as many heads and positions as k");
  if (k.dtype() != v.dtype()) wrong("k and v must have the same type");
}

}  // namespace

mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const std::optional<mx::array>& mask, bool causal, int window, const std::optional<mx::array>& sinks,
                    float softcap, int keys) {
  check_shapes(q, k, v);
  if (keys < -1 || keys > k.shape(2)) wrong("keys must be at most the positions of k, or -1 for all");
  Attention a{};
  a.q_type = a.out_type = type_of(q.dtype(), "q");
  a.kv_type = type_of(k.dtype(), "k");
  a.batch = q.shape(0), a.heads = q.shape(1), a.queries = q.shape(2), a.dim = q.shape(3);
  a.kv_heads = k.shape(1), a.keys = keys < 0 ? k.shape(2) : keys, a.v_dim = v.shape(3);
  a.scale = scale, a.softcap = softcap;
  if (softcap < 0) wrong("softcap must be 0 (none) or more");
  if (window < 0) wrong("window must be 0 (none) or more");
  if (window > 0 && !causal) wrong("window goes with causal");
  if (causal && mask) wrong("mask and causal exclude each other");
  if (causal && a.keys < a.queries) wrong("causal needs at least as many keys as queries");
  a.sight = causal ? Causal : Everything;
  a.window = window;
  std::vector<mx::array> inputs{q, k, v};
  int mask_at = -1, sinks_at = -1;
  if (mask) {
    mx::array m = *mask;
    const mx::Shape full{a.batch, a.heads, a.queries, a.keys};
    if (m.ndim() > 4) wrong("mask must have at most 4 axes");
    mx::Shape shape(4 - m.ndim(), 1);
    for (int i = 0; i < (int)m.ndim(); i++) shape.push_back(m.shape(i));
    for (int i = 0; i < 4; i++)
      if (shape[i] != 1 && shape[i] != full[i]) wrong("mask must broadcast to (batch, heads, queries, keys)");
    if (m.dtype() == mx::bool_) a.sight = Bools;
    else a.sight = Biases, a.mask_type = type_of(m.dtype(), "mask");
    mask_at = (int)inputs.size();
    inputs.push_back(m.ndim() == 4 ? m : mx::reshape(m, shape, mx::Device::cpu));
  }
  if (sinks) {
    if (sinks->ndim() != 1 || sinks->shape(0) != a.heads) wrong("sinks must have one value for each head of q");
    type_of(sinks->dtype(), "sinks");
    sinks_at = (int)inputs.size();
    inputs.push_back(*sinks);
  }
  return mx::array({a.batch, a.heads, a.queries, a.v_dim}, q.dtype(), std::make_shared<Attend>(a, mask_at, sinks_at),
                   std::move(inputs));
}
