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

template <int ACT> inline float gate_times_up(float gate, float up) {
  if (ACT == SILU) return gate / (1.0f + metal::exp(-gate)) * up;
  if (ACT == GELU) return 0.5f * gate * (1.0f + error_function(gate * 0.70710678118654752f)) * up;
  if (ACT == GELU_TANH) {
    return 0.5f * gate * (1.0f + metal::precise::tanh(0.79788456080286536f * (gate + 0.044715f * gate * gate * gate))) * up;
  }
  // compared, because a GPU's min, max and clamp give the number where the other is none
  if (ACT == RELU) return (gate < 0.0f ? 0.0f : gate) * up;
  const float g = gate > 7.0f ? 7.0f : gate;  // gpt-oss
  const float u = up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up;
  return g / (1.0f + metal::exp(-1.702f * g)) * (u + 1.0f);
}
