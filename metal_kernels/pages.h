// One lane's neighbouring values of a row of cached keys or values: row `place` of rows of WIDTH values, of which
// the first USED are shared out over 32 lanes. BITS 16 or 32: plain. 8 or 4: codes as MLX packs them, from the
// lowest bits on, so that byte i holds value i, or values 2 * i and 2 * i + 1.
template <int BITS, int GROUP, int WIDTH, int USED, typename C, typename S>
inline void load_row_part(const device C* codes, const device S* scales, const device S* biases, ulong place, int lane,
                          thread float (&to)[(USED + 31) / 32]) {
  constexpr int PER = (USED + 31) / 32;
#pragma unroll
  for (int i = 0; i < PER; i++) {
    const int at = lane * PER + i;
    if (at >= USED) {
      to[i] = 0.0f;
    } else if (BITS >= 16) {
      to[i] = float(codes[place * WIDTH + at]);
    } else {
      const device uchar* bytes = (const device uchar*)codes + place * (WIDTH * BITS / 8);
      const uint code = BITS == 8 ? uint(bytes[at]) : uint(bytes[at / 2]) >> (at % 2 * 4) & 15;
      const ulong group = place * (WIDTH / GROUP) + at / GROUP;
      to[i] = float(scales[group]) * float(code) + float(biases[group]);
    }
  }
}
template <int BITS, int GROUP, int WIDTH, typename C, typename S>
inline void load_row(const device C* codes, const device S* scales, const device S* biases, ulong place, int lane,
                     thread float (&to)[(WIDTH + 31) / 32]) {
  load_row_part<BITS, GROUP, WIDTH, WIDTH>(codes, scales, biases, place, lane, to);
}
