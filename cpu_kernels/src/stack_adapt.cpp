// Which products of a stack adapters may change, and adapters made for one.
#include "stack_layers.h"

using steps::Rows;
using steps::wrong;

void Stack::adapt(const std::string& source, const std::vector<std::string>& products,
                  const std::vector<std::optional<mx::array>>& biases, const std::optional<steps::NormSpec>& norm) {
  layers_->may_change();
  if (products.empty() || products.size() != biases.size()) wrong("products and biases must be as many");
  if (norm && norm->centred) wrong("only an RMS norm is done on the way to a product");
  const Rows from = layers_->read(source);
  std::vector<steps::Adapting> adapting;
  for (size_t i = 0; i < products.size(); i++) {
    const Rows product = layers_->read(products[i]);
    if (product.buffer == from.buffer) wrong("a product cannot lie where its rows did");
    adapting.push_back({(int)layers_->slots.size(), product, biases[i]});
    layers_->slots.push_back({from.width, product.width});
  }
  layers_->add(steps::adapt(from, adapting, norm));
}

std::shared_ptr<const steps::Adapter> Stack::adapter(const std::vector<std::optional<LowRankSpec>>& slots) const {
  if (slots.size() != layers_->slots.size()) wrong("an adapter has one entry for each slot, " + std::to_string(layers_->slots.size()));
  auto made = std::make_shared<steps::Adapter>();
  made->of = layers_;
  std::vector<mx::array> waited;
  for (size_t i = 0; i < slots.size(); i++) {
    made->slots.emplace_back();
    if (!slots[i]) continue;
    const auto [inputs, outputs] = layers_->slots[i];
    if (!slots[i]->a || !slots[i]->b || slots[i]->a->experts || slots[i]->b->experts) wrong("a and b must be single matrices");
    const Packed &a = *slots[i]->a, &b = *slots[i]->b;
    if (a.layout.cols != inputs || b.layout.rows != outputs || b.layout.cols != a.layout.rows || a.layout.rows == 0)
      wrong("a must be (rank, " + std::to_string(inputs) + ") and b (" + std::to_string(outputs) + ", rank)");
    made->slots.back().reset(new steps::LowRank{steps::Kept(a), steps::Kept(b), slots[i]->scale, steps::Floats(slots[i]->gain, outputs, "gain")});
    const steps::LowRank& own = *made->slots.back();
    own.a.gather(waited), own.b.gather(waited), own.gain.gather(waited);
  }
  mx::eval(std::move(waited));
  return made;
}

void Stack::Layers::check(const std::vector<steps::AdaptedRows>& adapted, int count) const {
  int end = 0;
  for (const steps::AdaptedRows& rows : adapted) {
    if (!rows.by || rows.by->of.get() != this) wrong("an adapter was made for another stack");
    if (rows.start < end || rows.count <= 0 || rows.count > count - rows.start) wrong("adapted rows must be rows of x, in order");
    end = rows.start + rows.count;
  }
}
