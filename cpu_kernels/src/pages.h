// Keys and values in pages: where they lie, and what a pass is told of the sequences that it reads and writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kernels.h"
#include "mlx/array.h"

namespace mx = mlx::core;

// The pages of one group of layers: addresses that stay, and memory where something was written.
class Pages {
 public:
  // At most so many pages, or as many as the system lets us address.
  Pages(size_t page_bytes, size_t most);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  uint8_t* at(int page) const { return base_ + (size_t)page * page_bytes_; }
  size_t page_bytes() const { return page_bytes_; }
  size_t most() const { return most_; }
  // The memory of pages [first, first + count) goes back to the system; what lay there is gone.
  void forget(int first, int count);
  void copy_out(int page, uint8_t* to) const;
  void copy_in(int page, const uint8_t* from, size_t bytes);

 private:
  void check(int first, int count) const;
  size_t page_bytes_, most_ = 0, bytes_ = 0;
  uint8_t* base_ = nullptr;
};

// What one layer keeps of a token: a row of keys and one of values for each head. Without values of its own
// (`v_dim` < 0), a value is the first -v_dim numbers of its key. Rows come in as `type`, and are kept so, or as bytes
// with a scale for each kScaled numbers.
struct KeyShape {
  int heads, dim, v_dim;
  mx::Dtype type;
  bool as_bytes = false;
};

// Where one layer's keys lie in each page of its group: those with values of their own 16 side by side, as `Paged` says.
struct PagePlace {
  std::shared_ptr<Pages> pages;
  size_t k_at, v_at, k_scales, v_scales;  // bytes from the start of a page
  int size;           // positions of a page, a power of two
  int heads, dim, v_dim;
  bool own_values, as_bytes;
  mx::Dtype type;  // of the rows that are handed in

  // The place that begins `offset` bytes into a page.
  PagePlace(std::shared_ptr<Pages> pages, size_t offset, int size, KeyShape shape);
  size_t bytes() const;  // that it takes of a page
  int v_step() const { return own_values ? v_dim : dim; }
  int lanes() const { return !own_values ? 1 : size < 16 ? size : 16; }  // keys side by side
  size_t item() const { return as_bytes ? 1 : mx::size_of(type); }
};

// One page of the group becomes a copy of another, before anything is written.
struct PageCopy {
  int source, target;
};

// The sequences of a pass, as one group of pages has them: sequence i has the rows [starts[i], starts[i + 1]) of the pass,
// whose first stands at position offsets[i], and the pages tables[i].
struct PagedBatch {
  std::vector<int> starts, offsets;
  std::vector<std::vector<int32_t>> tables;
  std::vector<PageCopy> copies;
  std::vector<int32_t> positions;  // (T)
  std::vector<int32_t> ends;       // (T) where what a row sees ends; none: behind itself

  PagedBatch(const std::vector<int>& counts, std::vector<int> offsets, std::vector<std::vector<int32_t>> tables,
             const std::vector<std::pair<int, int>>& copies, std::vector<int32_t> ends = {});
  int rows() const { return starts.back(); }
  size_t count() const { return offsets.size(); }
  int length(size_t i) const { return offsets[i] + starts[i + 1] - starts[i]; }  // of sequence i after the pass
  // That what is written has pages, and that all are pages of the place's group. Layers of one group ask one after the
  // other, so who was answered last is remembered; nodes are made with the interpreter's lock held.
  void check(const PagePlace& place) const;

 private:
  void check_tables(const PagePlace& place) const;
  mutable const Pages* checked_ = nullptr;
  mutable int checked_size_ = 0;
};

struct PagedRule {
  float scale = 1, softcap = 0;
  int window = 0, chunk = 0;
};

namespace parts {
// The work on pages, at once, on this thread and the pool.
void copy_pages(const PagePlace& place, const PagedBatch& batch);
// Row r of k lies at k + r * k_row, head h of it h * k_head further, in elements of the place's type.
struct KeyRows {
  const uint8_t *k, *v;
  int64_t k_row, k_head, v_row, v_head;
};
void write_pages(const PagePlace& place, const PagedBatch& batch, const KeyRows& rows);
void run(const kernels::Paged& attention, const PagedBatch& batch);
kernels::Paged paged_over(const PagePlace& place, const PagedBatch& batch, const PagedRule& rule);
}  // namespace parts

// q (B, H, L, D), k and v (B, G, L, ...) with B * L rows, those of the pass in order -> (rows, H * v_dim). The new keys are
// written to their pages, then every row looks at what it sees. Without k nothing is written.
mx::array attend_pages(const mx::array& q, const std::optional<mx::array>& k, const std::optional<mx::array>& v,
                       const PagePlace& place, std::shared_ptr<const PagedBatch> batch, const PagedRule& rule,
                       const std::optional<mx::array>& sinks, const std::optional<mx::array>& slopes);

// The new keys of a pass, which have no values, are written; then all of each sequence, (1, G, S, D).
std::vector<mx::array> read_pages(const mx::array& k, const PagePlace& place, std::shared_ptr<const PagedBatch> batch);
