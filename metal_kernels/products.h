// What one lane adds to sums[ROWS][M]: rows of w from `first` on (N, K) times M rows of x. The sums over lanes are
// the products; what a row of x gives does not depend on M, bit for bit. With NORMED, x is taken times the
// weights of a norm and `squares` has the lane's part of each row's sum of squares.
// Scales and biases of a small weight live in constant memory, so their pointers' type is left open.
template <typename T, int FORMAT, int BITS, int GROUP, int ROWS, int M, bool BITCAST, bool NORMED, typename Norm,
          typename Scales>
inline void lane_products(const device T* x, const device Norm* norm, const device uint* w, Scales scales,
                          Scales biases, int first, int N, int K, int lane, thread float (&sums)[ROWS][M],
                          thread float (&squares)[M]) {
  constexpr int COUNT = values_of_lane<BITS>();
  constexpr int BLOCK = COUNT * 32;  // values a simdgroup takes at a time
  const int words = K / 8 * BITS / 4;
  const int groups = K / GROUP;
  float xs[M][COUNT];
  float x_sums[M];
  for (int k = lane * COUNT; k < K; k += BLOCK) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      if (NORMED) {
        x_sums[m] = load_normed<T, FORMAT, BITS, COUNT>(x + m * K + k, norm + k, xs[m], squares[m]);
      } else {
        x_sums[m] = load_activations<T, FORMAT, BITS, COUNT>(x + m * K + k, xs[m]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const int row = metal::min(first + r, N - 1);  // rows past the end repeat the last and are not stored
      const ulong group = ulong(row) * groups + k / GROUP;
      const float scale = scale_to_float<FORMAT>(scales[group]);
      const float bias = FORMAT == AFFINE ? float(biases[group]) : 0.0f;
      float codes[COUNT];
      decode_values<FORMAT, BITS, BITCAST>(codes_at<BITS>(w + ulong(row) * words, k), codes);
#pragma unroll
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
}
