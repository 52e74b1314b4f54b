// y (M, N) = x (M, K) times w (N, K) transposed, M up to 8 * TILES_M: 8x8 matrix products.
//
// A simdgroup makes 8 * TILES_N outputs for all rows of x. SPLIT simdgroups share its groups of K and
// add up at the end. The weights go from memory into matrix fragments and nowhere else: a lane holds
// row `row` of w and takes eight values in a row, two in each of four products. Products see the
// values of K in another order than memory has them, the same for w and x.
constexpr int OUTPUTS = 8 * TILES_N;
constexpr int VECTORS = 8 * TILES_M;
constexpr int STEP = GROUP < 32 ? 32 : GROUP;  // of K; a simdgroup's unit of work
const int lane = thread_index_in_simdgroup;
const int part = simdgroup_index_in_threadgroup;
const int row = matrix_fragment_row(lane);
const int column = matrix_fragment_column(lane);
const int M = x_shape[0];
const int K = x_shape[1];
const int N = w_shape[0];
const int words = w_shape[1];
const int groups = K / GROUP;
const int first = threadgroup_position_in_grid.x * OUTPUTS;

simdgroup_matrix<float, 8, 8> sums[TILES_N][TILES_M];
#pragma unroll
for (int n = 0; n < TILES_N; n++) {
#pragma unroll
  for (int m = 0; m < TILES_M; m++) sums[n][m] = simdgroup_matrix<float, 8, 8>(0.0f);
}

for (int start = part * STEP; start < K; start += SPLIT * STEP) {
  for (int k = start; k < start + STEP; k += 32) {
    // as the row of x's fragment, a lane serves K values 4 * row to 4 * row + 3 of these 32
    float xs[TILES_M][2][4];
#pragma unroll
    for (int m = 0; m < TILES_M; m++) {
#pragma unroll
      for (int j = 0; j < 2; j++) {
        const int vector = m * 8 + column + j;
#pragma unroll
        for (int i = 0; i < 4; i++) xs[m][j][i] = 0.0f;
        if (vector < M) {  // asked once, so that four loads in a row can become one
          const device T* from = x + vector * K + k + 4 * row;
#pragma unroll
          for (int i = 0; i < 4; i++) xs[m][j][i] = float(from[i]);
        }
      }
    }
    const int own = k + column * 4;  // as the row of w's fragment, the lane serves eight values from here
#pragma unroll
    for (int n = 0; n < TILES_N; n++) {
      const int output = min(first + n * 8 + row, N - 1);  // past the end: repeated, not stored
      const ulong group = ulong(output) * groups + own / GROUP;
      const float scale = scale_to_float<FORMAT>(scales[group]);
      const float bias = FORMAT == AFFINE ? float(biases[group]) : 0.0f;
      float values[8];
      const device uchar* from = (const device uchar*)(w + ulong(output) * words) + own / 8 * BITS;
      decode_eight<FORMAT, BITS, BITCAST>(from, scale, bias, values);
#pragma unroll
      for (int i = 0; i < 4; i++) {
        simdgroup_matrix<float, 8, 8> a;
        set_elements(a, values[i], values[i + 4]);
#pragma unroll
        for (int m = 0; m < TILES_M; m++) {
          simdgroup_matrix<float, 8, 8> b;
          set_elements(b, xs[m][0][i], xs[m][1][i]);
          simdgroup_multiply_accumulate(sums[n][m], a, b, sums[n][m]);
        }
      }
    }
  }
}

threadgroup float parts[SPLIT][OUTPUTS][VECTORS];
#pragma unroll
for (int n = 0; n < TILES_N; n++) {
#pragma unroll
  for (int m = 0; m < TILES_M; m++) {
    const float2 sum = get_elements(sums[n][m]);
#pragma unroll
    for (int j = 0; j < 2; j++) parts[part][n * 8 + row][m * 8 + column + j] = sum[j];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = thread_index_in_threadgroup; i < OUTPUTS * VECTORS; i += SPLIT * 32) {
  const int output = i % OUTPUTS, vector = i / OUTPUTS;
  if (vector < M && first + output < N) {
    float sum = 0;
    for (int p = 0; p < SPLIT; p++) sum += parts[p][output][vector];
    y[vector * N + first + output] = static_cast<T>(sum);
  }
}
