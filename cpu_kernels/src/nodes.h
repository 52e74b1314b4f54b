// Graph nodes other than products. All check their arguments and throw std::invalid_argument naming
// the one at fault.
#pragma once

#include <optional>
#include <vector>

#include "packed.h"

// q (B, H, L, D), k (B, G, S, D), v (B, G, S, Dv) -> (B, H, L, Dv). `causal`: the last query sees the
// last key; `window` keys at most. `mask`: boolean (True is seen) or added to the scores. `keys`: how many of
// the positions of k and v count, -1 for all.
mx::array attention(const mx::array& q, const mx::array& k, const mx::array& v, float scale,
                    const std::optional<mx::array>& mask, bool causal, int window, const std::optional<mx::array>& sinks,
                    float softcap, int keys);

// How a row sees those of its own segment.
struct SegmentRule {
  float scale = 1, softcap = 0;  // 0: none
  int window = -1;               // how far to each side; below 0: all
};

// Rows that lie end to end, `counts` of each segment; a row sees those of its own segment, before and behind it. q, k and v
// as rows of heads: (1, heads, T, size) or (T, heads, 1, size) -> (T, H * Dv). `apart` (H, 2 far + 1): by how much a score
// grows where the key is -far to far places ahead of the query, or farther. `seen`: of each segment how many rows, from the
// first on, anybody looks at; empty: all.
mx::array attend_segments(const mx::array& q, const mx::array& k, const mx::array& v, const std::vector<int>& counts,
                          const std::vector<int>& seen, const SegmentRule& rule, const std::optional<mx::array>& sinks,
                          const std::optional<mx::array>& apart);

mx::array rms_norm(const mx::array& x, const std::optional<mx::array>& weight, float eps);
mx::array layer_norm(const mx::array& x, const std::optional<mx::array>& weight, const std::optional<mx::array>& bias, float eps);

struct ExpertBiases {
  std::optional<mx::array> gate, up, down;  // (experts, rows)
};

// (residual +) for each row of x (T, width) the sum over its choices of weight * down(act(gate(x)) * up(x)) by
// that choice's expert. ids and weights (T, choices). An expert that is not there gives a row of NaN: ids are
// data, and a node cannot raise.
mx::array experts(const mx::array& x, const mx::array& ids, const mx::array& weights, const Packed* gate, const Packed& up,
                  const Packed& down, const std::string& act, const ExpertBiases& biases,
                  const std::optional<mx::array>& residual, int wish);

struct HeadNorms {
  std::optional<mx::array> input;  // of x, before the products
  float eps = 0;
  std::optional<mx::array> q, k;   // of each head, (dim,)
  float head_eps = 0;
};

struct Rotation {
  std::optional<mx::array> freqs;      // (n,) the first 2 n values of a head turn by position / freqs
  std::optional<mx::array> positions;  // (T,) int32
  bool interleaved = false;
  float scale = 1;                     // of what was turned
};

// The front of an attention layer: norm, projections to q [, k [, v]], norm of heads, rotation of q and k.
// x (T, width). Each result is (1, heads, T, dim) for one sequence, (T, heads, 1, dim) for several; q has
// the type of x, k and v have the type `kept`.
std::vector<mx::array> heads_of(const mx::array& x, const std::vector<const Packed*>& weights,
                                const std::vector<std::optional<mx::array>>& biases, int dim, const HeadNorms& norms,
                                const Rotation& rotation, bool one_sequence, mx::Dtype kept, int wish);

// One token from each row of logits (T, vocab): tokens (T,), -1 where a logit is not a number or infinite, -2 where none
// may come; what mirostat is surprised by from then on (T,); and where `best` is not -1 the logarithm of the token's share
// before anything was asked (T,), and the `best` likeliest tokens with theirs (T, best). A row of `wishes` and of
// `places` has what sample.h tells, a row of `keys` decides what is drawn, `mask` (T, words) has a bit for each
// token.
std::vector<mx::array> sample(const mx::array& logits, const mx::array& wishes, const mx::array& places, const mx::array& keys,
                              const mx::array& tokens, const mx::array& bias_ids, const mx::array& bias,
                              const mx::array& breakers, const mx::array& surprise,
                              const std::optional<mx::array>& mask, int best);

// The thread of this thread's stream gives back the memory that its calls worked in, once it is through with them;
// and what was to be filled with packed weights is theirs alone.
void release_scratch();
