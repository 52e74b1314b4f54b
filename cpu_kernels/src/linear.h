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
  Scratch() : top_(arena().used) {}
  ~Scratch() {
    Arena& a = arena();
    a.used = top_;
    if (top_ == 0) a.settle();
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

enum Precision : int { Exact = 0, OnePlane = 1, TwoPlanes = 2 };

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
};

inline size_t size_of(Type type) { return type == F32 ? 4 : 2; }

inline bool can_integer(const Weight& w, Precision p) {
  return p != Exact && best().integer && w.codes <= FP4;
}

// Activations (count, cols) for weights of `cols` inputs. `integer` and `floats` say which kernels will
// be used; floats are kept too where the integers are, for rows that do not fit.
inline Input prepare(Scratch& scratch, const Source& s, int count, int cols, Precision precision, bool integer) {
  const Table& t = best();
  const size_t wide = ((size_t)cols + kBlock - 1) / kBlock * kBlock;
  const size_t ldx = wide + 16, blocks = wide / kBlock, ldq = wide + 64;
  Input in;
  in.count = count, in.integer = integer;
  const bool direct = s.type == F32 && !s.normed && wide == (size_t)cols;
  float* x = direct ? nullptr : scratch.take<float>(count * ldx);
  in.rows.x = direct ? reinterpret_cast<const float*>(s.data) : x;
  in.rows.x_stride = direct ? s.stride : ldx;
  int8_t *hi = nullptr, *lo = nullptr;
  float *scale = nullptr, *sum = nullptr;
  int32_t* isum = nullptr;
  uint8_t* odd = nullptr;
  if (integer) {
    hi = scratch.take<int8_t>(count * ldq);
    if (precision == TwoPlanes) lo = scratch.take<int8_t>(count * ldq);
    scale = scratch.take<float>(count * blocks);
    sum = scratch.take<float>(count * blocks);
    isum = scratch.take<int32_t>(count * blocks * 2);
    odd = scratch.take<uint8_t>(count);
    in.rows.hi = hi, in.rows.lo = lo, in.rows.q_stride = ldq;
    in.rows.scale = scale, in.rows.sum = sum, in.rows.isum = isum, in.rows.g_stride = blocks;
    in.odd = odd;
  }
  if (direct && !integer) return in;
  auto row = [&](size_t r) {
    const uint8_t* from = s.data + r * s.stride * size_of(s.type);
    const float* ready = reinterpret_cast<const float*>(from);
    if (!direct) {
      float* to = x + r * ldx;
      t.widen(s.type, from, to, cols);
      if (s.normed) t.rms_norm(to, s.norm, s.eps, cols, to);
      for (size_t i = cols; i < wide; i++) to[i] = 0;
      ready = to;
    }
    if (integer)
      odd[r] = !t.quantize(ready, (int)wide, hi + r * ldq, lo ? lo + r * ldq : nullptr, scale + r * blocks,
                           sum + r * blocks, isum + r * blocks * 2);
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

inline Rows from_row(const Rows& rows, int m0) {
  Rows r = rows;
  r.x += m0 * r.x_stride;
  if (r.hi) {
    r.hi += m0 * r.q_stride;
    if (r.lo) r.lo += m0 * r.q_stride;
    r.scale += m0 * r.g_stride, r.sum += m0 * r.g_stride, r.isum += 2 * m0 * r.g_stride;
  }
  return r;
}

// tile (m, 16) = rows [m0, m0 + m) . panel
inline void multiply(const Weight& w, size_t panel, const Input& in, int m0, int m, bool integer, float* tile) {
  const Table& t = best();
  const Rows rows = from_row(in.rows, m0);
  if (!integer) return t.panel_float(w, panel, rows, m, tile);
  t.panel_integer(w, panel, rows, m, tile);
  for (int r = 0; r < m; r++)
    if (in.odd[m0 + r]) t.panel_float(w, panel, from_row(rows, r), 1, tile + r * kRows);
}

// Calls f(panel, m0, m) for every panel and block of rows, over the pool. `row_bytes` is what one row
// of activations weighs: a block of rows should stay in the second-level cache.
template <class F>
void each_panel(size_t panels, size_t panel_bytes, int rows, size_t row_bytes, F&& f) {
  if (rows == 0 || panels == 0) return;
  int block = (int)std::clamp<size_t>((384u << 10) / std::max<size_t>(row_bytes, 1), 16, kMostRows) / 8 * 8;
  block = std::min(block, rows);
  const size_t blocks = (rows + block - 1) / block;
  const size_t shares = (size_t)pool::threads() * 8;
  const size_t least = std::max<size_t>(1, (16u << 10) / std::max<size_t>(panel_bytes * block, 1));
  const size_t step = std::max((panels + shares - 1) / shares, least), steps = (panels + step - 1) / step;
  pool::run((uint32_t)(steps * blocks), [&](uint32_t i) {
    const int m0 = (int)(i / steps) * block, m = std::min(block, rows - m0);
    const size_t first = i % steps * step, last = std::min(panels, first + step);
    for (size_t p = first; p < last; p++) f(p, m0, m);
  });
}

inline size_t row_bytes(const Input& in, int cols) {
  return in.integer ? (size_t)cols * (in.rows.lo ? 2 : 1) : (size_t)cols * 4;
}

}  // namespace linear
