// y (M, N) = x (M, K) times w (N, K) transposed, for many rows of x: tiles through threadgroup memory.
//
// A threadgroup makes BM rows by BN outputs with four simdgroups, two by two; K goes by 32 at a time.
// The weights of a tile are decoded once for all BM rows. With SORTED, w is (E, N, K), row m of x goes to the expert
// ids[m], and these rise: each expert that a threadgroup's rows go to is a tile of its own.
constexpr int BK = 32;
constexpr int THREADS = 128;
constexpr int PAD = 16 / sizeof(T);    // keeps the rows of a tile in different banks
constexpr int TM = BM / 16;            // 8x8 tiles of a simdgroup
constexpr int TN = BN / 16;
const int thread_id = thread_index_in_threadgroup;
const int lane = thread_index_in_simdgroup;
const int simdgroup = simdgroup_index_in_threadgroup;
const int row = matrix_fragment_row(lane);
const int column = matrix_fragment_column(lane);
const int M = x_shape[0];
const int K = x_shape[1];
const int N = w_shape[SORTED ? 1 : 0];
const int words = w_shape[SORTED ? 2 : 1];
const int groups = K / GROUP;
const int first_n = threadgroup_position_in_grid.x * BN;
const int limit = min(M, int(threadgroup_position_in_grid.y + 1) * BM);
const int own_m = (simdgroup / 2) * (BM / 2);
const int own_n = (simdgroup % 2) * (BN / 2);

threadgroup T xs[BM][BK + PAD];
threadgroup T ws[BN][BK + PAD];
int first_m = threadgroup_position_in_grid.y * BM;
while (first_m < limit) {
  const uint expert = SORTED ? ids[first_m] : 0;
  int end = SORTED ? first_m + 1 : limit;
  while (end < limit && ids[end] == expert) end++;

  simdgroup_matrix<float, 8, 8> sums[TM][TN];
#pragma unroll
  for (int m = 0; m < TM; m++) {
#pragma unroll
    for (int n = 0; n < TN; n++) sums[m][n] = simdgroup_matrix<float, 8, 8>(0.0f);
  }

  for (int k = 0; k < K; k += BK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // the tile before is used up
    for (int i = thread_id; i < BM * BK / 8; i += THREADS) {
      const int m = i / (BK / 8), at = i % (BK / 8) * 8;
      T values[8] = {T(0), T(0), T(0), T(0), T(0), T(0), T(0), T(0)};
      if (first_m + m < end) {  // asked once, so that eight loads in a row can become wide ones
        const device T* from = x + ulong(first_m + m) * K + k + at;
#pragma unroll
        for (int j = 0; j < 8; j++) values[j] = from[j];
      }
#pragma unroll
      for (int j = 0; j < 8; j++) xs[m][at + j] = values[j];
    }
    for (int i = thread_id; i < BN * BK / 8; i += THREADS) {
      const int n = i / (BK / 8), at = i % (BK / 8) * 8;
      float values[8] = {0, 0, 0, 0, 0, 0, 0, 0};
      if (first_n + n < N) {
        const ulong output = ulong(expert) * N + first_n + n;
        const ulong group = output * groups + (k + at) / GROUP;
        const float scale = scale_to_float<FORMAT>(scales[group]);
        const float bias = FORMAT == AFFINE ? float(biases[group]) : 0.0f;
        const device uchar* from = (const device uchar*)(w + output * words) + (k + at) / 8 * BITS;
        decode_eight<FORMAT, BITS, BITCAST>(from, scale, bias, values);
      }
#pragma unroll
      for (int j = 0; j < 8; j++) ws[n][at + j] = static_cast<T>(values[j]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
#pragma unroll
    for (int kk = 0; kk < BK; kk += 8) {
      simdgroup_matrix<float, 8, 8> a[TM], b[TN];
#pragma unroll
      for (int m = 0; m < TM; m++) {
        const threadgroup T* from = &xs[own_m + m * 8 + row][kk + column];
        set_elements(a[m], float(from[0]), float(from[1]));
      }
#pragma unroll
      for (int n = 0; n < TN; n++) {  // of w transposed: row of the fragment is K
        set_elements(b[n], float(ws[own_n + n * 8 + column][kk + row]), float(ws[own_n + n * 8 + column + 1][kk + row]));
      }
#pragma unroll
      for (int m = 0; m < TM; m++) {
#pragma unroll
        for (int n = 0; n < TN; n++) simdgroup_multiply_accumulate(sums[m][n], a[m], b[n], sums[m][n]);
      }
    }
  }

#pragma unroll
  for (int m = 0; m < TM; m++) {
#pragma unroll
    for (int n = 0; n < TN; n++) {
      const float2 sum = get_elements(sums[m][n]);
      const int to_m = first_m + own_m + m * 8 + row;
      const int to_n = first_n + own_n + n * 8 + column;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        if (to_m < end && to_n + j < N) y[ulong(to_m) * N + to_n + j] = static_cast<T>(sum[j]);
      }
    }
  }
  first_m = end;
}
