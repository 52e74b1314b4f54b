// The kernels for any CPU.
#include "simd_base.h"

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
extern const Table table_base;
const Table table_base = MLXRUN_TABLE("base");
}  // namespace kernels
