// hidden (pairs, I) = act(gate x) * (up x), each pair with the matrices of its expert, pairs = T * CHOICES.
//
// A threadgroup stands for a pair and a block of outputs. The first pair of an expert works for all pairs
// of that expert, M at a time, and the threadgroups of the others leave: an expert's weights are read once.
// With NORMED, x stands for RMSNorm(x): the norm's weights multiply x where it is loaded, its factor the products.
constexpr int COUNT = values_of_lane<BITS>();
constexpr int BLOCK = COUNT * 32;
const int lane = thread_index_in_simdgroup;
const int N = gate_w_shape[1];
const int words = gate_w_shape[2];
const int K = words * 32 / BITS;
const int groups = K / GROUP;
const int pairs = ids_shape[0];
const int pair = threadgroup_position_in_grid.y;
const uint expert = ids[pair];
for (int other = 0; other < pair; other++) {
  if (ids[other] == expert) return;  // the whole threadgroup
}
const int first = (threadgroup_position_in_grid.x * SIMDGROUPS + simdgroup_index_in_threadgroup) * ROWS;
if (first >= N) return;              // the whole simdgroup

int next = pair;  // a pair of this expert, or past the last
while (next < pairs) {
  int members[M];
  int count = 0;
#pragma unroll
  for (int m = 0; m < M; m++) {
    const bool there = next < pairs;
    members[m] = there ? next : members[0];  // past the last: worked out again, not stored
    count += there;
    do next++;
    while (next < pairs && ids[next] != expert);
  }

  float gates[ROWS][M] = {};
  float ups[ROWS][M] = {};
  float squares[M] = {};
  float xs[M][COUNT];
  float x_sums[M];
  for (int k = lane * COUNT; k < K; k += BLOCK) {
#pragma unroll
    for (int m = 0; m < M; m++) {
      const device T* from = x + ulong(members[m] / CHOICES) * K + k;
      if (NORMED) {
        x_sums[m] = load_normed<T, FORMAT, BITS, COUNT>(from, norm + k, xs[m], squares[m]);
      } else {
        x_sums[m] = load_activations<T, FORMAT, BITS, COUNT>(from, xs[m]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      const ulong row = ulong(expert) * N + min(first + r, N - 1);
      const ulong group = row * groups + k / GROUP;
      const float gate_scale = scale_to_float<FORMAT>(gate_scales[group]);
      const float gate_shift = FORMAT == AFFINE ? float(gate_biases[group]) : 0.0f;
      const float up_scale = scale_to_float<FORMAT>(up_scales[group]);
      const float up_shift = FORMAT == AFFINE ? float(up_biases[group]) : 0.0f;
      float codes[COUNT];
      decode_values<FORMAT, BITS, BITCAST>(codes_at<BITS>(gate_w + row * words, k), codes);
#pragma unroll
      for (int m = 0; m < M; m++) gates[r][m] += gate_scale * dot_codes<BITS>(codes, xs[m]) + x_sums[m] * gate_shift;
      decode_values<FORMAT, BITS, BITCAST>(codes_at<BITS>(up_w + row * words, k), codes);
#pragma unroll
      for (int m = 0; m < M; m++) ups[r][m] += up_scale * dot_codes<BITS>(codes, xs[m]) + x_sums[m] * up_shift;
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    const float factor = NORMED ? metal::precise::rsqrt(simd_sum(squares[m]) / K + eps[0]) : 1.0f;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float gate = simd_sum(gates[r][m]) * factor;
      float up = simd_sum(ups[r][m]) * factor;
      if (lane == 0 && m < count && first + r < N) {
        if (ADDED) {
          gate += float(gate_added[ulong(expert) * N + first + r]);
          up += float(up_added[ulong(expert) * N + first + r]);
        }
        hidden[ulong(members[m]) * N + first + r] = static_cast<T>(gate_times_up<ACT>(gate, up));
      }
    }
  }
}
