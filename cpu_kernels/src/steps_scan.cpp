// What recurrent mixers do between their projections: convolutions, decays, scans.
#include "steps_scan.h"

using namespace kernels;
using namespace linear;

namespace steps {
namespace {

constexpr int kSomeChannels = 1024;  // of one piece of work
constexpr int kSomeBlocks = 4;       // of sixteen channels, whose states are small

mx::array flat(const mx::array& a) { return mx::reshape(a, {(int)a.size()}); }

// f(sequence, its state, part) for all parts of all sequences.
template <class F>
void each_part(const Pass& pass, int state, int parts, F&& f) {
  pool::run((uint32_t)(pass.sequences.size() * parts), [&](uint32_t piece) {
    const size_t i = piece / parts;
    f(pass.sequences[i], pass.states[state][i], (int)(piece % parts));
  });
}

class Convolve : public Step {
 public:
  explicit Convolve(const Convolving& s)
      : s_(s),
        taps_(s.weight.shape(0)),
        channels_(s.to.width),
        weight_(flat(s.weight), taps_ * channels_, "conv"),
        bias_(s.bias, channels_, "conv_bias") {
    for (const Rows& source : s.sources) {
      const int wide = s.sources.size() == 1 ? channels_ : source.width;
      for (int at = 0; at < wide; at += kSomeChannels) pieces_.push_back({source, at + (s.sources.size() == 1 ? s.at : 0), end_, end_ + std::min(kSomeChannels, wide - at)}), end_ = pieces_.back().end;
    }
  }
  void gather(std::vector<mx::array>& all) const override { weight_.gather(all), bias_.gather(all); }
  void run(const Pass& pass) const override {
    each_part(pass, s_.state, (int)pieces_.size(), [&](const Sequence& s, const State& window, int part) {
      const Piece& p = pieces_[part];
      const size_t stride = p.source.width;
      const float* x = pass.of(p.source) + s.first * stride + p.at - p.first;  // so that channel p.first is at p.at
      best().conv({x, stride, window.from, weight_.data(), bias_.data(), pass.of(s_.to) + (size_t)s.first * channels_,
                   (size_t)channels_, s.count, channels_, taps_, s_.silu},
                  p.first, p.end);
      remember(x, stride, s.count, window, p);
    });
  }

 private:
  struct Piece {
    Rows source;
    int at, first, end;  // channels [first, end) begin in a row at `at`
  };
  // The last inputs. The oldest first, so that nothing is overwritten before it has moved.
  void remember(const float* x, size_t stride, int count, const State& window, const Piece& p) const {
    const int kept = taps_ - 1, n = p.end - p.first;
    for (int i = 0; i < kept; i++) {
      const int at = i + count;
      float* to = window.to + (size_t)i * channels_ + p.first;
      const float* from = at >= kept ? x + (at - kept) * stride : window.from ? window.from + (size_t)at * channels_ : nullptr;
      if (from) std::memmove(to, from + p.first, n * sizeof(float));
      else std::fill(to, to + n, 0.0f);
    }
  }

  Convolving s_;
  int taps_, channels_, end_ = 0;
  Floats weight_, bias_;
  std::vector<Piece> pieces_;
};

class Pace : public Step {
 public:
  explicit Pace(const Paced& s) : s_(s), bias_(s.bias, s.to.width, "bias") {
    if (s.rate) {
      const int rates = (int)s.rate->size();
      rate_ = Floats(flat(mx::repeat(*s.rate, s.to.width / rates)), s.to.width, "rate");
    }
  }
  void gather(std::vector<mx::array>& all) const override {
    bias_.gather(all);
    rate_.gather(all);
  }
  void run(const Pass& pass) const override {
    const Pacing pacing{s_.by, bias_.data(), rate_.data(), s_.low, s_.high};
    each_row(pass.count, 4 * (size_t)s_.to.width, [&](int r) {
      best().pace(pacing, pass.of(s_.source) + (size_t)r * s_.source.width + s_.at, s_.to.width, pass.of(s_.to) + (size_t)r * s_.to.width);
    });
  }

 private:
  Paced s_;
  Floats bias_, rate_{std::nullopt, 0, "rate"};
};

// Sixteen channels side by side: (channels / 16, entries, 16), zeros behind the last.
mx::array turned(const mx::array& a) {
  const int channels = a.shape(0), blocks = (channels + 15) / 16;
  const mx::array padded = mx::pad(mx::astype(a, mx::float32), std::vector<std::pair<int, int>>{{0, blocks * 16 - channels}, {0, 0}});
  return flat(mx::contiguous(mx::transpose(mx::reshape(padded, {blocks, 16, a.shape(1)}), {0, 2, 1})));
}

class Selectively : public Step {
 public:
  explicit Selectively(const SelectiveScan& s)
      : s_(s),
        channels_(s.to.width),
        entries_(s.a.shape(1)),
        a_(turned(s.a), (channels_ + 15) / 16 * 16 * entries_, "a"),
        skip_(s.skip, channels_, "skip") {}
  void gather(std::vector<mx::array>& all) const override { a_.gather(all), skip_.gather(all); }
  void run(const Pass& pass) const override {
    const int blocks = (channels_ + 15) / 16;
    each_part(pass, s_.state, (blocks + kSomeBlocks - 1) / kSomeBlocks, [&](const Sequence& s, const State& state, int part) {
      const size_t first = s.first, wide = channels_, bc = s_.bc.width;
      const float* b = pass.of(s_.bc) + first * bc + s_.at;
      const Selective own{pass.of(s_.u) + first * wide, pass.of(s_.dt) + first * wide, b, b + entries_, wide, wide, bc, a_.data(),
                          skip_.data(), state.from, state.to, pass.of(s_.to) + first * wide, wide, s.count, channels_, entries_};
      Scratch mine;
      float* scratch = mine.take<float>(scan_scratch(entries_));
      for (int block = part * kSomeBlocks; block < std::min(blocks, (part + 1) * kSomeBlocks); block++) best().selective(own, block, scratch);
    });
  }

