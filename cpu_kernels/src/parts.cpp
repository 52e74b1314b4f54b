// The work of the nodes, for one node or for several in a row.
#include "parts.h"

#include <cmath>
#include <optional>

using namespace kernels;
using namespace linear;

namespace {

// cos and sin of position / frequency, (rows, dims / 2, 2). Layers of one pass ask for the same ones,
// so the last table is kept.
class Angles {
 public:
  const float* of(const int32_t* positions, int count, const float* freqs, int half, float scale) {
    const bool same = scale == scale_ && positions_.size() == (size_t)count && freqs_.size() == (size_t)half &&
                      std::memcmp(positions_.data(), positions, count * 4) == 0 &&
                      std::memcmp(freqs_.data(), freqs, half * 4) == 0;
    if (same) return table_.data();
    scale_ = scale;
    positions_.assign(positions, positions + count);
    freqs_.assign(freqs, freqs + half);
    table_.resize((size_t)count * half * 2);
    pool::run((count + 15) / 16, [&](uint32_t piece) {
      for (int r = piece * 16; r < std::min<int>(count, piece * 16 + 16); r++)
        parts::angles_of(positions[r], freqs, half, scale, &table_[(size_t)r * half * 2]);
    });
    return table_.data();
  }

 private:
  std::vector<int32_t> positions_;
  std::vector<float> freqs_, table_;
  float scale_ = 0;
};

const float* angles(const int32_t* positions, int count, const float* freqs, int half, float scale) {
  static thread_local Angles kept;
  return kept.of(positions, count, freqs, half, scale);
}

// tile (m, 16) + bias + residual -> rows of the output
void put_tile(const float* tile, int m, size_t panel, int cols, const float* bias, Type type, uint8_t* out, size_t ldo) {
  const Table& t = best();
  const int first = (int)panel * kRows, n = std::min(kRows, cols - first);
  float sum[kRows];
  for (int r = 0; r < m; r++) {
    const float* from = tile + r * kRows;
    if (bias) {
      for (int i = 0; i < n; i++) sum[i] = from[i] + bias[first + i];
      from = sum;
    }
    uint8_t* to = out + (r * ldo + first) * size_of(type);
    if (type == F32 && n == kRows) std::memcpy(to, from, kRows * sizeof(float));
    else t.narrow(type, from, to, n);
  }
}

// tile (m, 16) += the same rows and columns of `from`, whose rows are `stride` elements apart
void add_rows(const uint8_t* from, size_t stride, Type type, float* tile, int m, size_t panel, int cols) {
  const int first = (int)panel * kRows, n = std::min(kRows, cols - first);
  float row[kRows];
  for (int r = 0; r < m; r++) {
    const uint8_t* at = from + (r * stride + first) * size_of(type);
    if (type == F32 && n == kRows) std::memcpy(row, at, sizeof row);
    else best().widen(type, at, row, n);
    for (int i = 0; i < n; i++) tile[r * kRows + i] += row[i];
  }
}

// At most so many rows that the hidden ones do not outgrow the caches by much.
constexpr int kHiddenRows = 512;

void feed_some(const parts::FeedForward& layer, const Source& x, int rows, const Source* onto, uint8_t* out) {
  Scratch scratch;
  const std::vector<Weight>& w = layer.w;
  const Weight &gate = w[0], &up = w[w.size() - 2], &down = w.back();
  const bool gated = layer.gated, up_int = can_integer(up, layer.precision), gate_int = can_integer(gate, layer.precision);
  const Input input = prepare(scratch, x, rows, up.cols, up_int || gate_int);
  const size_t wide = ((size_t)up.rows + kBlock - 1) / kBlock * kBlock;
  float* hidden = scratch.take<float>((size_t)rows * wide);
  const size_t panels = panels_of(up);
  each_unit(units_of(up), up.panel_bytes * (gated ? 2 : 1), rows, row_bytes(input, up.cols), [&](size_t unit, int m0, int m) {
    alignas(64) float g[kTileFloats], u[kTileFloats];
    const int n = multiply(up, unit, input, m0, m, up_int, u);
    if (layer.biases[1]) parts::add_bias(layer.biases[1], up.rows, unit, n, m, u);
    if (gated) multiply(gate, unit, input, m0, m, gate_int, g);
    if (gated && layer.biases[0]) parts::add_bias(layer.biases[0], up.rows, unit, n, m, g);
    best().activate(layer.act, gated ? g : u, gated ? u : nullptr, n * m * kRows, u);
    for (int p = 0; p < n; p++)
      for (int r = 0; r < m; r++)
        std::memcpy(hidden + (m0 + r) * wide + (unit * kUnit + p) * kRows, u + (p * m + r) * kRows, kRows * sizeof(float));
  });
  if (panels * kRows < wide)
    for (int r = 0; r < rows; r++) std::memset(hidden + r * wide + panels * kRows, 0, (wide - panels * kRows) * 4);
  // the rows past the last of a panel are zeros in the packed weight, so act(0) * 0 = 0 stands there
  const bool down_int = can_integer(down, layer.precision);
  const Source h{F32, reinterpret_cast<const uint8_t*>(hidden), wide};
  const Input second = prepare(scratch, h, rows, (int)wide, down_int);
  each_unit(units_of(down), down.panel_bytes, rows, row_bytes(second, (int)wide), [&](size_t unit, int m0, int m) {
    alignas(64) float tile[kTileFloats];
    const int n = multiply(down, unit, second, m0, m, down_int, tile);
    for (int p = 0; p < n; p++) {
      const size_t panel = unit * kUnit + p;
      float* part = tile + (size_t)p * m * kRows;
      if (onto) add_rows(onto->data + m0 * onto->stride * size_of(x.type), onto->stride, x.type, part, m, panel, down.rows);
      put_tile(part, m, panel, down.rows, layer.biases[2], x.type, out + (size_t)m0 * down.rows * size_of(x.type), down.rows);
    }
  });
}

}  // namespace

