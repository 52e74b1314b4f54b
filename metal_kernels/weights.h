// Reading quantized weights as MLX packs them. Formats: 0 affine, 1 mxfp4, 2 nvfp4.
//
// A nibble is masked, never shifted: the activation is divided by 16^position instead, which is exact.

enum WeightFormat { AFFINE = 0, MXFP4 = 1, NVFP4 = 2 };

// A value below 2^23 as a float without the slow conversion of a GPU: put it into the mantissa of 2^23.
template <bool BITCAST> inline float to_float(uint v) {
  return BITCAST ? as_type<float>(0x4B000000u | v) - 8388608.0f : float(v);
}

// E2M1: a sign, two bits of exponent, one of mantissa. Half holds it as a tiny number, 2^14 too small.
inline float fp4_to_float(uint v) {
  return float(as_type<half>(ushort(((v & 7) << 9) | ((v & 8) << 12)))) * 16384.0f;
}

// E4M3 and E8M0, the scales of nvfp4 and mxfp4, with MLX's reading of their special values
inline float e4m3_to_float(uint v) {
  const uint magnitude = v & 127;
  const float f = float(as_type<half>(ushort((magnitude << 7) | (((magnitude + 1) >> 7) << 14)))) * 256.0f;
  return v & 128 ? -f : f;
}
inline float e8m0_to_float(uint v) { return as_type<float>(v == 0 ? 0x400000u : v << 23); }

template <int FORMAT, typename S> inline float scale_to_float(S s) {
  return FORMAT == NVFP4 ? e4m3_to_float(uint(s)) : FORMAT == MXFP4 ? e8m0_to_float(uint(s)) : float(s);
}

// COUNT activations made ready for `dot_codes`; returns their sum, which multiplies the bias.
template <int FORMAT, int BITS, int COUNT> inline float prepare_values(thread float* x) {
  float sum = 0;
  if (FORMAT == AFFINE && BITS == 4) {
#pragma unroll
    for (int i = 0; i < COUNT; i += 4) {
      sum += x[i] + x[i + 1] + x[i + 2] + x[i + 3];
      x[i + 1] = x[i + 1] / 16.0f;
      x[i + 2] = x[i + 2] / 256.0f;
      x[i + 3] = x[i + 3] / 4096.0f;
    }
  } else {
#pragma unroll
    for (int i = 0; i < COUNT; i++) sum += x[i];
  }
  return sum;
}

template <typename T, int FORMAT, int BITS, int COUNT>
inline float load_activations(const device T* from, thread float* to) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) to[i] = float(from[i]);
  return prepare_values<FORMAT, BITS, COUNT>(to);
}

// The same times the weights of a norm. The norm's factor is a number for a row: it multiplies the products.
template <typename T, int FORMAT, int BITS, int COUNT, typename N>
inline float load_normed(const device T* from, const device N* norm, thread float* to, thread float& squares) {
#pragma unroll
  for (int i = 0; i < COUNT; i++) {
    const float value = float(from[i]);
    squares += value * value;
    to[i] = value * float(norm[i]);
  }
  return prepare_values<FORMAT, BITS, COUNT>(to);
}

// Values that a lane takes at a time: the codes are eight bytes, or as many halves of a word as a code has bits
template <int BITS> constexpr int values_of_lane() { return BITS == 8 ? 8 : 16; }

// Where the codes of value k of a row begin; they must begin a half of a word.
template <int BITS> inline const device ushort* codes_at(const device uint* row, int k) {
  return (const device ushort*)row + k * BITS / 16;
}

// Code i of a stream of BITS bits each, low bits first.
template <int BITS, typename Word> inline uint code_of(const thread Word* words, int i) {
  constexpr int WIDTH = 8 * sizeof(Word);
  const int at = BITS * i / WIDTH, shift = BITS * i % WIDTH;
  uint v = uint(words[at]) >> shift;
  if (shift + BITS > WIDTH) v |= uint(words[at + 1]) << (WIDTH - shift);
  return v & ((1u << BITS) - 1);
}

// Codes to `values_of_lane` floats, so scaled as `load_activations` expects them
template <int FORMAT, int BITS, bool BITCAST>
inline void decode_values(const device ushort* from, thread float* codes) {
  if (BITS != 4 && BITS != 8) {
    ushort halves[BITS];
#pragma unroll
    for (int i = 0; i < BITS; i++) halves[i] = from[i];
#pragma unroll
    for (int i = 0; i < 16; i++) codes[i] = to_float<BITCAST>(code_of<BITS>(halves, i));
    return;
  }
  const ushort4 words = as_type<ushort4>(*(const device uint2*)from);
  if (BITS == 4) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint w = words[i];
      if (FORMAT == AFFINE) {
        codes[4 * i] = to_float<BITCAST>(w & 0x000f);
        codes[4 * i + 1] = to_float<BITCAST>(w & 0x00f0);
        codes[4 * i + 2] = to_float<BITCAST>(w & 0x0f00);
        codes[4 * i + 3] = to_float<BITCAST>(w & 0xf000);
      } else {
        codes[4 * i] = fp4_to_float(w);
        codes[4 * i + 1] = fp4_to_float(w >> 4);
        codes[4 * i + 2] = fp4_to_float(w >> 8);
        codes[4 * i + 3] = fp4_to_float(w >> 12);
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const uint w = words[i];
      codes[2 * i] = to_float<BITCAST>(w & 0xff);
      codes[2 * i + 1] = to_float<BITCAST>(w >> 8);
    }
  }
}

// In the order in which MLX adds, so that results are the same bits
template <int BITS> inline float dot_codes(const thread float* codes, const thread float* x) {
  float sum = 0;
  if (BITS == 4) {
#pragma unroll
    for (int i = 0; i < 16; i += 4) {
      sum += (x[i] * codes[i] + x[i + 1] * codes[i + 1] + x[i + 2] * codes[i + 2] + x[i + 3] * codes[i + 3]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < values_of_lane<BITS>(); i++) {
      sum += x[i] * codes[i];
    }
  }
  return sum;
}
