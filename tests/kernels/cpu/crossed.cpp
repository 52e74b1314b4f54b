// The NEON kernels against the plain ones, which the Python tests hold against float64: runs on aarch64, or under
// qemu. Weights are drawn as packed bytes, so that every code occurs. Exits with 1 and tells what differs.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "attention.h"
#include "kernels.h"

using namespace kernels;

namespace kernels {
extern const Table table_base, table_neon;
}

namespace {

int wrong = 0;
uint32_t seed = 1;
uint32_t next() { return (seed = seed * 1664525 + 1013904223) >> 8; }
float uniform() { return (float)next() / (1 << 23) - 1; }

// Largest difference, in shares of `size`.
void check(const char* what, int detail, const std::vector<float>& a, const std::vector<float>& b, float size, float share) {
  for (size_t i = 0; i < a.size(); i++) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i] || std::fabs(a[i] - b[i]) <= size * share) continue;
    std::printf("%s (%d): %g at %zu, not %g\n", what, detail, b[i], i, a[i]);
    wrong++;
    return;
  }
}

void products(Codes codes, int bits, int group, Type scales, bool biases) {
  constexpr int kCols = 160, kMost = 13;
  Weight w{};
  w.rows = 32, w.cols = kCols, w.group = group, w.codes = codes, w.scale_type = scales, w.has_bias = biases;
  w.zero = codes == FP4 ? 12 : biases || codes == FP8 ? 0 : 1 << (bits - 1);
  const bool plain = codes >= D32;
  const size_t unit = scales == F32 ? 4 : scales == F16 || scales == BF16 ? 2 : 1;
  const size_t groups = plain ? 0 : group < kBlock ? kCols / kBlock * 2 : kCols / group;
  w.scale_bytes = (groups * kRows * unit * (biases ? 2 : 1) + 63) / 64 * 64;
  w.panel_bytes = plain ? (size_t)kCols * kRows * bits / 8 : w.scale_bytes + (size_t)kCols / kBlock * 64 * bits;
  std::vector<uint8_t> data(2 * w.panel_bytes + 4096);
  for (auto& byte : data) byte = (uint8_t)next();
  for (int p = 0; p < 2; p++) {
    uint8_t* at = data.data() + p * w.panel_bytes;
    std::vector<float> values(plain ? kCols * kRows : groups * kRows * (biases ? 2 : 1));
    for (float& v : values) v = uniform();
    if (plain || unit > 1) table_base.narrow(scales, values.data(), at, values.size());
    else for (size_t i = 0; i < values.size(); i++) at[i] = scales == E8M0 ? 120 + next() % 10 : next() % 0x50;
  }
  w.data = data.data();

  constexpr size_t kSlotCount = 2 * (kCols / kBlock) * kSlots;
  std::vector<float> x(kMost * kCols), scale(kSlotCount), sum(kSlotCount), low(kSlotCount);
  std::vector<int32_t> whole(kSlotCount), first(kSlotCount);
  std::vector<int8_t> q(kSlotCount * 2 * kBlock), q2(q.size());
  for (float& v : x) v = uniform();
  Rows rows{x.data(), kCols, q.data(), scale.data(), sum.data(), low.data(), whole.data(), first.data()};
  for (int r = 0; r < kMost; r++)
    if (!table_neon.quantize(x.data() + r * kCols, kCols, r, rows)) std::printf("quantize refuses\n"), wrong++;
  std::vector<float> unpacked(kCols), unpacked2(kCols);
  float size = 0;
  for (int r = 0; r < 32; r++) {
    table_base.unpack_row(w, r, unpacked.data()), table_neon.unpack_row(w, r, unpacked2.data());
    check("unpack_row", codes, unpacked, unpacked2, 256, 1e-6f);
    for (float v : unpacked) size = std::isnan(v) ? size : std::fmax(size, std::fabs(v));
  }
  size = (size + 256) * kCols;  // codes and biases may cancel
  for (int m = 1; m <= kMost; m++) {
    std::vector<float> a(2 * m * kRows), b(a.size());
    for (int p = 0; p < 2; p++) {
      table_base.panel_float(w, p, rows, m, a.data() + p * m * kRows);
      table_neon.panel_float(w, p, rows, m, b.data() + p * m * kRows);
    }
    check("panel_float", codes, a, b, size, 1e-6f);
    if (codes > FP4) continue;
    table_neon.panels_integer(w, 0, 2, rows, m, (size_t)m * kRows, b.data());
    check("panels_integer", codes, a, b, size, 1.0f / 16319);
  }
}

