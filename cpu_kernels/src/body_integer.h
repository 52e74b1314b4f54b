// Products of rows of integers with panels of a packed weight. Included once by each instruction set's file, after
// body_codes.h.
//
// A run is what has one scale: a block of 32 inputs, or half of one in groups of 16. The products of a run are whole
// numbers, which every order of sums and every instruction gives alike; `settle` adds them up in float32, run after run.
// So a row has the same bits whichever way it went:
//   few rows   codes go from memory to registers and are used once
//   more       codes and scales of some blocks are unpacked into the nearest cache, and used for all rows
//   tiles      the same, multiplied by the processor's tiles where it has them
#pragma once

#include <utility>

#include "kernels.h"

namespace {

using namespace kernels;

constexpr int kOpenBlocks = 8;  // that are unpacked at a time; a group has at most half as many
constexpr int kSpan = kPairs ? 2 : 1;  // panels that are taken together
constexpr int kTiledRows = 16;  // fewer are quicker without the processor's tiles

// f(0), ..., f(n - 1), numbers that are known when it is compiled
template <int n, class Do> inline void times(Do&& f) {
  [&]<int... j>(std::integer_sequence<int, j...>) { (f(std::integral_constant<int, j>{}), ...); }(std::make_integer_sequence<int, n>{});
}

// What is subtracted from codes before they are multiplied, and what is still to be subtracted after that.
struct Zero {
  int before, after;
};
inline Zero zero_of(const Weight& w, bool signed_codes) {
  const int zero = w.has_bias ? 0 : w.zero;
  const int before = !signed_codes ? 0 : w.codes == U8 && w.has_bias ? 128 : zero;
  return {before, zero - before};
}

// What the rows from one on, of a tile of slots, have for a block.
template <bool halved> struct Lines {
  const int8_t* q;
  const float *scale, *sum, *low;
  const int32_t *whole, *first;

  Lines(const Rows& r, int row, int blocks, int block) {
    const size_t slot = ((size_t)(row / kSlots) * blocks + block) * kSlots + row % kSlots;
    q = r.q + slot * 2 * kBlock, scale = r.scale + slot, sum = r.sum + slot, low = r.low + slot;
    whole = r.whole + slot, first = r.first + slot;
  }
  void next() { q += 2 * kBlock * kSlots, scale += kSlots, sum += kSlots, low += kSlots, whole += kSlots, first += kSlots; }
  // The sum of row m in a run, as what it stands for and in units.
  float sum_of(int m, int half) const { return !halved ? sum[m] : half ? sum[m] - low[m] : low[m]; }
  int units_of(int m, int half) const { return !halved ? whole[m] : half ? whole[m] - first[m] : first[m]; }
};

// Whether products have a number to begin with: what is still to be subtracted.
template <bool biased> constexpr bool kBegins = !biased || kSignedCodes;

// acc and what the products of a block stand for: d in units of its one scale, or x where its halves have been scaled.
inline F settle(I d, F s, float scale, F acc) { return fma(to_float(d), mul(s, set1(scale)), acc); }
inline F settle(F x, float scale, F acc) { return fma(x, set1(scale), acc); }

// d[p][m] = the products of a run, `code(p, j)` the codes of a step in panel p, and start(m)
template <int P, int M, int steps, bool begins, class Code, class Start>
inline void dots(const Code& code, const int8_t* q, const Start& start, I (&d)[P][M]) {
  const auto plane = [&](int which, I (&sum)[P][M], auto j, const B* c) {
    UNROLL for (int m = 0; m < M; m++) {
      const int8_t* at = q + 2 * kBlock * m + which * kBlock + 4 * j;
      if constexpr (P == 1) {
        sum[0][m] = dot(sum[0][m], c[0], at);
      } else {
        const X x = spread(at);
        UNROLL for (int p = 0; p < P; p++) sum[p][m] = dot(sum[p][m], c[p], x);
      }
    }
  };
  const auto codes = [&](auto j, B* c) { UNROLL for (int p = 0; p < P; p++) c[p] = code(p, j); };
  if constexpr (P * M <= kBothPlanes) {  // so few products would wait for each other
    I hi[P][M];
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int m = 0; m < M; m++) hi[p][m] = izero(), d[p][m] = begins ? start(m) : izero();
    times<steps>([&](auto j) {
      B c[P];
      codes(j, c), plane(0, hi, j, c), plane(1, d, j, c);
    });
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int m = 0; m < M; m++) d[p][m] = iadd(ishl<kShift>(hi[p][m]), d[p][m]);
  } else {
    UNROLL for (int p = 0; p < P; p++)
      UNROLL for (int m = 0; m < M; m++) d[p][m] = izero();
    times<steps>([&](auto j) {
      B c[P];
      codes(j, c), plane(0, d, j, c);
    });
    UNROLL for (int m = 0; m < M; m++) {
      if constexpr (begins) {
        const I from = start(m);
        UNROLL for (int p = 0; p < P; p++) d[p][m] = iadd(ishl<kShift>(d[p][m]), from);
      } else {
        UNROLL for (int p = 0; p < P; p++) d[p][m] = ishl<kShift>(d[p][m]);
      }
    }
    times<steps>([&](auto j) {
      B c[P];
      codes(j, c), plane(1, d, j, c);
    });
  }
}

