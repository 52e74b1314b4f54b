"""What families with recurrent layers share: which layer is of which kind, and the names inside a mixer.

Both generations of names are read: `mamba` and `linear_attention`, `attention` and `full_attention`.
Knows no family.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from ..spec import Mamba1, Mamba2, ModelError, Norm
from .common import LAYER, rename_in_layer
from .config import Config
from .rules import Join, Rename, Rule, Squeeze

_OLDER = {"mamba": "linear_attention", "attention": "full_attention"}
ENDLESS = 1 << 20  # the context of a model without positions: no limit of its own


def kinds_of(
    c: Config, layers: int | None, default: Callable[[int], str] | None, known: Iterable[str]
) -> tuple[str, ...]:
    """One kind a layer, in the newer names; layers=None: as many as are listed."""
    written = next((c.get(key) for key in ("layer_types", "layers_block_type") if key in c), None)
    if written is None and default is not None and layers is not None:
        return tuple(default(i) for i in range(layers))
    if not isinstance(written, list) or not 0 < len(written) == (layers or len(written)) <= 10_000:
        raise ModelError(f"{c.file}: layer_types must list one type for each of the {layers or ''} layers.")
    kinds = tuple(_OLDER.get(str(name), str(name)) for name in written)
    strange = sorted(set(kinds) - set(known))
    if strange:
        raise ModelError(f"{c.file}: the layer type {strange[0]!r} is not known; known are {', '.join(known)}.")
    return kinds


def time_steps(c: Config) -> tuple[float, float]:
    """The span that step sizes are clamped to."""
    limit = c.get("time_step_limit", [0.0, math.inf])
    if not isinstance(limit, list | tuple) or len(limit) != 2:
        raise ModelError(f"{c.file}: time_step_limit must be two numbers, not {limit!r}.")
    low, high = (_tagged(c, value) for value in limit)
    return low, high


def _tagged(c: Config, value: object) -> float:
    """A number; transformers 5 writes infinity as {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        value = value.get("__float__")
    try:
        return float(value)  # type: ignore[arg-type]  # whatever it cannot take is the error below
    except (TypeError, ValueError):
        raise ModelError(f"{c.file}: time_step_limit must be two numbers, not {value!r}.") from None


def mamba1(c: Config, inner: int, prefix: str, norm: Norm | None) -> Mamba1:
    """Keys of Mamba carry the prefix `mamba_` where other layers stand beside it."""
    state, conv, rank, bias, conv_bias = (
        ("mamba_d_state", "mamba_d_conv", "mamba_dt_rank", "mamba_proj_bias", "mamba_conv_bias")
        if prefix
        else ("state_size", "conv_kernel", "time_step_rank", "use_bias", "use_conv_bias")
    )
    auto = c.get(rank, "auto") == "auto"
    return Mamba1(
        inner,
        c.count(state, 16, high=1 << 16),
        -(-c.count("hidden_size", high=1 << 20) // 16) if auto else c.count(rank, high=1 << 16),
        c.count(conv, 4, high=64),
        norm,
        bias=c.flag(bias),
        conv_bias=c.flag(conv_bias, True),
    )


def mamba2(c: Config, dim: int, norm: Norm) -> Mamba2:
    """As Granite 4 and Bamba have it beside attention."""
    inner, heads = c.count("mamba_expand", 2, high=64) * dim, c.count("mamba_n_heads", 128, high=1 << 14)
    written = c.get("mamba_d_head", "auto")
    head_dim = inner // heads if written == "auto" else c.count("mamba_d_head", high=1 << 14)
    if heads * head_dim != inner:
        raise ModelError(f"{c.file}: {heads} mamba_n_heads of {head_dim} do not make the inner width {inner}.")
    groups = c.count("mamba_n_groups", 1, high=1 << 14)
    low, high = time_steps(c)
    return Mamba2(
        heads,
        head_dim,
        groups,
        c.count("mamba_d_state", 256, high=1 << 16),
        c.count("mamba_d_conv", 4, high=64),
        norm,
        norm_groups=groups,
        dt_min=low,
        dt_max=high,
        bias=c.flag("mamba_proj_bias"),
        conv_bias=c.flag("mamba_conv_bias", True),
    )


# ---- rules --------------------------------------------------------------------------------------


def conv_rules(block: str, layer: str = LAYER, dst: str = "mixer", conv: str = "conv1d") -> tuple[Rule, ...]:
    """Depthwise kernels: (C, 1, K) in hf files, (C, K, 1) in mlx ones."""
    return (
        Squeeze(layer + block + rf"\.{conv}\.weight$", rf"layers.\1.{dst}.conv.weight"),
        Rename(layer + block + rf"\.{conv}\.bias$", rf"layers.\1.{dst}.conv.bias"),
    )


def apart_rules(block: str, layer: str = LAYER) -> tuple[Rule, ...]:
    """A kernel each for queries, keys and values, or one over all; in mlx files with a module around. They are joined,
    for transformers 5.23 saves three of equal size whatever their widths are."""
    return (
        Join(
            layer + block + r"\.(?P<part>[qkv])_conv(?:1d|\.conv)\.weight$",
            rf"layers.\1.{block}.conv1d.weight",
            ("q", "k", "v"),
        ),
        *conv_rules(block, r"^layers\.(\d+)\."),
        *conv_rules(block, layer),
    )


def mamba_rules(block: str, layer: str = LAYER, dst: str = "mixer") -> tuple[Rule, ...]:
    """Both generations of Mamba under `block`."""
    return (
        *conv_rules(block, layer, dst),
        rename_in_layer(block + r"\.in_proj", f"{dst}.inp", layer),
        rename_in_layer(block + r"\.out_proj", f"{dst}.o", layer),
        rename_in_layer(block + r"\.(x|dt)_proj", rf"{dst}.\2", layer),
        rename_in_layer(block + r"\.(dt|b|c)_layernorm", rf"{dst}.\2_norm", layer),
        rename_in_layer(block + r"\.norm", f"{dst}.norm", layer),
        Rename(layer + block + r"\.(A_log|D|dt_bias)$", rf"layers.\1.{dst}.\2"),
    )
