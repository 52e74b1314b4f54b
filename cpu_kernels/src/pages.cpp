// Memory for pages, and what is done to whole ones.
#include "pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "attention.h"
#include "linear.h"
#include "packed.h"
#include "pool.h"

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

constexpr size_t kLeast = 64u << 20;

size_t scales_of(int dim) { return (dim + kernels::kScaled - 1) / kernels::kScaled; }

}  // namespace

Pages::Pages(size_t page_bytes, size_t most) : page_bytes_(page_bytes) {
  if (page_bytes == 0 || most == 0) wrong("pages must have bytes, and there must be some");
  for (bytes_ = page_bytes * most;; bytes_ /= 2) {
    void* at = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) {
      base_ = static_cast<uint8_t*>(at);
      break;
    }
    if (bytes_ < 2 * std::max(kLeast, page_bytes)) throw std::runtime_error("the system gives no memory for pages of keys");
  }
  most_ = bytes_ / page_bytes;
}

Pages::~Pages() { munmap(base_, bytes_); }

void Pages::check(int first, int count) const {
  if (first < 0 || count < 0 || (size_t)first + count > most_) wrong("there is no such page");
}

void Pages::forget(int first, int count) {
  check(first, count);
  const size_t unit = (size_t)sysconf(_SC_PAGESIZE);
  const size_t begin = ((size_t)first * page_bytes_ + unit - 1) / unit * unit;
  const size_t end = ((size_t)first + count) * page_bytes_ / unit * unit;
#ifdef __APPLE__
  constexpr int kGone = MADV_FREE;
#else
  constexpr int kGone = MADV_DONTNEED;
#endif
  if (begin < end) madvise(base_ + begin, end - begin, kGone);
}

void Pages::copy_out(int page, uint8_t* to) const {
  check(page, 1);
  std::memcpy(to, at(page), page_bytes_);
}

void Pages::copy_in(int page, const uint8_t* from, size_t bytes) {
  check(page, 1);
  if (bytes != page_bytes_) wrong("a page has " + std::to_string(page_bytes_) + " bytes, not " + std::to_string(bytes));
  std::memcpy(at(page), from, bytes);
}

PagePlace::PagePlace(std::shared_ptr<Pages> where, size_t offset, int positions, KeyShape shape)
    : pages(std::move(where)),
      k_at(offset),
      v_at(offset),
      k_scales(0),
      v_scales(0),
      size(positions),
      heads(shape.heads),
      dim(shape.dim),
      v_dim(std::abs(shape.v_dim)),
      own_values(shape.v_dim >= 0),
      as_bytes(shape.as_bytes),
      type(shape.type) {
  type_of(type, "keys");
  if (size < 1 || (size & (size - 1))) wrong("the positions of a page must be a power of two, not " + std::to_string(size));
  if (heads < 1 || dim < 1 || v_dim < 1 || (!own_values && v_dim > dim)) wrong("keys must have heads, and values of some size");
  if (as_bytes && !own_values) wrong("keys whose beginning is their value are not kept as bytes");
  const size_t rows = (size_t)heads * size;
  if (own_values) v_at += rows * dim * item();
  k_scales = v_at + rows * v_dim * item(), v_scales = k_scales + rows * scales_of(dim) * 2;
  if (offset % 64 || offset + bytes() > pages->page_bytes()) wrong("the place must lie within a page, at a multiple of 64 bytes");
}

size_t PagePlace::bytes() const {
  const size_t scales = as_bytes ? 2 * (scales_of(dim) + scales_of(v_dim)) : 0;
  return (size_t)heads * size * ((dim + (own_values ? v_dim : 0)) * item() + scales);
}

PagedBatch::PagedBatch(const std::vector<int>& counts, std::vector<int> at, std::vector<std::vector<int32_t>> rows,
                       const std::vector<std::pair<int, int>>& copied, std::vector<int32_t> until)
    : starts{0}, offsets(std::move(at)), tables(std::move(rows)), ends(std::move(until)) {
  if (counts.size() != offsets.size() || counts.size() != tables.size() || counts.empty())
    wrong("counts, offsets and tables must have one entry for each sequence, and there must be one");
  for (size_t i = 0; i < counts.size(); i++) {
    if (counts[i] < 1 || offsets[i] < 0) wrong("every sequence must have a row, at a position from 0 on");
    starts.push_back(starts.back() + counts[i]);
    for (int r = 0; r < counts[i]; r++) positions.push_back(offsets[i] + r);
  }
  for (auto [source, target] : copied) copies.push_back({source, target});
  if (ends.empty()) return;
  if ((int)ends.size() != this->rows()) wrong("ends must have one entry for each row, or none");
  for (size_t i = 0; i < counts.size(); i++)
    for (int r = starts[i]; r < starts[i + 1]; r++)
      if (ends[r] <= positions[r] || ends[r] > length(i) || (r > starts[i] && ends[r] < ends[r - 1]))
        wrong("a row's end must lie behind it, among the keys of its sequence, and not before that of the row before");
}

