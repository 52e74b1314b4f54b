// Softmax attention over one part of the keys of a sequence that lie in pages, and how parts are joined. Included once
// by each instruction set's file, after body_attend.h.
//
// A row's result depends on its own query and on the keys it sees, and on nothing else: not on the rows beside it, on
// how a prompt was cut, or on the size of a page. So chunks and parts begin at multiples of their size, a key that is
// not seen weighs nothing, and what lies where no key was written is never read, or read into a lane that nobody looks at.
#pragma once

#include "attention.h"

namespace {

using namespace kernels;

constexpr int kAhead = 16;       // values that are asked for before they are wanted
constexpr int kReadDirectly = 4;  // tiles of rows: more have keys and values widened for them, once

constexpr size_t kept_size(Type type) { return type == F32 ? 4 : type == S8 ? 1 : 2; }

template <Type T> inline F load_kept(const uint8_t* p) {
  if constexpr (T == F32) return load((const float*)p);
  else if constexpr (T == F16) return load_f16((const uint16_t*)p);
  else if constexpr (T == BF16) return load_bf16((const uint16_t*)p);
  else return load_s8((const int8_t*)p);
}

template <Type T> void widen_kept(const uint8_t* from, float* to, int n) {
  for (int i = 0; i < n; i += 16) {
    if (i + 16 <= n) {
      store(to + i, load_kept<T>(from + i * kept_size(T)));
      continue;
    }
    alignas(64) uint8_t copy[64] = {};
    std::memcpy(copy, from + i * kept_size(T), (n - i) * kept_size(T));
    store(to + i, load_kept<T>(copy));
  }
}

// The keys [first, end) that a row sees.
inline void paged_sight(const Paged& a, int row, int& first, int& end) {
  const int position = a.positions[row];
  first = 0, end = a.ends ? a.ends[row] : position + 1;
  if (a.window > 0 && position + 1 - a.window > first) first = position + 1 - a.window;
  if (a.chunk > 0) first = position / a.chunk * a.chunk > first ? position / a.chunk * a.chunk : first;
}

// One head's keys and values of a sequence.
struct HeadInPages {
  const Paged& a;
  const int32_t* table;
  int head;

  const uint8_t* page(int p) const { return a.base + table[p >> a.shift] * a.page_bytes; }
  int within(int p) const { return p & ((1 << a.shift) - 1); }
  size_t row(int p) const { return ((size_t)head << a.shift) + within(p); }
  const uint8_t* key(int p) const { return page(p) + a.k_at + row(p) * a.dim * kept_size(a.kv_type); }
  const uint8_t* value(int p) const { return page(p) + a.v_at + row(p) * a.v_step * kept_size(a.kv_type); }
  // Number d of key p, where keys lie side by side.
  const uint8_t* number(int p, int d) const {
    const int lanes = a.shift < 4 ? 1 << a.shift : 16, lane = within(p) % lanes;
    return page(p) + a.k_at + (row(p - lane) * a.dim + (size_t)d * lanes + lane) * kept_size(a.kv_type);
  }
  // The scales of 16 keys or values; of those in [first, end) where they lie in several pages.
  F scales(size_t at, int groups, int group, int p, int first, int end) const {
    const auto of = [&](int q) { return page(q) + at + ((((size_t)head * groups + group) << a.shift) + within(q)) * 2; };
    if (a.shift >= 4) return load_f16((const uint16_t*)of(p));
    alignas(64) uint16_t found[16] = {};
    for (int i = 0; i < 16; i++)
      if (p + i >= first && p + i < end) std::memcpy(found + i, of(p + i), 2);
    return load_f16(found);
  }
};

// 64 keys in groups of 16 that lie side by side: number `first` of each key, then the next.
template <Type T> struct KeyColumns {
  const uint8_t* const* group;
  int first;
  const uint8_t* next;  // what is wanted after them, or null
  F operator()(int k, int j) const { return load_kept<T>(group[j] + (size_t)(first + k) * 16 * kept_size(T)); }
  void ahead(int k) const {
    constexpr size_t each = kChunk * kept_size(T);
    if (!next) return;
    for (size_t i = 0; i < each; i += 64) __builtin_prefetch(next + (first + k) * each + i);
  }
};

// Values, one after the other: the numbers of each from `first` on.
template <Type T> struct ValueRows {
  const uint8_t* const* rows;
  int first, count;
  F operator()(int k, int j) const { return load_kept<T>(rows[k] + (first + 16 * j) * kept_size(T)); }
  void ahead(int k) const {
    const uint8_t* at = rows[k + kAhead < count ? k + kAhead : count - 1] + first * kept_size(T);
    constexpr size_t each = 16 * kTileColumns * kept_size(T);
    for (size_t i = 0; i < each; i += 64) __builtin_prefetch(at + i);
  }
};

// A part of one head's keys, for some rows of queries.
struct Part {
  const Paged& a;
  HeadInPages in;
  int first, end;  // the keys of it that any row sees
  int start;       // of the part
  int all;         // rows: those of the pass, times the heads that share these keys
  size_t ldp;
  float *parts, *q, *s, *other, *kt, *v;  // see `part_scratch`

