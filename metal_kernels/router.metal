// ids (T, K) and weights (T, K) of the experts of each row, best first, from logits (T, E) in float32.
//
// A simdgroup serves a row; lane l looks after experts l, l + 32, ... The order of work is that of
// mlxrun.ops.route: score, bias, group mask, top k (equal scores: the lower expert), the score without
// bias, renormalise, scale.
constexpr int OWN = (E + 31) / 32;
const int lane = thread_index_in_simdgroup;
const int row = threadgroup_position_in_grid.x;

float scores[OWN];
#pragma unroll
for (int i = 0; i < OWN; i++) {
  const int expert = i * 32 + lane;
  scores[i] = expert < E ? logits[ulong(row) * E + expert] : -INFINITY;  // a few logits live in constant memory
}
if (SCORE == ROUTER_SOFTMAX) {
  float most = -INFINITY;
#pragma unroll
  for (int i = 0; i < OWN; i++) most = metal::max(most, scores[i]);
  most = simd_max(most);
  float sum = 0;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    scores[i] = metal::exp(scores[i] - most);
    sum += scores[i];
  }
  sum = simd_sum(sum);
#pragma unroll
  for (int i = 0; i < OWN; i++) scores[i] = scores[i] / sum;
} else if (SCORE == ROUTER_SIGMOID) {
#pragma unroll
  for (int i = 0; i < OWN; i++) scores[i] = 1.0f / (1.0f + metal::exp(-scores[i]));
}

// a score that is not a number is chosen first: it comes out as a weight, and whoever has it is told
float choice[OWN];
bool free_[OWN];
#pragma unroll
for (int i = 0; i < OWN; i++) {
  const int expert = i * 32 + lane;
  free_[i] = expert < E;
  choice[i] = expert < E ? largest_if_none(BIASED ? scores[i] + bias[expert] : scores[i]) : -INFINITY;
}

constexpr int SHARED = GROUPS > 1 ? E : 1;
threadgroup float all[SHARED];  // in no block: threadgroup memory belongs to the whole kernel
if (GROUPS > 1) {  // experts outside of the best groups cannot be chosen; a group counts its two best
  constexpr int SIZE = E / GROUPS;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    if (i * 32 + lane < E) all[i * 32 + lane] = choice[i];
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  float best = -INFINITY, second = -INFINITY;
  for (int j = 0; j < SIZE && lane < GROUPS; j++) {
    const float v = all[lane * SIZE + j];
    second = v > best ? best : metal::max(second, v);
    best = metal::max(best, v);
  }
  const float strength = largest_if_none(SIZE > 1 ? best + second : best);
  uint kept = 0;
  for (int n = 0; n < TOP_GROUPS; n++) {
    const bool open = lane < GROUPS && !(kept >> lane & 1);
    const float top = simd_max(open ? strength : -INFINITY);
    kept |= 1u << simd_min(open && strength == top ? uint(lane) : 31u);
  }
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    const int expert = i * 32 + lane;
    if (expert < E && !(kept >> (expert / SIZE) & 1)) choice[i] = -INFINITY;
  }
}

// lane n keeps the n-th choice
uint chosen = 0;
float score = 0;
for (int n = 0; n < K; n++) {
  float own = -INFINITY;
  uint own_expert = E;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    if (free_[i] && (own_expert == E || choice[i] > own)) {
      own = choice[i];
      own_expert = i * 32 + lane;
    }
  }
  const float top = simd_max(own);
  const uint winner = metal::min(simd_min(own == top ? own_expert : uint(E)), uint(E - 1));  // an expert, whatever came
  float found = 0;
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    if (uint(i * 32 + lane) == winner) {
      free_[i] = false;
      found = scores[i];
    }
  }
  found = simd_broadcast(found, winner % 32);
  if (lane == n) {
    chosen = winner;
    score = found;
  }
}

if (SCORE == ROUTER_SOFTMAX_TOPK) {
  const float top = simd_max(lane < K ? score : -INFINITY);
  score = lane < K ? metal::exp(score - top) : 0.0f;
  score = score / simd_sum(score);
}
const float total = simd_sum(lane < K ? score : 0.0f);
if (lane < K) {
  if (RENORM) score = score / (total + 1e-20f);
  ids[row * K + lane] = chosen;
  weights[row * K + lane] = score * scale[0];
}