void PagedBatch::check(const PagePlace& place) const {
  if (checked_ == place.pages.get() && checked_size_ == place.size) return;
  check_tables(place);
  checked_ = place.pages.get(), checked_size_ = place.size;
}

void PagedBatch::check_tables(const PagePlace& place) const {
  const int most = (int)std::min<size_t>(place.pages->most(), INT32_MAX);
  for (size_t i = 0; i < count(); i++) {
    const int last = length(i) - 1;
    if ((size_t)(last / place.size) >= tables[i].size()) wrong("a table must have a page for every position of its sequence");
    for (int p = offsets[i] / place.size; p <= last / place.size; p++)
      if (tables[i][p] < 0) wrong("a page that is written must be there");
    for (int page : tables[i])
      if (page < -1 || page >= most) wrong("a table names a page that there is not");
  }
  for (const PageCopy& copy : copies)
    if (copy.source < 0 || copy.target < 0 || copy.source >= most || copy.target >= most) wrong("a copy names a page that there is not");
}

void parts::copy_pages(const PagePlace& place, const PagedBatch& batch) {
  for (const PageCopy& copy : batch.copies)
    std::memcpy(place.pages->at(copy.target) + place.k_at, place.pages->at(copy.source) + place.k_at, place.bytes());
}

namespace {

// Where one head's rows of a page begin, and how a row is put among them.
class Writer {
 public:
  Writer(const PagePlace& place, const parts::KeyRows& rows) : p_(place), rows_(rows) {}

  void write(uint8_t* page, int row, int head, int at) const {
    const size_t item = mx::size_of(p_.type);
    const uint8_t* k = rows_.k + (row * rows_.k_row + head * rows_.k_head) * (int64_t)item;
    const uint8_t* v = rows_.v + (row * rows_.v_row + head * rows_.v_head) * (int64_t)item;
    const size_t first = (size_t)head * p_.size, lane = at % p_.lanes();
    uint8_t* k_to = page + p_.k_at + ((first + at - lane) * p_.dim + lane) * p_.item();
    uint8_t* v_to = page + p_.v_at + (first + at) * p_.v_dim * p_.item();
    if (p_.as_bytes) {
      scaled(k, p_.dim, page + p_.k_scales, head, at, [&](const int8_t* codes) { side_by_side((const uint8_t*)codes, k_to, 1); });
      scaled(v, p_.v_dim, page + p_.v_scales, head, at, [&](const int8_t* codes) { std::memcpy(v_to, codes, p_.v_dim); });
      return;
    }
    if (!p_.own_values) std::memcpy(k_to, k, p_.dim * item);
    else side_by_side(k, k_to, item), std::memcpy(v_to, v, p_.v_dim * item);
  }

 private:
  void side_by_side(const uint8_t* from, uint8_t* to, size_t item) const {
    const size_t lanes = p_.lanes();
    if (item == 2) spread<uint16_t>(from, to, lanes);
    else if (item == 1) spread<uint8_t>(from, to, lanes);
    else spread<uint32_t>(from, to, lanes);
  }
  template <class Number> void spread(const uint8_t* from, uint8_t* to, size_t lanes) const {
    for (int d = 0; d < p_.dim; d++) std::memcpy(to + d * lanes * sizeof(Number), from + d * sizeof(Number), sizeof(Number));
  }
  template <class Put> void scaled(const uint8_t* from, int dim, uint8_t* scales, int head, int at, const Put& put) const {
    linear::Scratch scratch;
    int8_t* codes = scratch.take<int8_t>(dim);
    uint16_t* found = scratch.take<uint16_t>(scales_of(dim));
    kernels::best().encode(type_of(p_.type, "keys"), from, dim, codes, found);
    put(codes);
    for (size_t g = 0; g < scales_of(dim); g++)
      std::memcpy(scales + (((size_t)head * scales_of(dim) + g) * p_.size + at) * 2, found + g, 2);
  }

  const PagePlace& p_;
  const parts::KeyRows& rows_;
};

}  // namespace

void parts::write_pages(const PagePlace& place, const PagedBatch& batch, const KeyRows& rows) {
  constexpr int kFew = 8;  // rows that are written sooner than others are asked to help
  const Writer writer(place, rows);
  const auto write = [&](uint32_t head) {
    for (size_t i = 0; i < batch.count(); i++)
      for (int r = batch.starts[i]; r < batch.starts[i + 1]; r++) {
        const int position = batch.positions[r];
        writer.write(place.pages->at(batch.tables[i][position / place.size]), r, head, position & (place.size - 1));
      }
  };
  if (batch.rows() >= kFew) return pool::run(place.heads, [&](uint32_t head) { write(head); });
  for (int head = 0; head < place.heads; head++) write(head);
}
