// The integer products for AVX-512 with VNNI and AMX's tiles of bytes; all else is as in isa_avx512.cpp. The tiles'
// instructions are written out in body_tiles.h, so the compiler needs no flag for them.
#define MLXRUN_TILES
#include "simd_avx512.h"

#include "body_codes.h"
#include "body_integer.h"

namespace kernels {
extern void (*const panels_in_tiles)(const Weight& w, size_t panel, int panels, const Rows& rows, int m, size_t ldy, float* y);
decltype(panels_in_tiles) panels_in_tiles = panels_integer;
}  // namespace kernels
