#include "mapped.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "guard.h"
#include "mlx/allocator.h"

using namespace kernels;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

[[noreturn]] void failed(const std::string& path) { throw std::system_error(errno, std::generic_category(), path); }

size_t page() {
  static const size_t bytes = (size_t)sysconf(_SC_PAGESIZE);
  return bytes;
}

// MLX's CPU allocator keeps a buffer's size in the word before its data, and its buffers are that word's address. On a
// Mac even the CPU device's buffers are Metal's objects.
bool sizes_lie_before_data() {
  static const bool found = [] {
    const mx::allocator::Data one = mx::allocator::malloc(1);
    mx::allocator::Buffer buffer = one.buffer();
    return buffer.raw_ptr() == static_cast<char*>(buffer.ptr()) + sizeof(size_t);
  }();
  return found;
}

#if defined(__APPLE__)
auto changed_at(const struct stat& s) { return s.st_mtimespec; }
#else
auto changed_at(const struct stat& s) { return s.st_mtim; }
#endif

}  // namespace

// One page of our own lies before the file's first, for the word that MLX wants before its data.
struct MappedFile::Region {
  std::string path;
  int file = -1;
  uint8_t* whole = nullptr;
  size_t bytes = 0;
  struct stat seen {};
  std::optional<Guard> guard;
  mx::allocator::Buffer buffer{nullptr};

  Region(const std::string& name, size_t size) : path(name), bytes(size) {
    try {
      map();
    } catch (...) {
      unmap();
      throw;
    }
  }
  ~Region() { unmap(); }
  Region(const Region&) = delete;

  uint8_t* data() const { return whole + page(); }

