// Softmax attention inside segments of rows that lie end to end, for all of them as one graph node.
#include <algorithm>

#include "attention.h"
#include "nodes.h"
#include "parts.h"
#include "primitive.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

class AttendSegments : public CpuPrimitive {
 public:
  AttendSegments(Attention shape, std::vector<int> counts, std::vector<int> seen, bool sinks, bool apart)
      : a_(shape), counts_(std::move(counts)), seen_(std::move(seen)), sinks_(sinks), apart_(apart) {}
  const char* name() const override { return "mlxrun::AttendSegments"; }

  // inputs: q, k, v, then sinks and apart where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    const int sinks_at = sinks_ ? 3 : -1, apart_at = apart_ ? 3 + sinks_ : -1;
    dispatch([a = a_, counts = counts_, seen = seen_, q = View(in[0]), k = View(in[1]), v = View(in[2]), sinks = Vector(in, sinks_at),
              apart = Vector(in, apart_at), out = allocate(outs[0])]() mutable {
      Scratch scratch;
      const RowsOfHeads queries(scratch, q), keys(scratch, k), values(scratch, v);
      a.sinks = sinks.floats(scratch), a.apart = apart.floats(scratch);
      a.q_strides[1] = queries.head, a.q_strides[2] = queries.row;
      a.k_strides[1] = keys.head, a.k_strides[2] = keys.row;
      a.v_strides[1] = values.head, a.v_strides[2] = values.row;
      a.out_strides[1] = a.v_dim, a.out_strides[2] = (int64_t)a.heads * a.v_dim;
      std::vector<Attention> calls;
      int64_t row = 0;
      for (size_t i = 0; i < counts.size(); i++) {
        a.q = queries.data + row * queries.row * size_of(a.q_type);
        a.k = keys.data + row * keys.row * size_of(a.kv_type), a.v = values.data + row * values.row * size_of(a.kv_type);
        a.out = out + row * a.out_strides[2] * size_of(a.out_type);
        a.queries = counts[i], a.keys = seen.empty() ? counts[i] : seen[i], row += counts[i];
        calls.push_back(a);
      }
      parts::run(calls);
    });
  }

 private:
  Attention a_;
  std::vector<int> counts_, seen_;
  bool sinks_, apart_;
};

void check_rows(const mx::array& q, const mx::array& k, const mx::array& v, const std::vector<int>& counts,
                const std::vector<int>& seen) {
  int64_t rows = 0;
  for (int count : counts) {
    if (count < 1) wrong("counts must be 1 or more");
    rows += count;
  }
  if (!seen.empty() && seen.size() != counts.size()) wrong("seen must have one number for each segment, or none");
  for (size_t i = 0; i < seen.size(); i++)
    if (seen[i] < 1 || seen[i] > counts[i]) wrong("seen must be 1 to the rows of its segment");
  for (auto [a, name] : {std::pair{&q, "q"}, std::pair{&k, "k"}, std::pair{&v, "v"}})
    if (rows_of(*a, name) != rows) wrong(std::string(name) + " must have as many rows as the segments together");
  if (k.shape(1) == 0 || q.shape(1) == 0 || q.shape(1) % k.shape(1)) wrong("q must have a whole number of heads for each head of k");
  if (k.shape(3) != q.shape(3)) wrong("k must have heads of the size of q's");
  if (v.shape(1) != k.shape(1)) wrong("v must have as many heads as k");
  if (k.dtype() != v.dtype()) wrong("k and v must have the same type");
}

}  // namespace

mx::array attend_segments(const mx::array& q, const mx::array& k, const mx::array& v, const std::vector<int>& counts,
                          const std::vector<int>& seen, const SegmentRule& rule, const std::optional<mx::array>& sinks,
                          const std::optional<mx::array>& apart) {
  if (counts.empty()) wrong("there must be a segment");
  for (const mx::array* a : {&q, &k, &v})
    if (a->ndim() != 4) wrong("q, k and v must have 4 axes (batch, heads, positions, size)");
  check_rows(q, k, v, counts, seen);
  if (rule.softcap < 0) wrong("softcap must be 0 (none) or more");
  Attention a{};
  a.q_type = a.out_type = type_of(q.dtype(), "q"), a.kv_type = type_of(k.dtype(), "k");
  a.batch = 1, a.heads = q.shape(1), a.kv_heads = k.shape(1), a.dim = q.shape(3), a.v_dim = v.shape(3);
  a.scale = rule.scale, a.softcap = rule.softcap;
  a.sight = rule.window < 0 ? Everything : Near, a.window = rule.window;
  std::vector<mx::array> inputs{q, k, v};
  if (sinks) {
    if (sinks->ndim() != 1 || sinks->shape(0) != a.heads) wrong("sinks must have one value for each head of q");
    type_of(sinks->dtype(), "sinks");
    inputs.push_back(*sinks);
  }
  if (apart) {
    if (apart->ndim() != 2 || apart->shape(0) != a.heads || apart->shape(1) % 2 == 0)
      wrong("apart must have an odd number of values for each head of q");
    type_of(apart->dtype(), "apart");
    a.far = apart->shape(1) / 2;
    inputs.push_back(*apart);
  }
  int rows = 0;
  for (int count : counts) rows += count;
  return mx::array({rows, a.heads * a.v_dim}, q.dtype(),
                   std::make_shared<AttendSegments>(a, counts, seen, sinks.has_value(), apart.has_value()), std::move(inputs));
}
