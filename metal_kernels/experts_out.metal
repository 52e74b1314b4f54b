// y (T, N) = sum over a row's experts of weight * (down hidden), pairs = T * CHOICES.
//
// A threadgroup makes a block of outputs for all rows. It goes through the experts, each with all its
// pairs, M at a time, so that weights are read once; then sums every row in the order of its choices,
// so that a row's bits do not depend on the others. With RESIDUAL, y is that, rounded, plus residual (T, N).
constexpr int COUNT = values_of_lane<BITS>();
constexpr int BLOCK = COUNT * 32;
const int lane = thread_index_in_simdgroup;
const int simdgroup = simdgroup_index_in_threadgroup;
const int N = w_shape[1];
const int words = w_shape[2];
const int K = words * 32 / BITS;
const int groups = K / GROUP;
const int first = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup) * ROWS;
if (first >= N) return;  // the whole simdgroup: there is no barrier of the threadgroup

threadgroup float products[SIMDGROUPS][PAIRS][ROWS];
for (int pair = 0; pair < PAIRS; pair++) {
  const uint expert = ids[pair];
  bool done = false;
  for (int other = 0; other < pair; other++) done = done || ids[other] == expert;
  int next = done ? PAIRS : pair;
  while (next < PAIRS) {
    int members[M];
    int count = 0;
#pragma unroll
    for (int m = 0; m < M; m++) {
      const bool there = next < PAIRS;
      members[m] = there ? next : members[0];
      count += there;
      do next++;
      while (next < PAIRS && ids[next] != expert);
    }

    float sums[ROWS][M] = {};
    float xs[M][COUNT];
    float x_sums[M];
    for (int k = lane * COUNT; k < K; k += BLOCK) {
#pragma unroll
      for (int m = 0; m < M; m++) {
        x_sums[m] = load_activations<T, FORMAT, BITS, COUNT>(hidden + ulong(members[m]) * K + k, xs[m]);
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        const ulong row = ulong(expert) * N + min(first + r, N - 1);
        const ulong group = row * groups + k / GROUP;
        const float scale = scale_to_float<FORMAT>(scales[group]);
        const float shift = FORMAT == AFFINE ? float(biases[group]) : 0.0f;
        float codes[COUNT];
        decode_values<FORMAT, BITS, BITCAST>(codes_at<BITS>(w + row * words, k), codes);
#pragma unroll
        for (int m = 0; m < M; m++) sums[r][m] += scale * dot_codes<BITS>(codes, xs[m]) + x_sums[m] * shift;
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
      for (int m = 0; m < M; m++) {
        const float sum = simd_sum(sums[r][m]);
        if (lane == 0 && m < count) {
          const int output = min(first + r, N - 1);
          products[simdgroup][members[m]][r] = ADDED ? sum + float(added[ulong(expert) * N + output]) : sum;
        }
      }
    }
  }
}
simdgroup_barrier(mem_flags::mem_threadgroup);
for (int i = lane; i < PAIRS / CHOICES * ROWS; i += 32) {
  const int row = i / ROWS, r = i % ROWS;
  if (first + r < N) {
    float sum = 0;
    for (int c = 0; c < CHOICES; c++) {
      sum += weights[row * CHOICES + c] * products[simdgroup][row * CHOICES + c][r];
    }
    const ulong at = ulong(row) * N + first + r;
    y[at] = RESIDUAL ? static_cast<T>(float(residual[at]) + float(static_cast<T>(sum))) : static_cast<T>(sum);
  }
}
