// The Python face of a stack of layers; see stack.h.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include "held.h"
#include "stack.h"

namespace nb = nanobind;
using namespace nb::literals;
using MaybeArray = std::optional<mx::array>;

namespace {

steps::Score score_of(const std::string& name) {
  const char* const names[] = {"softmax", "softmax_topk", "sigmoid", "sparsemixer"};
  for (int i = 0; i < 4; i++)
    if (name == names[i]) return static_cast<steps::Score>(i);
  throw std::invalid_argument("score must be softmax, softmax_topk, sigmoid or sparsemixer, not '" + name + "'");
}

struct AdapterHeld {
  std::shared_ptr<const steps::Adapter> adapter;
};

}  // namespace

void bind_stack(nb::module_& m) {
  nb::class_<steps::NormSpec>(m, "RowNorm")
      .def("__init__",
           [](steps::NormSpec* self, const MaybeArray& weight, const MaybeArray& bias, float eps, bool centred) {
             new (self) steps::NormSpec{weight, bias, eps, centred};
           },
           "weight"_a.none(), "bias"_a.none(), "eps"_a, "centred"_a = false);
  nb::class_<NetworkSpec>(m, "Network")
      .def("__init__",
           [](NetworkSpec* self, const Packed* gate, const Packed& up, const Packed& down, const std::string& act,
              const MaybeArray& gate_bias, const MaybeArray& up_bias, const MaybeArray& down_bias) {
             new (self) NetworkSpec{gate, &up, &down, gate_bias, up_bias, down_bias, act};
           },
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(), nb::keep_alive<1, 4>(), "gate"_a.none(), "up"_a, "down"_a, "act"_a,
           "gate_bias"_a = nb::none(), "up_bias"_a = nb::none(), "down_bias"_a = nb::none());
  nb::class_<HeadsSpec>(m, "HeadWork")
      .def("__init__",
           [](HeadsSpec* self, int dim, int step, std::optional<steps::NormSpec> q_norm, std::optional<steps::NormSpec> k_norm,
              std::optional<steps::NormSpec> v_norm, const std::string& scope, bool after_rope, int k_norm_size, float clip,
              int rope, int rope_at, const std::vector<float>& temperature) {
             new (self) HeadsSpec{dim, step, q_norm, k_norm, v_norm, scope, after_rope, k_norm_size, clip, rope, rope_at, temperature};
           },
           "dim"_a, nb::kw_only(), "step"_a, "q_norm"_a = nb::none(), "k_norm"_a = nb::none(), "v_norm"_a = nb::none(),
           "scope"_a = "head", "after_rope"_a = false, "k_norm_size"_a = 0, "clip"_a = 0.0f, "rope"_a = -1, "rope_at"_a = 0,
           "temperature"_a = std::vector<float>());
  nb::class_<steps::Routing>(m, "Routing")
      .def("__init__",
           [](steps::Routing* self, int top_k, const std::string& score, bool renorm, float renorm_eps, float scale, int groups,
              int top_groups, float jitter, const MaybeArray& select_bias, const MaybeArray& expert_scale) {
             new (self) steps::Routing{top_k, groups, top_groups, score_of(score), renorm, scale, jitter, renorm_eps, select_bias, expert_scale};
           },
           "top_k"_a, nb::kw_only(), "score"_a, "renorm"_a = false, "renorm_eps"_a = 1e-20f, "scale"_a = 1.0f, "groups"_a = 1, "top_groups"_a = 1,
           "jitter"_a = 0.0f, "select_bias"_a = nb::none(), "expert_scale"_a = nb::none());

  nb::class_<LowRankSpec>(m, "LowRank")
      .def("__init__",
           [](LowRankSpec* self, const Packed& a, const Packed& b, float scale, const MaybeArray& gain) {
             new (self) LowRankSpec{&a, &b, scale, gain};
           },
           nb::keep_alive<1, 2>(), nb::keep_alive<1, 3>(), "a"_a, "b"_a, "scale"_a, "gain"_a = nb::none());
  nb::class_<AdapterHeld>(m, "StackAdapter");

  nb::class_<Stack>(m, "Stack")
      .def(nb::init<int, int, const std::string&>(), "width"_a, "extra"_a = 0, "out"_a = "x")
      .def("rope",
           [](Stack& stack, const std::vector<std::pair<mx::array, float>>& tables, bool interleaved, const std::vector<int>& axes) {
             std::vector<RopeTable> own;
             for (const auto& [freqs, scale] : tables) own.push_back({freqs, scale});
             return stack.rope(own, interleaved, axes);
           },
           "tables"_a, "interleaved"_a, "axes"_a = std::vector<int>())
      .def("combine", &Stack::combine, "source"_a, "to"_a, "norm"_a = nb::none(), "onto"_a = nb::none(), "factor"_a = 1.0f,
           "scale"_a = nb::none())
      .def("project", &Stack::project, "source"_a, "weights"_a, "biases"_a, "to"_a, "onto"_a = nb::none(),
           "norm"_a = nb::none())
      .def("adapt", &Stack::adapt, "source"_a, "products"_a, "biases"_a, "norm"_a = nb::none())
      .def("adapter", [](const Stack& stack, const std::vector<std::optional<LowRankSpec>>& slots) { return AdapterHeld{stack.adapter(slots)}; }, "slots"_a)
      .def("activate", &Stack::activate, "gate"_a, "act"_a, "up"_a.none(), "up_at"_a, "to"_a, "at"_a = 0, "size"_a = 0)
      .def("normalise", &Stack::normalise, "rows"_a, "at"_a, "size"_a, "parts"_a, "norm"_a)
      .def("convolve", &Stack::convolve, "sources"_a, "at"_a, "weight"_a, "bias"_a.none(), "silu"_a, "to"_a)
      .def("pace", &Stack::pace, "source"_a, "at"_a, "by"_a, "bias"_a, "rate"_a.none(), "low"_a, "high"_a, "to"_a)
      .def("scan_selective", &Stack::scan_selective, "u"_a, "dt"_a, "bc"_a, "at"_a, "a"_a, "skip"_a, "to"_a)
      .def("scan_space", &Stack::scan_space, "mixed"_a, "dt"_a, "dim"_a, "groups"_a, "rate"_a, "skip"_a, "to"_a)
      .def("scan_delta", &Stack::scan_delta, "mixed"_a, "decay"_a, "beta"_a, "k_heads"_a, "k_dim"_a, "to"_a)
      .def("scan_linear", &Stack::scan_linear, "x"_a, "into"_a, "decay"_a, "into_bias"_a, "decay_bias"_a, "rate"_a, "to"_a)
      .def("gate", &Stack::gate, "rows"_a, "gates"_a, "dim"_a, "at"_a, "step"_a, "by"_a)
      .def("feed", &Stack::feed, "source"_a, "network"_a, "to"_a, "onto"_a = nb::none(), "norm"_a = nb::none())
      .def("route", &Stack::route, "logits"_a, "routing"_a, "to"_a)
      .def("mix", &Stack::mix, "source"_a, "logits"_a, "routing"_a, "scales_input"_a, "network"_a, "to"_a, "onto"_a = nb::none())
      .def("attend",
           [](Stack& stack, const std::string& q, const std::optional<std::string>& k, const std::optional<std::string>& v,
              const HeadsSpec& heads, float scale, float softcap, int window, int chunk, const MaybeArray& sinks,
              const MaybeArray& slopes, int latent, const std::string& to) {
             stack.attend(q, k, v, heads, {scale, softcap, window, chunk}, sinks, slopes, latent, to);
           },
           "q"_a, "k"_a.none(), "v"_a.none(), "heads"_a, "scale"_a, "softcap"_a, "window"_a, "chunk"_a, "sinks"_a.none(),
           "slopes"_a.none(), "latent"_a, "to"_a)
      .def("per_head", &Stack::per_head, "source"_a, "w"_a, "carried"_a, "to"_a)
      .def("__call__",
           [](Stack& stack, const mx::array& x, const MaybeArray& extra, const std::vector<const PagePlace*>& places,
              const std::vector<int>& groups, const std::vector<const BatchHeld*>& own, const std::vector<std::vector<int>>& tables,
              int wish, const std::vector<int>& counts, const std::vector<std::vector<MaybeArray>>& before,
              const std::vector<std::tuple<int, int, const AdapterHeld*>>& adapted, std::vector<std::vector<int32_t>> turns) {
             std::vector<std::shared_ptr<const PagedBatch>> batches;
             for (const BatchHeld* one : own) batches.push_back(one ? one->batch : nullptr);
             std::vector<steps::AdaptedRows> rows;
             for (const auto& [start, count, by] : adapted) rows.push_back({start, count, by ? by->adapter : nullptr});
             return stack(x, extra, places, groups, batches, tables, rows, wish, counts, before, std::move(turns));
           },
           "x"_a, "extra"_a.none(), "places"_a, "groups"_a, "batches"_a, "tables"_a, "precision"_a = -1,
           "counts"_a = std::vector<int>(), "before"_a = std::vector<std::vector<MaybeArray>>(),
           "adapted"_a = std::vector<std::tuple<int, int, const AdapterHeld*>>(),
           "turns"_a = std::vector<std::vector<int32_t>>());
}
