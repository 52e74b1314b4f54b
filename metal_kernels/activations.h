// act(gate) * up, by the numbers of products.py
enum Activation { SILU = 0, GELU = 1, GELU_TANH = 2, RELU = 3, CLAMPED_SWIGLU = 4 };

// erf by a Chebyshev fit of erfc (Numerical Recipes 6.2): off by less than 1.2e-7
inline float error_function(float x) {
  const float a = metal::abs(x);
  const float t = 1.0f / (1.0f + 0.5f * a);
  const float inner = -0.18628806f + t * (0.27886807f + t * (-1.13520398f + t * (1.48851587f + t * (-0.82215223f +
      t * 0.17087277f))));
  const float fit = -1.26551223f + t * (1.00002368f + t * (0.37409196f + t * (0.09678418f + t * inner)));
  const float complement = t * metal::exp(-a * a + fit);
  return x >= 0.0f ? 1.0f - complement : complement - 1.0f;
}

template <int ACT> inline float gated(float gate, float up) {
  if (ACT == SILU) return gate / (1.0f + metal::exp(-gate)) * up;
  if (ACT == GELU) return 0.5f * gate * (1.0f + error_function(gate * 0.70710678118654752f)) * up;
  if (ACT == GELU_TANH) {
    return 0.5f * gate * (1.0f + metal::precise::tanh(0.79788456080286536f * (gate + 0.044715f * gate * gate * gate))) * up;
  }
  if (ACT == RELU) return metal::max(gate, 0.0f) * up;
  const float g = metal::min(gate, 7.0f);  // gpt-oss
  return g / (1.0f + metal::exp(-1.702f * g)) * (metal::clamp(up, -7.0f, 7.0f) + 1.0f);
}
