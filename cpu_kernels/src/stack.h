// Layers of a decoder as one node, for any rows of any sequences: a list of steps over rows of float32, which steps name.
// Keys and values are written to pages, as a side effect: passes over the same pages are computed in turn.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nodes.h"
#include "packed.h"
#include "pages.h"
#include "steps.h"

// Frequencies of rotary positions: of one head, and what multiplies what was turned.
struct RopeTable {
  mx::array freqs;  // (half,) float32
  float scale;
};

// What a step is told of the networks that are beside or inside a mixture; see steps.h.
struct NetworkSpec {
  const Packed *gate, *up, *down;  // `gate` null: none
  std::optional<mx::array> gate_bias, up_bias, down_bias;
  std::string act;
};

struct HeadsSpec {
  int dim, step;
  std::optional<steps::NormSpec> q_norm, k_norm, v_norm;
  std::string scope;  // head, each, all
  bool after_rope;
  int k_norm_size;
  float clip;
  int rope, rope_at;  // below 0: none
  std::vector<float> temperature;  // (beta, floor, shift), or empty
};

// What an adapter has for one slot of a stack.
struct LowRankSpec {
  const Packed *a, *b;
  float scale;
  std::optional<mx::array> gain;
};

class Stack {
 public:
  // Rows "x" of `width` values come in; "extra", where `extra` is not 0, come in beside them; those named `out` go out.
  Stack(int width, int extra, const std::string& out);
  ~Stack();

  // A rotation that steps may name: sequences choose among its tables, which turn as many values.
  // `axes`: of each pair, by which of a row's coordinates it turns, or none: by the first.
  int rope(const std::vector<RopeTable>& tables, bool interleaved, const std::vector<int>& axes = {});

  // to = (onto +) factor * scale * norm(source)
  void combine(const std::string& source, const std::string& to, const std::optional<steps::NormSpec>& norm,
               const std::optional<std::string>& onto, float factor, const std::optional<mx::array>& scale);
  // to_i = (onto +) norm(source) . w_i^T + bias_i; such a norm is an RMS norm
  void project(const std::string& source, const std::vector<const Packed*>& weights,
               const std::vector<std::optional<mx::array>>& biases, const std::vector<std::string>& to,
               const std::optional<std::string>& onto, const std::optional<steps::NormSpec>& norm);
  // Adapters may change these products, which were made from `source` as it is now: each is a slot, in order.
  void adapt(const std::string& source, const std::vector<std::string>& products, const std::vector<std::optional<mx::array>>& biases,
             const std::optional<steps::NormSpec>& norm);
  // For this stack alone; one entry for each slot.
  std::shared_ptr<const steps::Adapter> adapter(const std::vector<std::optional<LowRankSpec>>& slots) const;
  // to = act(gate) (* up), of `size` values of the gate from `at` on (0: all behind it)
  void activate(const std::string& gate, const std::string& act, const std::optional<std::string>& up, int up_at,
                const std::string& to, int at, int size);
  void normalise(const std::string& rows, int at, int size, int parts, const steps::NormSpec& norm);
  void gate(const std::string& rows, const std::string& gates, int dim, int at, int step, const std::string& by);
  void feed(const std::string& source, const NetworkSpec& network, const std::string& to, const std::optional<std::string>& onto,
            const std::optional<steps::NormSpec>& norm);
  void route(const std::string& logits, const steps::Routing& routing, const std::string& to);
  void mix(const std::string& source, const std::string& logits, const steps::Routing& routing, bool scales_input,
           const NetworkSpec& network, const std::string& to, const std::optional<std::string>& onto);
  // Without k, keys that another step wrote are looked at. Without v, values are what `values` says: "keys", before they are
  // turned, or "latent", the first -v_dim numbers of each kept key.
  void attend(const std::string& q, const std::optional<std::string>& k, const std::optional<std::string>& v,
              const HeadsSpec& heads, const PagedRule& rule, const std::optional<mx::array>& sinks,
              const std::optional<mx::array>& slopes, int latent, const std::string& to);
  void per_head(const std::string& source, const Packed& w, int carried, const std::string& to);

  // Steps that remember; see steps_scan.h. Each has a state of every sequence, in the order in which they are told.
  void convolve(const std::vector<std::string>& sources, int at, const mx::array& weight, const std::optional<mx::array>& bias,
                bool silu, const std::string& to);
  void pace(const std::string& source, int at, const std::string& by, const mx::array& bias, const std::optional<mx::array>& rate,
            float low, float high, const std::string& to);
  void scan_selective(const std::string& u, const std::string& dt, const std::string& bc, int at, const mx::array& a,
                      const mx::array& skip, const std::string& to);
  void scan_space(const std::string& mixed, const std::string& dt, int dim, int groups, const mx::array& rate,
                  const mx::array& skip, const std::string& to);
  void scan_delta(const std::string& mixed, const std::string& decay, const std::string& beta, int k_heads, int k_dim,
                  const std::string& to);
  void scan_linear(const std::string& x, const std::string& into, const std::string& decay, const mx::array& into_bias,
                   const mx::array& decay_bias, const mx::array& rate, const std::string& to);

  // `places[i]` is where the i-th attending step finds its keys, in pages of the group that `batches[groups[i]]` tells of;
  // `tables` of each rope the one of each sequence, or none: the first for all.
  // `counts`: of rows of each sequence, where steps remember; `before` what each sequence does, by step, or nothing where it
  // begins. What it will go on from comes out behind the rows, in the same order.
  // `turns`: by coordinate what each row turns by, or none: its position.
  std::vector<mx::array> operator()(const mx::array& x, const std::optional<mx::array>& extra,
                                    const std::vector<const PagePlace*>& places, const std::vector<int>& groups,
                                    const std::vector<std::shared_ptr<const PagedBatch>>& batches,
                                    const std::vector<std::vector<int>>& tables, const std::vector<steps::AdaptedRows>& adapted, int wish,
                                    const std::vector<int>& counts,
                                    const std::vector<std::vector<std::optional<mx::array>>>& before,
                                    std::vector<std::vector<int32_t>> turns = {});
  struct Layers;

 private:
  std::shared_ptr<Layers> layers_;
};
