// y (M, N) = x (M, K) times w (N, K) transposed, M = 1..4: each weight is read once for all M rows.
//
// A simdgroup makes ROWS outputs; a lane holds 64 / BITS activations of each of the M rows in registers.
// What a row of x gives does not depend on M, bit for bit.
constexpr int COUNT = 64 / BITS;     // values a lane takes at a time: 8 bytes of codes
constexpr int BLOCK = COUNT * 32;    // values a simdgroup takes at a time
const int lane = thread_index_in_simdgroup;
const int N = w_shape[0];
const int words = w_shape[1];        // of a row
const int K = words * 32 / BITS;
const int groups = K / GROUP;        // of a row
const int first = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup) * ROWS;
if (first >= N) return;              // the whole simdgroup

float sums[ROWS][M] = {};
float xs[M][COUNT];
float x_sums[M];
for (int k = lane * COUNT; k < K; k += BLOCK) {
  for (int m = 0; m < M; m++) {
    x_sums[m] = load_activations<T, FORMAT, BITS, COUNT>(x + m * K + k, xs[m]);
  }
  for (int r = 0; r < ROWS; r++) {
    const int row = min(first + r, N - 1);  // rows past the end repeat the last and are not stored
    const ulong word = ulong(row) * words + k / (32 / BITS);
    const ulong group = ulong(row) * groups + k / GROUP;
    const float scale = scale_to_float<FORMAT>(scales[group]);
    const float bias = FORMAT == AFFINE ? float(biases[group]) : 0.0f;
    float codes[COUNT];
    decode<FORMAT, BITS, BITCAST>(*(const device uint2*)(w + word), codes);
    for (int m = 0; m < M; m++) {
      const float sum = dot_codes<BITS>(codes, xs[m]);
      if (FORMAT == AFFINE) {
        sums[r][m] += scale * sum + x_sums[m] * bias;
      } else {
        sums[r][m] += scale * sum;
      }
    }
  }
}
for (int r = 0; r < ROWS; r++) {
  for (int m = 0; m < M; m++) {
    const float sum = simd_sum(sums[r][m]);
    if (lane == 0 && first + r < N) y[m * N + first + r] = static_cast<T>(sum);
  }
}
