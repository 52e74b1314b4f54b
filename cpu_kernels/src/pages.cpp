// Memory for pages, and what is done to whole ones.
#include "pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "packed.h"

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

constexpr size_t kLeast = 64u << 20;

size_t bytes_of(mx::Dtype type) { return mx::size_of(type); }

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
      size(positions),
      heads(shape.heads),
      dim(shape.dim),
      v_dim(std::abs(shape.v_dim)),
      own_values(shape.v_dim >= 0),
      type(shape.type) {
  type_of(type, "keys");
  if (size < 1 || (size & (size - 1))) wrong("the positions of a page must be a power of two, not " + std::to_string(size));
  if (heads < 1 || dim < 1 || v_dim < 1 || (!own_values && v_dim > dim)) wrong("keys must have heads, and values of some size");
  if (own_values) v_at += (size_t)heads * size * dim * bytes_of(type);
  if (offset % 64 || offset + bytes() > pages->page_bytes()) wrong("the place must lie within a page, at a multiple of 64 bytes");
}

size_t PagePlace::bytes() const { return (size_t)heads * size * (dim + (own_values ? v_dim : 0)) * bytes_of(type); }

PagedBatch::PagedBatch(const std::vector<int>& counts, std::vector<int> at, std::vector<std::vector<int32_t>> rows,
                       const std::vector<std::pair<int, int>>& copied)
    : starts{0}, offsets(std::move(at)), tables(std::move(rows)) {
  if (counts.size() != offsets.size() || counts.size() != tables.size() || counts.empty())
    wrong("counts, offsets and tables must have one entry for each sequence, and there must be one");
  for (size_t i = 0; i < counts.size(); i++) {
    if (counts[i] < 1 || offsets[i] < 0) wrong("every sequence must have a row, at a position from 0 on");
    starts.push_back(starts.back() + counts[i]);
    for (int r = 0; r < counts[i]; r++) positions.push_back(offsets[i] + r);
  }
  for (auto [source, target] : copied) copies.push_back({source, target});
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

void parts::write_pages(const PagePlace& place, const PagedBatch& batch, const KeyRows& rows) {
  const size_t item = bytes_of(place.type), mask = place.size - 1;
  for (size_t i = 0; i < batch.count(); i++)
    for (int r = batch.starts[i]; r < batch.starts[i + 1]; r++) {
      const int position = batch.positions[r];
      uint8_t* page = place.pages->at(batch.tables[i][position / place.size]);
      for (int h = 0; h < place.heads; h++) {
        const size_t at = (size_t)h * place.size + (position & mask);
        std::memcpy(page + place.k_at + at * place.dim * item, rows.k + (r * rows.k_row + h * rows.k_head) * (int64_t)item,
                    place.dim * item);
        if (place.own_values)
          std::memcpy(page + place.v_at + at * place.v_dim * item, rows.v + (r * rows.v_row + h * rows.v_head) * (int64_t)item,
                      place.v_dim * item);
      }
    }
}