 private:
  void map() {
    file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe would block whoever opens it
    if (file < 0 || fstat(file, &seen)) failed(path);
    if (!S_ISREG(seen.st_mode)) wrong("path must name a regular file, not " + path);
    if ((size_t)seen.st_size != bytes || !bytes)
      wrong("size is " + std::to_string(bytes) + ", but " + path + " has " + std::to_string(seen.st_size) + " bytes");
    void* got = mmap(nullptr, page() + bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) failed(path);
    whole = (uint8_t*)got;
    if (mmap(data(), bytes, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) failed(path);
    guard.emplace(data(), bytes, path);
    if (sizes_lie_before_data()) {
      ((size_t*)data())[-1] = bytes;
      buffer = mx::allocator::Buffer(data() - sizeof(size_t));
      return;
    }
    buffer = mx::allocator::make_buffer(data(), (bytes + page() - 1) / page() * page());
    errno = ENOTSUP;  // an MLX that takes no memory but its own
    if (!buffer.ptr()) failed(path);
  }

  void unmap() {
    if (buffer.ptr() && !sizes_lie_before_data()) mx::allocator::release(buffer);
    guard.reset();  // before another mapping may lie there
    if (whole) munmap(whole, page() + bytes);
    if (file >= 0) close(file);
  }
};

MappedFile::MappedFile(const std::string& path, size_t size) : region_(std::make_shared<Region>(path, size)) {}

size_t MappedFile::size() const { return region_->bytes; }

bool MappedFile::lost() const { return region_->guard->lost(); }

bool MappedFile::unchanged() const {
  struct stat now {};
  if (lost() || fstat(region_->file, &now)) return false;
  const auto a = changed_at(now), b = changed_at(region_->seen);
  return now.st_size == region_->seen.st_size && a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

mx::array MappedFile::view(size_t start, mx::Shape shape, mx::Dtype dtype) const {
  mx::array out(std::move(shape), dtype, nullptr, {});
  mx::Strides strides(out.ndim());
  int64_t step = 1;
  for (int i = (int)out.ndim(); i-- > 0;) strides[i] = step, step *= out.shape(i);
  int wide = 0;  // axes longer than one
  for (int extent : out.shape()) wide += extent != 1;
  const mx::array::Flags flags{true, true, wide <= 1};
  const std::shared_ptr<Region> held = region_;
  // a deleter of its own also tells MLX that this memory is not to be written into
  mx::allocator::Data data(held->buffer, [held](mx::allocator::Buffer) {});
  out.set_data(std::move(data), out.size(), std::move(strides), flags, (int64_t)start);  // in bytes
  out.set_status(mx::array::Status::available);
  return out;
}

mx::array MappedFile::array(size_t start, const mx::Shape& shape, mx::Dtype dtype) const {
  size_t bytes = mx::size_of(dtype);
  if (start % bytes) wrong("start must be a multiple of " + std::to_string(bytes) + ", not " + std::to_string(start));
  for (int extent : shape) {
    if (extent < 0) wrong("shape has an extent of " + std::to_string(extent));
    if (extent && bytes > size() / (size_t)extent) wrong("shape reaches past the end of the file");
    bytes *= (size_t)extent;
  }
  if (start > size() || bytes > size() - start) wrong("start and shape reach past the end of the file");
  return view(start, shape, dtype);
}

Packed MappedFile::packed(size_t start, const std::string& mode, int bits, const std::vector<int64_t>& layout) const {
  if (start % 64) wrong("start must be a multiple of 64, not " + std::to_string(start));
  if (layout.size() != 10) wrong("layout must have 10 numbers, not " + std::to_string(layout.size()));
  for (int64_t number : layout)
    if (number < 0 || number > (int64_t)1 << 46) wrong("layout has a number that no weight has");
  Weight w{};
  const int64_t experts = layout[0];
  if (experts > 1 << 20 || layout[1] < 1 || layout[1] > 1 << 30 || layout[2] < 1 || layout[2] > 1 << 30 ||
      layout[3] > 1 << 10 || layout[4] > DB16 || layout[5] > E4M3 || layout[6] > 1 || layout[7] > 255 || bits < 1 || bits > 32)
    wrong("layout does not describe a packed weight");
  w.rows = (int)layout[1], w.cols = (int)layout[2], w.group = (int)layout[3];
  w.codes = (Codes)layout[4], w.scale_type = (Type)layout[5], w.has_bias = layout[6] != 0, w.zero = (int)layout[7];
  w.scale_bytes = (size_t)layout[8], w.panel_bytes = (size_t)layout[9];
  check_layout(w, mode, bits);
  const size_t panels = ((size_t)w.rows + kRows - 1) / kRows * (size_t)(experts ? experts : 1);
  if (panels > size() / w.panel_bytes || start > size() || panels * w.panel_bytes > size() - start)
    wrong("start and layout reach past the end of the file");
  return Packed{view(start, {(int)(panels * w.panel_bytes / 64), 64}, mx::uint8), w, (int)experts, mode, bits};
}

void MappedFile::will_need(size_t start, size_t bytes) const {
  if (start > size() || bytes > size() - start) wrong("start and bytes reach past the end of the file");
  const size_t first = start / page() * page();
  madvise(region_->data() + first, start + bytes - first, MADV_WILLNEED);
}

void MappedFile::need_not_stay(size_t start, size_t bytes) const {
  if (start > size() || bytes > size() - start) wrong("start and bytes reach past the end of the file");
  const size_t first = start / page() * page();
  madvise(region_->data() + first, start + bytes - first, MADV_DONTNEED);
}

size_t MappedFile::resident() const {
  const size_t pages = (size() + page() - 1) / page();
#if defined(__APPLE__)
  std::vector<char> found(pages);
#else
  std::vector<unsigned char> found(pages);
#endif
  if (mincore(region_->data(), size(), found.data())) failed(region_->path);
  size_t count = 0;
  for (auto one : found) count += one & 1;
  return std::min(count * page(), size());
}

std::vector<int64_t> layout_of(const Packed& w) {
  const Weight& l = w.layout;
  return {w.experts,    l.rows, l.cols,                 l.group,                l.codes, l.scale_type,
          l.has_bias,   l.zero, (int64_t)l.scale_bytes, (int64_t)l.panel_bytes};
}
