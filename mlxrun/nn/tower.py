"""A tower: patches of pictures -> the rows that stand in a prompt for them. Several pictures go through it together.

It is built of the same layers as a decoder, each of which sees all patches of its own picture and none of another. It
reads a spec and knows no family, no prompt and no file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import mlx.core as mx

from ..contracts import Patches
from ..ops.activations import activation
from ..spec import Dense, Norm
from ..spec_towers import Act, Grid, JoinPatches, MeanBlock, PictureSpec, Project, Standardize, Step, Tower, Towers
from .batch import Pass
from .dense import DenseBlock
from .layer import LayerBlock
from .params import Params

Rows = Callable[[mx.array], mx.array]


class TowerModel:
    def __init__(self, towers: Towers, params: Params) -> None:
        spec = self.spec = towers.vision
        patch = spec.patch
        self.patch = params.linear("patch", patch.dim, patch.frames * patch.side**2 * 3, bias=patch.bias)
        colours = patch.frames * patch.side**2 * 3
        self.before = params.norm("patch_before", patch.before, colours) if patch.before is not None else None
        self.patch_norm = params.norm("patch_norm", patch.after, patch.dim) if patch.after is not None else None
        grid = spec.grid
        self.grid = None if grid is None else params.embedding("grid", rows_of(grid), patch.dim)
        self.class_row = params.array("class_row", patch.dim) if spec.class_row else None
        self.layers = [
            LayerBlock(layer, patch.dim, None, params.scope(f"layers.{i}")) for i, layer in enumerate(spec.layers)
        ]
        self.steps, self.out = steps_of(spec, spec.steps, params.scope("steps"))
        self.deep = {  # by layer
            layer: steps_of(spec, steps, params.scope(f"deep.{i}"))[0] for i, (layer, steps) in enumerate(spec.deep)
        }
        self.values = values_of(towers.picture)

    def encode(self, patches: Patches) -> Iterator[mx.array]:
        """The rows after each layer, none of them evaluated; last (T / joined, the decoder's dim), and side by side
        with those what is added to the rows of the decoder's first layers."""
        x = self._colours(patches.colours)
        x = self.patch(x if self.before is None else self.before(x))
        if self.patch_norm is not None:
            x = self.patch_norm(x)
        if self.grid is not None and patches.places is not None:
            x = x + self._placed(patches.places, patches.shares).astype(x.dtype)
        counts = patches.counts if self.class_row is None else tuple(count + 1 for count in patches.counts)
        x = self._with_class(x, patches.counts)
        whole, within = pass_of(counts), pass_of(patches.windows or counts)
        whole.coordinates = within.coordinates = patches.coordinates
        further = list[mx.array]()
        for number, layer in enumerate(self.layers):
            p = whole if number in self.spec.full else within
            x = layer(x, p, [None] * len(p.segments))
            if number in self.deep:
                further.append(through(self.deep[number], x))
            yield x
        if self.class_row is not None:
            x = mx.concatenate([x[segment.start + 1 : segment.start + segment.count] for segment in p.segments])
        x = mx.concatenate([through(self.steps, x), *further], axis=-1) if further else through(self.steps, x)
        yield x if patches.back is None else x[patches.back]

    def _placed(self, places: mx.array, shares: mx.array | None) -> mx.array:
        assert self.grid is not None
        rows = self.grid(places)
        if shares is not None:
            rows = rows * shares[..., None]
        return rows[:, 0] if rows.shape[1] == 1 else rows.sum(axis=1)

    def _with_class(self, x: mx.array, counts: Sequence[int]) -> mx.array:
        """Before the patches of each picture the class row, where there is one."""
        if self.class_row is None:
            return x
        row = self.class_row.astype(x.dtype)[None]
        if self.grid is not None:
            row = row + self.grid(mx.zeros((1,), mx.int32))
        ends = list(accumulate(counts))
        parts = zip([0, *ends[:-1]], ends, strict=True)
        return mx.concatenate([piece for start, end in parts for piece in (row, x[start:end])])

    def _colours(self, colours: mx.array) -> mx.array:
        """As the numbers that the tower was taught with: a table, for there are 256 of each colour."""
        width, frames = colours.shape[1], self.spec.patch.frames
        which = mx.tile(mx.array([0, 256, 512], mx.int32), width // 3)
        values = self.values[colours.astype(mx.int32) + which]
        return values if frames == 1 else mx.tile(values, (1, frames))


def rows_of(grid: Grid) -> int:
    return grid.before + (grid.rows + grid.cols if grid.how == "sum" else grid.rows * grid.cols)


def pass_of(counts: Sequence[int]) -> Pass:
    return Pass([(count, 0, count) for count in counts])


def values_of(picture: PictureSpec) -> mx.array:
    """(768,): what the 256 values of red, green and blue become, to the bit as in transformers' PIL classes."""
    scaled = mx.array([value * picture.scale for value in range(256)], mx.float32)[None]
    mean, std = (mx.array(three, mx.float32)[:, None] for three in (picture.mean, picture.std))
    return ((scaled - mean) / std).reshape(-1)


def through(steps: Sequence[Rows], x: mx.array) -> mx.array:
    for step in steps:
        x = step(x)
    return x


def steps_of(spec: Tower, steps: Sequence[Step], params: Params) -> tuple[list[Rows], int]:
    """Steps behind the layers, and how wide a row is after them."""
    blocks, width = list[Rows](), spec.patch.dim
    for number, step in enumerate(steps):
        block, width = _step(step, width, str(number), params)
        blocks.append(block)
    return blocks, width


def _step(step: Step, width: int, name: str, params: Params) -> tuple[Rows, int]:
    match step:
        case Norm():
            return params.norm(name, step, width), width
        case Project(out, bias):
            return params.linear(name, out, width, bias=bias), out
        case Act(kind):
            return activation(kind), width
        case MeanBlock(side, 1.0):
            return lambda x: x.reshape(-1, side**2, width).mean(axis=1), width
        case MeanBlock(side, scale):
            return lambda x: x.reshape(-1, side**2, width).astype(mx.float32).mean(axis=1) * scale, width
        case Standardize():
            less, times = params.array(f"{name}.bias", width), params.array(f"{name}.weight", width)
            return lambda x: (x - less) * times, width
        case Dense():
            return DenseBlock(step, width, params.scope(name)), width
        case JoinPatches(side):
            wide = width * side**2
            return lambda x: x.reshape(-1, wide), wide
