// How one token is drawn from a row of logits. Every cut is a band of weights, least to most, both inside: equals
// stay or go together. The order: bias and mask, penalties, temperature, then top-n-sigma, top-k, typical, top-p, min-p
// and XTC, each on what is left; or mirostat in their place.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sampling {

// The columns of a row of settings; each may be off.
struct Wish {
  float temperature;  // 0: the largest
  float sigma;        // 0: off
  float top_k;        // 0: off
  float typical;      // 1: off
  float top_p;        // 1: off
  float min_p;        // 0: off
  float xtc;          // above 1: off, or its coin fell so
  float tau;          // of mirostat, in bits; 0: off
  float eta;
  float repetition;   // 1: off
  float presence;
  float frequency;
  float dry;          // 0: off
  float dry_base;
  float dry_allowed;
};
constexpr int kWishes = sizeof(Wish) / sizeof(float);

// The columns of a row of places, in `tokens`, `bias` and `breakers`.
struct Places {
  int32_t begin, end;    // the tokens so far
  int32_t answer;        // where the answer begins: presence and frequency count from there
  int32_t penalized;     // where repetition counts from
  int32_t dry;           // where repeated sequences are looked for
  int32_t bias, bias_end;
  int32_t breaker, breaker_end;
};
constexpr int kPlaces = sizeof(Places) / sizeof(int32_t);

struct Row {
  float* scores;            // (vocab), room for a whole number of kPeak; written over
  int vocab;
  const Wish* wish;
  const Places* places;
  const int32_t* tokens;
  const int32_t* bias_ids;
  const float* bias;
  const int32_t* breakers;  // tokens that no repeated sequence reaches across, ascending
  const uint32_t* mask;     // a bit for each token, set where it may come; null: all may
  uint32_t keys[2];
  float surprise;           // mirostat's, before and after
};

constexpr int kPeak = 64;        // weights of which the largest is known
constexpr int kMostRepeated = 48;  // tokens of a repeated sequence that count

// -1 where a logit is not a number or infinite, -2 where nothing may come.
int32_t draw(Row& row);

// The logarithm of the sum of e^score; the `count` best of at least so many, and the logarithm of their shares, best first.
float report(float* scores, int vocab, int count, int32_t* ids, float* values);

}  // namespace sampling
