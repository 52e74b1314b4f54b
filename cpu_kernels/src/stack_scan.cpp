// How recurrent mixers are told to a stack: every size is checked here.
#include "stack_layers.h"
#include "steps_scan.h"

using steps::Rows;
using steps::wrong;

namespace {

void check_vector(const mx::array& a, int size, const char* name) {
  if (a.ndim() != 1 || a.shape(0) != size) wrong(std::string(name) + " must have shape (" + std::to_string(size) + ",)");
}

// How many values there are of a vector.
int values_of(const mx::array& a, const char* name) {
  if (a.ndim() != 1 || a.shape(0) < 1) wrong(std::string(name) + " must be a vector");
  return a.shape(0);
}

}  // namespace

void Stack::normalise(const std::string& rows, int at, int size, int parts, const steps::NormSpec& norm) {
  layers_->may_change();
  const Rows own = layers_->read(rows);
  if (at < 0 || size < 1 || parts < 1 || at + (int64_t)size * parts > own.width) wrong(rows + " must have the values that are normed");
  layers_->add(steps::normalise(layers_->written(rows, own.width), at, size, parts, norm));
}

void Stack::convolve(const std::vector<std::string>& sources, int at, const mx::array& weight,
                     const std::optional<mx::array>& bias, bool silu, const std::string& to) {
  layers_->may_change();
  if (weight.ndim() != 2 || weight.shape(0) < 2 || weight.shape(1) < 1) wrong("conv must be (taps, channels) with 2 taps or more");
  const int channels = weight.shape(1);
  steps::Convolving spec{{}, at, weight, bias, silu, {}, (int)layers_->states.size()};
  int64_t wide = 0;
  for (const std::string& source : sources) {
    if (source == to) wrong("rows cannot be convolved where they lie");
    spec.sources.push_back(layers_->read(source));
    wide += spec.sources.back().width;
  }
  const bool fits = sources.size() == 1 ? at >= 0 && (int64_t)at + channels <= wide : at == 0 && wide == channels;
  if (sources.empty() || !fits) wrong("sources must have the channels of conv");
  spec.to = layers_->written(to, channels);
  layers_->states.push_back({1, weight.shape(0) - 1, channels});
  layers_->add(steps::convolve(spec));
}

void Stack::pace(const std::string& source, int at, const std::string& by, const mx::array& bias, const std::optional<mx::array>& rate,
                 float low, float high, const std::string& to) {
  layers_->may_change();
  const std::pair<const char*, kernels::PaceBy> known[] = {{"softplus", kernels::Softplus}, {"exp_softplus", kernels::ExpSoftplus}, {"exp_sigmoid", kernels::ExpSigmoid}};
  const auto* how = std::find_if(std::begin(known), std::end(known), [&](const auto& one) { return by == one.first; });
  if (how == std::end(known)) wrong("a pace may not go by '" + by + "'");
  const Rows from = layers_->read(source);
  const int values = values_of(bias, "bias");
  if (at < 0 || (int64_t)at + values > from.width) wrong(source + " must have a value for each bias");
  if (rate.has_value() != (how->second != kernels::Softplus)) wrong("a rate goes with decays");
  if (rate && values % values_of(*rate, "rate")) wrong("rate must have a whole number of values for each of its own");
  if (to == source) wrong("a pace lies elsewhere than what it is of");
  layers_->add(steps::pace({from, layers_->written(to, values), at, how->second, bias, rate, low, high}));
}

void Stack::scan_selective(const std::string& u, const std::string& dt, const std::string& bc, int at, const mx::array& a,
                           const mx::array& skip, const std::string& to) {
  layers_->may_change();
  if (a.ndim() != 2 || a.shape(0) < 1 || a.shape(1) < 1) wrong("a must be (channels, entries)");
  const int channels = a.shape(0), entries = a.shape(1);
  const Rows from = layers_->read(u), step = layers_->read(dt), both = layers_->read(bc);
  if (from.width != channels || step.width != channels) wrong("u and dt must have a value for each channel");
  if (at < 0 || at + 2 * (int64_t)entries > both.width) wrong("bc must have B and C of every entry");
  check_vector(skip, channels, "skip");
  if (to == dt || to == bc) wrong("a scan leaves its steps, B and C as they are");
  const int state = (int)layers_->states.size();
  layers_->states.push_back({1, channels, entries});
  layers_->add(steps::scan(steps::SelectiveScan{from, step, both, layers_->written(to, channels), at, a, skip, state}));
}

void Stack::scan_space(const std::string& mixed, const std::string& dt, int dim, int groups, const mx::array& rate,
                       const mx::array& skip, const std::string& to) {
  layers_->may_change();
  const int heads = values_of(rate, "rate");
  check_vector(skip, heads, "skip");
  const Rows from = layers_->read(mixed), step = layers_->read(dt);
  if (step.width != heads) wrong("dt must have a value for each head");
  const int64_t both = from.width - (int64_t)heads * dim;
  if (dim < 1 || groups < 1 || heads % groups || both < 2 * groups || both % (2 * groups))
    wrong("mixed must have whole heads, and B and C for each group of them");
  if (to == mixed || to == dt) wrong("rows cannot be scanned where they lie");
  const int entries = (int)(both / (2 * groups)), state = (int)layers_->states.size();
  layers_->states.push_back({1, heads, dim, entries});
  layers_->add(steps::scan(steps::SpaceScan{from, step, layers_->written(to, heads * dim), heads, dim, groups, entries, rate, skip, state}));
}

void Stack::scan_delta(const std::string& mixed, const std::string& decay, const std::string& beta, int k_heads, int k_dim,
                       const std::string& to) {
  layers_->may_change();
  const Rows from = layers_->read(mixed), less = layers_->read(decay), more = layers_->read(beta);
  const int heads = more.width;
  if (k_heads < 1 || k_dim < 1 || heads % k_heads) wrong("beta must have a value for each head of v, of which some share one of k");
  const int64_t values = from.width - 2 * (int64_t)k_heads * k_dim;
  if (values < heads || values % heads) wrong("mixed must have q, k and whole heads of v");
  if (less.width != heads && less.width != (int64_t)heads * k_dim) wrong("decay must have a value for each head, or for each channel of its keys");
  if (to == mixed || to == decay || to == beta) wrong("rows cannot be scanned where they lie");
  const int v_dim = (int)(values / heads), state = (int)layers_->states.size();
  layers_->states.push_back({1, heads, v_dim, k_dim});
  layers_->add(steps::scan(steps::DeltaScan{from, less, more, layers_->written(to, (int)values), k_heads, heads, k_dim, v_dim, state}));
}

void Stack::scan_linear(const std::string& x, const std::string& into, const std::string& decay, const mx::array& into_bias,
                        const mx::array& decay_bias, const mx::array& rate, const std::string& to) {
  layers_->may_change();
  const int channels = values_of(rate, "rate");
  for (const mx::array* bias : {&into_bias, &decay_bias}) check_vector(*bias, channels, "a gate's bias");
  steps::LinearScan spec{layers_->read(x), layers_->read(into), layers_->read(decay), {}, into_bias, decay_bias, rate, (int)layers_->states.size()};
  for (const Rows* rows : {&spec.x, &spec.into, &spec.decay})
    if (rows->width != channels) wrong("x and its gates must have a value for each channel");
  spec.to = layers_->written(to, channels);
  layers_->states.push_back({1, channels});
  layers_->add(steps::scan(spec));
}
