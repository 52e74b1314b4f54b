#include "packed.h"

#include <atomic>
#include <cstring>
#include <mutex>
#include <stdexcept>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "mlx/allocator.h"
#include "mlx/ops.h"
#include "mlx/transforms.h"
#include "pool.h"

using namespace kernels;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

// 32 codes of `bits` bits each, low bits first, from a row's bit stream that has `left` of them.
void read_codes(const uint8_t* p, int bits, int left, uint8_t* codes) {
  if (bits == 8) {
    std::memcpy(codes, p, left);
  } else if (bits == 4) {
    for (int i = 0; i < left; i += 2) codes[i] = p[i / 2] & 15, codes[i + 1] = p[i / 2] >> 4;
  } else {
    uint32_t held = 0;
    for (int i = 0, have = 0; i < left; i++) {
      if (have < bits) held |= (uint32_t)*p++ << have, have += 8;
      codes[i] = held & ((1u << bits) - 1);
      held >>= bits, have -= bits;
    }
  }
}

// Steps (8, 64) to the planes of kernels.h.
void write_block(const uint8_t* steps, int bits, uint8_t* out) {
  if (bits == 8) {
    std::memcpy(out, steps, 512);
    return;
  }
  const int low = bits >= 4 ? 4 : 2;
  const int per = 8 / low;  // steps of a vector
  for (int i = 0; i < 8 / per; i++, out += 64)
    for (int b = 0; b < 64; b++) {
      unsigned v = 0;
      for (int t = 0; t < per; t++)
        v |= (steps[(i * per + t) * 64 + b] & ((1u << low) - 1)) << (low * t);
      out[b] = (uint8_t)v;
    }
  if (bits == 6) {
    for (int i = 0; i < 2; i++, out += 64)
      for (int b = 0; b < 64; b++) {
        unsigned v = 0;
        for (int t = 0; t < 4; t++) v |= (unsigned)(steps[(4 * i + t) * 64 + b] >> 4) << (2 * t);
        out[b] = (uint8_t)v;
      }
  } else if (bits > low) {
    for (int b = 0; b < 64; b++) {
      unsigned v = 0;
      for (int t = 0; t < 8; t++) v |= (unsigned)(steps[t * 64 + b] >> low) << t;
      out[b] = (uint8_t)v;
    }
  }
}

struct Source {
  const uint8_t *codes, *scales, *biases;  // biases null: none
  size_t row_bytes, groups;
  int bits;
};

size_t size_of(Type type) { return type == F32 ? 4 : type == F16 || type == BF16 ? 2 : 1; }

// Panels [first, last) of a stack whose experts have `per_expert` panels.
void pack_panel(const Source& s, const Weight& w, size_t per_expert, size_t index, uint8_t* out) {
  std::memset(out, 0, w.panel_bytes);
  const size_t expert = index / per_expert, row0 = index % per_expert * kRows;
  const int rows = (int)std::min<size_t>(kRows, w.rows - row0);
  const size_t first = expert * w.rows + row0, unit = size_of(w.scale_type);
  uint8_t* scales = out;
  for (size_t g = 0; g < s.groups; g++)
    for (const uint8_t* part : {s.scales, w.has_bias ? s.biases : nullptr}) {
      if (!part) continue;
      for (int r = 0; r < rows; r++) std::memcpy(scales + r * unit, part + ((first + r) * s.groups + g) * unit, unit);
      scales += kRows * unit;
    }
  uint8_t* codes = out + w.scale_bytes;
  alignas(64) uint8_t steps[512];
  for (int k = 0; k < w.cols; k += kBlock, codes += 64 * s.bits) {
    std::memset(steps, 0, sizeof steps);
    for (int r = 0; r < rows; r++) {
      uint8_t line[kBlock] = {};
      read_codes(s.codes + (first + r) * s.row_bytes + (size_t)k * s.bits / 8, s.bits, std::min(kBlock, w.cols - k), line);
      for (int j = 0; j < 8; j++) std::memcpy(steps + 64 * j + 4 * r, line + 4 * j, 4);
    }
    write_block(steps, s.bits, codes);
  }
}