template <Codes C, bool biased> inline void next_scales(Type type, const uint8_t*& at, F& s, F& b) {
  s = next_scales<C>(type, at);
  if constexpr (C == FP4) s = mul(s, set1(0.5f));
  if constexpr (biased) b = next_scales<C>(type, at);
}

// ---- few rows

template <Codes C, bool halved, bool biased, int P, int M>
void few(const Weight& w, const uint8_t* panel, const Rows& r, size_t ldy, float* y) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  constexpr int halves = halved ? 2 : 1, steps = 8 / halves;
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = halved ? 1 : w.group / kBlock;
  const Zero zeros = zero_of(w, kSignedCodes);
  const uint8_t* codes = panel + w.scale_bytes;
  const uint8_t* scales[P];
  F acc[P][M], s[P], b[P];
  UNROLL for (int p = 0; p < P; p++) {
    scales[p] = panel + p * w.panel_bytes, s[p] = b[p] = zero();
    UNROLL for (int m = 0; m < M; m++) acc[p][m] = zero();
  }
  Lines<halved> in(r, 0, blocks, 0);
  for (int i = 0, left = 0; i < blocks; i++, left--, codes += bytes, in.next()) {
    UNROLL for (int p = 0; p < P; p++) ahead(panel + p * w.panel_bytes, i, w.panel_bytes / blocks);
    F x[P][M];
    times<halves>([&](auto half) {
      if (halved || left == 0) {
        left = per_group;
        UNROLL for (int p = 0; p < P; p++) next_scales<C, biased>(w.scale_type, scales[p], s[p], b[p]);
      }
      I d[P][M];
      const auto code = [&](int p, auto j) {
        const B c = step<C, half * steps + j>(codes + p * w.panel_bytes);
        return kSignedCodes ? less(c, (uint8_t)zeros.before) : c;
      };
      const auto start = [&](int m) { return zeros.after ? iset1(-zeros.after * in.units_of(m, half)) : izero(); };
      dots<P, M, steps, kBegins<biased>>(code, in.q + half * kBlock / 2, start, d);
      UNROLL for (int p = 0; p < P; p++)
        UNROLL for (int m = 0; m < M; m++) {
          if constexpr (!halved) acc[p][m] = settle(d[p][m], s[p], in.scale[m], acc[p][m]);
          else x[p][m] = half ? fma(to_float(d[p][m]), s[p], x[p][m]) : mul(to_float(d[p][m]), s[p]);
          if constexpr (halved)
            if (half) acc[p][m] = settle(x[p][m], in.scale[m], acc[p][m]);
          if constexpr (biased) acc[p][m] = fma(b[p], set1(in.sum_of(m, half)), acc[p][m]);
        }
    });
  }
  UNROLL for (int p = 0; p < P; p++)
    UNROLL for (int m = 0; m < M; m++) store(y + p * ldy + (size_t)m * kRows, acc[p][m]);
}


// ---- more rows

