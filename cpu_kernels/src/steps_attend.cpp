// Attention of a pass over keys in pages: its heads are normed and turned, the new keys written, and all looked at.
#include <cmath>

#include "steps.h"

using namespace kernels;
using namespace linear;

namespace steps {
namespace {

// What becomes of the heads of one projection before they are looked at or kept.
struct HeadWork {
  int dim, step, count;
  float clip;
  Scope scope;
  bool after_rope;
  std::optional<Norm> norm;
  int rope, rope_at, half;
  bool interleaved;

  // `row`: its heads, each `dim` values, `step` from the start of the next. `angles`: of this row, or null.
  void operator()(float* row, const float* angles) const {
    if (norm && scope == All) (*norm)(row, row);
    if (clip > 0)
      for (int h = 0; h < count; h++)
        for (int i = 0; i < dim; i++) row[h * step + i] = std::min(clip, std::max(-clip, row[h * step + i]));
    for (int h = 0; h < count; h++) {
      float* head = row + (size_t)h * step;
      const bool normed = norm && scope != All;
      const int at = scope == Each ? h * dim : 0;
      if (normed && !after_rope) (*norm)(head, head, at);
      if (angles) parts::rotate(head + rope_at, angles, half, interleaved);
      if (normed && after_rope) (*norm)(head, head, at);
    }
  }
};

class Attend : public Step {
 public:
  explicit Attend(const Attending& s)
      : s_(s), heads_(s.q.width / s.step), sinks_(s.sinks, heads_, "sinks"), slopes_(s.slopes, heads_, "slopes") {
    q_ = work(s, s.q_norm, heads_, s.step, 0, "q_norm", true);
    if (s.k) k_ = work(s, s.k_norm, s.k->width / s.dim, s.dim, s.k_norm_size, "k_norm", true);
    if (s.v) {
      v_ = work(s, std::nullopt, s.v->width / s.dim, s.dim, 0, "v_norm", false);
      if (s.v_norm) v_->norm.emplace(*s.v_norm, s.dim, s.dim, "v_norm"), v_->scope = Head;
    }
  }
  void gather(std::vector<mx::array>& all) const override {
    for (const std::optional<HeadWork>* part : {&q_, &k_, &v_})
      if (*part && (*part)->norm) (*part)->norm->gather(all);
    sinks_.gather(all), slopes_.gather(all);
  }
  void run(const Pass& pass) const override {
    Scratch scratch;
    const PagePlace& place = (*pass.places)[s_.place];
    const PagedBatch& batch = *(*pass.batches)[s_.place];
    const Type kept = type_of(place.type, "keys");
    const size_t narrow = size_of(kept), n = pass.count;
    uint8_t* fresh[2] = {nullptr, nullptr};
    if (s_.k) fresh[0] = scratch.take<uint8_t>(n * s_.k->width * narrow);
    if (s_.v) fresh[1] = scratch.take<uint8_t>(n * s_.v->width * narrow);
    const float* angles = s_.rope < 0 ? nullptr : pass.angles[s_.rope];
    each_row(pass.count, s_.q.width + (s_.k ? s_.k->width : 0) + (s_.v ? s_.v->width : 0), [&](int r) {
      const float* turn = angles ? angles + (size_t)r * s_.rope_half * 2 : nullptr;
      // values first: they may be the same rows as keys
      if (s_.v) narrowed(*v_, pass.of(*s_.v) + (size_t)r * s_.v->width, s_.v->width, nullptr, kept, fresh[1] + r * s_.v->width * narrow);
      if (s_.k) narrowed(*k_, pass.of(*s_.k) + (size_t)r * s_.k->width, s_.k->width, turn, kept, fresh[0] + r * s_.k->width * narrow);
      float* q = pass.of(s_.q) + (size_t)r * s_.q.width;
      (*q_)(q, turn);
      if (s_.beta != 0) {
        const float grown = 1 + s_.beta * std::log1p(std::floor(((float)batch.positions[r] + s_.shift) / s_.floor));
        for (int i = 0; i < s_.q.width; i++) q[i] *= grown;
      }
    });
    if (s_.k) {
      parts::copy_pages(place, batch);
      const int wide = s_.k->width, v_wide = s_.v ? s_.v->width : wide;
      parts::write_pages(place, batch, {fresh[0], s_.v ? fresh[1] : fresh[0], wide, s_.dim, v_wide, s_.v ? s_.v_dim : s_.dim});
    }
    Paged a = parts::paged_over(place, batch, s_.rule);
    a.q_type = a.out_type = F32, a.heads = heads_, a.sinks = sinks_.data(), a.slopes = slopes_.data();
    a.q = reinterpret_cast<const uint8_t*>(pass.of(s_.q)), a.q_row = s_.q.width, a.q_head = s_.step;
    a.out = reinterpret_cast<uint8_t*>(pass.of(s_.to));
    parts::run(a, batch);
  }

 private:
  static HeadWork work(const Attending& s, const std::optional<NormSpec>& norm, int count, int step, int size, const char* name,
                       bool turns) {
    HeadWork w{s.dim, step, count, s.clip, s.scope, s.after_rope, std::nullopt, turns ? s.rope : -1, s.rope_at, s.rope_half, s.interleaved};
    const int row = count * s.dim;
    if (norm) w.norm.emplace(*norm, s.scope == All ? row : size ? size : s.dim, s.scope == Head ? (size ? size : s.dim) : row, name);
    return w;
  }
  static void narrowed(const HeadWork& work, const float* from, int width, const float* angles, Type kept, uint8_t* to) {
    Scratch mine;
    float* row = mine.take<float>(width);
    std::memcpy(row, from, width * sizeof(float));
    work(row, angles);
    best().narrow(kept, row, to, width);
  }

  Attending s_;
  int heads_;
  std::optional<HeadWork> q_, k_, v_;
  Floats sinks_, slopes_;
};

}  // namespace

StepPtr attend(const Attending& spec) { return std::make_unique<Attend>(spec); }

}  // namespace steps