// `bytes` of a chunk from the first cache line at or after `at`.
mx::array part_of(const mx::array& chunk, size_t bytes, size_t at) {
  mx::array out({(int)(bytes / 64), 64}, mx::uint8, nullptr, {});
  const auto base = reinterpret_cast<uintptr_t>(chunk.data<uint8_t>()) + at;
  const mx::array::Flags flags{true, true, bytes == 0};
  out.copy_shared_buffer(chunk, {64, 1}, flags, bytes, (int64_t)(at + (64 - base % 64) % 64));
  out.set_status(mx::array::Status::available);
  return out;
}

// Packed weights share chunks of memory that the system may back with large pages: with small ones, a
// third of a machine's bandwidth goes into looking up addresses. A chunk goes when its last weight goes and no more
// are put into it.
struct Filling {
  std::mutex mutex;
  std::optional<mx::array> chunk;
  size_t used = 0;
};
Filling& filling() {
  static Filling one;
  return one;
}

mx::array aligned_bytes(size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  constexpr size_t kChunk = 256;  // each weight alone, so that reading past its end is seen
#else
  constexpr size_t kChunk = 32u << 20;
#endif
  auto& [mutex, chunk, used] = filling();
  std::lock_guard<std::mutex> lock(mutex);
  const bool own = bytes > kChunk / 4;
  if (own || !chunk || used + bytes + 64 > kChunk) {
    const size_t size = own ? bytes + 64 : kChunk;
    mx::array fresh({(int)((size + 63) / 64), 64}, mx::uint8, nullptr, {});
    fresh.set_data(mx::allocator::malloc(fresh.nbytes()));
#if defined(__linux__)
    constexpr uintptr_t kPage = 4096;
    const auto first = (reinterpret_cast<uintptr_t>(fresh.data<uint8_t>()) + kPage - 1) / kPage * kPage;
    if (size > kPage) madvise(reinterpret_cast<void*>(first), (size - kPage) / kPage * kPage, MADV_HUGEPAGE);
#endif
    if (own) return part_of(fresh, bytes, 0);
    chunk = fresh, used = 0;
  }
  const size_t at = used;
  used += bytes + 64;
  return part_of(*chunk, bytes, at);
}

mx::array ready(const mx::array& a) {
  mx::array flat = mx::contiguous(a, false, mx::Device::cpu);
  flat.eval();
  return flat;
}

// The code that stands for 0 in every group, or -1.
int zero_code(const Source& s, Type type, size_t count, int bits) {
  constexpr size_t kStep = 256;
  const float zero = (float)(1 << (bits - 1));
  alignas(64) uint8_t copy[4 * kStep];
  float scales[kStep], biases[kStep];
  for (size_t i = 0; i < count; i += kStep) {
    const size_t n = std::min(kStep, count - i), unit = size_of(type);
    std::memcpy(copy, s.scales + i * unit, n * unit);
    best().widen(type, copy, scales, n);
    std::memcpy(copy, s.biases + i * unit, n * unit);
    best().widen(type, copy, biases, n);
    for (size_t j = 0; j < n; j++)
      if (biases[j] != -zero * scales[j]) return -1;
  }
  return (int)zero;
}

void check_mode(const std::string& mode, int bits, int group, bool biases) {
  struct Kind { const char* name; int bits, group; };
  if (mode == "affine") {
    if (bits != 2 && bits != 3 && bits != 4 && bits != 5 && bits != 6 && bits != 8)
      wrong("bits must be 2, 3, 4, 5, 6 or 8 for affine, not " + std::to_string(bits));
    if (group != 16 && group != 32 && group != 64 && group != 128)
      wrong("group must be 16, 32, 64 or 128 for affine, not " + std::to_string(group));
    if (!biases) wrong("biases are missing; affine has them");
    return;
  }
  for (const Kind& k : {Kind{"mxfp4", 4, 32}, Kind{"mxfp8", 8, 32}, Kind{"nvfp4", 4, 16}}) {
    if (mode != k.name) continue;
    if (bits != k.bits) wrong("bits must be " + std::to_string(k.bits) + " for " + mode + ", not " + std::to_string(bits));
    if (group != k.group) wrong("group must be " + std::to_string(k.group) + " for " + mode + ", not " + std::to_string(group));
    if (biases) wrong("biases are given; " + mode + " has none");
    return;
  }
  wrong("mode must be affine, mxfp4, mxfp8 or nvfp4, not '" + mode + "'");
}

