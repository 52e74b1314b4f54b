// The Python face of the primitives. Arguments are checked in the functions themselves; nanobind turns
// std::invalid_argument into ValueError.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "guard.h"
#include "held.h"
#include "mapped.h"
#include "mlx/version.h"
#include "nodes.h"
#include "packed.h"
#include "pages.h"
#include "pool.h"
#include "project.h"

namespace nb = nanobind;
using namespace nb::literals;

void bind_stack(nb::module_& m);  // module_stack.cpp

static const char* const kPrecisions[] = {"exact", "fast"};

NB_MODULE(_native, m) {
  nb::class_<Packed>(m, "Packed")
      .def_prop_ro("shape",
                   [](const Packed& w) {
                     return w.experts ? nb::make_tuple(w.experts, w.layout.rows, w.layout.cols)
                                      : nb::make_tuple(w.layout.rows, w.layout.cols);
                   })
      .def_ro("mode", &Packed::mode)
      .def_ro("bits", &Packed::bits)
      .def_prop_ro("group", [](const Packed& w) { return w.layout.group; })
      .def_prop_ro("symmetric", [](const Packed& w) { return !w.layout.has_bias; })
      .def_prop_ro("nbytes", [](const Packed& w) { return w.data.nbytes(); })
      .def_ro("data", &Packed::data);

  m.def("packed_layout", &layout_of, "weight"_a);

  nb::class_<Guard>(m, "Guard")
      .def("__init__",
           [](Guard* self, uintptr_t start, size_t bytes, const std::string& path) {
             new (self) Guard((const void*)start, bytes, path);
           },
           "start"_a, "bytes"_a, "path"_a)
      .def_prop_ro("lost", &Guard::lost);
  m.def("lost_count", &lost_count);
  m.def("lost_files", &lost_files);

  nb::class_<MappedFile>(m, "MappedFile")
      .def(nb::init<const std::string&, size_t>(), "path"_a, "size"_a)
      .def_prop_ro("size", &MappedFile::size)
      .def_prop_ro("lost", &MappedFile::lost)
      .def_prop_ro("unchanged", &MappedFile::unchanged)
      .def_prop_ro("resident", &MappedFile::resident)
      .def("array",
           [](const MappedFile& f, size_t start, const std::vector<int>& shape, mx::Dtype dtype) {
             return f.array(start, mx::Shape(shape.begin(), shape.end()), dtype);
           },
           "start"_a, "shape"_a, "dtype"_a)
      .def("packed", &MappedFile::packed, "start"_a, "mode"_a, "bits"_a, "layout"_a)
      .def("will_need", &MappedFile::will_need, "start"_a, "bytes"_a)
      .def("need_not_stay", &MappedFile::need_not_stay, "start"_a, "bytes"_a);

  m.def("pack_quantized", &pack_quantized, "codes"_a, "scales"_a, "biases"_a.none(), "mode"_a, "bits"_a, "group"_a);
  m.def("pack_plain", &pack_plain, "weight"_a);

  m.def("matmul",
        [](const mx::array& x, const Packed& w, const std::optional<mx::array>& bias, const std::optional<mx::array>& residual,
           int wish) {
          std::vector<std::optional<mx::array>> biases;
          if (bias) biases.push_back(bias);
          return project(x, {&w}, biases, std::nullopt, 0.0f, residual, wish)[0];
        },
        "x"_a, "w"_a, "bias"_a = nb::none(), "residual"_a = nb::none(), "precision"_a = -1);
  m.def("project", &project, "x"_a, "weights"_a, "biases"_a = nb::list(), "norm"_a = nb::none(), "eps"_a = 0.0f,
        "residual"_a = nb::none(), "precision"_a = -1);
  m.def("feed_forward", &feed_forward, "x"_a, "gate"_a.none(), "up"_a, "down"_a, "act"_a, "norm"_a = nb::none(),
        "eps"_a = 0.0f, "residual"_a = false, "precision"_a = -1);
  m.def("table_rows", &table_rows, "ids"_a, "table"_a, "dtype"_a);

  m.def("attention", &attention, "q"_a, "k"_a, "v"_a, "scale"_a, "mask"_a = nb::none(), "causal"_a = false,
        "window"_a = 0, "sinks"_a = nb::none(), "softcap"_a = 0.0f, "keys"_a = -1);
  m.def("attend_segments",
        [](const mx::array& q, const mx::array& k, const mx::array& v, const std::vector<int>& counts, float scale, float softcap,
           int window, const std::optional<mx::array>& sinks, const std::optional<mx::array>& apart, const std::vector<int>& seen) {
          return attend_segments(q, k, v, counts, seen, {scale, softcap, window}, sinks, apart);
        },
        "q"_a, "k"_a, "v"_a, "counts"_a, "scale"_a, "softcap"_a = 0.0f, "window"_a = -1, "sinks"_a = nb::none(),
        "apart"_a = nb::none(), "seen"_a = std::vector<int>());
  m.def("experts",
        [](const mx::array& x, const mx::array& ids, const mx::array& weights, const Packed* gate, const Packed& up,
           const Packed& down, const std::string& act, const std::optional<mx::array>& gate_bias,
           const std::optional<mx::array>& up_bias, const std::optional<mx::array>& down_bias,
           const std::optional<mx::array>& residual, int wish) {
          return experts(x, ids, weights, gate, up, down, act, {gate_bias, up_bias, down_bias}, residual, wish);
        },
        "x"_a, "ids"_a, "weights"_a, "gate"_a.none(), "up"_a, "down"_a, "act"_a, "gate_bias"_a = nb::none(),
        "up_bias"_a = nb::none(), "down_bias"_a = nb::none(), "residual"_a = nb::none(), "precision"_a = -1);
  m.def("sample", &sample, "logits"_a, "wishes"_a, "places"_a, "keys"_a, "tokens"_a, "bias_ids"_a, "bias"_a,
        "breakers"_a, "surprise"_a, "mask"_a = nb::none(), "best"_a = -1);
  m.def("rms_norm", &rms_norm, "x"_a, "weight"_a.none(), "eps"_a);
  m.def("layer_norm", &layer_norm, "x"_a, "weight"_a.none(), "bias"_a.none(), "eps"_a);

  nb::class_<Rotation>(m, "Rotation")
      .def(nb::init<std::optional<mx::array>, std::optional<mx::array>, bool, float>(), "freqs"_a, "positions"_a,
           "interleaved"_a = false, "scale"_a = 1.0f);
  nb::class_<HeadNorms>(m, "HeadNorms")
      .def(nb::init<std::optional<mx::array>, float, std::optional<mx::array>, std::optional<mx::array>, float>(),
           "input"_a = nb::none(), "eps"_a = 0.0f, "q"_a = nb::none(), "k"_a = nb::none(), "head_eps"_a = 0.0f);
  m.def("heads_of", &heads_of, "x"_a, "weights"_a, "biases"_a, "dim"_a, "norms"_a, "rotation"_a, "one_sequence"_a, "kept"_a,
        "precision"_a = -1);

  nb::class_<PagesHeld>(m, "Pages")
      .def("__init__",
           [](PagesHeld* self, size_t page_bytes, size_t most) { new (self) PagesHeld{std::make_shared<Pages>(page_bytes, most)}; },
           "page_bytes"_a, "most"_a)
      .def_prop_ro("page_bytes", [](const PagesHeld& own) { return own.pages->page_bytes(); })
      .def_prop_ro("most", [](const PagesHeld& own) { return own.pages->most(); })
      .def("forget", [](const PagesHeld& own, int first, int count) { own.pages->forget(first, count); }, "first"_a, "count"_a)
      .def("read",
           [](const PagesHeld& own, int page) {
             std::vector<uint8_t> bytes(own.pages->page_bytes());
             own.pages->copy_out(page, bytes.data());
             return nb::bytes(bytes.data(), bytes.size());
           },
           "page"_a)
      .def("write",
           [](const PagesHeld& own, int page, nb::bytes from) { own.pages->copy_in(page, (const uint8_t*)from.c_str(), from.size()); },
           "page"_a, "bytes"_a);
  nb::class_<PagePlace>(m, "PagePlace")
      .def("__init__",
           [](PagePlace* self, const PagesHeld& own, size_t offset, int size, int heads, int dim, int v_dim, mx::Dtype type,
              bool as_bytes) {
             new (self) PagePlace(own.pages, offset, size, {heads, dim, v_dim, type, as_bytes});
           },
           "pages"_a, "offset"_a, "size"_a, "heads"_a, "dim"_a, "v_dim"_a, "dtype"_a, "as_bytes"_a = false)
      .def_prop_ro("nbytes", &PagePlace::bytes);
  nb::class_<BatchHeld>(m, "PagedBatch")
      .def("__init__",
           [](BatchHeld* self, const std::vector<int>& counts, std::vector<int> offsets,
              const std::vector<nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>>& tables,
              const std::vector<std::pair<int, int>>& copies, std::vector<int32_t> ends) {
             std::vector<std::vector<int32_t>> rows;
             for (const auto& table : tables) rows.emplace_back(table.data(), table.data() + table.size());
             new (self) BatchHeld{std::make_shared<const PagedBatch>(counts, std::move(offsets), std::move(rows), copies, std::move(ends))};
           },
           "counts"_a, "offsets"_a, "tables"_a, "copies"_a = std::vector<std::pair<int, int>>(),
           "ends"_a = std::vector<int32_t>());
  m.def("attend_pages",
        [](const mx::array& q, const std::optional<mx::array>& k, const std::optional<mx::array>& v, const PagePlace& place,
           const BatchHeld& own, float scale, float softcap, int window, int chunk, const std::optional<mx::array>& sinks,
           const std::optional<mx::array>& slopes) {
          return attend_pages(q, k, v, place, own.batch, {scale, softcap, window, chunk}, sinks, slopes);
        },
        "q"_a, "k"_a.none(), "v"_a.none(), "place"_a, "batch"_a, "scale"_a, "softcap"_a = 0.0f, "window"_a = 0,
        "chunk"_a = 0, "sinks"_a = nb::none(), "slopes"_a = nb::none());
  m.def("read_pages",
        [](const mx::array& k, const PagePlace& place, const BatchHeld& own) { return read_pages(k, place, own.batch); },
        "k"_a, "place"_a, "batch"_a);

  bind_stack(m);

  m.def("isa", [] { return std::string(kernels::best().name); });
  m.def("isas", [] {
    std::vector<std::string> names;
    for (const kernels::Table* const* t = kernels::usable(); *t; t++) names.push_back((*t)->name);
    return names;
  });
  m.def("choose_isa", [](const std::string& name) { return kernels::choose(name.c_str()); }, "name"_a);
  m.def("integer", [] { return kernels::best().integer; });
  m.def("precision", [] { return std::string(kPrecisions[precision_of(-1)]); });
  m.def("set_precision",
        [](const std::string& name) {
          for (int i = 0; i < 2; i++)
            if (name == kPrecisions[i]) return set_default_precision(i);
          throw std::invalid_argument("precision must be exact or fast, not '" + name + "'");
        },
        "name"_a);
  m.def("release_scratch", &release_scratch);
  m.def("threads", &pool::threads);
  m.def("set_threads", &pool::set_threads, "count"_a);
  if (const char* wish = std::getenv("MLXRUN_PRECISION"))
    for (int i = 0; i < 2; i++)
      if (std::string(wish) == kPrecisions[i]) set_default_precision(i);
  m.attr("mlx_version") = std::to_string(MLX_VERSION_MAJOR) + "." + std::to_string(MLX_VERSION_MINOR) + "." +
                          std::to_string(MLX_VERSION_PATCH);
}
