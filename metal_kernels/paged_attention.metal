// y (T, H, BLOCKS, DV): attention of each row over the keys that its table names, by blocks of them; marks
// (T, H, BLOCKS, 2): the largest score and the sum of exponentials of each, to put blocks together by.
//
// k (pages, G, page, D) and v (pages, G, page, DV) plain, or as codes with scales and biases for GROUP values;
// with SHARED the values are the first DV of the keys (latent attention). Row t sees its keys
// [lengths[t] - WINDOW, lengths[t]), all of them where WINDOW is 0; key j lies in page tables[t][j / page].
// A threadgroup serves HEADS query heads of one group: what they share is read once. Its simdgroups take keys
// in turn, a lane holds neighbouring values of a head. A score that is not a number makes its head's sums none.
constexpr float LEAST = -3.40282347e38f;  // of all numbers: a score of -infinity then has a weight of zero, and not NaN
constexpr int PER_K = (D + 31) / 32;
constexpr int PER_V = (DV + 31) / 32;
constexpr int OF_GROUP = H / G;
constexpr int SLICES = (OF_GROUP + HEADS - 1) / HEADS;
const int lane = thread_index_in_simdgroup;
const int simdgroup = simdgroup_index_in_threadgroup;
const int group = threadgroup_position_in_grid.x / SLICES;
const int slice = threadgroup_position_in_grid.x % SLICES;
const int row = threadgroup_position_in_grid.y;
const int block = threadgroup_position_in_grid.z;
const int first_head = group * OF_GROUP + slice * HEADS;
const int last_head = group * OF_GROUP + OF_GROUP - 1;
const int per_page = k_shape[2];
const float scale = numbers[0];
const float softcap = numbers[1];

const int length = lengths[row];
const int oldest = WINDOW > 0 ? max(0, length - WINDOW) : 0;
const int share = (length - oldest + BLOCKS - 1) / BLOCKS;
const int begin = oldest + block * share;
const int end = min(length, begin + share);

float qs[HEADS][PER_K];
float sums[HEADS][PER_V] = {};
float most[HEADS];
float total[HEADS];
#pragma unroll
for (int h = 0; h < HEADS; h++) {
  const int head = min(first_head + h, last_head);  // past the last: worked out again, not stored
#pragma unroll
  for (int i = 0; i < PER_K; i++) {
    const int at = lane * PER_K + i;
    qs[h][i] = at < D ? float(q[(ulong(row) * H + head) * D + at]) * scale : 0.0f;
  }
  most[h] = LEAST;
  total[h] = 0;
}

// page by page, so that keys are found by adding; `key` goes on from one page to the next
int key = begin + simdgroup;
int page = begin / per_page;
for (int first = page * per_page; first < end; first += per_page) {
  const ulong place = (ulong(tables[ulong(row) * tables_shape[1] + page]) * G + group) * per_page;
  const int last = min(end, first + per_page);
  for (; key < last; key += SIMDGROUPS) {
    float values[PER_K];
    load_row<BITS, GROUP, D>(k, k_scales, k_biases, place + (key - first), lane, values);
    float others[PER_V];
    if (SHARED) {
      load_row_part<BITS, GROUP, D, DV>(k, k_scales, k_biases, place + (key - first), lane, others);
    } else {
      load_row<BITS, GROUP, DV>(v, v_scales, v_biases, place + (key - first), lane, others);
    }
#pragma unroll
    for (int h = 0; h < HEADS; h++) {
      float score = 0;
#pragma unroll
      for (int i = 0; i < PER_K; i++) score += qs[h][i] * values[i];
      score = simd_sum(score);
      if (SOFTCAP) score = softcap * metal::precise::tanh(score / softcap);
      const float higher = score > most[h] ? score : most[h];  // compared: a GPU's max gives the one that is a number
      const float old = metal::exp(most[h] - higher);
      const float weight = metal::exp(score - higher);
      most[h] = higher;
      total[h] = total[h] * old + weight;
#pragma unroll
      for (int i = 0; i < PER_V; i++) sums[h][i] = sums[h][i] * old + weight * others[i];
    }
  }
  page++;
}

threadgroup float parts[SIMDGROUPS][DV];
threadgroup float part_most[SIMDGROUPS];
threadgroup float part_total[SIMDGROUPS];
#pragma unroll
for (int h = 0; h < HEADS; h++) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the head before is done
#pragma unroll
  for (int i = 0; i < PER_V; i++) {
    if (lane * PER_V + i < DV) parts[simdgroup][lane * PER_V + i] = sums[h][i];
  }
  if (lane == 0) {
    part_most[simdgroup] = most[h];
    part_total[simdgroup] = total[h];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const int head = first_head + h;
  if (head <= last_head) {
    const bool sink = SINKS && block == 0;
    float top = sink ? float(sinks[head]) : LEAST;
    for (int s = 0; s < SIMDGROUPS; s++) top = part_most[s] > top ? part_most[s] : top;
    float whole = sink ? metal::exp(float(sinks[head]) - top) : 0.0f;
    for (int s = 0; s < SIMDGROUPS; s++) whole += part_total[s] * metal::exp(part_most[s] - top);
    const ulong to = (ulong(row) * H + head) * BLOCKS + block;
    for (int i = thread_index_in_threadgroup; i < DV; i += SIMDGROUPS * 32) {
      float value = 0;
      for (int s = 0; s < SIMDGROUPS; s++) value += parts[s][i] * metal::exp(part_most[s] - top);
      y[to * DV + i] = static_cast<O>(whole == 0 ? 0.0f : value / whole);  // a block may have no keys
    }
    if (thread_index_in_threadgroup == 0) {
      marks[2 * to] = top;
      marks[2 * to + 1] = whole;
    }
  }
}
