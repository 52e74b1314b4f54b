// Attention over pages: how its work is shared out, and the nodes.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "attention.h"
#include "mlx/ops.h"
#include "pages.h"
#include "primitive.h"

using namespace kernels;
using namespace linear;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

constexpr int kRowsOfPiece = 96;              // rows of q that one piece of work takes through keys
constexpr size_t kMostPartial = 64u << 20;    // bytes that parts may take which are joined in the end

// Rows of the pass that go through the same pages together.
struct Block {
  int first, count;
  const int32_t* table;
  int from, to;  // its parts of keys
};

class Work {
 public:
  Work(const Paged& a, const PagedBatch& batch) : a_(a), share_(a.heads / a.kv_heads), wide_((a.v_dim + 15) / 16 * 16) {
    const int most = std::max(1, kRowsOfPiece / share_);
    rows_.resize(batch.rows());
    for (int r = 0; r < batch.rows(); r++) rows_[r] = r;
    for (size_t i = 0; i < batch.count(); i++)
      for (int r = batch.starts[i]; r < batch.starts[i + 1]; r += most) add(r, std::min(most, batch.starts[i + 1] - r), batch.tables[i]);
  }

  void run() {
    size_t partial = 0, parts = 0;
    for (const Block& b : blocks_) partial += (size_t)b.count * a_.heads * (b.to - b.from) * ldp() * 4, parts += b.to - b.from;
    const size_t pieces = blocks_.size() * a_.kv_heads;
    const bool shared = join_alike();
    if (partial > kMostPartial || (!shared && (pieces >= 4 * (size_t)pool::threads() || parts == blocks_.size()))) in_turn();
    else by_parts();
  }

 private:
  size_t ldp() const { return kPartHead + wide_; }

  // Of rows in their order it never goes back.
  int end_of(int row) const { return a_.ends ? a_.ends[row] : a_.positions[row] + 1; }

  void add(int first, int count, const std::vector<int32_t>& table) {
    int begin = a_.positions[first];
    if (a_.chunk > 0) begin = begin / a_.chunk * a_.chunk;
    else if (a_.window > 0) begin = std::max(0, begin - a_.window + 1);
    else begin = 0;
    blocks_.push_back({first, count, table.data(), begin / kPartKeys, (end_of(first + count - 1) - 1) / kPartKeys + 1});
  }

  // Blocks of one row whose pages of a part are the same read it together: which, for each part.
  bool join_alike() {
    const int pages = std::max(1, kPartKeys >> a_.shift);
    bool shared = false;
    for (size_t i = 0; i < blocks_.size();) {
      size_t next = i + 1;
      const Block& one = blocks_[i];
      const int whole = (a_.positions[one.first] + 1) / kPartKeys;  // parts that are full for this row
      while (one.count == 1 && whole > one.from && next < blocks_.size() && blocks_[next].count == 1 &&
             blocks_[next].first == blocks_[next - 1].first + 1 && alike(one, blocks_[next], one.from, pages))
        next++, shared = true;
      runs_.push_back({i, next});
      i = next;
    }
    return shared;
  }
  bool alike(const Block& one, const Block& other, int part, int pages) const {
    if (other.from > part || other.to <= part + 1 || one.to <= part + 1) return false;  // the last part is each one's own
    const int first = (part * kPartKeys) >> a_.shift;
    return std::memcmp(one.table + first, other.table + first, pages * sizeof(int32_t)) == 0;
  }

  uint8_t* out_of(int row, int head) const {
    return a_.out + ((size_t)row * a_.heads + head) * a_.v_dim * size_of(a_.out_type);
  }
  void begin(float* sum, int head) const {
    sum[0] = a_.sinks ? a_.sinks[head] : -__builtin_inff(), sum[1] = a_.sinks ? 1.0f : 0.0f;
    std::fill_n(sum + kPartHead, wide_, 0.0f);
  }
  float* scratch_of(Scratch& mine, int count) const {
    return mine.take<float>(part_scratch(count * share_, a_.dim, a_.v_dim));
  }

