// Mapped pages that turn out to be unreadable: the file was cut short, or its disk failed.
//
// The kernel tells whoever looks at such a page by SIGBUS, which would end the process. For an address inside a
// guarded range our handler puts zero pages over the whole range instead, marks it as lost, and lets the thread go
// on. What is computed from then on is worth nothing: whoever reads from a range must ask `lost` before he believes a
// result. A SIGBUS anywhere else goes to whoever handled it before us, as if we were not there.
//
// The handler only loads and stores atomics and calls mmap, sigaction and raise. It is put in place when a range is
// guarded and another one is found there. Not seen: a page whose contents changed, and a file that was cut inside its
// last page, whose rest then reads as zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

class Guard {
 public:
  // `start` on a page. The range must stay mapped until this is gone. std::system_error where all places are taken.
  Guard(const void* start, size_t bytes, std::string path);
  ~Guard();
  Guard(const Guard&) = delete;

  bool lost() const;

 private:
  int slot_;
};

// How many ranges were lost so far in this process, and of which files.
uint64_t lost_count();
std::vector<std::string> lost_files();
