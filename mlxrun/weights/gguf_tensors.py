"""The tensors of a GGUF file as weights: what each stored type becomes, and what that loses.

F32, F16 and BF16 are arrays as they are. Quantized types become affine weights or one of MLX's four-bit float
formats; most without loss, the others as near as the layout allows (`Form.values` is what they stood for).
Where scales are half floats and a power of two times them fits a half float too, they stay half floats.
`Reading` says what else than MLX's layouts may be made:
  mlx   nothing
  wide  Q6_K as float16 values, which are closer to the file's by a factor of twenty and take 16 bits a weight: for
        devices that multiply by float16 as it lies
  fine  groups of 16, which keep Q2_K, Q3_K and Q6_K as they are: for our CPU kernels, and for whoever dequantizes

Stored bytes are views into the mapped file where `mapped` can make such, and are copied when the tensors are asked
for where it cannot; taking the blocks apart is lazy either way, and large tensors are taken apart piece by piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import mlx.core as mx
import numpy as np

from ..ops.quantized import Mode, QuantizedWeight, Weight, gather
from ..spec import ModelError, shown
from . import gguf_blocks as blocks_of
from . import gguf_codebooks as codebooks
from .files import size_of, unreadable
from .gguf import BLOCKS, Place
from .headers import Stored
from .mapped import Mapped, MappedPages, believed, map_tensors
from .repack import refit, relative_error

PIECE = 2 << 20  # bytes of blocks; taken apart they need a multiple of that for a while
COPIED = 1 << 20  # bytes; smaller plain tensors are not worth holding the file's pages for
MAX_FLOATS = 4096  # of a tensor that is read at once
SAMPLE = 1 << 18  # values of a tensor that its loss is measured on
PLAIN = {"F32": ("<f4", mx.float32), "F16": ("<f2", mx.float16), "BF16": ("<u2", mx.bfloat16)}
SIZES = {label: (values, nbytes) for label, values, nbytes in BLOCKS.values()}
HALF_INFINITY = 0x7C00
HALF_EXPONENT = 0x0400  # one step of the exponent: a factor of two
LARGEST_Q6_K = 12  # exponent: a value is at most 128 * 32 times its block's half float

Reading = Literal["mlx", "wide", "fine"]
Make = Callable[[mx.array], QuantizedWeight]
Values = Callable[[mx.array], mx.array]


@dataclass(frozen=True, slots=True)
class Form:
    """What the blocks of a type become."""

    make: Make
    bits: int
    group: int = 32
    mode: Mode = "affine"
    halves: tuple[int, ...] = (0,)  # where a block has half floats, which must be finite
    middle: int | None = None  # bias = -middle * scale
    narrow: bool = False  # scales are the half floats themselves
    values: Values | None = None  # what the blocks stand for, where `make` cannot keep it
    wide: int | None = None  # kept as float16 where that is wanted: values are below 2**wide times the half float
    fine: Form | None = None  # by groups of 16, without loss


def _refitted(values: Values, bits: int, *halves: int, fine: Form | None = None) -> Form:
    return Form(lambda b: refit(_row_values(values, b), bits), bits, halves=halves, values=values, fine=fine)


def _row_values(values: Values, blocks: mx.array) -> mx.array:
    return blocks_of.rows(values(blocks))


Q2_FINE = Form(blocks_of.q2_k_by16, 2, 16, halves=(80, 82))
Q3_FINE = Form(blocks_of.q3_k_by16, 3, 16, halves=(108,), middle=4)
Q6_FINE = Form(blocks_of.q6_k_by16, 6, 16, halves=(208,), middle=32)
FORMS: dict[str, Form] = {
    "Q4_0": Form(blocks_of.q4_0, 4, middle=8, narrow=True),
    "Q4_1": Form(blocks_of.q4_1, 4, halves=(0, 2), narrow=True),
    "Q5_0": Form(blocks_of.q5_0, 5, middle=16, narrow=True),
    "Q5_1": Form(blocks_of.q5_1, 5, halves=(0, 2), narrow=True),
    "Q8_0": Form(blocks_of.q8_0, 8, middle=128, narrow=True),
    "Q2_K": _refitted(blocks_of.q2_k_values, 8, 80, 82, fine=Q2_FINE),
    "Q3_K": Form(blocks_of.q3_k, 8, 128, halves=(108,), middle=128, narrow=True, fine=Q3_FINE),
    "Q4_K": Form(blocks_of.q4_k, 4, halves=(0, 2)),
    "Q5_K": Form(blocks_of.q5_k, 5, halves=(0, 2)),
    "Q6_K": Form(
        blocks_of.q6_k,
        8,
        halves=(208,),
        middle=128,
        values=blocks_of.q6_k_values,
        wide=LARGEST_Q6_K,
        fine=Q6_FINE,
    ),
    "Q8_K": Form(blocks_of.q8_k, 8, 128, halves=(2,), middle=128),  # the high half of a float32
    "IQ4_NL": Form(codebooks.iq4_nl, 8, middle=128, narrow=True),
    "IQ4_XS": Form(codebooks.iq4_xs, 8, middle=128),
    "IQ3_XXS": Form(codebooks.iq3_xxs, 4, values=codebooks.iq3_xxs_values),
    "IQ3_S": Form(codebooks.iq3_s, 4),
    "IQ2_XXS": Form(codebooks.iq2_xxs, 3, values=codebooks.iq2_xxs_values),
    "IQ2_XS": _refitted(codebooks.iq2_xs_values, 6, 0),
    "IQ2_S": _refitted(codebooks.iq2_s_values, 6, 0),
    "IQ1_S": Form(codebooks.iq1_s, 2),
    "IQ1_M": _refitted(codebooks.iq1_m_values, 6),
    "TQ1_0": Form(blocks_of.tq1_0, 2, 128, halves=(52,), middle=1, narrow=True),
    "TQ2_0": Form(blocks_of.tq2_0, 2, 128, halves=(64,), middle=1, narrow=True),
    "MXFP4": Form(blocks_of.mxfp4, 4, mode="mxfp4", halves=()),
    "MXFP4_RAW": Form(blocks_of.mxfp4_raw, 4, mode="mxfp4", halves=()),
    "NVFP4": Form(blocks_of.nvfp4, 4, 16, mode="nvfp4", halves=()),
}


def form_of(kind: str, reading: Reading) -> Form:
    form = FORMS[kind]
    return form.fine if reading == "fine" and form.fine is not None else form


def load_tensors(
    path: Path,
    places: Mapping[str, Place],
    reading: Reading = "mlx",
    *,
    mapped: bool = True,
    hear: Callable[[Mapped], None] = lambda mapped: None,
) -> dict[str, Weight]:
    """`mapped`: the stored bytes are views into the file where that can be; `hear` is told what came of that."""
    seen: Mapping[str, mx.array] = {}
    if mapped:
        hear(found := map_tensors(path, stored_blocks(places), size_of(path)))
        seen = found.views
    try:
        with path.open("rb") as file:
            view = MappedPages.of(file)  # goes with the last NumPy view of it
        with believed():
            return {
                name: _plain(view, place, seen.get(name))
                if place.kind in PLAIN
                else _load(view, place, f"{path.name}: the tensor {shown(name)}", reading, seen.get(name))
                for name, place in places.items()
            }
    except OSError as error:
        raise unreadable(path, error) from error


def stored_blocks(places: Mapping[str, Place]) -> dict[str, Stored]:
    """What of them is worth a view: blocks as they lie, and plain tensors that are not small."""
    return {
        name: Stored(place.kind, place.shape, place.start, place.nbytes)
        if place.kind in PLAIN
        else Stored("U8", _shape_of_blocks(place), place.start, place.nbytes)
        for name, place in places.items()
        if place.kind not in PLAIN or place.nbytes >= COPIED
    }


def _plain(view: MappedPages, place: Place, seen: mx.array | None) -> mx.array:
    if seen is None:
        stored, dtype = PLAIN[place.kind]
        values = np.frombuffer(view, stored, place.nbytes // np.dtype(stored).itemsize, place.start)
        return mx.array(values.reshape(place.shape)).view(dtype)
    return seen


def _load(view: MappedPages, place: Place, what: str, reading: Reading, seen: mx.array | None) -> Weight:
    blocks, form = _blocks(view, place), form_of(place.kind, reading)
    largest = max((_largest_half(blocks[..., at + 1]) for at in form.halves), default=0)
    if largest >= HALF_INFINITY:
        raise ModelError(f"{what} has a scale that is not a finite number.")
    stored = mx.array(blocks) if seen is None else seen
    if reading == "wide" and _fits_wide(form, largest):
        return _by_pieces(partial(_wide_values, form), stored)
    halved = form.narrow and largest < _room((form.middle or 1).bit_length() - 1)
    return _by_pieces(lambda piece: _halved(form.make(piece)) if halved else form.make(piece), stored)


def _by_pieces(make: Callable[[mx.array], Weight], blocks: mx.array) -> Weight:
    """Rows, or whole experts, do not know of each other."""
    step = max(1, PIECE * blocks.shape[0] // blocks.size)
    if step >= blocks.shape[0]:
        return make(blocks)
    pieces = [make(blocks[first : first + step]) for first in range(0, blocks.shape[0], step)]
    return gather(pieces, mx.concatenate)


def _room(powers: int) -> int:
    """Below this, as bits, a half float times so many powers of two is one still."""
    return HALF_INFINITY - HALF_EXPONENT * powers


def _fits_wide(form: Form, largest: int) -> bool:
    return form.wide is not None and largest < _room(form.wide)


def _wide_values(form: Form, blocks: mx.array) -> mx.array:
    assert form.values is not None
    return _row_values(form.values, blocks).astype(mx.float16)


def _blocks(view: MappedPages, place: Place) -> np.ndarray:
    return np.frombuffer(view, np.uint8, place.nbytes, place.start).reshape(_shape_of_blocks(place))


def _shape_of_blocks(place: Place) -> tuple[int, ...]:
    values, nbytes = SIZES[place.kind]
    return (*place.shape[:-1], place.shape[-1] // values, nbytes)


def _largest_half(high_bytes: np.ndarray) -> int:
    """At least the largest, as bits without sign. The high byte is enough: the limits are powers of two."""
    return int((high_bytes & 0x7F).max()) << 8


def _halved(made: QuantizedWeight) -> QuantizedWeight:
    assert made.biases is not None
    scales, biases = made.scales.astype(mx.float16), made.biases.astype(mx.float16)
    return QuantizedWeight(made.packed, scales, biases, made.mode, made.bits, made.group)


def read_floats(path: Path, name: str, place: Place) -> tuple[float, ...]:
    """The values of a small F32 tensor, now."""
    if place.kind != "F32" or place.nbytes > MAX_FLOATS * 4:
        raise ModelError(f"{path.name}: the tensor {shown(name)} must be F32 and have at most {MAX_FLOATS} values.")
    try:
        with path.open("rb") as file:
            file.seek(place.start)
            raw = file.read(place.nbytes)
    except OSError as error:
        raise unreadable(path, error) from error
    return tuple(np.frombuffer(raw, "<f4").tolist())


# ---- what is lost -------------------------------------------------------------------------------


def losses(path: Path, places: Mapping[str, Place], reading: Reading = "mlx") -> Iterator[tuple[str, str, float]]:
    """(name, stored type, relative error) of every tensor that cannot be kept as it is, from evenly spaced rows."""
    with path.open("rb") as file:
        view = MappedPages.of(file)
    for name, place in places.items():
        form = None if place.kind in PLAIN else form_of(place.kind, reading)
        if form is not None and form.values is not None:
            with believed():
                error = _loss(view, place, form, reading)
            yield name, place.kind, error


def _loss(view: MappedPages, place: Place, form: Form, reading: Reading) -> float:
    assert form.values is not None
    largest = HALF_INFINITY
    if reading == "wide":
        largest = max((_largest_half(_blocks(view, place)[..., at + 1]) for at in form.halves), default=largest)
    blocks = _blocks(view, place).reshape(-1, place.shape[-1] // SIZES[place.kind][0], SIZES[place.kind][1])
    step = max(1, blocks.shape[0] * place.shape[-1] // SAMPLE)
    sample = mx.array(blocks[::step])
    kept = _wide_values(form, sample) if _fits_wide(form, largest) else form.make(sample).dequantize(mx.float32)
    return relative_error(kept, _row_values(form.values, sample))
