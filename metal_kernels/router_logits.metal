// logits (M, E) in float32 = RMSNorm(x) (M, K) times a router (E, K) that nobody quantized, M = 1..4.
//
// A simdgroup makes ROWS experts' logits. The norm costs no pass of its own, as in project.
const int lane = thread_index_in_simdgroup;
const int K = x_shape[1];
const int E = w_shape[0];
const int first = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup) * ROWS;
if (first >= E) return;  // the whole simdgroup

float sums[ROWS][M] = {};
float squares[M] = {};
for (int k = lane; k < K; k += 32) {
  float xs[M];
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float value = float(x[m * K + k]);
    squares[m] += value * value;
    xs[m] = value * float(norm[k]);
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    const int expert = metal::min(first + r, E - 1);  // rows past the end repeat the last and are not stored
    const float weight = float(w[ulong(expert) * K + k]);
#pragma unroll
    for (int m = 0; m < M; m++) sums[r][m] += weight * xs[m];
  }
}
#pragma unroll
for (int m = 0; m < M; m++) {
  const float factor = metal::precise::rsqrt(simd_sum(squares[m]) / K + eps[0]);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    float sum = simd_sum(sums[r][m]) * factor;
    if (lane == 0 && first + r < E) {
      if (ADDED) sum += float(added[first + r]);
      logits[m * E + first + r] = sum;
    }
  }
}