  // Each piece takes its rows through all of their keys.
  void in_turn() {
    pool::run((uint32_t)(blocks_.size() * a_.kv_heads), [&](uint32_t i) {
      const Block& b = blocks_[i / a_.kv_heads];
      const int head = i % a_.kv_heads, n = b.count * share_;
      Scratch mine;
      float* work = scratch_of(mine, b.count);
      float* sums = mine.take<float>(n * ldp());
      float* part = mine.take<float>(n * ldp());
      for (int r = 0; r < n; r++) begin(sums + r * ldp(), head * share_ + r % share_);
      for (int p = b.from; p < b.to; p++) {
        best().attend_part(a_, head, b.table, p, &rows_[b.first], b.count, part, work);
        for (int r = 0; r < n; r++) best().join(sums + r * ldp(), part + r * ldp(), wide_);
      }
      for (int r = 0; r < n; r++)
        best().put_sum(sums + r * ldp(), a_.v_dim, a_.out_type, out_of(b.first + r / share_, head * share_ + r % share_));
    });
  }

  // A piece for each part of the keys; of rows that share pages one for all.
  struct Piece {
    size_t block;  // the first
    int count, part;
  };
  void by_parts() {
    const int pages = std::max(1, kPartKeys >> a_.shift), most = std::max(1, kRowsOfPiece / share_);
    std::vector<Piece> pieces;
    std::vector<size_t> starts;  // of each block's parts
    size_t all = 0;
    for (const Block& b : blocks_) starts.push_back(all), all += (size_t)b.count * (b.to - b.from);
    for (auto [first, end] : runs_)
      for (size_t i = first; i < end; i++) {
        for (int p = blocks_[i].from; p < blocks_[i].to; p++) {
          if (i > first && alike(blocks_[i - 1], blocks_[i], p, pages) && (i - first) % most) continue;  // taken along
          int count = blocks_[i].count;
          for (size_t j = i + 1; j < end && (j - first) % most && alike(blocks_[j - 1], blocks_[j], p, pages); j++) count++;
          pieces.push_back({i, count, p});
        }
      }
    Scratch scratch;
    float* partial = scratch.take<float>(all * a_.heads * ldp());
    // of a block's row: (kv head, part, share)
    auto place = [&](const Block& b, size_t block, int row, int head, int part) {
      return partial + ((starts[block] + (size_t)row * (b.to - b.from)) * a_.heads + ((size_t)head * (b.to - b.from) + part - b.from) * share_) * ldp();
    };
    pool::run((uint32_t)(pieces.size() * a_.kv_heads), [&](uint32_t i) {
      const Piece& piece = pieces[i / a_.kv_heads];
      const int head = i % a_.kv_heads;
      const Block& b = blocks_[piece.block];
      Scratch mine;
      float* work = scratch_of(mine, piece.count);
      float* out = mine.take<float>((size_t)piece.count * share_ * ldp());
      best().attend_part(a_, head, b.table, piece.part, &rows_[b.first], piece.count, out, work);
      for (int r = 0; r < piece.count; r++) {
        const size_t block = b.count > 1 ? piece.block : piece.block + r;
        const Block& own = blocks_[block];
        std::memcpy(place(own, block, b.count > 1 ? r : 0, head, piece.part), out + (size_t)r * share_ * ldp(), share_ * ldp() * 4);
      }
    });
    pool::run((uint32_t)blocks_.size(), [&](uint32_t i) {
      const Block& b = blocks_[i];
      Scratch mine;
      float* sum = mine.take<float>(ldp());
      for (int r = 0; r < b.count; r++)
        for (int h = 0; h < a_.heads; h++) {
          begin(sum, h);
          for (int p = b.from; p < b.to; p++)
            best().join(sum, place(b, i, r, h / share_, p) + (h % share_) * ldp(), wide_);
          best().put_sum(sum, a_.v_dim, a_.out_type, out_of(b.first + r, h));
        }
    });
  }

