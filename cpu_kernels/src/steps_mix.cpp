// A mixture of experts: which of them serve a row, with what weight, and what they say.
#include <cmath>
#include <limits>

#include "steps.h"

using namespace kernels;
using namespace linear;

namespace steps {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();

// The `count` largest, largest first; equals go to the lower one.
void top_of(const float* scores, int n, int count, int32_t* ids) {
  for (int c = 0; c < count; c++) {
    int best = -1;
    for (int i = 0; i < n; i++) {
      if (std::find(ids, ids + c, i) != ids + c) continue;
      if (best < 0 || scores[i] > scores[best]) best = i;
    }
    ids[c] = best;
  }
}

void softmax(float* x, int n) {
  const float top = *std::max_element(x, x + n);
  float sum = 0;
  for (int i = 0; i < n; i++) sum += x[i] = std::exp(x[i] - top);
  for (int i = 0; i < n; i++) x[i] /= sum;
}

class Router {
 public:
  Router(const Routing& s, int experts)
      : s_(s), experts_(experts), select_bias_(s.select_bias, experts, "select_bias"), expert_scale_(s.expert_scale, experts, "expert_scale") {}
  void gather(std::vector<mx::array>& all) const { select_bias_.gather(all), expert_scale_.gather(all); }
  int choices() const { return s_.top_k; }

  // `logits` of one row, which are overwritten
  void operator()(float* logits, int32_t* ids, float* weights) const {
    if (s_.score == SparseMixer) sparse(logits, ids, weights);
    else plain(logits, ids, weights);
    if (s_.renorm) {
      float sum = 0;
      for (int c = 0; c < s_.top_k; c++) sum += weights[c];
      for (int c = 0; c < s_.top_k; c++) weights[c] /= sum + s_.renorm_eps;
    }
    for (int c = 0; c < s_.top_k; c++) {
      weights[c] *= s_.scale;
      if (expert_scale_.data()) weights[c] *= expert_scale_.data()[ids[c]];
    }
  }

 private:
  void plain(float* scores, int32_t* ids, float* weights) const {
    Scratch mine;
    if (s_.score == Softmax) softmax(scores, experts_);
    if (s_.score == Sigmoids)
      for (int i = 0; i < experts_; i++) scores[i] = 1.0f / (1.0f + std::exp(-scores[i]));
    float* choice = mine.take<float>(experts_);
    for (int i = 0; i < experts_; i++) choice[i] = scores[i] + (select_bias_.data() ? select_bias_.data()[i] : 0.0f);
    if (s_.groups > 1) keep_best_groups(choice);
    top_of(choice, experts_, s_.top_k, ids);
    for (int c = 0; c < s_.top_k; c++) weights[c] = scores[ids[c]];
    if (s_.score == SoftmaxTopK) softmax(weights, s_.top_k);
  }

  // A group counts its two best experts.
  void keep_best_groups(float* choice) const {
    Scratch mine;
    const int size = experts_ / s_.groups;
    float* strength = mine.take<float>(s_.groups);
    int32_t* kept = mine.take<int32_t>(s_.groups);
    for (int g = 0; g < s_.groups; g++) {
      int32_t two[2] = {0, 0};
      top_of(choice + g * size, size, std::min(2, size), two);
      strength[g] = choice[g * size + two[0]] + (size > 1 ? choice[g * size + two[1]] : 0.0f);
    }
    top_of(strength, s_.groups, s_.top_groups, kept);
    for (int g = 0; g < s_.groups; g++)
      if (std::find(kept, kept + s_.top_groups, g) == kept + s_.top_groups) std::fill_n(choice + g * size, size, kNone);
  }

  // The best expert, weighted among those near it; then the same without it, and so on.
  void sparse(const float* logits, int32_t* ids, float* weights) const {
    Scratch mine;
    float *left = mine.take<float>(experts_), *near = mine.take<float>(experts_);
    std::memcpy(left, logits, experts_ * sizeof(float));
    for (int c = 0; c < s_.top_k; c++) {
      top_of(left, experts_, 1, ids + c);
      const float best = left[ids[c]];
      for (int i = 0; i < experts_; i++) {
        const bool far = (best - logits[i]) / std::max(std::fabs(logits[i]), best) > 2 * s_.jitter;
        near[i] = far ? kNone : left[i];
      }
      softmax(near, experts_);
      weights[c] = near[ids[c]];
      left[ids[c]] = kNone;
    }
  }