void parts::angles_of(int position, const float* freqs, int half, float scale, float* table) {
  for (int i = 0; i < half; i++) {
    const double angle = (double)position / freqs[i];
    table[2 * i] = (float)(std::cos(angle) * scale);
    table[2 * i + 1] = (float)(std::sin(angle) * scale);
  }
}

void parts::rotate(float* x, const float* table, int half, bool interleaved) {
  for (int i = 0; i < half; i++) {
    float &a = interleaved ? x[2 * i] : x[i], &b = interleaved ? x[2 * i + 1] : x[half + i];
    const float c = table[2 * i], s = table[2 * i + 1], was = a;
    a = was * c - b * s;
    b = was * s + b * c;
  }
}

void parts::run(const FeedForward& layer, const Source& x, int count, const Source* onto, uint8_t* out) {
  for (int first = 0; first < count; first += kHiddenRows) {
    Source some = x;
    some.data += (size_t)first * x.stride * size_of(x.type);
    std::optional<Source> below;
    if (onto) below = *onto, below->data += (size_t)first * onto->stride * size_of(x.type);
    feed_some(layer, some, std::min(kHiddenRows, count - first), below ? &*below : nullptr,
              out + (size_t)first * layer.w.back().rows * size_of(x.type));
  }
}

void parts::run(const std::vector<Product>& products, const Source& x, int count, int cols, const uint8_t* residual,
                Precision precision) {
  Scratch scratch;
  bool integer = false;
  size_t all = 0, bytes = 1;
  for (const Product& o : products) {
    integer |= can_integer(o.w, precision);
    all += units_of(o.w);
    bytes = std::max(bytes, o.w.panel_bytes);
  }
  if (all == 0 || count == 0) return;
  const Input input = prepare(scratch, x, count, cols, integer);
  each_unit(all, bytes, count, row_bytes(input, cols), [&](size_t unit, int m0, int m) {
    size_t i = 0;
    for (; unit >= units_of(products[i].w); i++) unit -= units_of(products[i].w);
    const Product& o = products[i];
    alignas(64) float tile[kTileFloats];
    const int panels = multiply(o.w, unit, input, m0, m, input.integer && can_integer(o.w, precision), tile);
    const size_t at = (size_t)m0 * o.w.rows * size_of(x.type);
    for (int p = 0; p < panels; p++) {
      const size_t panel = unit * kUnit + p;
      float* part = tile + (size_t)p * m * kRows;
      if (residual) add_rows(residual + at, o.w.rows, x.type, part, m, panel, o.w.rows);
      put_tile(part, m, panel, o.w.rows, o.bias, x.type, o.out + at, o.w.rows);
    }
  });
}

void parts::run(const Heads& heads, Source x, int count, int cols, uint8_t* const* outs) {
  if (count == 0) return;
  Scratch scratch;
  if (heads.norm) x.normed = true, x.norm = heads.norm, x.eps = heads.eps;
  bool integer = false;
  size_t all = 0, wide = 0, bytes = 1, starts[3], first_unit[3];
  const size_t n_weights = heads.w.size();
  for (size_t i = 0; i < n_weights; i++) {
    const Weight& w = heads.w[i];
    integer |= can_integer(w, heads.precision);
    starts[i] = wide, first_unit[i] = all;
    wide += (w.rows + kRows - 1) / kRows * kRows;
    all += units_of(w);
    bytes = std::max(bytes, w.panel_bytes);
  }
  const Input input = prepare(scratch, x, count, cols, integer);
  float* rows = scratch.take<float>((size_t)count * wide);
  each_unit(all, bytes, count, row_bytes(input, cols), [&](size_t unit, int m0, int m) {
    size_t i = n_weights - 1;
    while (first_unit[i] > unit) i--;
    unit -= first_unit[i];
    alignas(64) float tile[kTileFloats];
    const int n = multiply(heads.w[i], unit, input, m0, m, input.integer && can_integer(heads.w[i], heads.precision), tile);
    for (int p = 0; p < n; p++)
      for (int r = 0; r < m; r++)
        std::memcpy(rows + (m0 + r) * wide + starts[i] + (unit * kUnit + p) * kRows, tile + (p * m + r) * kRows,
                    kRows * sizeof(float));
  });
  const float* table = nullptr;
  if (heads.rope_dims) table = angles(heads.positions, count, heads.freqs, heads.rope_dims / 2, heads.rope_scale);
  const float* head_norms[3] = {heads.q_norm, heads.k_norm, nullptr};
  const int step = std::max(1, (int)(8192 / wide));
  pool::run((count + step - 1) / step, [&](uint32_t piece) {
    for (int r = piece * step; r < std::min<int>(count, (piece + 1) * step); r++)
      for (size_t i = 0; i < n_weights; i++) {
        float* row = rows + r * wide + starts[i];
        const Weight& w = heads.w[i];
        if (heads.biases[i])
          for (int j = 0; j < w.rows; j++) row[j] += heads.biases[i][j];
        for (int h = 0; h < w.rows; h += heads.dim) {
          if (head_norms[i]) best().rms_norm(row + h, head_norms[i], heads.head_eps, heads.dim, row + h);
          if (i < 2 && table) rotate(row + h, table + (size_t)r * heads.rope_dims, heads.rope_dims / 2, heads.interleaved);
        }
        const Type type = i == 0 ? x.type : heads.kept;
        best().narrow(type, row, outs[i] + (size_t)r * w.rows * size_of(type), w.rows);
      }
  });
}
