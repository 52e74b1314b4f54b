// y (M, N) = x (M, K) times w (N, K) transposed, M = 1..4: each weight is read once for all M rows.
//
// A simdgroup makes ROWS outputs; a lane holds some activations of each of the M rows in registers.
// With RESIDUAL, y is that, rounded, plus residual (M, N). With SCALED, it is multiplied by scale before that.
const int lane = thread_index_in_simdgroup;
const int N = w_shape[0];
const int K = w_shape[1] * 32 / BITS;
const int first = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup) * ROWS;
if (first >= N) return;  // the whole simdgroup

float sums[ROWS][M] = {};
float squares[M];  // not asked for
lane_products<T, FORMAT, BITS, GROUP, ROWS, M, BITCAST, false>(x, x, w, scales, biases, first, N, K, lane, sums, squares);
#pragma unroll
for (int r = 0; r < ROWS; r++) {
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float whole = simd_sum(sums[r][m]);
    const T sum = static_cast<T>(SCALED ? whole * scale[0] : whole);
    if (lane == 0 && first + r < N) {
      const int at = m * N + first + r;
      y[at] = RESIDUAL ? static_cast<T>(float(residual[at]) + float(sum)) : sum;
    }
  }
}
