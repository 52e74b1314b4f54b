// Where a lane's two neighbouring elements of an 8x8 simdgroup matrix lie: the map that MLX's own
// kernels rely on (steel/gemm/mma.h); Apple does not document it.
inline int matrix_fragment_row(int lane) { return (lane / 16) * 4 + (lane / 2) % 4; }
inline int matrix_fragment_column(int lane) { return (lane / 8) % 2 * 4 + (lane % 2) * 2; }

template <typename M> inline void set_elements(thread M& matrix, float first, float second) {
  reinterpret_cast<thread float2&>(matrix.thread_elements()) = float2(first, second);
}
template <typename M> inline float2 get_elements(thread M& matrix) {
  return reinterpret_cast<thread float2&>(matrix.thread_elements());
}

// Eight weights in a row as floats. A masked nibble is 16^position too large, so the scale is made smaller.
template <int FORMAT, int BITS, bool BITCAST>
inline void decode_eight(const device uchar* from, float scale, float bias, thread float* values) {
  if (BITS != 4 && BITS != 8) {
    uchar bytes[BITS];
#pragma unroll
    for (int i = 0; i < BITS; i++) bytes[i] = from[i];
#pragma unroll
    for (int i = 0; i < 8; i++) values[i] = scale * to_float<BITCAST>(code_of<BITS>(bytes, i)) + bias;
    return;
  }
  const device uint* whole = (const device uint*)from;
  if (BITS == 4) {
    const ushort2 words = as_type<ushort2>(whole[0]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uint w = words[i];
      if (FORMAT == AFFINE) {
        values[4 * i] = scale * to_float<BITCAST>(w & 0x000f) + bias;
        values[4 * i + 1] = (scale / 16.0f) * to_float<BITCAST>(w & 0x00f0) + bias;
        values[4 * i + 2] = (scale / 256.0f) * to_float<BITCAST>(w & 0x0f00) + bias;
        values[4 * i + 3] = (scale / 4096.0f) * to_float<BITCAST>(w & 0xf000) + bias;
      } else {
#pragma unroll
        for (int j = 0; j < 4; j++) values[4 * i + j] = scale * fp4_to_float(w >> (4 * j));
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const uchar4 codes = as_type<uchar4>(whole[i]);
#pragma unroll
      for (int j = 0; j < 4; j++) values[4 * i + j] = scale * to_float<BITCAST>(codes[j]) + bias;
    }
  }
}
