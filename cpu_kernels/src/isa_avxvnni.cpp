// The kernels for AVX2 with FMA, F16C and AVX-VNNI.
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
extern const Table table_avxvnni;
const Table table_avxvnni = MLXRUN_TABLE("avxvnni");
}  // namespace kernels
