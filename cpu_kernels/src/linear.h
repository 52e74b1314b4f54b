// What the primitives are made of: scratch memory, rows of activations brought into the kernels'
// forms, and products with panels of packed weights, shared out over the pool.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "kernels.h"
#include "pool.h"

namespace linear {

using namespace kernels;

constexpr int kMostRows = 128;  // of activations that one piece of work takes at a time

// Memory for one call on one thread; grows and stays. What `take` gave is valid until the Scratch that
// was made first on this thread is gone.
class Scratch {
 public:
  Scratch() : top_(arena().used) { arena().depth++; }
  ~Scratch() {
    Arena& a = arena();
    a.used = top_;
    if (--a.depth == 0) a.settle();
  }
  // Give back what this thread keeps between calls.
  static void release() {
    Arena& a = arena();
    if (a.depth) return;
    std::free(a.base);
    a.base = nullptr, a.size = 0;
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <class T>
  T* take(size_t count) {
    return static_cast<T*>(arena().take(count * sizeof(T)));
  }

 private:
  struct Arena {
    char* base = nullptr;
    size_t size = 0, used = 0;
    int depth = 0;
    std::vector<void*> extra;
    size_t extra_bytes = 0;

    void* take(size_t bytes) {
      bytes = (bytes + 127) / 64 * 64;  // a line more, so that reads of whole vectors stay inside
      if (used + bytes <= size) {
        void* p = base + used;
        used += bytes;
        return p;
      }
      void* p = std::aligned_alloc(64, bytes);
      if (!p) throw std::bad_alloc();
      extra.push_back(p);
      extra_bytes += bytes;
      return p;
    }
    // Between calls: one block that would have held the last call, at most 64 MB.
    void settle() {
      if (extra.empty()) return;
      for (void* p : extra) std::free(p);
      extra.clear();
      const size_t wanted = std::min<size_t>((size + extra_bytes + 4095) / 4096 * 4096, 64u << 20);
      extra_bytes = 0;
      if (wanted <= size) return;
      std::free(base);
      base = static_cast<char*>(std::aligned_alloc(64, wanted));
      size = base ? wanted : 0;
    }
    ~Arena() {
      for (void* p : extra) std::free(p);
      std::free(base);
    }
  };
  static Arena& arena() {
    static thread_local Arena a;
    return a;
  }
  size_t top_;
};

enum Precision : int { Exact = 0, Fast = 1 };  // float32, or integers of 15 bits where the CPU has the instructions

// Rows of activations and which of them the integers cannot hold.
struct Input {
  Rows rows{};
  const uint8_t* odd = nullptr;  // (M); null: none
  int count = 0;
  bool integer = false;
};

// A source of float32 rows: fill(row, destination, n).
struct Source {
  Type type;
  const uint8_t* data;
  size_t stride;  // elements between rows
  const float* norm = nullptr;  // weight of an RMS norm to apply; see `normed`
  float eps = 0;
  bool normed = false;
  const int32_t* pick = nullptr;  // which row stands at each position, -1 for none; null: each at its own
  bool gathered = false;          // picked rows stand elsewhere than where they lie
};

inline size_t size_of(Type type) { return type == F32 ? 4 : 2; }

inline bool can_integer(const Weight& w, Precision p) {
  return p != Exact && best().integer && w.codes <= FP4;
}

// Activations (count, cols) for weights of `cols` inputs. `integer` and `floats` say which kernels will
// be used; floats are kept too where the integers are, for rows that do not fit.
inline Input prepare(Scratch& scratch, const Source& s, int count, int cols, bool integer) {
  const Table& t = best();
  const size_t wide = ((size_t)cols + kBlock - 1) / kBlock * kBlock;
  const size_t ldx = wide + 16, blocks = wide / kBlock;
  Input in;
  in.count = count, in.integer = integer;
  const bool direct = s.type == F32 && !s.normed && !s.gathered && wide == (size_t)cols;
  float* x = direct ? nullptr : scratch.take<float>(count * ldx);
  in.rows.x = direct ? reinterpret_cast<const float*>(s.data) : x;
  in.rows.x_stride = direct ? s.stride : ldx;
  uint8_t* odd = nullptr;
  if (integer) {
    const size_t slots = (size_t)(count + kSlots - 1) / kSlots * blocks * kSlots;
    in.rows.q = scratch.take<int8_t>(slots * 2 * kBlock);
    in.rows.scale = scratch.take<float>(slots);
    in.rows.sum = scratch.take<float>(slots);
    in.rows.low = scratch.take<float>(slots);
    in.rows.whole = scratch.take<int32_t>(slots);
    in.rows.first = scratch.take<int32_t>(slots);
    in.odd = odd = scratch.take<uint8_t>(count);
  }
  if (direct && !integer) return in;
  // A slot without a row stands for nothing: what lies in memory may be numbers that take long to multiply by.
  auto blank = [&](size_t r) {
    for (size_t b = 0, at = r / kSlots * blocks * kSlots + r % kSlots; b < blocks; b++, at += kSlots) {
      for (const float* part : {in.rows.scale, in.rows.sum, in.rows.low}) const_cast<float*>(part)[at] = 0;
      for (const int32_t* part : {in.rows.whole, in.rows.first}) const_cast<int32_t*>(part)[at] = 0;
    }
  };
  if (integer && count > 2)
    for (size_t r = count; r % kSlots; r++) blank(r);
  auto row = [&](size_t r) {
    if (s.pick && s.pick[r] < 0) {
      if (integer) blank(r);
      return;
    }
    const uint8_t* from = s.data + (s.pick ? s.pick[r] : r) * s.stride * size_of(s.type);
    const float* ready = reinterpret_cast<const float*>(from);
    if (!direct) {
      float* to = x + r * ldx;
      t.widen(s.type, from, to, cols);
      if (s.normed) t.rms_norm(to, s.norm, s.eps, cols, to);
      for (size_t i = cols; i < wide; i++) to[i] = 0;
      ready = to;
    }
    if (integer) odd[r] = !t.quantize(ready, (int)wide, (int)r, in.rows);
  };
  if ((size_t)count * cols < 16384) {
    for (int r = 0; r < count; r++) row(r);
  } else {
    const int step = std::max(1, (int)(8192 / cols));
    pool::run((count + step - 1) / step, [&](uint32_t i) {
      for (int r = i * step; r < std::min(count, (int)(i + 1) * step); r++) row(r);
    });
  }
  return in;
}

// A unit of work is two neighbouring panels, or the last one alone.
constexpr int kUnit = 2;
constexpr size_t kTileFloats = (size_t)kUnit * kMostRows * kRows;

inline size_t panels_of(const Weight& w) { return (w.rows + kRows - 1) / kRows; }
inline size_t units_of(const Weight& w) { return (panels_of(w) + kUnit - 1) / kUnit; }

// tile (panels, m, 16) = rows [m0, m0 + m) . panels of the unit; m0 is a whole number of kSlots.
// Returns how many panels the unit has.
inline int multiply(const Weight& w, size_t unit, const Input& in, int m0, int m, bool integer, float* tile) {
  const Table& t = best();
  const size_t panel = unit * kUnit, ldy = (size_t)m * kRows;
  const int panels = panel + 1 < panels_of(w) ? 2 : 1;
  Rows rows = in.rows;
  rows.x += m0 * rows.x_stride;
  if (!integer) {
    for (int p = 0; p < panels; p++) t.panel_float(w, panel + p, rows, m, tile + p * ldy);
    return panels;
  }
  const size_t slot = (size_t)m0 * ((w.cols + kBlock - 1) / kBlock);
  rows.q += slot * 2 * kBlock, rows.scale += slot, rows.sum += slot, rows.low += slot;
  rows.whole += slot, rows.first += slot;
  t.panels_integer(w, panel, panels, rows, m, ldy, tile);
  for (int r = 0; r < m; r++, rows.x += rows.x_stride)
    if (in.odd[m0 + r])
      for (int p = 0; p < panels; p++) t.panel_float(w, panel + p, rows, 1, tile + p * ldy + r * kRows);
  return panels;
}

// Calls f(unit, m0, m) for every unit and block of rows, over the pool. `row_bytes` is what one row of
// activations weighs: a block of rows should stay in the second-level cache.
template <class F>
void each_unit(size_t units, size_t panel_bytes, int rows, size_t row_bytes, F&& f) {
  if (rows == 0 || units == 0) return;
  int block = (int)std::clamp<size_t>((384u << 10) / std::max<size_t>(row_bytes, 1), 16, kMostRows) / kSlots * kSlots;
  block = std::min(block, rows);
  const size_t blocks = (rows + block - 1) / block;
  const size_t shares = (size_t)pool::threads() * 8;
  const size_t least = std::max<size_t>(1, (16u << 10) / std::max<size_t>(kUnit * panel_bytes * block, 1));
  const size_t step = std::max((units + shares - 1) / shares, least), steps = (units + step - 1) / step;
  pool::run((uint32_t)(steps * blocks), [&](uint32_t i) {
    const int m0 = (int)(i / steps) * block, m = std::min(block, rows - m0);
    const size_t first = i % steps * step, last = std::min(units, first + step);
    for (size_t u = first; u < last; u++) f(u, m0, m);
  });
}

inline size_t row_bytes(const Input& in, int cols) {
  return in.integer ? (size_t)cols * 2 : (size_t)cols * 4;
}

}  // namespace linear
