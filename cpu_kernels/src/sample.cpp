// Drawing tokens as a graph node: one token from each row of logits. What is asked of a row: see sample.h.
#include "sample.h"

#include <cmath>

#include "nodes.h"
#include "primitive.h"

using namespace kernels;
using linear::Scratch;
using linear::size_of;

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

enum In { Logits, Wishes, Where, Keys, Tokens, BiasIds, Bias, Breakers, Surprise, Mask };

class Sample : public CpuPrimitive {
 public:
  Sample(int best, bool told, bool masked) : best_(best), told_(told), masked_(masked) {}
  const char* name() const override { return "mlxrun::Sample"; }

  void eval_cpu(const std::vector<mx::array>& in, std::vector<mx::array>& outs) override {
    std::vector<View> views(in.begin() + 1, in.end());
    std::vector<uint8_t*> to;
    for (mx::array& out : outs) to.push_back(allocate(out));
    dispatch([views = std::move(views), rows = RowsOf(in[Logits]), to = std::move(to), best = best_, told = told_,
              masked = masked_, bias_count = (int)in[BiasIds].size(), token_count = (int)in[Tokens].size(),
              breaker_count = (int)in[Breakers].size()] {
      if (rows.count == 0) return;
      Scratch scratch;
      std::vector<const uint8_t*> data{nullptr};
      for (const View& view : views) data.push_back(view.ordered(scratch));
      const linear::Source source = rows.source(scratch);
      const int words = (rows.cols + 31) / 32, room = (rows.cols + sampling::kPeak) / sampling::kPeak * sampling::kPeak;
      pool::run(rows.count, [&](uint32_t r) {
        Scratch mine;
        auto ints = [&](In what, size_t at) { return reinterpret_cast<const int32_t*>(data[what]) + at; };
        auto floats = [&](In what, size_t at) { return reinterpret_cast<const float*>(data[what]) + at; };
        float* scores = mine.take<float>(room);
        auto read = [&] { kernels::best().widen(rows.type, source.data + r * source.stride * size_of(rows.type), scores, rows.cols); };
        read();
        sampling::Places places = *reinterpret_cast<const sampling::Places*>(ints(Where, (size_t)r * sampling::kPlaces));
        inside(places, token_count, bias_count, breaker_count);
        sampling::Row row{};
        row.scores = scores, row.vocab = rows.cols, row.places = &places;
        row.wish = reinterpret_cast<const sampling::Wish*>(floats(Wishes, (size_t)r * sampling::kWishes));
        row.tokens = ints(Tokens, 0);
        row.bias_ids = ints(BiasIds, 0), row.bias = floats(Bias, 0);
        row.breakers = ints(Breakers, 0);
        if (masked) row.mask = reinterpret_cast<const uint32_t*>(ints(Mask, (size_t)r * words));
        row.keys[0] = *ints(Keys, 2 * r), row.keys[1] = *ints(Keys, 2 * r + 1);
        row.surprise = *floats(Surprise, r);
        const int32_t token = sampling::draw(row);
        reinterpret_cast<int32_t*>(to[0])[r] = token;
        reinterpret_cast<float*>(to[1])[r] = row.surprise;
        if (!told) return;
        read();
        int32_t* ids = reinterpret_cast<int32_t*>(to[3]) + (size_t)r * best;
        float* values = reinterpret_cast<float*>(to[4]) + (size_t)r * best;
        float& own = reinterpret_cast<float*>(to[2])[r];
        own = NAN;
        std::fill(ids, ids + best, -1);
        std::fill(values, values + best, NAN);
        if (token >= 0) own = scores[token] - sampling::report(scores, rows.cols, best, ids, values);
      });
    });
  }

 private:
  // Places are data, and a node cannot raise.
  static void inside(sampling::Places& p, int tokens, int biases, int breakers) {
    p.end = std::clamp(p.end, 0, tokens);
    p.bias_end = std::clamp(p.bias_end, 0, biases), p.breaker_end = std::clamp(p.breaker_end, 0, breakers);
    for (int32_t* from : {&p.begin, &p.answer, &p.penalized, &p.dry}) *from = std::clamp(*from, 0, p.end);
    p.bias = std::clamp(p.bias, 0, p.bias_end), p.breaker = std::clamp(p.breaker, 0, p.breaker_end);
  }

  int best_;
  bool told_, masked_;
};

void check(const mx::array& a, mx::Dtype type, const mx::Shape& shape, const char* name) {
  if (a.dtype() != type || a.shape() != shape) wrong(std::string(name) + " has another type or shape than the rows ask for");
}

}  // namespace

std::vector<mx::array> sample(const mx::array& logits, const mx::array& wishes, const mx::array& places, const mx::array& keys,
                              const mx::array& tokens, const mx::array& bias_ids, const mx::array& bias,
                              const mx::array& breakers, const mx::array& surprise,
                              const std::optional<mx::array>& mask, int best) {
  type_of(logits.dtype(), "logits");
  if (logits.ndim() != 2 || logits.shape(1) == 0) wrong("logits must have 2 axes (rows, tokens), and a token at least");
  const int rows = logits.shape(0), vocab = logits.shape(1);
  check(wishes, mx::float32, {rows, sampling::kWishes}, "wishes");
  check(places, mx::int32, {rows, sampling::kPlaces}, "places");
  check(keys, mx::uint32, {rows, 2}, "keys");
  check(surprise, mx::float32, {rows}, "surprise");
  check(tokens, mx::int32, {(int)tokens.size()}, "tokens");
  check(bias_ids, mx::int32, {(int)bias_ids.size()}, "bias_ids");
  check(bias, mx::float32, {(int)bias_ids.size()}, "bias");
  check(breakers, mx::int32, {(int)breakers.size()}, "breakers");
  if (mask) check(*mask, mx::uint32, {rows, (vocab + 31) / 32}, "mask");
  if (best < -1 || best > vocab) wrong("best must be -1 for no report, or how many of the tokens it names");
  std::vector<mx::array> inputs{logits, wishes, places, keys, tokens, bias_ids, bias, breakers, surprise};
  if (mask) inputs.push_back(*mask);
  std::vector<mx::Shape> shapes{{rows}, {rows}};
  std::vector<mx::Dtype> types{mx::int32, mx::float32};
  if (best >= 0) {
    shapes.insert(shapes.end(), {mx::Shape{rows}, mx::Shape{rows, best}, mx::Shape{rows, best}});
    types.insert(types.end(), {mx::float32, mx::int32, mx::float32});
  }
  auto primitive = std::make_shared<Sample>(best, best >= 0, mask.has_value());
  return mx::array::make_arrays(std::move(shapes), types, primitive, inputs);
}