Codes codes_of(const std::string& mode, int bits) {
  if (mode == "mxfp8") return FP8;
  if (mode != "affine") return FP4;
  return bits == 2 ? U2 : bits == 3 ? U3 : bits == 4 ? U4 : bits == 5 ? U5 : bits == 6 ? U6 : U8;
}

// Rounded up to whole cache lines.
size_t scale_bytes_of(const Weight& w) {
  // a last block that is half there (groups of 16) still has both scales
  const size_t groups = w.group < kBlock ? (w.cols + kBlock - 1) / kBlock * 2 : w.cols / w.group;
  return (groups * kRows * size_of(w.scale_type) * (w.has_bias ? 2 : 1) + 63) / 64 * 64;
}
size_t panel_bytes_of(const Weight& w, int bits) {
  if (w.codes >= D32) return ((size_t)w.cols * kRows * bits / 8 + 63) / 64 * 64;
  return w.scale_bytes + (size_t)((w.cols + kBlock - 1) / kBlock) * 64 * bits;
}

Packed packed(const mx::array& like, Weight w, const std::string& mode, int bits) {
  const int experts = like.ndim() == 3 ? like.shape(0) : 0;
  const size_t panels = (w.rows + kRows - 1) / kRows;
  return Packed{aligned_bytes(std::max(experts, 1) * panels * w.panel_bytes), w, experts, mode, bits};
}

}  // namespace

void put_no_more() {
  std::lock_guard<std::mutex> lock(filling().mutex);
  filling().chunk.reset();
}

kernels::Type type_of(mx::Dtype dtype, const char* name) {
  if (dtype == mx::float32) return F32;
  if (dtype == mx::float16) return F16;
  if (dtype == mx::bfloat16) return BF16;
  wrong(std::string(name) + " must be float32, float16 or bfloat16");
}

void check_layout(const Weight& w, const std::string& mode, int bits) {
  bool right;
  if (mode == "plain") {
    right = w.codes == (bits == 32 ? D32 : w.scale_type == F16 ? D16 : DB16) && w.scale_type == (Type)(w.codes - D32) &&
            bits == (w.codes == D32 ? 32 : 16) && w.group == 0 && !w.has_bias && w.scale_bytes == 0;
  } else {
    check_mode(mode, bits, w.group, mode == "affine");
    right = w.codes == codes_of(mode, bits) && w.cols % w.group == 0 && (mode == "affine" || !w.has_bias) &&
            (mode == "affine" ? w.scale_type <= BF16 : w.scale_type == (mode == "nvfp4" ? E4M3 : E8M0)) &&
            w.scale_bytes == scale_bytes_of(w);
  }
  if (!right || w.panel_bytes != panel_bytes_of(w, bits)) wrong("layout does not describe a packed weight of that mode");
}