  const Paged& a_;
  const int share_, wide_;
  std::vector<int32_t> rows_;
  std::vector<Block> blocks_;
  std::vector<std::pair<size_t, size_t>> runs_;  // of blocks that may read together
};

}  // namespace

void parts::run(const Paged& a, const PagedBatch& batch) { Work(a, batch).run(); }

Paged parts::paged_over(const PagePlace& place, const PagedBatch& batch, const PagedRule& rule) {
  Paged a{};
  a.kv_type = place.as_bytes ? S8 : type_of(place.type, "keys"), a.kv_heads = place.heads, a.dim = place.dim, a.v_dim = place.v_dim;
  a.positions = batch.positions.data(), a.ends = batch.ends.empty() ? nullptr : batch.ends.data();
  a.scale = rule.scale, a.softcap = rule.softcap, a.window = rule.window, a.chunk = rule.chunk;
  a.base = place.pages->at(0), a.page_bytes = place.pages->page_bytes();
  a.k_at = place.k_at, a.v_at = place.v_at, a.k_scales = place.k_scales, a.v_scales = place.v_scales;
  a.v_step = place.v_step(), a.turned = place.own_values;
  while (1 << a.shift < place.size) a.shift++;
  return a;
}

namespace {

parts::KeyRows key_rows(Scratch& scratch, const View& k, const std::optional<View>& v) {
  const RowsOfHeads keys(scratch, k), values = v ? RowsOfHeads(scratch, *v) : keys;
  return {keys.data, values.data, keys.row, keys.head, values.row, values.head};
}

void check_keys(const std::optional<mx::array>& k, const std::optional<mx::array>& v, const PagePlace& place, const PagedBatch& batch) {
  batch.check(place);
  if (k.has_value() != (v.has_value() || !place.own_values) && (k || v)) wrong("k and v must be as the place keeps them");
  for (auto [a, name, size] : {std::tuple{&k, "k", place.dim}, std::tuple{&v, "v", place.v_dim}}) {
    if (!*a) continue;
    if (rows_of(**a, name) != batch.rows()) wrong(std::string(name) + " must have the rows of the batch");
    if ((*a)->shape(1) != place.heads || (*a)->shape(3) != size) wrong(std::string(name) + " must have the heads and the size of the place");
    if ((*a)->dtype() != place.type) wrong(std::string(name) + " must have the type of the place");
  }
}

class AttendPages : public CpuPrimitive {
 public:
  struct Plan {
    PagePlace place;
    std::shared_ptr<const PagedBatch> batch;
    PagedRule rule;
    int heads;
    Type type;
    bool writes, sinks, slopes;
  };
  explicit AttendPages(Plan plan) : p_(std::move(plan)) {}
  const char* name() const override { return "mlxrun::AttendPages"; }

  // inputs: q, then k and v where it writes, then sinks and slopes where there are any
  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    std::optional<View> k, v;
    size_t at = 1;
    if (p_.writes) k.emplace(in[at++]);
    if (p_.writes && p_.place.own_values) v.emplace(in[at++]);
    const int sinks_at = p_.sinks ? (int)at++ : -1, slopes_at = p_.slopes ? (int)at++ : -1;
    dispatch([p = p_, q = View(in[0]), k, v, sinks = Vector(in, sinks_at), slopes = Vector(in, slopes_at), out = allocate(outs[0])] {
      Scratch scratch;
      if (k) {
        parts::copy_pages(p.place, *p.batch);
        parts::write_pages(p.place, *p.batch, key_rows(scratch, *k, v));
      }
      Paged a = parts::paged_over(p.place, *p.batch, p.rule);
      const RowsOfHeads rows(scratch, q);
      a.q_type = a.out_type = p.type, a.heads = p.heads;
      a.q = rows.data, a.q_row = rows.row, a.q_head = rows.head, a.out = out;
      a.sinks = sinks.floats(scratch), a.slopes = slopes.floats(scratch);
      parts::run(a, *p.batch);
    });
  }

