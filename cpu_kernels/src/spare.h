// Memory of states that nobody remembers any more, kept for the next ones of that size: a pass of several sequences leaves a
// hundred megabytes, which fresh from the system would cost a page fault for every four kilobytes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "mlx/allocator.h"
#include "mlx/array.h"

namespace mx = mlx::core;

class Spare : public std::enable_shared_from_this<Spare> {
 public:
  Spare() = default;
  Spare(const Spare&) = delete;
  Spare& operator=(const Spare&) = delete;
  ~Spare() {
    for (auto& [bytes, all] : kept_)
      for (const mx::allocator::Buffer& one : all) mx::allocator::allocator().free(one);
  }

  // Memory for an array; it comes back here when nobody holds it.
  void give(mx::array& to) {
    const size_t bytes = to.nbytes();
    const auto back = [own = shared_from_this(), bytes](mx::allocator::Buffer one) { own->put(one, bytes); };
    to.set_data(mx::allocator::Data(take(bytes), back));
  }

  // What is kept beyond so many of a size goes.
  void keep(const std::map<size_t, size_t>& most) {
    std::lock_guard<std::mutex> own(mutex_);
    for (auto& [bytes, all] : kept_) {
      const auto wanted = most.find(bytes);
      for (const size_t enough = wanted == most.end() ? 0 : wanted->second; all.size() > enough; all.pop_back())
        mx::allocator::allocator().free(all.back());
    }
  }

 private:
  mx::allocator::Buffer take(size_t bytes) {
    {
      std::lock_guard<std::mutex> own(mutex_);
      std::vector<mx::allocator::Buffer>& all = kept_[bytes];
      if (!all.empty()) {
        const mx::allocator::Buffer one = all.back();
        all.pop_back();
        return one;
      }
    }
    return mx::allocator::allocator().malloc(bytes);
  }
  void put(mx::allocator::Buffer one, size_t bytes) {
    std::lock_guard<std::mutex> own(mutex_);
    kept_[bytes].push_back(one);
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<mx::allocator::Buffer>> kept_;  // by bytes
};