Packed pack_quantized(const mx::array& codes, const mx::array& scales, const std::optional<mx::array>& biases,
                      const std::string& mode, int bits, int group) {
  check_mode(mode, bits, group, biases.has_value());
  if (codes.ndim() != 2 && codes.ndim() != 3) wrong("codes must have 2 or 3 axes, not " + std::to_string(codes.ndim()));
  if (codes.dtype() != mx::uint32) wrong("codes must be uint32");
  if (codes.shape(-1) == 0) wrong("codes hold no inputs");
  if (codes.shape(0) == 0 && codes.ndim() == 3) wrong("codes are a stack of no experts");
  const int64_t cols = (int64_t)codes.shape(-1) * 32 / bits;
  if ((int64_t)codes.shape(-1) * 32 % bits || cols % group || cols > (1 << 30))
    wrong("codes hold " + std::to_string(cols) + " inputs in a row, not a whole number of groups of " + std::to_string(group));
  mx::Shape wanted = codes.shape();
  wanted.back() = (int)(cols / group);
  if (scales.shape() != wanted) wrong("scales do not have one value for each group of codes");
  if (biases && (biases->shape() != wanted || biases->dtype() != scales.dtype()))
    wrong("biases must have the shape and the type of scales");
  Weight w{};
  w.rows = codes.shape(-2), w.cols = (int)cols, w.group = group, w.codes = codes_of(mode, bits);
  if (mode == "affine") w.scale_type = type_of(scales.dtype(), "scales");
  else if (scales.dtype() != mx::uint8) wrong("scales must be uint8 for " + mode);
  else w.scale_type = mode == "nvfp4" ? E4M3 : E8M0;

  const mx::array c = ready(codes), s = ready(scales), b = biases ? ready(*biases) : s;
  Source source{c.data<uint8_t>(), s.data<uint8_t>(), biases ? b.data<uint8_t>() : nullptr,
                (size_t)codes.shape(-1) * 4, (size_t)(cols / group), bits};
  // the four-bit kernels add a bias of -6 scales, which must be a float32 too
  if (w.codes == FP4 && w.scale_type == E8M0)
    for (size_t i = 0; i < s.size(); i++)
      if (source.scales[i] == 253 || source.scales[i] == 254) wrong("scales hold 2^126 or 2^127, too large for mxfp4 in float32");
  const int zero = biases ? zero_code(source, w.scale_type, s.size(), bits) : w.codes == FP4 ? 12 : 0;
  w.has_bias = biases && zero < 0;
  w.zero = zero < 0 ? 0 : zero;
  w.scale_bytes = scale_bytes_of(w);
  w.panel_bytes = panel_bytes_of(w, bits);
  Packed out = packed(codes, w, mode, bits);
  const size_t per_expert = out.panels(), all = (size_t)std::max(out.experts, 1) * per_expert;
  uint8_t* to = out.data.data<uint8_t>();
  pool::run((uint32_t)all, [&](uint32_t i) { pack_panel(source, w, per_expert, i, to + i * w.panel_bytes); });
  return out;
}

Packed pack_plain(const mx::array& weight) {
  if (weight.ndim() != 2 && weight.ndim() != 3) wrong("weight must have 2 or 3 axes, not " + std::to_string(weight.ndim()));
  if (weight.shape(-1) == 0) wrong("weight has no inputs");
  if (weight.shape(0) == 0 && weight.ndim() == 3) wrong("weight is a stack of no experts");
  const Type type = type_of(weight.dtype(), "weight");
  const size_t size = size_of(type);
  Weight w{};
  w.rows = weight.shape(-2), w.cols = weight.shape(-1);
  w.codes = type == F32 ? D32 : type == F16 ? D16 : DB16;
  w.scale_type = type;
  w.panel_bytes = panel_bytes_of(w, (int)size * 8);
  const mx::array from = ready(weight);
  const uint8_t* rows = from.data<uint8_t>();
  Packed out = packed(weight, w, "plain", (int)size * 8);
  const size_t per_expert = out.panels(), all = (size_t)std::max(out.experts, 1) * per_expert;
  uint8_t* to = out.data.data<uint8_t>();
  pool::run((uint32_t)all, [&](uint32_t i) {
    const size_t row0 = i % per_expert * kRows, first = i / per_expert * w.rows + row0;
    const int n = (int)std::min<size_t>(kRows, w.rows - row0);
    uint8_t* panel = to + i * w.panel_bytes;
    std::memset(panel, 0, w.panel_bytes);
    for (int r = 0; r < n; r++)
      for (int k = 0; k < w.cols; k++)
        std::memcpy(panel + ((size_t)k * kRows + r) * size, rows + ((first + r) * w.cols + k) * size, size);
  });
  return out;
}
