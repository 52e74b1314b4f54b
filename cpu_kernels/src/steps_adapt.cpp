// Adapters: what a sequence's own adapter adds to products that are there, for its rows alone.
#include "steps.h"

using namespace kernels;
using namespace linear;

namespace steps {
namespace {

class Adapt : public Step {
 public:
  Adapt(Rows source, const std::vector<Adapting>& products, const std::optional<NormSpec>& norm) : source_(source) {
    if (norm) norm_.emplace(*norm, source.width, source.width, "norm");
    for (const Adapting& p : products) products_.push_back({p.slot, p.to, Floats(p.bias, p.to.width, "bias")});
  }
  void gather(std::vector<mx::array>& all) const override {
    for (const Product& p : products_) p.bias.gather(all);
    if (norm_) norm_->gather(all);
  }
  void run(const Pass& pass) const override {
    for (const AdaptedRows& rows : *pass.adapted) change(pass, rows);
  }

 private:
  struct Product {
    int slot;
    Rows to;
    Floats bias;
  };
  struct Narrow {
    const LowRank* by;
    const Product* product;
    float* rows;  // (count, rank)
  };

  void change(const Pass& pass, const AdaptedRows& rows) const {
    Scratch scratch;
    std::vector<Narrow> narrow;
    std::vector<parts::Product> down;
    for (const Product& p : products_) {
      const LowRank* by = rows.by->slots[p.slot].get();
      if (!by) continue;
      float* to = scratch.take<float>((size_t)rows.count * by->rank());
      narrow.push_back({by, &p, to});
      down.push_back({by->a.weight(), reinterpret_cast<uint8_t*>(to), nullptr});
    }
    if (narrow.empty()) return;
    Source source = pass.source(source_);
    source.data += (size_t)rows.start * source_.width * sizeof(float);
    if (norm_) source = norm_->on_the_way(source);
    parts::run(down, source, rows.count, source_.width, nullptr, pass.precision);
    for (const Narrow& n : narrow) widen(pass, rows, n);
  }

  // y += scale * b . narrow; where there is a gain, of the whole but its bias
  void widen(const Pass& pass, const AdaptedRows& rows, const Narrow& n) const {
    const LowRank& by = *n.by;
    const size_t rank = by.rank(), wide = n.product->to.width;
    for (size_t i = 0; i < rows.count * rank; i++) n.rows[i] *= by.scale;
    float* y = pass.of(n.product->to) + (size_t)rows.start * wide;
    const float *gain = by.gain.data(), *bias = n.product->bias.data();
    if (gain && bias)
      each_row(rows.count, wide, [&](int r) {
        for (size_t i = 0; i < wide; i++) y[r * wide + i] -= bias[i];
      });
    uint8_t* out = reinterpret_cast<uint8_t*>(y);
    parts::run({{by.b.weight(), out, nullptr}}, {F32, reinterpret_cast<const uint8_t*>(n.rows), rank}, rows.count, (int)rank, out,
               pass.precision);
    if (gain)
      each_row(rows.count, wide, [&](int r) {
        for (size_t i = 0; i < wide; i++) y[r * wide + i] = y[r * wide + i] * gain[i] + (bias ? bias[i] : 0.0f);
      });
  }

  Rows source_;
  std::optional<Norm> norm_;
  std::vector<Product> products_;
};

}  // namespace

StepPtr adapt(Rows source, const std::vector<Adapting>& products, const std::optional<NormSpec>& norm) {
  return std::make_unique<Adapt>(source, products, norm);
}

}  // namespace steps
