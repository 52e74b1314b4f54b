// A file in memory without reading it: arrays and packed weights that are views into its pages.
//
// The file is opened once and held; its size is checked against what the caller believes. Pages are shared with
// every process that maps the same file, and belong to the system's cache. Nothing can be written through them.
// What is cut short in place while it is mapped reads as zero and is marked as lost (see guard.h). Replacing a file by
// another one of its name is harmless.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "mlx/array.h"
#include "packed.h"

class MappedFile {
 public:
  // std::invalid_argument where the file is not that large; std::system_error where it cannot be opened.
  MappedFile(const std::string& path, size_t size);

  size_t size() const;
  // A page of it could not be read, so nothing that was computed from it since may be believed.
  bool lost() const;
  // Of the file as it is now: what the arrays show is still what was mapped.
  bool unchanged() const;
  // `start` in bytes from the beginning of the file, a multiple of the type's size.
  mx::array array(size_t start, const mx::Shape& shape, mx::Dtype dtype) const;
  // `start` on a cache line; `layout` as `layout_of` gave it.
  Packed packed(size_t start, const std::string& mode, int bits, const std::vector<int64_t>& layout) const;
  // Ask the system to read ahead.
  void will_need(size_t start, size_t bytes) const;
  // These pages need not stay in this process's memory; whoever looks at them again gets them from the system's cache
  // or the disk. Whole pages, so neighbours may go too.
  void need_not_stay(size_t start, size_t bytes) const;
  // How many bytes of it are in memory, whoever brought them there.
  size_t resident() const;

  struct Region;

 private:
  mx::array view(size_t start, mx::Shape shape, mx::Dtype dtype) const;
  std::shared_ptr<Region> region_;
};

// All of a packed weight but its data, mode and bits.
std::vector<int64_t> layout_of(const Packed& w);
