// The steps of a layer beside attention: sums and norms, products, gates, networks.
#include "steps.h"

#include <cmath>

using namespace kernels;
using namespace linear;

namespace steps {
namespace {

// A norm that a product does to its rows as it takes them in.
std::optional<Norm> on_the_way(const std::optional<NormSpec>& spec, int width) {
  if (!spec) return std::nullopt;
  if (spec->centred) wrong("only an RMS norm is done on the way to a product");
  return Norm(*spec, width, width, "norm");
}

class Combine : public Step {
 public:
  explicit Combine(const Combining& s)
      : source_(s.source),
        to_(s.to),
        onto_(s.onto),
        factor_(s.factor),
        each_(s.scale && s.scale->size() > 1),
        scale_(s.scale, each_ ? s.source.width : 1, "scale") {
    if (s.norm) norm_.emplace(*s.norm, s.source.width, s.source.width, "norm");
  }
  void gather(std::vector<mx::array>& all) const override {
    if (norm_) norm_->gather(all);
    scale_.gather(all);
  }
  void run(const Pass& pass) const override {
    const size_t n = source_.width;
    const float factor = scale_.data() && !each_ ? factor_ * *scale_.data() : factor_;
    each_row(pass.count, n, [&](int r) {
      const float* from = pass.of(source_) + r * n;
      float* to = pass.of(to_) + r * n;
      Scratch mine;
      if (norm_) {
        float* normed = onto_ || factor != 1 || each_ ? mine.take<float>(n) : to;
        (*norm_)(from, normed);
        if (normed == to) return;
        from = normed;
      }
      if (each_) {
        const float *scale = scale_.data(), *onto = onto_ ? pass.of(*onto_) + r * n : nullptr;
        for (size_t i = 0; i < n; i++) to[i] = (onto ? onto[i] : 0.0f) + factor * scale[i] * from[i];
      } else if (onto_) {
        const float* onto = pass.of(*onto_) + r * n;
        if (factor == 1) for (size_t i = 0; i < n; i++) to[i] = onto[i] + from[i];
        else for (size_t i = 0; i < n; i++) to[i] = onto[i] + factor * from[i];
      } else {
        for (size_t i = 0; i < n; i++) to[i] = factor * from[i];
      }
    });
  }

 private:
  Rows source_, to_;
  std::optional<Rows> onto_;
  std::optional<Norm> norm_;
  float factor_;
  bool each_;
  Floats scale_;
};

class Project : public Step {
 public:
  Project(Rows source, const std::vector<Projection>& products, std::optional<Rows> onto, const std::optional<NormSpec>& norm)
      : source_(source), onto_(onto), norm_(on_the_way(norm, source.width)) {
    for (const Projection& p : products) {
      weights_.emplace_back(p.w);
      biases_.emplace_back(p.bias, p.w.layout.rows, "bias");
      to_.push_back(p.to);
    }
  }
  void gather(std::vector<mx::array>& all) const override {
    for (const Kept& w : weights_) w.gather(all);
    for (const Floats& b : biases_) b.gather(all);
    if (norm_) norm_->gather(all);
  }
  void run(const Pass& pass) const override {
    std::vector<parts::Product> products;
    products.reserve(weights_.size());
    for (size_t i = 0; i < weights_.size(); i++)
      products.push_back({weights_[i].weight(), reinterpret_cast<uint8_t*>(pass.of(to_[i])), biases_[i].data()});
    const uint8_t* onto = onto_ ? reinterpret_cast<const uint8_t*>(pass.of(*onto_)) : nullptr;
    const Source source = norm_ ? norm_->on_the_way(pass.source(source_)) : pass.source(source_);
    parts::run(products, source, pass.count, source_.width, onto, pass.precision);
  }

 private:
  Rows source_;
  std::optional<Rows> onto_;
  std::optional<Norm> norm_;
  std::vector<Kept> weights_;
  std::vector<Floats> biases_;
  std::vector<Rows> to_;
};

class Activate : public Step {
 public:
  Activate(Rows gate, int at, Activation act, std::optional<Rows> up, int up_at, Rows to)
      : gate_(gate), to_(to), up_(up), act_(act), at_(at), up_at_(up_at) {}
  void gather(std::vector<mx::array>&) const override {}
  void run(const Pass& pass) const override {
    const size_t n = to_.width;
    each_row(pass.count, n, [&](int r) {
      const float* up = up_ ? pass.of(*up_) + (size_t)r * up_->width + up_at_ : nullptr;
      best().activate(act_, pass.of(gate_) + (size_t)r * gate_.width + at_, up, (int)n, pass.of(to_) + r * n);
    });
  }

 private:
  Rows gate_, to_;
  std::optional<Rows> up_;
  Activation act_;
  int at_, up_at_;
};

class Gate : public Step {
 public:
  explicit Gate(const Gating& s) : s_(s) {}
  void gather(std::vector<mx::array>&) const override {}
  void run(const Pass& pass) const override {
    each_row(pass.count, s_.rows.width, [&](int r) {
      float* y = pass.of(s_.rows) + (size_t)r * s_.rows.width;
      const float* g = pass.of(s_.gates) + (size_t)r * s_.gates.width + s_.at;
      for (int h = 0; h < s_.rows.width / s_.dim; h++, y += s_.dim, g += s_.step) {
        if (!s_.per_head) {
          best().activate(Sigmoid, g, y, s_.dim, y);
          continue;
        }
        // softplus(x) = log(1 + e^x) without e^x of a large x
        const float f = s_.softplus ? std::max(*g, 0.0f) + std::log1p(std::exp(-std::fabs(*g))) : 1.0f / (1.0f + std::exp(-*g));
        for (int i = 0; i < s_.dim; i++) y[i] *= f;
      }
    });
  }