void conversions() {
  std::vector<uint16_t> half(1 << 16), back(half.size()), back2(half.size());
  for (size_t i = 0; i < half.size(); i++) half[i] = (uint16_t)i;
  for (Type type : {F16, BF16}) {
    std::vector<float> a(half.size()), b(half.size());
    table_base.widen(type, half.data(), a.data(), a.size()), table_neon.widen(type, half.data(), b.data(), b.size());
    check("widen", type, a, b, 0, 0);
    for (int step = -1; step <= 1; step++) {
      std::vector<float> near(a.size());
      for (size_t i = 0; i < a.size(); i++) {
        near[i] = i ? (a[i] + a[i - 1]) / 2 : 0;  // halfway between two
        if (step) near[i] = std::nextafter(near[i], step * INFINITY);
      }
      table_base.narrow(type, near.data(), back.data(), near.size());
      table_neon.narrow(type, near.data(), back2.data(), near.size());
      for (size_t i = 0; i < near.size(); i++)
        if (back[i] != back2[i] && near[i] == near[i]) {
          std::printf("narrow (%d): %04x of %g, not %04x\n", type, back2[i], near[i], back[i]);
          wrong++;
          break;
        }
    }
  }
}

void single_rows() {
  for (int n : {1, 15, 16, 17, 100}) {
    std::vector<float> x(n + 16), w(n + 16), a(n), b(n);
    for (float& v : x) v = 20 * uniform();
    for (float& v : w) v = uniform();
    table_base.rms_norm(x.data(), w.data(), 1e-5f, n, a.data()), table_neon.rms_norm(x.data(), w.data(), 1e-5f, n, b.data());
    check("rms_norm", n, a, b, 16, 1e-6f);
    table_base.layer_norm(x.data(), w.data(), w.data(), 1e-5f, n, a.data());
    table_neon.layer_norm(x.data(), w.data(), w.data(), 1e-5f, n, b.data());
    check("layer_norm", n, a, b, 16, 1e-5f);
    for (Activation act : {Silu, Gelu, GeluTanh, Relu, Relu2, ClampedSwiglu}) {
      table_base.activate(act, x.data(), w.data(), n, a.data()), table_neon.activate(act, x.data(), w.data(), n, b.data());
      check("activate", act, a, b, 400, 1e-6f);
    }
    for (float odd : {NAN, INFINITY, -INFINITY, 1e-40f}) {
      x[0] = odd;
      table_base.activate(Silu, x.data(), nullptr, n, a.data()), table_neon.activate(Silu, x.data(), nullptr, n, b.data());
      check("activate at the ends", n, a, b, 20, 1e-6f);
    }
  }
}