 private:
  Plan p_;
};

class ReadPages : public CpuPrimitive {
 public:
  ReadPages(PagePlace place, std::shared_ptr<const PagedBatch> batch) : place_(std::move(place)), batch_(std::move(batch)) {}
  const char* name() const override { return "mlxrun::ReadPages"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    std::vector<uint8_t*> to;
    for (mx::array& out : outs) to.push_back(allocate(out));
    dispatch([place = place_, batch = batch_, k = View(in[0]), to = std::move(to)] {
      Scratch scratch;
      parts::copy_pages(place, *batch);
      parts::write_pages(place, *batch, key_rows(scratch, k, std::nullopt));
      const size_t bytes = place.dim * mx::size_of(place.type);
      for (size_t i = 0; i < batch->count(); i++) {
        const int count = batch->length(i);
        for (int h = 0; h < place.heads; h++)
          for (int p = 0; p < count; p += place.size)
            std::memcpy(to[i] + ((size_t)h * count + p) * bytes,
                        place.pages->at(batch->tables[i][p / place.size]) + place.k_at + (size_t)h * place.size * bytes,
                        std::min(place.size, count - p) * bytes);
      }
    });
  }

 private:
  PagePlace place_;
  std::shared_ptr<const PagedBatch> batch_;
};

}  // namespace

mx::array attend_pages(const mx::array& q, const std::optional<mx::array>& k, const std::optional<mx::array>& v,
                       const PagePlace& place, std::shared_ptr<const PagedBatch> batch, const PagedRule& rule,
                       const std::optional<mx::array>& sinks, const std::optional<mx::array>& slopes) {
  check_keys(k, v, place, *batch);
  if (rows_of(q, "q") != batch->rows()) wrong("q must have the rows of the batch");
  if (q.shape(1) % place.heads || q.shape(1) == 0) wrong("q must have a whole number of heads for each head of keys");
  if (q.shape(3) != place.dim) wrong("q must have heads of the size of the keys");
  if (rule.window < 0 || rule.chunk < 0 || rule.softcap < 0) wrong("window, chunk and softcap must be 0 (none) or more");
  AttendPages::Plan plan{place, batch, rule, q.shape(1), type_of(q.dtype(), "q"), k.has_value(), sinks.has_value(), slopes.has_value()};
  std::vector<mx::array> inputs{q};
  if (k) inputs.push_back(*k);
  if (v) inputs.push_back(*v);
  for (auto [vector, name] : {std::pair{&sinks, "sinks"}, std::pair{&slopes, "slopes"}})
    if (*vector) {
      if ((*vector)->ndim() != 1 || (*vector)->shape(0) != q.shape(1)) wrong(std::string(name) + " must have one value for each head of q");
      type_of((*vector)->dtype(), name);
      inputs.push_back(**vector);
    }
  return mx::array({batch->rows(), q.shape(1) * place.v_dim}, q.dtype(), std::make_shared<AttendPages>(std::move(plan)), std::move(inputs));
}

std::vector<mx::array> read_pages(const mx::array& k, const PagePlace& place, std::shared_ptr<const PagedBatch> batch) {
  if (place.own_values) wrong("only keys without values are read");
  check_keys(k, std::nullopt, place, *batch);
  std::vector<mx::Shape> shapes;
  for (size_t i = 0; i < batch->count(); i++) {
    for (int p = 0; p * place.size < batch->length(i); p++)
      if (batch->tables[i][p] < 0) wrong("every page of a sequence that is read must be there");
    shapes.push_back({1, place.heads, batch->length(i), place.dim});
  }
  std::vector<mx::Dtype> types(batch->count(), place.type);
  return mx::array::make_arrays(std::move(shapes), types, std::make_shared<ReadPages>(place, batch), {k});
}