 private:
  Gating s_;
};

class Normalise : public Step {
 public:
  Normalise(Rows rows, int at, int size, int parts, const NormSpec& spec)
      : rows_(rows),
        at_(at),
        size_(size),
        parts_(parts),
        own_(spec.weight && spec.weight->size() != (size_t)size),
        norm_(spec, size, own_ ? size * parts : size, "norm") {}
  void gather(std::vector<mx::array>& all) const override { norm_.gather(all); }
  void run(const Pass& pass) const override {
    each_row(pass.count, (size_t)size_ * parts_, [&](int r) {
      float* row = pass.of(rows_) + (size_t)r * rows_.width + at_;
      for (int i = 0; i < parts_; i++) norm_(row + (size_t)i * size_, row + (size_t)i * size_, own_ ? i * size_ : 0);
    });
  }

 private:
  Rows rows_;
  int at_, size_, parts_;
  bool own_;  // each part has weights of its own
  Norm norm_;
};

class Feed : public Step {
 public:
  explicit Feed(const Feeding& s)
      : source_(s.source),
        to_(s.to),
        onto_(s.onto),
        norm_(on_the_way(s.norm, s.source.width)),
        act_(s.act),
        gated_(s.gate.has_value()),
        biases_{{s.gate_bias, s.up.layout.rows, "the bias of the gate"},
                {s.up_bias, s.up.layout.rows, "the bias of up"},
                {s.down_bias, s.down.layout.rows, "the bias of down"}} {
    if (s.gate) weights_.emplace_back(*s.gate);
    weights_.emplace_back(s.up);
    weights_.emplace_back(s.down);
  }
  void gather(std::vector<mx::array>& all) const override {
    for (const Kept& w : weights_) w.gather(all);
    for (const Floats& b : biases_) b.gather(all);
    if (norm_) norm_->gather(all);
  }
  void run(const Pass& pass) const override {
    parts::FeedForward layer;
    layer.w.reserve(weights_.size());
    for (const Kept& w : weights_) layer.w.push_back(w.weight());
    layer.gated = gated_, layer.act = act_, layer.precision = pass.precision;
    for (int i = 0; i < 3; i++) layer.biases[i] = biases_[i].data();
    std::optional<Source> onto;
    if (onto_) onto = pass.source(*onto_);
    const Source source = norm_ ? norm_->on_the_way(pass.source(source_)) : pass.source(source_);
    parts::run(layer, source, pass.count, onto ? &*onto : nullptr, reinterpret_cast<uint8_t*>(pass.of(to_)));
  }

 private:
  Rows source_, to_;
  std::optional<Rows> onto_;
  std::optional<Norm> norm_;
  Activation act_;
  bool gated_;
  std::vector<Kept> weights_;
  Floats biases_[3];
};

class PerHead : public Step {
 public:
  PerHead(Rows source, const Packed& w, int carried, Rows to) : source_(source), to_(to), carried_(carried), w_(w) {}
  void gather(std::vector<mx::array>& all) const override { w_.gather(all); }
  void run(const Pass& pass) const override {
    const Weight all = w_.weight();
    const int from_step = all.cols + carried_, to_step = all.rows + carried_;
    pool::run(w_.packed().experts, [&](uint32_t head) {
      Scratch mine;
      Weight w = all;
      w.data += head * w_.packed().expert_bytes();
      Source source = pass.source(source_);
      source.data += (size_t)head * from_step * sizeof(float);
      const bool integer = can_integer(w, pass.precision);
      const Input input = prepare(mine, source, pass.count, w.cols, integer);
      float* to = pass.of(to_) + (size_t)head * to_step;
      alignas(64) float tile[kTileFloats];
      for (size_t unit = 0; unit < units_of(w); unit++)
        for (int m0 = 0; m0 < pass.count; m0 += kMostRows) {
          const int m = std::min(kMostRows, pass.count - m0), panels = multiply(w, unit, input, m0, m, integer, tile);
          for (int p = 0; p < panels; p++) {
            const int first = (int)(unit * kUnit + p) * kRows, n = std::min(kRows, w.rows - first);
            for (int r = 0; r < m; r++)
              std::memcpy(to + (size_t)(m0 + r) * to_.width + first, tile + ((size_t)p * m + r) * kRows, n * sizeof(float));
          }
        }
      const float* behind = pass.of(source_) + (size_t)head * from_step + w.cols;
      for (int r = 0; r < pass.count && carried_; r++)
        std::memcpy(to + (size_t)r * to_.width + w.rows, behind + (size_t)r * source_.width, carried_ * sizeof(float));
    });
  }

 private:
  Rows source_, to_;
  int carried_;
  Kept w_;
};

}  // namespace

StepPtr combine(const Combining& spec) { return std::make_unique<Combine>(spec); }
StepPtr project(Rows source, const std::vector<Projection>& products, std::optional<Rows> onto, const std::optional<NormSpec>& norm) {
  return std::make_unique<Project>(source, products, onto, norm);
}
StepPtr activate(Rows gate, int at, Activation act, std::optional<Rows> up, int up_at, Rows to) {
  return std::make_unique<Activate>(gate, at, act, up, up_at, to);
}
StepPtr gate(const Gating& spec) { return std::make_unique<Gate>(spec); }
StepPtr normalise(Rows rows, int at, int size, int parts, const NormSpec& norm) {
  return std::make_unique<Normalise>(rows, at, size, parts, norm);
}
StepPtr feed(const Feeding& spec) { return std::make_unique<Feed>(spec); }
StepPtr per_head(Rows source, const Packed& w, int carried, Rows to) {
  return std::make_unique<PerHead>(source, w, carried, to);
}

}  // namespace steps
