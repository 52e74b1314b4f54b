"""What our Metal kernels and MLX's ask of a GPU and compute, counted in the simulator, and what binds on which chip.

    python bench/kernels_report.py            prints the tables
    python bench/kernels_report.py --write    puts them into docs/kernels.md

Bytes, launches and operations are counted, operations as g++ would choose them. Times are not: a chip's limit is an
estimate from its published bandwidth and from rates that others measured, to rank kernels by, never to promise a speed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import mlx.core as mx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mlxrun.metal_kernels import launch  # noqa: E402 the repository must be on the path first
from mlxrun.metal_kernels.attention import ScoreRule, paged_attention  # noqa: E402 as above
from mlxrun.metal_kernels.experts import experts_in, experts_out  # noqa: E402 as above
from mlxrun.metal_kernels.glue import greedy, project  # noqa: E402 as above
from mlxrun.metal_kernels.norms import Normed  # noqa: E402 as above
from mlxrun.metal_kernels.products import qmm, qmv, qmv_few  # noqa: E402 as above
from mlxrun.metal_kernels.tiles import CUTS  # noqa: E402 as above

from tests.kernels import mslsim  # noqa: E402 as above
from tests.kernels.metal.made import random, simulated, weight  # noqa: E402 as above
from tests.kernels.metal.test_launches import CASES, ours_of_a_step, theirs_of_a_step  # noqa: E402 as above
from tests.kernels.metal.test_paged_attention import case  # noqa: E402 as above
from tests.kernels.mslsim import upstream  # noqa: E402 as above

AFFINE = ("affine", 4, 64)
OUTPUTS, WIDTH = 256, 4096


@dataclass(frozen=True)
class Chip:
    name: str
    gigabytes: float  # a second: Apple's technical specifications
    cores: int
    gigahertz: float  # of the GPU, as third parties report it


CHIPS = (
    Chip("M1", 68.3, 8, 1.28),
    Chip("M1 Max", 400, 32, 1.30),
    Chip("M2 Max", 400, 38, 1.40),
    Chip("M3 Max", 400, 40, 1.38),
    Chip("M4", 120, 10, 1.58),
    Chip("M4 Pro", 273, 20, 1.58),
    Chip("M4 Max", 546, 40, 1.58),
    Chip("M5", 153.6, 10, 1.58),  # the clock of an M4: nobody's report was at hand
    Chip("M5 Max", 614, 40, 1.58),
)
# what a core does in a clock, measured on M1 and M2 (github.com/philipturner/metal-benchmarks)
SIMPLE_RATE = 128  # multiply-adds, adds, comparisons, integer sums, masks: one pipeline for all of them
COMPLEX_RATE = 32  # conversions, shifts, integer products, exponentials: another one beside it
MATRIX_RATE = 101.7  # multiply-adds of 8x8 products of float32; they take the first pipeline
LOAD_RATE = 64  # bytes that a core takes from its first cache
SIMPLE = ("fma", "add", "multiply", "integer", "compare", "widen")
COMPLEX = ("convert", "shift", "integer multiply", "divide", "special")
OF_A_LANE = 16  # multiply-adds of a lane in an 8x8 product


@dataclass(frozen=True)
class Row:
    kernel: str
    rows: int
    read: float  # bytes of weights fetched, over the bytes there are
    activations: float  # bytes of x that lanes ask for, for each byte of weights
    shared: int  # bytes of threadgroup memory
    operations: dict[str, float]  # for each weight, by kind

    @property
    def simple(self) -> float:
        return sum(self.operations.get(kind, 0) for kind in SIMPLE)

    @property
    def complex(self) -> float:
        return sum(self.operations.get(kind, 0) for kind in COMPLEX)

    @property
    def matrix(self) -> float:
        return OF_A_LANE * self.operations.get("simdgroup_multiply_accumulate", 0)


def rows() -> Iterator[Row]:
    w = weight((OUTPUTS, WIDTH), AFFINE, mx.bfloat16)
    wide, bits = CUTS["wide"], CUTS["bits"]
    for m in (1, 2, 4):
        yield measured("ours: qmv", m, w, lambda x: qmv(x, w))
    yield measured("ours: qmv, wide", 4, w, lambda x: qmv(x, w, wide.vector))
    yield measured("ours: qmv, bits", 1, w, lambda x: qmv(x, w, bits.vector))
    for m in (5, 8, 16):
        yield measured("ours: qmv_few", m, w, lambda x: qmv_few(x, w))
    yield measured("ours: qmv_few, wide", 8, w, lambda x: qmv_few(x, w, wide.few))
    yield measured("ours: qmm", 64, w, lambda x: qmm(x, w))
    yield measured("ours: qmm, wide", 64, w, lambda x: qmm(x, w, wide.matrix))
    fast, several = upstream.qmv(), upstream.qmv_wide()
    yield measured("MLX: qmv_fast", 1, w, lambda x: upstream.run(fast, x, w.parts, {"GROUP": 64, "BITS": 4}))
    for m in (2, 4, 5, 6, 8):
        together = -(-m // -(-m // 5))  # MLX serves at most five vectors at a time
        template = {"GROUP": 64, "BITS": 4, "VECTORS": together}

        def run(x: mx.array, template: dict = template, together: int = together) -> mx.array:
            return upstream.run(several, x, w.parts, template, together)

        yield measured("MLX: qmv_wide", m, w, run)
    tiles = upstream.qmm_t()
    yield measured("MLX: qmm_t", 64, w, lambda x: upstream.run_qmm_t(tiles, x, w.parts, 64, 4))


def measured(kernel: str, m: int, w, run) -> Row:
    found = []
    for mode in (mslsim.Mode.CHECKED, mslsim.Mode.COUNTED):
        with mslsim.settings(mode, seconds=600) as launches:
            run(random((m, WIDTH), mx.bfloat16, m))
        found.append(launches[0])
    buffers, shared = found[0].buffers, found[0].threadgroup_memory.size
    read = sum(buffers[n].fetched for n in ("w", "scales", "biases"))
    operations = {kind: times / (OUTPUTS * WIDTH) for kind, times in found[1].operations.items()}
    return Row(kernel, m, read / w.nbytes, buffers["x"].asked / w.nbytes, shared, operations)


def limits(row: Row, chip: Chip) -> tuple[str, float]:
    """What binds, and by how much over the time to read the weights once."""
    bytes_each = 4.5 / 8  # of a weight with its part of scale and bias
    memory = row.read * bytes_each / chip.gigabytes
    lanes = chip.cores * chip.gigahertz
    work = {
        "memory": memory,
        "loads": (1 + row.activations) * bytes_each / (LOAD_RATE * lanes),
        "simple": (row.simple / SIMPLE_RATE + row.matrix / MATRIX_RATE) / lanes,
        "complex": row.complex / (COMPLEX_RATE * lanes),
    }
    binds = max(work, key=lambda name: work[name])
    return binds, work[binds] / (bytes_each / chip.gigabytes)


def experts() -> Iterator[str]:
    """An expert path of 3 rows with 8 of 32 experts each."""
    gate, up = (weight((32, 64, 512), AFFINE, mx.bfloat16, s) for s in (1, 2))
    down = weight((32, 64, 64), AFFINE, mx.bfloat16, 3)
    ids = mx.argsort(random((3, 32), mx.float32, 4), axis=-1)[:, :8].astype(mx.uint32)
    used = len(set(ids.reshape(-1).tolist()))
    with mslsim.settings() as launches:
        hidden = experts_in(random((3, 512), mx.bfloat16, 5), ids, gate, up, "silu")
        experts_out(hidden, ids, mx.ones((3, 8)) / 8, down)
    first, second = (one.buffers for one in launches)
    names = ("w", "scales", "biases")
    read_in = sum(first[f"{side}_{n}"].fetched for side in ("gate", "up") for n in names)
    read_out = sum(second[n].fetched for n in names)
    yield "| launch | weights read / weights of the experts in use | / had each pair read its own |"
    yield "|---|---|---|"
    for name, read, whole in (
        ("gate, up, activation", read_in, 2 * gate.nbytes),
        ("down, weighted sum", read_out, down.nbytes),
    ):
        yield f"| {name} | {read / (whole * used / 32):.3f} | {read / (whole * 24 / 32):.3f} |"


def glue() -> Iterator[str]:
    """What the joined kernels read and write, against what has to be."""
    x, norm = random((1, WIDTH), mx.bfloat16, 1), random((WIDTH,), mx.bfloat16, 2)
    three = [weight((n, WIDTH), AFFINE, mx.bfloat16, n) for n in (128, 32, 32)]
    head = weight((4096, 512), AFFINE, mx.bfloat16)
    with mslsim.settings() as launches:
        project(Normed(x, norm, 1e-6), three)
        greedy(random((1, 512), mx.bfloat16, 3), head)
    first, second, _ = (one.buffers for one in launches)
    parts = ("w", "scales", "biases")
    read = sum(first[f"{n}{i}"].fetched for n in parts for i in range(3)) / sum(w.nbytes for w in three)
    best = sum(second[n].fetched for n in parts) / head.nbytes
    wrote = (second["best"].written + second["ids"].written) / (4096 * 2)
    yield "| kernel | weights read / weights | written |"
    yield "|---|---|---|"
    yield f"| project: norm, q, k, v | {read:.3f} | the products |"
    yield f"| greedy: head, best token | {best:.3f} | {wrote:.2f} of the bytes of the logits |"
    yield ""
    yield "Attention over pages: 8 heads on 2 of 128 values, 64 keys."
    yield ""
    yield "| keys and values | read / those in sight | threadgroup memory |"
    yield "|---|---|---|"
    for bits in (16, 8, 4):
        c = case((8, 2, 128), mx.bfloat16, bits, lengths=(64,))
        with mslsim.settings() as launches:
            paged_attention(c.q, c.k, c.v, c.tables, c.lengths, ScoreRule(0.1))
        pages = [part for held in (c.k, c.v) for part in (held.rows, held.scales, held.biases) if part is not None]
        names = ("k", "v") if bits == 16 else ("k", "v", "k_scales", "k_biases", "v_scales", "v_biases")
        fetched = sum(launches[0].buffers[n].fetched for n in names)
        shared = launches[0].threadgroup_memory.size
        yield f"| {bits} bits | {fetched / sum(p.nbytes for p in pages):.3f} | {shared} B |"


def launches_of_layers() -> Iterator[str]:
    yield "| layer | ours | mlx-lm |"
    yield "|---|---|---|"
    with TemporaryDirectory() as folder:
        for name in CASES:
            counts = []
            for count in (ours_of_a_step, theirs_of_a_step):
                two, three = (sum(count(name, n, Path(folder) / f"{n}.dot").values()) for n in (2, 3))
                counts.append(three - two)
            yield f"| {name} | {counts[0]} | {counts[1]} |"


def counts(row: Row) -> str:
    fma, convert = row.operations.get("fma", 0), row.operations.get("convert", 0)
    shown = (fma, row.matrix, row.simple - fma, convert, row.complex - convert)
    return " | ".join(f"{n:.2f}" for n in shown)


def tables() -> str:
    found = list(rows())
    out = [f"Counted at N = {OUTPUTS}, K = {WIDTH}, 4-bit affine, groups of 64, bfloat16; one launch each.", ""]
    out += [
        "| kernel | rows of x | weights read / weights | x asked / weights | threadgroup memory |",
        "|---|---|---|---|---|",
    ]
    out += [f"| {r.kernel} | {r.rows} | {r.read:.3f} | {r.activations:.2f} | {r.shared} B |" for r in found]
    out += [
        "",
        "Operations for each weight, and for all rows of x, as g++ leaves them (addresses, loads and stores apart):",
        "",
    ]
    out += ["| kernel | rows of x | multiply-adds | of 8x8 products | other simple | conversions | other complex |"]
    out += ["|---|---|---|---|---|---|---|"]
    out += [f"| {r.kernel} | {r.rows} | {counts(r)} |" for r in found]
    out += ["", "Experts, 3 rows with 8 of 32 experts each:", "", *experts(), ""]
    out += ["Glue and attention:", "", *glue(), ""]
    out += ["Kernels launched by a layer of a decode step, counted from the graphs:", "", *launches_of_layers(), ""]
    out += ["Estimated limit: what binds, and its time over that of reading the weights once.", ""]
    out += ["| kernel | rows | " + " | ".join(c.name for c in CHIPS) + " |", "|---|---|" + "---|" * len(CHIPS)]
    for r in found:
        cells = [f"{binds} {times:.2f}" for binds, times in (limits(r, c) for c in CHIPS)]
        out.append(f"| {r.kernel} | {r.rows} | " + " | ".join(cells) + " |")
    return "\n".join(out)


def main() -> int:
    with launch.made_by(simulated):
        text = tables()
    if "--write" in sys.argv:
        page = ROOT / "docs" / "kernels.md"
        marks = r"(<!-- tables -->\n).*(<!-- end of tables -->)"
        page.write_text(re.sub(marks, lambda m: f"{m[1]}\n{text}\n\n{m[2]}", page.read_text(), flags=re.S))
    else:
        print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