  bool direct() const { return all <= kReadDirectly * kTileRows; }

  // s (all, kPartKeys): the scores of the keys [at, at + 64), columns from `make(column, number)`.
  template <class Make> void score(int at, const Make& make) const {
    const int step = a.kv_type == S8 ? kScaled : a.dim;
    for (int d = 0; d < a.dim; d += step) {
      const int n = a.dim - d < step ? a.dim - d : step;
      float* to = d ? other : s + at - start;
      for (int c = 0; c < 4; c += kTileColumns)
        tiles<kTileColumns, false>(all, q + d, a.dim, make(c, d), n, to + 16 * c, kPartKeys);
      if (a.kv_type != S8) continue;
      for (int c = 0; c < 4; c++) {
        const int p = at + 16 * c;
        if (p + 16 <= first || p >= end) continue;
        const F scale = in.scales(a.k_scales, (a.dim + kScaled - 1) / kScaled, d / kScaled, p, first, end);
        for (int r = 0; r < all; r++) {
          float* of = s + (size_t)r * kPartKeys + p - start;
          if (d) store(of, fma(load(to + (size_t)r * kPartKeys + 16 * c), scale, load(of)));
          else store(of, mul(load(of), scale));
        }
      }
    }
  }

  template <Type T> void keys_side_by_side(int at) const {
    const uint8_t* group[4];
    const int some = (at > first ? at : first) / 16 * 16;  // what nobody sees may be anything, but it must be there
    for (int j = 0; j < 4; j++) {
      const int p = at + 16 * j;
      group[j] = in.number(p + 16 <= first || p >= end ? some : p, 0);
    }
    const uint8_t* next = a.shift < 6 ? nullptr : at + kChunk < end ? in.number(at + kChunk, 0) : in.value(first);
    if (direct()) return score(at, [&](int c, int d) { return KeyColumns<T>{group + c, d, c ? nullptr : next}; });
    for (int d = 0; d < a.dim; d++) {
      KeyColumns<T>{group, 0, next}.ahead(d);
      for (int j = 0; j < 4; j++) store(kt + (size_t)d * kChunk + 16 * j, load_kept<T>(group[j] + (size_t)d * 16 * kept_size(T)));
    }
    score(at, [&](int c, int d) { return Floats{kt + (size_t)d * kChunk + 16 * c, kChunk}; });
  }

  // Pages of fewer than 16 positions: number by number.
  template <Type T> void keys_apart(int at) const {
    for (int i = 0; i < kChunk; i++)
      for (int d = 0; d < a.dim; d++) {
        float& to = kt[(size_t)d * kChunk + i];
        if (at + i < first || at + i >= end) {
          to = 0;
          continue;
        }
        alignas(64) uint8_t copy[64] = {};
        float wide[16];
        std::memcpy(copy, in.number(at + i, d), kept_size(T));
        store(wide, load_kept<T>(copy));
        to = wide[0];
      }
    score(at, [&](int c, int d) { return Floats{kt + (size_t)d * kChunk + 16 * c, kChunk}; });
  }

  // Keys that lie one after the other.
  void keys_in_turn(int at) const {
    const size_t bytes = (size_t)a.dim * kept_size(a.kv_type);
    for (int p = at; p < at + kChunk; p += 16) {
      if (p + 16 <= first || p >= end) continue;
      const int stop = p + 16 < end ? p + 16 : end;
      if (p >= first && p >> a.shift == (stop - 1) >> a.shift) {
        turn_keys(a.kv_type, in.key(p), a.dim, stop - p, a.dim, kt + p - at);
        continue;
      }
      uint8_t* rows = reinterpret_cast<uint8_t*>(other);
      for (int i = 0; i < 16; i++) {
        if (p + i < first || p + i >= end) std::memset(rows + i * bytes, 0, bytes);
        else std::memcpy(rows + i * bytes, in.key(p + i), bytes);
      }
      turn_keys(a.kv_type, rows, a.dim, 16, a.dim, kt + p - at);
    }
    score(at, [&](int c, int d) { return Floats{kt + (size_t)d * kChunk + 16 * c, kChunk}; });
  }

