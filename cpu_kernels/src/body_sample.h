// Passes over a row of scores, for drawing a token: sample.cpp says what they mean.
// Included once by each instruction set's file, after body_rows.h.
#pragma once

#include "sample.h"

namespace {

using sampling::kPeak;

// The largest of n values; NaN where one is not a number.
float top_of(const float* x, int n) {
  F most = set1(x[0]);
  uint32_t strange = 0;
  int i = 0;
  for (; i + 16 <= n; i += 16) {
    most = vmax(load(x + i), most);
    for (int j = 0; j < 16; j++) strange |= x[i + j] != x[i + j];
  }
  float top = largest(most);
  for (; i < n; i++) {
    strange |= x[i] != x[i];
    if (x[i] > top) top = x[i];
  }
  return strange ? NAN : top;
}

// w = e^((x - top) * scale), where n is a whole number of kPeak; the largest of each kPeak of them; returns their sum.
// Where all of a block are minus infinity, as behind a mask, their weights are 0 without the slow products that
// underflow.
float weigh(const float* x, int n, float top, float scale, float* w, float* peaks) {
  F sum = zero();
  const F shift = set1(top), factor = set1(scale);
  for (int i = 0; i < n; i += kPeak) {
    F highest = load(x + i);
    for (int j = i + 16; j < i + kPeak; j += 16) highest = vmax(load(x + j), highest);
    if (largest(highest) == -INFINITY) {
      for (int j = i; j < i + kPeak; j += 16) store(w + j, zero());
      peaks[i / kPeak] = 0;
      continue;
    }
    F most = zero();
    for (int j = i; j < i + kPeak; j += 16) {
      const F e = exp(mul(sub(load(x + j), shift), factor));
      store(w + j, e);
      sum = add(sum, e);
      most = vmax(e, most);
    }
    peaks[i / kPeak] = largest(most);
  }
  return total(sum);
}

inline uint32_t mixed(uint32_t x) {
  x = (x ^ x >> 16) * 0x85ebca6bu;
  x = (x ^ x >> 13) * 0xc2b2ae35u;
  return x ^ x >> 16;
}

// Which of n weights has the least -log(1 - u) / weight, u a number between 0 and 1 that follows from the keys and
// its id alone: an exact draw. The ids ascend; null: 0, 1, ... The first of equals; -1 where no weight is above 0.
int pick(const float* w, const int32_t* ids, int n, uint32_t key, uint32_t other) {
  float least = INFINITY;
  int best = -1;
  for (int i = 0; i < n; i += 16) {
    float u[16];
    uint32_t near = 0;
    const int count = n - i < 16 ? n - i : 16;
    for (int j = 0; j < 16; j++) {
      const uint32_t id = ids ? (uint32_t)ids[i + (j < count ? j : 0)] : (uint32_t)(i + j);
      u[j] = (float)mixed(mixed(id * 0x9e3779b9u + key) + other) * 0x1p-32f + 0x1p-33f;
    }
    // -log(1 - u) is u or more
    for (int j = 0; j < count; j++) near |= u[j] < least * w[i + j];
    if (!near) continue;
    for (int j = 0; j < count; j++) {
      const float far = -log1pf(-(u[j] < 0x1.fffffep-1f ? u[j] : 0x1.fffffep-1f)) / w[i + j];
      if (far < least) least = far, best = i + j;
    }
  }
  return best;
}

}  // namespace
