"""What a simdgroup and a threadgroup take on at a time. Which cut suits a chip is measured there, not known here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VectorTile:
    rows: int = 4  # outputs of a simdgroup
    simdgroups: int = 2  # of a threadgroup
    bitcast: bool = False  # integers to floats by their bits, where conversion is slow


@dataclass(frozen=True, slots=True)
class FewTile:
    tiles: int = 2  # of eight outputs, a simdgroup
    split: int = 4  # simdgroups that share K
    bitcast: bool = False


@dataclass(frozen=True, slots=True)
class MatrixTile:
    rows: int = 32  # of x
    outputs: int = 32
    bitcast: bool = False


@dataclass(frozen=True, slots=True)
class ExpertTile:
    rows: int = 2  # outputs of a simdgroup
    simdgroups: int = 2
    bitcast: bool = False


@dataclass(frozen=True, slots=True)
class AttentionTile:
    heads: int = 4  # of one group, at once
    simdgroups: int = 8
    blocks: int = 1  # threadgroups that share the keys of a row; more than one takes a second launch


@dataclass(frozen=True, slots=True)
class Cut:
    """A tile for every kernel."""

    vector: VectorTile = VectorTile()
    few: FewTile = FewTile()
    matrix: MatrixTile = MatrixTile()
    experts: ExpertTile = ExpertTile()
    attention: AttentionTile = AttentionTile()


STANDARD = Cut()
# in the order in which they are tried
CUTS = {
    "standard": STANDARD,
    # activations are read and made ready for more outputs; a row's keys are shared by several threadgroups
    "wide": Cut(VectorTile(8), FewTile(4), MatrixTile(64, 32), ExpertTile(4), AttentionTile(blocks=8)),
    # adds and masks for conversions, of which a core does a quarter as many in a clock
    "bits": Cut(VectorTile(bitcast=True), FewTile(bitcast=True), MatrixTile(bitcast=True), ExpertTile(bitcast=True)),
}