void attention(int queries, int keys, int dim, int v_dim, Sight sight) {
  std::vector<float> q(queries * dim), k(keys * dim), v(keys * v_dim);
  for (auto* all : {&q, &k, &v})
    for (float& one : *all) one = uniform();
  Attention a{};
  a.q = (const uint8_t*)q.data(), a.k = (const uint8_t*)k.data(), a.v = (const uint8_t*)v.data();
  a.batch = a.heads = a.kv_heads = 1, a.queries = queries, a.keys = keys, a.dim = dim, a.v_dim = v_dim;
  a.q_strides[2] = a.k_strides[2] = dim, a.v_strides[2] = v_dim, a.scale = 0.3f, a.sight = sight;
  const size_t stride = kPartHead + (v_dim + 15) / 16 * 16;
  std::vector<float> found[2];
  int which = 0;
  for (const Table* t : {&table_base, &table_neon}) {
    std::vector<float> parts(queries * stride), scratch(attend_scratch(queries, dim, v_dim) + 64), y(v_dim + 16);
    t->attend(a, 0, 0, 0, queries, 0, keys, parts.data(), scratch.data());
    for (int r = 0; r < queries; r++) {
      t->finish(parts.data() + r * stride, stride, 1, v_dim, nullptr, F32, y.data());
      found[which].insert(found[which].end(), y.begin(), y.begin() + v_dim);
    }
    which++;
  }
  check("attend", queries, found[0], found[1], 1, 1e-5f);
}

// What a row of scores goes through before a token is drawn from it.
void drawing(int vocab, float masked) {
  constexpr int kPeak = 64;
  const int wide = (vocab + kPeak - 1) / kPeak * kPeak;
  std::vector<float> x(wide, -INFINITY), w(wide), w2(wide), peaks(wide / kPeak), peaks2(wide / kPeak);
  for (int i = 0; i < vocab; i++) x[i] = i < masked * vocab ? -INFINITY : 20 * uniform();
  const float top = table_base.top_of(x.data(), vocab);
  if (table_neon.top_of(x.data(), vocab) != top) wrong++, std::printf("top_of (%d) differs\n", vocab);
  const float sum = table_base.weigh(x.data(), wide, top, 0.5f, w.data(), peaks.data());
  const float sum2 = table_neon.weigh(x.data(), wide, top, 0.5f, w2.data(), peaks2.data());
  check("weigh", vocab, w, w2, 1, 1e-6f), check("peaks", vocab, peaks, peaks2, 1, 1e-6f), check("sum", vocab, {sum}, {sum2}, sum, 1e-6f);
  std::vector<int32_t> ids(vocab);
  for (int i = 0; i < vocab; i++) ids[i] = 3 * i;
  for (const int32_t* of : {(const int32_t*)nullptr, (const int32_t*)ids.data()})
    for (int i = 0; i < 20; i++) {
      const uint32_t key = next(), other = next();
      if (table_base.pick(w.data(), of, vocab, key, other) != table_neon.pick(w.data(), of, vocab, key, other))
        wrong++, std::printf("pick (%d) differs\n", vocab);
    }
  for (float& v : x) v = NAN;
  if (!std::isnan(table_neon.top_of(x.data(), vocab))) wrong++, std::printf("top_of (%d) of no numbers\n", vocab);
}

// How keys lie and what of them is seen.
struct Look {
  bool turned;  // 16 side by side
  float softcap;
  int window;
};