 private:
  SelectiveScan s_;
  int channels_, entries_;
  Floats a_, skip_;
};

class Spaced : public Step {
 public:
  explicit Spaced(const SpaceScan& s) : s_(s), rate_(s.rate, s.heads, "rate"), skip_(s.skip, s.heads, "skip") {}
  void gather(std::vector<mx::array>& all) const override { rate_.gather(all), skip_.gather(all); }
  void run(const Pass& pass) const override {
    each_part(pass, s_.state, s_.heads, [&](const Sequence& s, const State& state, int head) {
      const size_t first = s.first, stride = s_.mixed.width, inner = s_.to.width;
      const float *u = pass.of(s_.mixed) + first * stride, *b = u + inner;
      Scratch mine;
      best().state_space({u, b, b + (size_t)s_.groups * s_.entries, stride, pass.of(s_.dt) + first * s_.heads, rate_.data(),
                          skip_.data(), state.from, state.to, pass.of(s_.to) + first * inner, inner, s.count, s_.heads, s_.dim,
                          s_.groups, s_.entries},
                         head, mine.take<float>(scan_scratch(s_.entries)));
    });
  }

 private:
  SpaceScan s_;
  Floats rate_, skip_;
};

class Corrected : public Step {
 public:
  explicit Corrected(const DeltaScan& s) : s_(s) {}
  void gather(std::vector<mx::array>&) const override {}
  void run(const Pass& pass) const override {
    each_part(pass, s_.state, s_.v_heads, [&](const Sequence& s, const State& state, int head) {
      const size_t first = s.first, stride = s_.mixed.width, keys = (size_t)s_.k_heads * s_.k_dim, values = s_.to.width;
      const float* q = pass.of(s_.mixed) + first * stride;
      Scratch mine;
      best().delta({q, q + keys, q + 2 * keys, stride, pass.of(s_.decay) + first * s_.decay.width, pass.of(s_.beta) + first * s_.v_heads,
                    s_.decay.width != s_.v_heads, state.from, state.to, pass.of(s_.to) + first * values, values, s.count,
                    s_.k_heads, s_.v_heads, s_.k_dim, s_.v_dim},
                   head, mine.take<float>(scan_scratch(s_.k_dim)));
    });
  }

 private:
  DeltaScan s_;
};

class Linearly : public Step {
 public:
  explicit Linearly(const LinearScan& s)
      : s_(s),
        channels_(s.to.width),
        into_bias_(s.into_bias, channels_, "the bias of the input's gate"),
        decay_bias_(s.decay_bias, channels_, "the bias of the decay's gate"),
        rate_(s.rate, channels_, "rate") {}
  void gather(std::vector<mx::array>& all) const override { into_bias_.gather(all), decay_bias_.gather(all), rate_.gather(all); }
  void run(const Pass& pass) const override {
    const int step = 16 * kSomeBlocks;
    each_part(pass, s_.state, (channels_ + step - 1) / step, [&](const Sequence& s, const State& state, int part) {
      const size_t at = (size_t)s.first * channels_;
      best().linear_scan({pass.of(s_.x) + at, pass.of(s_.into) + at, pass.of(s_.decay) + at, (size_t)channels_, into_bias_.data(),
                          decay_bias_.data(), rate_.data(), state.from, state.to, pass.of(s_.to) + at, s.count, channels_},
                         part * step, std::min(channels_, (part + 1) * step));
    });
  }

 private:
  LinearScan s_;
  int channels_;
  Floats into_bias_, decay_bias_, rate_;
};

}  // namespace

StepPtr convolve(const Convolving& spec) { return std::make_unique<Convolve>(spec); }
StepPtr pace(const Paced& spec) { return std::make_unique<Pace>(spec); }
StepPtr scan(const SelectiveScan& spec) { return std::make_unique<Selectively>(spec); }
StepPtr scan(const SpaceScan& spec) { return std::make_unique<Spaced>(spec); }
StepPtr scan(const DeltaScan& spec) { return std::make_unique<Corrected>(spec); }
StepPtr scan(const LinearScan& spec) { return std::make_unique<Linearly>(spec); }

}  // namespace steps
