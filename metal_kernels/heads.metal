// q (T, H, D) and k (T, G, D): each head of x (T, row of queries, keys and what else) normed, then turned by its
// position. A simdgroup serves a head of a row. PAIRS pairs are turned, the rest of a head is left as it is.
const int lane = thread_index_in_simdgroup;
const int head = threadgroup_position_in_grid.x;
const int row = threadgroup_position_in_grid.y;
const bool is_query = head < H;
const device T* from = x + ulong(row) * x_shape[1] + head * D;
device T* to = is_query ? q + (ulong(row) * H + head) * D : k + (ulong(row) * G + head - H) * D;

float factor = 1;
if (NORMED) {
  float squares = 0;
  for (int i = lane; i < D; i += 32) squares += float(from[i]) * float(from[i]);
  factor = metal::precise::rsqrt(simd_sum(squares) / D + eps[0]);
}
const device auto* weight = is_query ? q_norm : k_norm;
for (int pair = lane; pair < PAIRS; pair += 32) {
  const int i = INTERLEAVED ? 2 * pair : pair;
  const int j = INTERLEAVED ? 2 * pair + 1 : pair + PAIRS;
  float a = float(from[i]) * factor;
  float b = float(from[j]) * factor;
  if (NORMED) {
    a *= float(weight[i]);
    b *= float(weight[j]);
  }
  const float angle = float(positions[row]) / freqs[pair];
  const float cosine = metal::precise::cos(angle) * eps[1];
  const float sine = metal::precise::sin(angle) * eps[1];
  to[i] = static_cast<T>(a * cosine - b * sine);
  to[j] = static_cast<T>(a * sine + b * cosine);
}
for (int i = 2 * PAIRS + lane; i < D; i += 32) {
  const float value = float(from[i]) * factor;
  to[i] = static_cast<T>(NORMED ? value * float(weight[i]) : value);
}
