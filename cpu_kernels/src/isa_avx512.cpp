// The kernels for AVX-512 with VNNI.
#include "simd_avx512.h"

#include "body_codes.h"
#include "body_panel.h"
#include "body_integer.h"
#include "body_rows.h"
#include "body_tile.h"
#include "body_attend.h"
#include "body_pages.h"
#include "body_sample.h"
#include "body_scan.h"

namespace kernels {
extern const Table table_avx512;
const Table table_avx512 = MLXRUN_TABLE("avx512");
}  // namespace kernels