// Some blocks of each panel, a byte a code and a float a scale.
struct Opened {
  alignas(64) uint8_t codes[kSpan][kOpenBlocks * kBlock * kRows];
  float scale[kSpan][2 * kOpenBlocks][kRows], bias[kSpan][2 * kOpenBlocks][kRows];  // of each run
};

template <Codes C, bool halved, bool biased>
void open(const Weight& w, const uint8_t* panel, int first, int count, Zero zeros, int p, Opened& to) {
  constexpr size_t bytes = block_bytes(bits_of(C));
  const int blocks = (w.cols + kBlock - 1) / kBlock, per_group = halved ? 1 : w.group / kBlock;
  const size_t each = kRows * (C == FP4 ? 1 : w.scale_type == F32 ? 4 : 2) * (biased ? 2 : 1);
  const uint8_t* codes = panel + w.scale_bytes + first * bytes;
  const uint8_t* scales = panel + (halved ? 2 * first : first / per_group) * each;
  F s = zero(), b = zero();
  for (int i = 0, left = 0, run = 0; i < count; i++, left--) {
    ahead(panel, first + i, w.panel_bytes / blocks);
    for (int half = 0; half < (halved ? 2 : 1); half++, run++) {
      if (halved || left == 0) left = per_group, next_scales<C, biased>(w.scale_type, scales, s, b);
      store(to.scale[p][run], s);
      if constexpr (biased) store(to.bias[p][run], b);
    }
    times<8>([&](auto j) {
      const B c = step<C, j>(codes);
      bstore(to.codes[p] + (i * 8 + j) * 64, zeros.before ? less(c, (uint8_t)zeros.before) : c);
    });
    codes += bytes;
  }
}

// y (P, M, 16) += rows of the opened blocks
template <bool halved, bool biased, int P, int M>
void add_opened(const Opened& w, int count, Zero zeros, Lines<halved> in, size_t ldy, float* y) {
  constexpr int halves = halved ? 2 : 1, steps = 8 / halves;
  alignas(64) float x[P][M][kRows];  // registers are for the sums of products
  for (int i = 0; i < count; i++, in.next())
    times<halves>([&](auto half) {
      const int run = i * halves + half;
      I d[P][M];
      const auto code = [&](int p, int j) { return bload(w.codes[p] + (run * steps + j) * 64); };
      const auto start = [&](int m) { return zeros.after ? iset1(-zeros.after * in.units_of(m, half)) : izero(); };
      dots<P, M, steps, kBegins<biased>>(code, in.q + half * kBlock / 2, start, d);
      UNROLL for (int p = 0; p < P; p++) {
        const F s = load(w.scale[p][run]), b = biased ? load(w.bias[p][run]) : zero();
        UNROLL for (int m = 0; m < M; m++) {
          float* at = y + p * ldy + m * kRows;
          if constexpr (halved && !biased && half == 0) {
            store(x[p][m], mul(to_float(d[p][m]), s));
            continue;
          }
          F acc = load(at);
          if constexpr (!halved) acc = settle(d[p][m], s, in.scale[m], acc);
          else if constexpr (half) acc = settle(fma(to_float(d[p][m]), s, load(x[p][m])), in.scale[m], acc);
          else store(x[p][m], mul(to_float(d[p][m]), s));
          if constexpr (biased) acc = fma(b, set1(in.sum_of(m, half)), acc);
          store(at, acc);
        }
      }
    });
}

}  // namespace

#if defined(MLXRUN_TILES)
#include "body_tiles.h"
#endif