// One head's keys, in one page, looked at by the last rows.
void pages(Type type, int rows, int keys, int dim, Look look) {
  constexpr int size = 256;
  const size_t item = type == F32 ? 4 : type == S8 ? 1 : 2, groups = (dim + kScaled - 1) / kScaled, all = (size_t)size * dim * item;
  std::vector<float> found[2], q(rows * dim), x(dim + 16);
  for (float& one : q) one = uniform();
  std::vector<uint8_t> page(2 * all + 4 * groups * size);
  for (int p = 0; p < keys; p++)
    for (bool value : {false, true}) {
      for (float& one : x) one = uniform();
      std::vector<uint8_t> row(dim * 4);
      std::vector<uint16_t> scales(groups), again(groups);
      std::vector<int8_t> codes(dim);
      if (type != S8) table_base.narrow(type, x.data(), row.data(), dim);
      else {
        table_base.encode(F32, x.data(), dim, (int8_t*)row.data(), scales.data());
        table_neon.encode(F32, x.data(), dim, codes.data(), again.data());
        if (scales != again || std::memcmp(row.data(), codes.data(), dim)) wrong++, std::printf("encode differs\n");
      }
      for (int d = 0; d < dim; d++) {
        const size_t to = value || !look.turned ? value * all + ((size_t)p * dim + d) * item : ((size_t)(p - p % 16) * dim + d * 16 + p % 16) * item;
        std::memcpy(page.data() + to, row.data() + d * item, item);
      }
      for (size_t g = 0; g < groups; g++) std::memcpy(page.data() + 2 * all + ((value * groups + g) * size + p) * 2, &scales[g], 2);
    }
  std::vector<int32_t> positions(rows), numbers(rows);
  for (int r = 0; r < rows; r++) positions[r] = keys - rows + r, numbers[r] = r;
  Paged a{};
  a.kv_type = type, a.heads = a.kv_heads = 1, a.dim = a.v_dim = a.q_row = a.v_step = dim, a.scale = 0.3f;
  a.turned = look.turned, a.softcap = look.softcap, a.window = look.window;
  a.q = (const uint8_t*)q.data(), a.positions = positions.data(), a.base = page.data(), a.page_bytes = page.size(), a.shift = 8;
  a.v_at = all, a.k_scales = 2 * all, a.v_scales = a.k_scales + groups * size * 2;
  const size_t stride = kPartHead + (dim + 15) / 16 * 16;
  const int32_t table = 0;
  int which = 0;
  for (const Table* t : {&table_base, &table_neon}) {
    std::vector<float> parts(rows * stride), scratch(part_scratch(rows, dim, dim) + 64), y(dim + 16);
    t->attend_part(a, 0, &table, 0, numbers.data(), rows, parts.data(), scratch.data());
    for (int r = 0; r < rows; r++) {
      std::vector<float> twice(parts.begin() + r * stride, parts.begin() + (r + 1) * stride);
      t->join(twice.data(), parts.data() + (size_t)(rows - 1 - r) * stride, (int)stride - kPartHead);
      t->put_sum(twice.data(), dim, F32, y.data());
      found[which].insert(found[which].end(), y.begin(), y.begin() + dim);
    }
    which++;
  }
  check("attend_part", type, found[0], found[1], 1, 1e-5f);
}

}  // namespace

int main() {
  struct Kind { Codes codes; int bits; };
  for (Kind kind : {Kind{U2, 2}, Kind{U3, 3}, Kind{U4, 4}, Kind{U5, 5}, Kind{U6, 6}, Kind{U8, 8}})
    for (Type scales : {F32, F16, BF16})
      for (int group : {16, 32})
        for (bool biases : {true, false}) products(kind.codes, kind.bits, group, scales, biases);
  products(FP4, 4, 32, E8M0, false);
  products(FP4, 4, 16, E4M3, false);
  products(FP8, 8, 32, E8M0, false);
  products(D32, 32, 0, F32, false);
  products(D16, 16, 0, F16, false);
  products(DB16, 16, 0, BF16, false);
  conversions();
  single_rows();
  for (Sight sight : {Everything, Causal})
    for (int queries : {1, 2, 3, 4, 9}) attention(queries, 150, 20, 24, sight);
  for (Type type : {F32, F16, BF16, S8})
    for (int rows : {1, 3, 20})
      for (int dim : {20, 64, 96})
        for (Look look : {Look{true, 0, 0}, Look{true, 5, 40}, Look{false, 0, 0}, Look{false, 5, 40}})
          if (look.turned || type != S8) pages(type, rows, 150, dim, look);  // bytes always lie side by side
  for (int vocab : {1, 16, 63, 200, 3001})
    for (float masked : {0.0f, 0.5f}) drawing(vocab, vocab > 1 ? masked : 0);
  if (!wrong) std::printf("the NEON kernels agree with the plain ones\n");
  return wrong != 0;
}
