// The steps of recurrent mixers. Each remembers a state of every sequence, an array for one remembering step of the stack;
// rows of a sequence go by in the order of their positions, so a row's bits do not hang on how many come along.
#pragma once

#include "scan.h"
#include "steps.h"

namespace steps {

// Each channel's last inputs weighted and added. Its channels are those of the sources, end to end, of a single one those
// from `at` on. Remembers (taps - 1, channels).
struct Convolving {
  std::vector<Rows> sources;
  int at;
  mx::array weight;  // (taps, channels), oldest first
  std::optional<mx::array> bias;
  bool silu;
  Rows to;
  int state;  // which of the pass
};
StepPtr convolve(const Convolving& spec);

// How much of a state goes on and how much is added, from what was projected: as many values from `at` on as there are
// biases, of which neighbours share a rate.
struct Paced {
  Rows source, to;
  int at;
  kernels::PaceBy by;
  mx::array bias;
  std::optional<mx::array> rate;
  float low, high;
};
StepPtr pace(const Paced& spec);

// Mamba 1. Remembers (channels, entries).
struct SelectiveScan {
  Rows u, dt, bc, to;
  int at;             // of B in a row of bc, C behind it
  mx::array a, skip;  // (channels, entries), negative; (channels)
  int state;
};
StepPtr scan(const SelectiveScan& spec);

// Mamba 2: a row of `mixed` has u (heads, dim), then B and C (groups, entries). Remembers (heads, dim, entries).
struct SpaceScan {
  Rows mixed, dt, to;
  int heads, dim, groups, entries;
  mx::array rate, skip;  // (heads)
  int state;
};
StepPtr scan(const SpaceScan& spec);

// A row of `mixed` has q and k (k_heads, k_dim), then v (v_heads, v_dim). Remembers (v_heads, v_dim, k_dim).
struct DeltaScan {
  Rows mixed, decay, beta, to;
  int k_heads, v_heads, k_dim, v_dim;
  int state;
};
StepPtr scan(const DeltaScan& spec);

// RG-LRU. Remembers (channels).
struct LinearScan {
  Rows x, into, decay, to;
  mx::array into_bias, decay_bias, rate;  // (channels)
  int state;
};
StepPtr scan(const LinearScan& spec);

}  // namespace steps
