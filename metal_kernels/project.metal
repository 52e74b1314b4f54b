// y (M, N) = RMSNorm(x) (M, K) times up to three matrices that lie apart, one after the other in y: N = N0 + N1 + N2.
//
// The norm costs no pass of its own: its weights multiply x where it is loaded, its factor the products.
// A threadgroup works on one matrix; PARTS says how many there are. Rows as in qmv, M = 1..4.
const int lane = thread_index_in_simdgroup;
const int K = x_shape[1];
const int N0 = w0_shape[0];
const int N1 = PARTS > 1 ? w1_shape[0] : 0;
const int N2 = PARTS > 2 ? w2_shape[0] : 0;
constexpr int PER_GROUP = SIMDGROUPS * ROWS;
const int groups0 = (N0 + PER_GROUP - 1) / PER_GROUP;
const int groups1 = (N1 + PER_GROUP - 1) / PER_GROUP;
int group = threadgroup_position_in_grid.x;
const int part = group < groups0 ? 0 : group < groups0 + groups1 ? 1 : 2;
group -= part == 0 ? 0 : part == 1 ? groups0 : groups0 + groups1;
const int own = part == 0 ? N0 : part == 1 ? N1 : N2;
const int before = part == 0 ? 0 : part == 1 ? N0 : N0 + N1;
const int first = group * PER_GROUP + simdgroup_index_in_threadgroup * ROWS;
if (first >= own) return;  // the whole simdgroup

const device uint* w = part == 0 ? w0 : part == 1 ? w1 : w2;
const device auto* scales = part == 0 ? scales0 : part == 1 ? scales1 : scales2;
const device auto* biases = part == 0 ? biases0 : part == 1 ? biases1 : biases2;
float sums[ROWS][M] = {};
float squares[M] = {};
lane_products<T, FORMAT, BITS, GROUP, ROWS, M, BITCAST, true>(x, norm, w, scales, biases, first, own, K, lane, sums, squares);
#pragma unroll
for (int m = 0; m < M; m++) {
  const float factor = metal::precise::rsqrt(simd_sum(squares[m]) / K + eps[0]);
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    float sum = simd_sum(sums[r][m]) * factor;
    if (lane == 0 && first + r < own) {
      if (ADDED) sum += float(added[before + first + r]);
      y[m * (N0 + N1 + N2) + before + first + r] = static_cast<O>(sum);
    }
  }
}
