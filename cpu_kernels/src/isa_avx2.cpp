// The kernels for AVX2 with FMA and F16C.
#include "simd_avx2.h"

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
extern const Table table_avx2;
const Table table_avx2 = MLXRUN_TABLE("avx2");
}  // namespace kernels
