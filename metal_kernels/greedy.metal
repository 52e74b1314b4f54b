// best (M, groups) and ids (M, groups): of each threadgroup's outputs of x (M, K) times w (N, K) transposed, rounded
// to T, the largest and which it is; of equals the first. What is not a number is larger than all others.
// With NORMED, x stands for RMSNorm(x).
const int lane = thread_index_in_simdgroup;
const int simdgroup = simdgroup_index_in_threadgroup;
const int N = w_shape[0];
const int K = x_shape[1];
const int groups = (N + AT_ONCE * SIMDGROUPS * ROWS - 1) / (AT_ONCE * SIMDGROUPS * ROWS);
const int begin = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup) * AT_ONCE * ROWS;

float most[M];
uint most_id[M];
#pragma unroll
for (int m = 0; m < M; m++) {
  most[m] = -INFINITY;
  most_id[m] = uint(begin);
}
for (int first = begin; first < begin + AT_ONCE * ROWS && first < N; first += ROWS) {
  float sums[ROWS][M] = {};
  float squares[M] = {};
  lane_products<T, FORMAT, BITS, GROUP, ROWS, M, BITCAST, NORMED>(x, norm, w, scales, biases, first, N, K, lane, sums,
                                                                  squares);
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float factor = NORMED ? metal::precise::rsqrt(simd_sum(squares[m]) / K + eps[0]) : 1.0f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const float value = float(static_cast<T>(simd_sum(sums[r][m]) * factor));
      if (first + r < N && (value > most[m] || isnan(value))) {
        most[m] = value;
        most_id[m] = first + r;
      }
    }
  }
}

threadgroup float values[SIMDGROUPS][M];
threadgroup uint places[SIMDGROUPS][M];
if (lane == 0) {
#pragma unroll
  for (int m = 0; m < M; m++) {
    values[simdgroup][m] = most[m];
    places[simdgroup][m] = most_id[m];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (simdgroup == 0 && lane < M) {
  float value = values[0][lane];
  uint place = places[0][lane];
  for (int s = 1; s < SIMDGROUPS; s++) {  // in rising order of outputs
    if (values[s][lane] > value || isnan(values[s][lane])) {
      value = values[s][lane];
      place = places[s][lane];
    }
  }
  best[lane * groups + threadgroup_position_in_grid.x] = value;
  ids[lane * groups + threadgroup_position_in_grid.x] = place;
}