  template <Type T> void keys() const {
    for (int at = first / kChunk * kChunk; at < end; at += kChunk) {
      if (!a.turned) keys_in_turn(at);
      else if (a.shift < 4) keys_apart<T>(at);
      else keys_side_by_side<T>(at);
    }
  }

  // Soft cap, slopes, and what this row does not see; then scores become weights.
  void weigh(int row, int head, int of_pass) const {
    constexpr float hidden = -__builtin_inff();
    const int from = first / kChunk * kChunk - start, to = (end + kChunk - 1) / kChunk * kChunk - start;
    float* mine = s + (size_t)row * kPartKeys;
    float* sum = parts + row * ldp;
    int begin, stop;
    paged_sight(a, of_pass, begin, stop);
    begin -= start, stop -= start;
    if (a.softcap > 0) {
      const F cap = set1(a.softcap), inverse = set1(1.0f / a.softcap);
      for (int i = from; i < to; i += 16) store(mine + i, mul(cap, tanh(mul(load(mine + i), inverse))));
    }
    if (a.slopes)
      for (int i = from; i < to; i++) mine[i] += a.slopes[head] * (float)(start + i);
    for (int i = from; i < to && i < begin; i++) mine[i] = hidden;
    for (int i = stop > from ? stop : from; i < to; i++) mine[i] = hidden;
    F top = load(mine + from);
    for (int i = from + 16; i < to; i += 16) top = vmax(load(mine + i), top);
    const float most = largest(top);
    F total_of = zero();
    if (most == hidden) {  // it sees nothing here, or what it sees is no number
      bool number = true;
      for (int i = from; i < to; i++) number &= mine[i] == mine[i];
      const F none = set1(number ? 0.0f : __builtin_nanf(""));
      for (int i = from; i < to; i += 16) store(mine + i, none);
      sum[0] = most, sum[1] = number ? 0.0f : __builtin_nanf("");
      return;
    }
    for (int i = from; i < to; i += 16) {
      const F p = share_of(sub(load(mine + i), set1(most)));
      store(mine + i, p);
      total_of = add(total_of, p);
    }
    sum[0] = most, sum[1] = total(total_of);
  }

  // Weights times the scales of group `g` of each value's numbers.
  const float* scaled(int g, int groups) const {
    if (a.kv_type != S8) return s;
    for (int p = first / 16 * 16; p < end; p += 16) {
      const F scale = in.scales(a.v_scales, groups, g, p, first, end);
      for (int r = 0; r < all; r++) {
        const size_t at = (size_t)r * kPartKeys + p - start;
        store(other + at, mul(load(s + at), scale));
      }
    }
    return other;
  }

  template <Type T> void values() const {
    const uint8_t* rows[kPartKeys];
    const int count = end - first, wide = padded(a.v_dim), step = T == S8 ? kScaled : wide;
    const bool at_once = direct() && a.v_dim % (16 * kTileColumns) == 0;
    const size_t each = a.v_step * kept_size(T);
    for (int i = 0; i < count;) {
      const uint8_t* at = in.value(first + i);
      const int last = in.within(first + i) + count - i > 1 << a.shift ? i + (1 << a.shift) - in.within(first + i) : count;
      for (; i < last; i++, at += each) rows[i] = at;
    }
    for (int d = 0; d < wide; d += step) {
      const int columns = wide - d < step ? wide - d : step;
      const float* weights = scaled(d / kScaled, (a.v_dim + kScaled - 1) / kScaled) + first - start;
      float* to = parts + kPartHead + d;
      if (at_once) {
        for (int c = 0; c < columns; c += 16 * kTileColumns)
          tiles<kTileColumns, true>(all, weights, kPartKeys, ValueRows<T>{rows, d + c, count}, count, to + c, ldp);
        continue;
      }
      for (int i = 0; i < count; i += kChunk) {
        const int n = count - i < kChunk ? count - i : kChunk;
        for (int k = 0; k < n; k++)
          widen_kept<T>(rows[i + k] + d * kept_size(T), v + (size_t)k * columns, a.v_dim - d < columns ? a.v_dim - d : columns);
        product<true>(all, weights + i, kPartKeys, v, columns, n, columns, to, ldp);
      }
    }
  }

