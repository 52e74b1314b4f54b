// One token out of a row of logits: see sample.h.
#include "sample.h"

#include <cmath>

#include "linear.h"

using namespace kernels;
using linear::Scratch;

namespace sampling {
namespace {

// Weights of those that are left, those below a bound left out; ids ascend.
struct Some {
  float* w;
  int32_t* ids;
  int count = 0;

  double mass() const {
    double sum = 0;
    for (int i = 0; i < count; i++) sum += w[i];
    return sum;
  }
};

struct Weights {
  const float* w;      // (vocab), zeros behind it
  const float* peaks;  // the largest of each kPeak
  int vocab;
  float sum;           // of all
  float least = 0, most = INFINITY;  // the band of those that are left

  int blocks() const { return (vocab + kPeak - 1) / kPeak; }
  bool all() const { return least <= 0 && most == INFINITY; }

  Some at_least(float bound, Scratch& scratch) const {
    bound = std::max(bound, least);
    size_t room = 0;
    for (int b = 0; b < blocks(); b++) room += peaks[b] >= bound ? kPeak : 0;
    Some some{scratch.take<float>(room), scratch.take<int32_t>(room)};
    for (int b = 0; b < blocks(); b++) {
      if (peaks[b] < bound) continue;
      for (int i = b * kPeak; i < std::min(vocab, (b + 1) * kPeak); i++)
        if (w[i] >= bound && w[i] <= most && w[i] > 0) some.w[some.count] = w[i], some.ids[some.count++] = i;
    }
    return some;
  }
};

// The k-th largest, 1 <= k; the least where there are fewer.
float largest_but(const float* from, int n, int k, Scratch& scratch) {
  float* copy = scratch.take<float>(n);
  std::memcpy(copy, from, (size_t)n * sizeof(float));
  const int at = std::min(k, n) - 1;
  std::nth_element(copy, copy + at, copy + n, [](float a, float b) { return a > b; });
  return copy[at];
}

// A bound that at least k weights reach, near the k-th of them.
float bound_of(const Weights& all, int k, Scratch& scratch) {
  return k <= all.blocks() ? largest_but(all.peaks, all.blocks(), k, scratch) : 0.0f;
}

struct Keyed {
  float key, weight;
};

// In the order of the floats themselves, the upper 12 bits.
constexpr int kBuckets = 4096;
int bucket_of(float key) {
  uint32_t bits;
  std::memcpy(&bits, &key, sizeof bits);
  return (bits >> 31 ? ~bits : bits | 0x80000000u) >> 20;
}

// Of many, those that lie near the key that `need` is reached at; what lies above them is taken from `need`.
int near_key(Keyed* from, int n, double& need, Scratch& scratch) {
  double* sums = scratch.take<double>(kBuckets);
  std::fill(sums, sums + kBuckets, 0.0);
  int lowest = kBuckets;
  for (int i = 0; i < n; i++) {
    const int bucket = bucket_of(from[i].key);
    sums[bucket] += from[i].weight;
    lowest = std::min(lowest, bucket);
  }
  int bucket = kBuckets - 1;
  while (bucket > lowest && sums[bucket] < need) need -= sums[bucket--];
  return (int)(std::partition(from, from + n, [=](const Keyed& k) { return bucket_of(k.key) == bucket; }) - from);
}

// The largest key such that the weights of those with that key or more come to `need`; the least where none do.
float key_reaching(Keyed* from, int n, double need, Scratch& scratch) {
  if (n > kBuckets / 8) n = near_key(from, n, need, scratch);
  while (n > 1) {
    const float a = from[0].key, b = from[n / 2].key, c = from[n - 1].key;
    const float pivot = std::max(std::min(a, b), std::min(std::max(a, b), c));
    Keyed* above = std::partition(from, from + n, [=](const Keyed& k) { return k.key > pivot; });
    Keyed* same = std::partition(above, from + n, [=](const Keyed& k) { return k.key == pivot; });
    double over = 0, equal = 0;
    for (Keyed* k = from; k < above; k++) over += k->weight;
    for (Keyed* k = above; k < same; k++) equal += k->weight;
    if (over >= need) {
      n = (int)(above - from);
    } else if (over + equal >= need || same == from + n) {
      return pivot;
    } else {
      need -= over + equal;
      n -= (int)(same - from);
      from = same;
    }
  }
  return from->key;
}

void keep_by_deviation(Weights& all, float sigma, const float* scores, float temperature) {
  double sum = 0, squares = 0;
  int count = 0;
  for (int i = 0; i < all.vocab; i++)
    if (scores[i] != -INFINITY) sum += scores[i], count++;
  const double mean = sum / count;
  for (int i = 0; i < all.vocab; i++)
    if (scores[i] != -INFINITY) squares += (scores[i] - mean) * (scores[i] - mean);
  all.least = std::max(all.least, (float)std::exp(-sigma * std::sqrt(squares / count) / temperature));
}

void keep_best(Weights& all, int k) {
  if (k >= all.vocab) return;
  Scratch scratch;
  const Some some = all.at_least(bound_of(all, k, scratch), scratch);
  if (some.count) all.least = std::max(all.least, largest_but(some.w, some.count, k, scratch));
}

// Those whose surprise is nearest to the mean surprise, until they come to a share.
void keep_typical(Weights& all, float share) {
  Scratch scratch;
  const Some some = all.at_least(0, scratch);
  const double mass = some.mass();
  float* surprise = scratch.take<float>(some.count);
  double mean = 0;
  for (int i = 0; i < some.count; i++) {
    const double part = some.w[i] / mass;
    surprise[i] = (float)-std::log(part);
    mean += part * surprise[i];
  }
  Keyed* keyed = scratch.take<Keyed>(some.count);
  auto key = [&](int i) { return -std::fabs(surprise[i] - (float)mean); };
  for (int i = 0; i < some.count; i++) keyed[i] = {key(i), some.w[i]};
  const float reached = key_reaching(keyed, some.count, share * mass, scratch);
  float least = INFINITY, most = 0;
  for (int i = 0; i < some.count; i++)
    if (key(i) >= reached) least = std::min(least, some.w[i]), most = std::max(most, some.w[i]);
  all.least = least, all.most = most;
}

void keep_share(Weights& all, float share) {
  Scratch scratch;
  const double mass = all.all() ? all.sum : all.at_least(0, scratch).mass();
  // all that are less come to less than what may be missing
  const Some some = all.at_least((float)((1 - share) * mass / all.vocab), scratch);
  Keyed* keyed = scratch.take<Keyed>(some.count);
  for (int i = 0; i < some.count; i++) keyed[i] = {some.w[i], some.w[i]};
  all.least = std::max(all.least, key_reaching(keyed, some.count, share * mass, scratch));
}

// Of those with that share or more, only the least.
void drop_likely(Weights& all, float share) {
  Scratch scratch;
  const Some some = all.at_least(0, scratch);
  const float bound = (float)(share * some.mass());
  float least = INFINITY;
  int count = 0;
  for (int i = 0; i < some.count; i++)
    if (some.w[i] >= bound) least = std::min(least, some.w[i]), count++;
  if (count > 1) all.most = least;
}

float largest_left(const Weights& all) {
  if (all.most == INFINITY) return 1.0f;
  Scratch scratch;
  const Some some = all.at_least(0, scratch);
  float most = 0;
  for (int i = 0; i < some.count; i++) most = std::max(most, some.w[i]);
  return most;
}

// How long the sequence that ends the text stood before each of its tokens: a token that would lengthen it is told
// to `each` with that length. Linear: the Z function of the text read backwards.
template <class Each>
void each_repeated(const int32_t* text, int n, const Row& row, Scratch& scratch, Each&& each) {
  const int32_t *first = row.breakers + row.places->breaker, *end = row.breakers + row.places->breaker_end;
  auto breaks = [=](int32_t token) { return std::binary_search(first, end, token); };
  int reach = 0;  // to the last token that breaks
  while (reach < std::min(n, kMostRepeated) && !breaks(text[n - 1 - reach])) reach++;
  if (!reach) return;
  auto back = [&](int i) { return text[n - 1 - i]; };
  int32_t* z = scratch.take<int32_t>(n);
  for (int i = 1, left = 0, right = 0; i < n; i++) {
    int length = i < right ? std::min(right - i, z[i - left]) : 0;
    while (i + length < n && back(length) == back(i + length)) length++;
    z[i] = length;
    if (i + length > right) left = i, right = i + length;
    if (length && !breaks(back(i - 1))) each(back(i - 1), std::min(length, reach));
  }
}

// The text from `begin` on, without ids that are none.
struct Text {
  int32_t* ids;
  int count = 0;
  Text(const Row& row, int begin, Scratch& scratch) : ids(scratch.take<int32_t>(row.places->end - begin + 1)) {
    for (int i = begin; i < row.places->end; i++) put(row.tokens[i], row.vocab);
  }
  void put(int32_t id, int vocab) {
    if (id >= 0 && id < vocab) ids[count++] = id;
  }
};

void punish_repeated(const Row& row) {
  const Wish& wish = *row.wish;
  Scratch scratch;
  const Text text(row, row.places->dry, scratch);
  int32_t* longest = scratch.take<int32_t>(row.vocab);
  std::memset(longest, 0, (size_t)row.vocab * sizeof(int32_t));
  each_repeated(text.ids, text.count, row, scratch, [&](int32_t token, int length) {
    longest[token] = std::max(longest[token], length);
  });
  for (int i = 0; i < text.count; i++) {
    int32_t& length = longest[text.ids[i]];
    if (length && length >= wish.dry_allowed)
      row.scores[text.ids[i]] -= wish.dry * std::pow(wish.dry_base, (float)(length - wish.dry_allowed));
    length = 0;
  }
}

void punish_used(const Row& row) {
  const Wish& wish = *row.wish;
  Scratch scratch;
  if (wish.repetition != 1) {
    const Text text(row, row.places->penalized, scratch);
    std::sort(text.ids, text.ids + text.count);
    for (int i = 0; i < text.count; i++) {
      if (i && text.ids[i] == text.ids[i - 1]) continue;
      float& score = row.scores[text.ids[i]];
      score = score > 0 ? score / wish.repetition : score * wish.repetition;
    }
  }
  if (wish.presence != 0 || wish.frequency != 0) {
    const Text answer(row, row.places->answer, scratch);
    std::sort(answer.ids, answer.ids + answer.count);
    for (int i = 0; i < answer.count; i++) {
      if (!i || answer.ids[i] != answer.ids[i - 1]) row.scores[answer.ids[i]] -= wish.presence;
      row.scores[answer.ids[i]] -= wish.frequency;
    }
  }
}

// Most words of a mask are all or nothing: a grammar allows whole ranges, or next to none.
void keep_allowed(const Row& row) {
  for (int begin = 0; begin < row.vocab; begin += 32) {
    const uint32_t word = row.mask[begin / 32];
    const int end = std::min(row.vocab, begin + 32);
    if (!word) std::fill(row.scores + begin, row.scores + end, -INFINITY);
    else if (~word)
      for (int i = begin; i < end; i++)
        if (!(word >> (i - begin) & 1)) row.scores[i] = -INFINITY;
  }
}

void edit(const Row& row) {
  for (int i = row.places->bias; i < row.places->bias_end; i++)
    if (row.bias_ids[i] >= 0 && row.bias_ids[i] < row.vocab) row.scores[row.bias_ids[i]] += row.bias[i];
  if (row.mask) keep_allowed(row);
  punish_used(row);
  if (row.wish->dry > 0) punish_repeated(row);
}

int first_largest(const float* scores, int n, float top) {
  return (int)(std::find(scores, scores + n, top) - scores);
}

void cut(Weights& all, const Row& row) {
  const Wish& wish = *row.wish;
  if (wish.sigma > 0) keep_by_deviation(all, wish.sigma, row.scores, wish.temperature);
  if (wish.top_k > 0) keep_best(all, (int)std::min(wish.top_k, (float)all.vocab));  // it may be more than an int holds
  if (wish.typical < 1) keep_typical(all, wish.typical);
  if (wish.top_p < 1) keep_share(all, wish.top_p);
  if (wish.min_p > 0) all.least = std::max(all.least, wish.min_p * largest_left(all));
  if (wish.xtc <= 1) drop_likely(all, wish.xtc);
}

Weights weights_of(float* scores, int vocab, float top, float scale, Scratch& scratch) {
  const int wide = (vocab + kPeak - 1) / kPeak * kPeak;
  std::fill(scores + vocab, scores + wide, -INFINITY);
  Weights all{scratch.take<float>(wide), scratch.take<float>(wide / kPeak), vocab, 0};
  all.sum = best().weigh(scores, wide, top, scale, const_cast<float*>(all.w), const_cast<float*>(all.peaks));
  return all;
}

}  // namespace

int32_t draw(Row& row) {
  const Wish& wish = *row.wish;
  if (!std::isfinite(best().top_of(row.scores, row.vocab))) return -1;
  edit(row);
  const float top = best().top_of(row.scores, row.vocab);
  if (top == -INFINITY) return -2;
  if (!std::isfinite(top)) return -1;
  if (wish.temperature == 0) return first_largest(row.scores, row.vocab, top);
  Scratch scratch;
  Weights all = weights_of(row.scores, row.vocab, top, 1.0f / wish.temperature, scratch);
  if (wish.tau > 0) all.least = std::min(1.0f, all.sum * std::exp2(-row.surprise));
  else cut(all, row);
  if (all.all() && wish.tau <= 0) return best().pick(all.w, nullptr, row.vocab, row.keys[0], row.keys[1]);
  const Some some = all.at_least(0, scratch);
  const int at = best().pick(some.w, some.ids, some.count, row.keys[0], row.keys[1]);
  if (wish.tau > 0) row.surprise -= wish.eta * (float)(-std::log2(some.w[at] / some.mass()) - wish.tau);
  return some.ids[at];
}

float report(float* scores, int vocab, int count, int32_t* ids, float* values) {
  Scratch scratch;
  const float top = best().top_of(scores, vocab);
  const Weights all = weights_of(scores, vocab, top, 1.0f, scratch);
  const float whole = top + std::log(all.sum);
  if (!count) return whole;
  // the best by their scores: weights of those far below are all 0
  int32_t* order = scratch.take<int32_t>(vocab);
  int left = 0;
  const float bound = bound_of(all, count, scratch);
  for (int i = 0; i < vocab; i++)
    if (all.w[i] >= bound) order[left++] = i;
  std::partial_sort(order, order + std::min(count, left), order + left, [&](int32_t a, int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  });
  for (int i = 0; i < count; i++) ids[i] = order[i], values[i] = scores[order[i]] - whole;
  return whole;
}

}  // namespace sampling
