"""Faults planted in copies of our kernels: each must be caught, and told for what it is."""

# ruff: noqa: E501 a table reads by its rows
from __future__ import annotations

import re

import pytest

from ..mslsim import KernelFault
from .proofs import FINITE, NOT_FINITE, changed

WRONG = "wrong numbers"  # nothing a GPU forbids, only a false result
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
DEPENDS = "depends on what max or min of a number and NaN gives"
UNORDERED = r"race on {0}|{0}\[\d+\] is read before"

# file, what stands there, what stands there instead, what must be said
FAULTS: dict[str, tuple[str, str, str, str]] = {
    # --- order between threads
    "no barrier before the parts are summed": ("qmv_few.metal", BARRIER, "", UNORDERED.format("parts")),
    "a simdgroup's barrier before the parts are summed": (
        *("qmv_few.metal", BARRIER, BARRIER.replace("threadgroup_barrier", "simdgroup_barrier")),
        UNORDERED.format("parts"),
    ),
    "a barrier for device memory": ("qmv_few.metal", "mem_flags::mem_threadgroup", "mem_flags::mem_device", "parts"),
    "no barrier after a tile is loaded": ("qmm.metal", BARRIER + "\n#pragma unroll\n    for (int kk", "for (int kk", "race on|is read before"),
    "no barrier before a tile is overwritten": ("qmm.metal", BARRIER + "  // the tile", "//", "race on"),
    "no barrier before the best are compared": ("best.metal", BARRIER, "", UNORDERED.format("(tops|places|all_broken)")),
    "no barrier before an expert's products are summed": (
        *("experts_out.metal", "simdgroup_barrier(mem_flags::mem_threadgroup);", ""),
        UNORDERED.format("products"),
    ),
    "no barrier before groups are weighed": (
        *("router.metal", "simdgroup_barrier(mem_flags::mem_threadgroup);", ""),
        UNORDERED.format("all"),
    ),
    "simdgroups share one part": ("qmv_few.metal", "parts[part][n", "parts[0][n", "race on parts"),
    "every lane stores the sum": ("qmv.metal", "lane == 0 && ", "", "race on y"),
    "simdgroups share their products": ("experts_out.metal", "products[simdgroup][members", "products[0][members", "products"),
    "two pairs work for one expert": ("experts_in.metal", "if (ids[other] == expert) return;", "", "race on hidden"),
    # --- divergence
    "a sum only some lanes take part in": (
        *("qmv.metal", "const float whole = simd_sum(sums[r][m]);", "float whole = 0; if (lane < 16) whole = simd_sum(sums[r][m]);"),
        "reached by 16 of the 32 lanes",
    ),
    "a lane leaves early": ("qmv.metal", "if (first >= N) return;", "if (first + lane >= N) return;", "of the 32 lanes"),
    "a thread leaves before a barrier": (
        *("qmv_few.metal", "threadgroup float parts", "if (row > 2) return; threadgroup float parts"),
        "reached by",
    ),
    "a barrier inside a branch": ("best.metal", BARRIER, f"if (thread_id < 5) {BARRIER}", "reached by 5 of|race on"),
    "a collective in a loop of unequal length": (
        *("router.metal", "  const float top = simd_max(own);", "  if (lane < n) break; const float top = simd_max(own);"),
        "of the 32 lanes|different places",
    ),
    # --- bounds
    "rows past the end are read": ("products.h", "metal::min(first + r, N - 1)", "first + r", "read outside of"),
    "rows past the end are stored": ("qmv.metal", " && first + r < N", "", "write outside of y|race on y"),
    "rows of an expert past its end are read": (
        *("experts_out.metal", "ulong(expert) * N + min(first + r, N - 1)", "ulong(expert) * N + first + r"),
        "read outside of",
    ),
    "the tail of K is read past the end": ("products.h", "k < K; k += BLOCK", "k < K + BLOCK; k += BLOCK", "read outside of"),
    "rows of x past the end are read": ("qmm.metal", "if (first_m + m < end) {", "if (first_m + m < end + 9) {", "read outside of x"),
    "an output column too many": ("qmm.metal", "to_n + j < N", "to_n < N", "write outside of y|race on y"),
    "an expert too far": ("experts_in.metal", "ulong(expert) * N + min", "ulong(expert + 1) * N + min", "read outside of"),
    "a tile without padding in its declaration": ("qmm.metal", "xs[BM][BK + PAD]", "xs[BM][BK - 8]", "index outside|outside of xs"),
    "vectors past the end are read": ("qmv_few.metal", "if (vector < M) {", "if (vector < M + 1) {", "read outside of x"),
    "a weight pointer off by two bytes": (
        *("products.h", "codes_at<BITS>(w + ulong(row) * words, k)", "codes_at<BITS>(w + ulong(row) * words, k) + 1"),
        "not aligned|read outside",
    ),
    # --- initialisation
    "outputs left unwritten": ("qmv.metal", "first + r < N) {", "first + r < N - 1) {", r"elements of y are never written"),
    "a pair left out": ("experts_in.metal", "m < count && first", "m + 1 < count && first", "hidden are never written"),
    "a tile's rows left out": ("qmm.metal", "i < BN * BK / 8;", "i < BN * BK / 8 - 128;", r"ws\[\d+\] is read before"),
    "an accumulator not set to zero": ("qmv.metal", "float sums[ROWS][M] = {};", "float sums[ROWS][M];", WRONG),
    "a stride too long": ("best.metal", "i += SIMDGROUPS * 32) {\n", "i += SIMDGROUPS * 33) {\n", WRONG),
    # --- meaning
    "scale and bias swapped": ("products.h", "scale * sum + x_sums[m] * bias", "bias * sum + x_sums[m] * scale", WRONG),
    "nibbles in the wrong order": ("weights.h", "to_float<BITCAST>(w & 0x00f0)", "to_float<BITCAST>(w & 0x0f00)", WRONG),
    "the wrong group's scale": ("products.h", "k / GROUP;", "k / GROUP / 2 * 2;", WRONG),
    "the rest of a code in the wrong place": ("weights.h", "(WIDTH - shift)", "(WIDTH + 1 - shift)", WRONG),
    "the codes of the next eight values": ("fragments.h", "bytes[i] = from[i]", "bytes[i] = from[i + BITS]", "read outside of"),
    "an activation not divided": ("weights.h", "x[i + 1] / 16.0f", "x[i + 1]", WRONG),
    "a fragment transposed": ("fragments.h", "set_elements(thread M& matrix, float first, float second)",
                              "set_elements(thread M& matrix, float second, float first)", WRONG),
    "the sign of four-bit floats lost": ("weights.h", "((v & 8) << 12)", "0", WRONG),
    "the first choice of equals is not the lower": ("router.metal", "choice[i] > own", "choice[i] >= own", WRONG),
    "scores with the bias are the weights": ("router.metal", "found = scores[i];", "found = choice[i];", WRONG),
    "a group counts its best only": ("router.metal", "best + second", "best", WRONG),
    "weights of another row": ("experts_out.metal", "weights[row * CHOICES + c]", "weights[c]", WRONG),
    "the mean over the wrong width": ("project.metal", "simd_sum(squares[m]) / K", "simd_sum(squares[m]) / own", WRONG),
    "weights read twice": ("qmv_few.metal", "start += SPLIT * STEP", "start += SPLIT * STEP / 2", WRONG),
    # --- glue and attention
    "no barrier before heads' parts are summed": (
        *("paged_attention.metal", BARRIER + "\n  const int head", "const int head"),
        "race on part|is read before|race on",
    ),
    "no barrier before the next head's parts": ("paged_attention.metal", BARRIER + "  // the head", "//", "race on"),
    "a simdgroup's barrier between heads": (
        *("paged_attention.metal", BARRIER + "\n  const int head", "simdgroup_barrier(mem_flags::mem_threadgroup);\n  const int head"),
        "race on|is read before",
    ),
    "no barrier before the best of the simdgroups": ("greedy.metal", BARRIER, "", "race on|is read before"),
    "no barrier before the best of all": ("best.metal", BARRIER, "", "race on|is read before"),
    "a page past the table": ("paged_attention.metal", "first < end;", "first < end + 8;", "read outside of"),
    "a key past the page": ("paged_attention.metal", "key < last;", "key < last + 2;", "read outside of|wrong"),
    "every page the first": ("paged_attention.metal", "  page++;", "", WRONG),
    "the wrong row's table": ("paged_attention.metal", "tables[ulong(row) *", "tables[ulong(row + 1) *", "read outside of"),
    "keys of another page": ("paged_attention.metal", "load_row<BITS, GROUP, D>(k, k_scales, k_biases, place + (key - first)", "load_row<BITS, GROUP, D>(k, k_scales, k_biases, place + key", "read outside of|wrong"),
    "a window one too wide": ("paged_attention.metal", "length - WINDOW", "length - WINDOW - 1", WRONG),
    "the sink counted by every block": ("paged_attention.metal", "SINKS && block == 0", "SINKS", WRONG),
    "the sums not scaled down": ("paged_attention.metal", "sums[h][i] * old", "sums[h][i]", WRONG),
    "heads of another group": ("paged_attention.metal", "group * OF_GROUP + slice * HEADS;", "group + slice * HEADS;", "race on|never written|wrong"),
    "a head past the last stored": ("paged_attention.metal", "if (head <= last_head) {", "{", "race on|outside of"),
    "a sum with the lanes that are left": (
        *("paged_attention.metal", "score = simd_sum(score);", "if (lane < 20) score = simd_sum(score);"),
        "reached by 20 of the 32 lanes",
    ),
    "nibbles of keys swapped": ("pages.h", "at % 2 * 4", "(at + 1) % 2 * 4", WRONG),
    "a value past the row": ("pages.h", "at >= USED", "at > USED", "read outside of"),
    "blocks joined without their weights": ("join_blocks.metal", "value += weight / whole *", "value += ", WRONG),
    "the factor of another row": ("project.metal", "simd_sum(squares[m])", "simd_sum(squares[0])", WRONG),
    "a matrix that starts too late": ("project.metal", "part == 1 ? N0 :", "part == 1 ? N0 + 1 :", "race on y|never written|outside"),
    "the queries' norm for keys": ("heads.metal", "is_query ? q_norm : k_norm", "q_norm", WRONG),
    "a head turned the other way": ("heads.metal", "a * cosine - b * sine", "a * cosine + b * sine", WRONG),
    "values past the turned ones left out": ("heads.metal", "int i = 2 * PAIRS + lane", "int i = 2 * PAIRS + 1 + lane", "never written"),
    "of equals the last": ("greedy.metal", "value > most[m]", "value >= most[m]", WRONG),
    "a residual before rounding left out": ("qmv.metal", "float(residual[at]) + float(sum)", "float(residual[at])", WRONG),
    "rows of the next expert": ("qmm.metal", "end < limit && ids[end] == expert", "end < limit", WRONG),
    "the first expert for all": ("qmm.metal", "ulong(expert) * N + first_n", "ulong(0) * N + first_n", WRONG),
    "the next expert's rows begin one later": ("qmm.metal", "first_m = end;", "first_m = end + 1;", "never written"),
    "a loop that never ends": ("qmm.metal", "k < K; k += BK", "k < K; k += 0", "runs for too long"),
}  # fmt: skip
# what shows only where something is not finite
NOT_FINITE_FAULTS: dict[str, tuple[str, str, str, str]] = {
    "a score that is none is compared": ("router.h", "isnan(value) ? INFINITY : value", "value", DEPENDS + "|wrong"),
    "a gate's bound by min": ("activations.h", "gate > 7.0f ? 7.0f : gate", "metal::min(gate, 7.0f)", DEPENDS),
    "a gate's bound by max": ("activations.h", "(gate < 0.0f ? 0.0f : gate)", "metal::max(gate, 0.0f)", DEPENDS),
    "an up's bound by clamp": (
        *("activations.h", "up > 7.0f ? 7.0f : up < -7.0f ? -7.0f : up", "metal::clamp(up, -7.0f, 7.0f)"),
        DEPENDS,
    ),
    "a gate that is none is zero": ("activations.h", "gate < 0.0f ? 0.0f : gate", "gate > 0.0f ? gate : 0.0f", WRONG),
    "the largest score by max": ("paged_attention.metal", "score > most[h] ? score : most[h]", "max(most[h], score)", DEPENDS),
    "a sum that is none is no keys": ("paged_attention.metal", "whole == 0 ? 0.0f : value / whole", "whole > 0 ? value / whole : 0.0f", WRONG),
    "no largest score before the first key": ("paged_attention.metal", "most[h] = LEAST;", "most[h] = -INFINITY;", WRONG),
}  # fmt: skip


@pytest.mark.parametrize("fault", [*FAULTS, *NOT_FINITE_FAULTS])
def test_faults_are_caught(fault: str) -> None:
    file, old, new, message = FAULTS.get(fault) or NOT_FINITE_FAULTS[fault]
    proofs = FINITE if fault in FAULTS else NOT_FINITE
    with changed(old, new) as texts:
        try:
            for prove in proofs[file]:
                prove()
        except KernelFault as told:
            seen = str(told)
        except AssertionError:
            seen = WRONG
        else:
            seen = "nothing"
    assert texts
    assert any(texts), f"{old!r} no longer stands in {file}"
    if message == WRONG:
        assert seen == WRONG, f"told: {seen}"
    else:
        assert re.search(message, seen), f"told: {seen}"