  template <Type T> void run(const int32_t* rows) const {
    const int share = a.heads / a.kv_heads;
    keys<T>();
    for (int r = 0; r < all; r++) weigh(r, in.head * share + r % share, rows[r / share]);
    values<T>();
  }
};

void attend_part(const Paged& a, int kv_head, const int32_t* table, int part, const int32_t* rows, int count, float* parts,
                 float* scratch) {
  const size_t q_size = kept_size(a.q_type);
  const int wide = padded(a.v_dim), share = a.heads / a.kv_heads, all = count * share, start = part * kPartKeys;
  Part p{a, {a, table, kv_head}, start + kPartKeys, 0, start, all, (size_t)kPartHead + wide, parts, scratch, 0, 0, 0, 0};
  p.s = p.q + (size_t)all * padded(a.dim);
  p.other = p.s + (size_t)all * kPartKeys;
  p.kt = p.other + part_other(all, a.dim);
  p.v = p.kt + (size_t)padded(a.dim) * kChunk;
  for (int r = 0; r < all; r++) {
    const int row = rows[r / share], head = kv_head * share + r % share;
    float* q = p.q + (size_t)r * a.dim;
    widen(a.q_type, a.q + (row * a.q_row + head * a.q_head) * q_size, q, a.dim);
    for (int d = 0; d < a.dim; d++) q[d] *= a.scale;
    float* sum = parts + r * p.ldp;
    sum[0] = -__builtin_inff(), sum[1] = 0;
    for (int i = 0; i < wide; i++) sum[kPartHead + i] = 0;
    int from, to;
    paged_sight(a, row, from, to);
    p.first = from < p.first ? from : p.first, p.end = to > p.end ? to : p.end;
  }
  p.first = p.first < start ? start : p.first;
  p.end = p.end > start + kPartKeys ? start + kPartKeys : p.end;
  if (p.first >= p.end) return;
  switch (a.kv_type) {
    case F32: return p.run<F32>(rows);
    case F16: return p.run<F16>(rows);
    case BF16: return p.run<BF16>(rows);
    default: return p.run<S8>(rows);
  }
}

void join(float* sum, const float* part, int n) {
  if (part[0] == -__builtin_inff() && part[1] == 0) return;  // nothing was seen
  const float now = part[0] > sum[0] ? part[0] : sum[0];
  const float before = sum[0] == now ? 1.0f : expf(sum[0] - now), more = part[0] == now ? 1.0f : expf(part[0] - now);
  sum[0] = now;
  sum[1] = sum[1] * before + part[1] * more;
  for (int i = 0; i < n; i += 16)
    store(sum + kPartHead + i, fma(load(part + kPartHead + i), set1(more), mul(load(sum + kPartHead + i), set1(before))));
}

void put_sum(const float* sum, int v_dim, Type type, void* out) {
  const F inverse = set1(1.0f / sum[1]);
  for (int d = 0; d < v_dim; d += 16) put16(type, out, d, v_dim, mul(load(sum + kPartHead + d), inverse));
}

// Numbers of one row as bytes, with a scale for each kScaled of them. What is no number makes its scale none.
void encode(Type type, const void* from, int n, int8_t* codes, uint16_t* scales) {
  for (int d = 0; d < n; d += kScaled) {
    const int count = n - d < kScaled ? n - d : kScaled;
    const uint8_t* at = (const uint8_t*)from + d * kept_size(type);
    F x[kScaled / 16], top = zero(), all = zero();
    for (int i = 0; i < count; i += 16) {
      const F one = i + 16 <= count ? load_as(type, at, i) : load_tail(type, at, i, count);
      x[i / 16] = one, top = vmax(abs(one), top), all = add(all, abs(one));
    }
    float unit[16] = {largest(top) / 127.0f};
    if (!(total(all) < __builtin_inff())) unit[0] = __builtin_nanf("");  // something is infinite, or no number
    alignas(64) uint16_t half[16];
    store_f16(half, load(unit));
    store(unit, load_f16(half));
    scales[d / kScaled] = half[0];
    const F inverse = set1(unit[0] > 0 ? 1.0f / unit[0] : 0.0f), most = set1(127.0f);
    alignas(64) int8_t bytes[16];
    for (int i = 0; i < count; i += 16) {
      store_bytes(bytes, vmin(vmax(mul(x[i / 16], inverse), sub(zero(), most)), most));
      std::memcpy(codes + d + i, bytes, count - i < 16 ? count - i : 16);
    }
  }
}

}  // namespace