  Routing s_;
  int experts_;
  Floats select_bias_, expert_scale_;
};

class Route : public Step {
 public:
  Route(Rows logits, const Routing& routing, Rows to) : logits_(logits), to_(to), router_(routing, logits.width) {}
  void gather(std::vector<mx::array>& all) const override { router_.gather(all); }
  void run(const Pass& pass) const override {
    each_row(pass.count, (size_t)logits_.width * to_.width, [&](int r) {
      Scratch mine;
      int32_t* ids = mine.take<int32_t>(to_.width);
      float* weights = mine.take<float>(to_.width);
      router_(pass.of(logits_) + (size_t)r * logits_.width, ids, weights);
      for (int c = 0; c < to_.width; c++) pass.of(to_)[(size_t)r * to_.width + c] = (float)ids[c];
    });
  }

 private:
  Rows logits_, to_;
  Router router_;
};

class Mix : public Step {
 public:
  explicit Mix(const Mixing& s)
      : source_(s.network.source),
        to_(s.network.to),
        logits_(s.logits),
        onto_(s.network.onto),
        router_(s.routing, s.network.up.experts),
        scales_input_(s.scales_input),
        act_(s.network.act),
        up_(s.network.up),
        down_(s.network.down),
        biases_{flat(s.network.gate_bias, s.network.up), flat(s.network.up_bias, s.network.up), flat(s.network.down_bias, s.network.down)} {
    if (s.network.gate) gate_.emplace(*s.network.gate);
  }
  void gather(std::vector<mx::array>& all) const override {
    router_.gather(all), up_.gather(all), down_.gather(all);
    if (gate_) gate_->gather(all);
    for (const Floats& b : biases_) b.gather(all);
  }
  void run(const Pass& pass) const override {
    Scratch scratch;
    const int k = router_.choices(), n = pass.count;
    int32_t* ids = scratch.take<int32_t>((size_t)n * k);
    float* weights = scratch.take<float>((size_t)n * k);
    each_row(n, (size_t)logits_.width * k, [&](int r) {
      router_(pass.of(logits_) + (size_t)r * logits_.width, ids + (size_t)r * k, weights + (size_t)r * k);
    });
    const size_t wide = to_.width;
    float* to = pass.of(to_);
    if (!onto_) std::memset(to, 0, n * wide * sizeof(float));
    else if (onto_->buffer != to_.buffer) std::memcpy(to, pass.of(*onto_), n * wide * sizeof(float));
    if (scales_input_) return scaled(pass, ids, weights, to);
    parts::run(mixture(pass), pass.source(source_), n, ids, weights, k, to);
  }

 private:
  static Floats flat(const std::optional<mx::array>& bias, const Packed& w) {
    std::optional<mx::array> values;
    if (bias) values = mx::reshape(*bias, {-1}, mx::Device::cpu);
    return Floats(values, w.experts * w.layout.rows, "bias of experts");
  }
  parts::Mixture mixture(const Pass& pass) const {
    parts::Mixture m;
    m.up = up_.weight(), m.down = down_.weight(), m.gated = gate_.has_value();
    m.up_bytes = up_.packed().expert_bytes(), m.down_bytes = down_.packed().expert_bytes();
    if (gate_) m.gate = gate_->weight(), m.gate_bytes = gate_->packed().expert_bytes();
    m.experts = up_.packed().experts, m.act = act_, m.precision = pass.precision;
    m.gate_bias = biases_[0].data(), m.up_bias = biases_[1].data(), m.down_bias = biases_[2].data();
    return m;
  }
  // Each choice of a row is a row of its own, times its weight, and what they become is added in their order.
  void scaled(const Pass& pass, const int32_t* ids, float* weights, float* to) const {
    Scratch scratch;
    const int k = router_.choices(), n = pass.count;
    const size_t width = source_.width, wide = to_.width;
    float* rows = scratch.take<float>((size_t)n * k * width);
    float* said = scratch.take<float>((size_t)n * k * wide);
    each_row(n * k, width, [&](int i) {
      const float* from = pass.of(source_) + (size_t)(i / k) * width;
      for (size_t j = 0; j < width; j++) rows[i * width + j] = weights[i] * from[j];
      weights[i] = 1;
    });
    std::memset(said, 0, (size_t)n * k * wide * sizeof(float));
    parts::run(mixture(pass), {F32, reinterpret_cast<const uint8_t*>(rows), width}, n * k, ids, weights, 1, said);
    each_row(n, k * wide, [&](int r) {
      for (int c = 0; c < k; c++)
        for (size_t j = 0; j < wide; j++) to[r * wide + j] += said[((size_t)r * k + c) * wide + j];
    });
  }

  Rows source_, to_, logits_;
  std::optional<Rows> onto_;
  Router router_;
  bool scales_input_;
  Activation act_;
  std::optional<Kept> gate_;
  Kept up_, down_;
  Floats biases_[3];
};

}  // namespace

StepPtr route(Rows logits, const Routing& routing, Rows to) { return std::make_unique<Route>(logits, routing, to); }
StepPtr mix(const Mixing& spec) { return std::make_unique<Mix>(spec); }

}  // namespace steps