namespace {

template <bool halved, bool biased, int P>
void add_rows_opened(const Opened& w, int first, int count, Zero zeros, const Rows& r, int blocks, int m, size_t ldy, float* y) {
  [[maybe_unused]] const bool tiled = m >= kTiledRows;
  for (int m0 = 0; m0 < m; m0 += kTile) {
    const Lines<halved> in(r, m0, blocks, first);
    float* at = y + (size_t)m0 * kRows;
    const int rows = m - m0 < kTile ? m - m0 : kTile;
#if defined(MLXRUN_TILES)
    if (!halved && tiled) {
      if constexpr (!halved) add_in_tiles<biased, P>(w, count, in, rows, ldy, at);
      continue;
    }
#endif
    times<kTile>([&](auto others) {
      if (rows == others + 1) add_opened<halved, biased, P, others + 1>(w, count, zeros, in, ldy, at);
    });
  }
}

template <Codes C, bool halved, bool biased>
void more_rows(const Weight& w, const uint8_t* panel, int panels, const Rows& r, int m, size_t ldy, float* y) {
  const int blocks = (w.cols + kBlock - 1) / kBlock;
#if defined(MLXRUN_TILES)
  const bool tiled = !halved && m >= kTiledRows;
  const Tiles tiles(tiled);
  const Zero zeros = zero_of(w, tiled ? !biased : kSignedCodes);
#else
  const Zero zeros = zero_of(w, kSignedCodes);
#endif
  Opened opened;
  for (int p = 0; p < panels; p++)
    for (int i = 0; i < m * kRows; i += kRows) store(y + p * ldy + i, zero());
  for (int done = 0; done < panels; done += kSpan, panel += kSpan * w.panel_bytes, y += kSpan * ldy)
    for (int first = 0; first < blocks; first += kOpenBlocks) {
      const int count = blocks - first < kOpenBlocks ? blocks - first : kOpenBlocks, span = panels - done < kSpan ? 1 : kSpan;
      for (int p = 0; p < span; p++) open<C, halved, biased>(w, panel + p * w.panel_bytes, first, count, zeros, p, opened);
      if (span == kSpan) add_rows_opened<halved, biased, kSpan>(opened, first, count, zeros, r, blocks, m, ldy, y);
      else add_rows_opened<halved, biased, 1>(opened, first, count, zeros, r, blocks, m, ldy, y);
    }
}

template <Codes C, bool halved, bool biased>
void some_rows(const Weight& w, const uint8_t* panel, int panels, const Rows& r, int m, size_t ldy, float* y) {
  if (m <= 2)
    for (int p = 0; p < panels; p++, panel += w.panel_bytes, y += ldy) {
      if (m == 1) few<C, halved, biased, 1, 1>(w, panel, r, ldy, y);
      else few<C, halved, biased, 1, 2>(w, panel, r, ldy, y);
    }
  else if (kPairs && m == 3 && panels == 2) few<C, halved, biased, kSpan, 3>(w, panel, r, ldy, y);
  else if (kPairs && m == 4 && panels == 2) few<C, halved, biased, kSpan, 4>(w, panel, r, ldy, y);
  else more_rows<C, halved, biased>(w, panel, panels, r, m, ldy, y);
}

template <Codes C>
void all_integer(const Weight& w, const uint8_t* panel, int panels, const Rows& r, int m, size_t ldy, float* y) {
  if constexpr (!kHasDot) return;  // the caller asks for floats
  else if (m > 0) {
    const bool halved = w.group < kBlock;
    if constexpr (C != FP4)
      if (w.has_bias) {
        if (halved) return some_rows<C, true, true>(w, panel, panels, r, m, ldy, y);
        return some_rows<C, false, true>(w, panel, panels, r, m, ldy, y);
      }
    if (halved) some_rows<C, true, false>(w, panel, panels, r, m, ldy, y);
    else some_rows<C, false, false>(w, panel, panels, r, m, ldy, y);
  }
}

void panels_integer(const Weight& w, size_t index, int panels, const Rows& r, int m, size_t ldy, float* y) {
  const uint8_t* panel = w.data + index * w.panel_bytes;
  switch (w.codes) {
    case U2: return all_integer<U2>(w, panel, panels, r, m, ldy, y);
    case U3: return all_integer<U3>(w, panel, panels, r, m, ldy, y);
    case U4: return all_integer<U4>(w, panel, panels, r, m, ldy, y);
    case U5: return all_integer<U5>(w, panel, panels, r, m, ldy, y);
    case U6: return all_integer<U6>(w, panel, panels, r, m, ldy, y);
    case U8: return all_integer<U8>(w, panel, panels, r, m, ldy, y);
    case FP4: return all_integer<FP4>(w, panel, panels, r, m, ldy, y);
    default: return;  // the caller asks for floats
  }
}

}  // namespace
