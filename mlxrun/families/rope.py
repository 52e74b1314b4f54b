"""Every rotary scheme becomes a tuple of frequencies here, in Python floats; blocks know one rope.

Reads both spellings: `rope_parameters` (flat, or one dict a layer type) and the older `rope_theta`
with `rope_scaling`. A rope key that its scheme does not use is an error that names it. Knows no
family: what a family assumes when its file is silent comes in as `base` and `partial`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ..spec import ModelError, Rope
from .config import Config

_SCALING_NAMES = {"su": "longrope", "mrope": "default", "axial": "default"}
_MOST = 1e15  # of any number
_LEAST: dict[str, float] = {  # the number must be above
    **dict.fromkeys(("rope_theta", "original_max_position_embeddings", "max_position_embeddings"), 1),
    **dict.fromkeys(("factor", "low_freq_factor", "high_freq_factor", "beta_fast", "beta_slow"), 0),
    **dict.fromkeys(("partial_rotary_factor", "attention_factor", "short_mscale", "long_mscale"), 0),
    **dict.fromkeys(("mscale", "mscale_all_dim", "llama_4_scaling_beta"), -1),  # 0: not used
}
_ALWAYS = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "mrope_section", "mrope_interleaved"}
_USED: dict[str, set[str]] = {
    "default": {"factor", "finetuned"},  # a factor beside type "default" is a leftover
    "linear": {"factor", "finetuned"},
    "dynamic": {"factor", "finetuned"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {
        *("factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow"),
        *("mscale", "mscale_all_dim", "truncate", "finetuned"),
        *("llama_4_scaling_beta", "max_position_embeddings"),  # read where the query's temperature is built
    },
    "longrope": {
        *("factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor"),
        *("short_mscale", "long_mscale"),
    },
    "proportional": {"factor"},
}


def rope_parameters(
    c: Config, kind: str | None = None, base: float = 10000.0, *, base_key: str = "rope_theta", scaled: bool = True
) -> dict[str, Any]:
    """One layer type's rope keys in the newer spelling.

    A file that is not nested by type is read through `base_key`; with `scaled` False its scaling belongs to
    other types than this one. `base` is what the family assumes where nothing is written.
    """
    written = c.get("rope_parameters") or {}
    older = c.get("rope_scaling") or {}
    if not isinstance(written, Mapping) or not isinstance(older, Mapping):
        raise ModelError(f"{c.file}: rope_parameters and rope_scaling must be objects.")
    nested = any(isinstance(value, Mapping) for value in written.values())
    if nested:
        if not isinstance(written.get(kind), Mapping):
            raise ModelError(f"{c.file}: rope_parameters has no entry for {kind}; it has {', '.join(written)}.")
        written = written[kind]
    found = dict(written or older)
    if not nested and not scaled:
        found = {key: value for key, value in found.items() if key == "partial_rotary_factor"}
    outside = {"rope_theta": c.get(base_key), "partial_rotary_factor": c.get("partial_rotary_factor")}
    found |= {key: value for key, value in outside.items() if found.get(key) is None}
    if found["rope_theta"] is None:
        found["rope_theta"] = base
    return _believable(c, {key: value for key, value in found.items() if value is not None})


def _believable(c: Config, p: dict[str, Any]) -> dict[str, Any]:
    """Every number is one, and above what its formula bears."""
    for key, value in p.items():
        if key in _LEAST:
            plain = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not plain or not _LEAST[key] < value < _MOST:
                raise ModelError(f"{c.file}: the rope key {key} must be a number above {_LEAST[key]}, not {value!r}.")
    if p.get("partial_rotary_factor", 1.0) > 1:
        raise ModelError(f"{c.file}: partial_rotary_factor must be at most 1, not {p['partial_rotary_factor']!r}.")
    return p


def scaling_of(p: Mapping[str, Any]) -> str:
    name = str(p.get("rope_type") or p.get("type") or "default")
    return _SCALING_NAMES.get(name, name)


def rope_of(
    c: Config,
    dims: int,
    kind: str | None = None,
    interleaved: bool = False,
    *,
    base: float = 10000.0,
    partial: float | None = 1.0,
) -> Rope:
    """The rope of a head of `dims` in a layer of that type."""
    return rope_from(c, rope_parameters(c, kind, base), dims, interleaved, partial)


def rope_from(
    c: Config, p: Mapping[str, Any], dims: int, interleaved: bool = False, partial: float | None = 1.0
) -> Rope:
    """`partial` is the rotated part where the file is silent; None: all of `dims`, whatever the file says
    (latent attention, whose factor is relative to another width)."""
    scaling = scaling_of(p)
    _check(c, p, scaling)
    theta = float(p["rope_theta"])
    factor = 1.0 if partial is None else float(p.get("partial_rotary_factor", partial))
    if scaling == "proportional":  # spaced over the whole head, the last part stands still
        turning = int(factor * dims // 2)
        stretch = _number(c, p, "factor", 1.0)
        freqs = [stretch * theta ** (2 * i / dims) for i in range(turning)] + [math.inf] * (dims // 2 - turning)
        return Rope(dims, tuple(freqs), interleaved, base=theta, scaling=scaling)
    rotated = int(dims * factor)
    if rotated < 2 or rotated % 2:
        raise ModelError(f"{c.file}: rope would rotate {rotated} of {dims} values; it must be an even number.")
    plain = [theta ** (2 * i / rotated) for i in range(rotated // 2)]
    freqs, scale, long, original = _SCHEMES[scaling](c, p, plain)
    return Rope(
        rotated,
        tuple(freqs),
        interleaved,
        scale,
        theta,
        scaling,
        None if long is None else tuple(long),
        _number(c, p, "long_mscale") if scaling == "longrope" and "long_mscale" in p else None,
        original,
    )


def coordinate_of(c: Config, pairs: int, sections: tuple[int, int, int], *, interleaved: bool) -> tuple[int, ...]:
    """Of each pair, by which coordinate of a picture's rows it turns: 0 where the picture begins, 1 line, 2 column.

    `sections`: how many turn by each, where the file is silent. `interleaved`: in turns, as long as there are of each.
    """
    written = c.get("rope_parameters") or c.get("rope_scaling") or {}
    found: Any = written.get("mrope_section", [*sections]) if isinstance(written, Mapping) else []
    whole = isinstance(found, list) and len(found) == 3 and all(isinstance(n, int) and n >= 0 for n in found)
    if not whole or sum(found) != pairs:
        raise ModelError(f"{c.file}: mrope_section must be three numbers that add up to {pairs} pairs.")
    if not interleaved:
        return tuple(axis for axis, count in enumerate(found) for _ in range(count))
    return tuple(i % 3 if i // 3 < found[i % 3] else 0 for i in range(pairs))


def yarn_mscale(factor: float, weight: float = 1.0) -> float:
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _check(c: Config, p: Mapping[str, Any], scaling: str) -> None:
    if scaling not in _USED:
        raise ModelError(f"{c.file}: the rope type {scaling!r} is not known; known are {', '.join(_USED)}.")
    unknown = sorted(set(p) - _ALWAYS - _USED[scaling] - c.waive)
    if unknown:
        raise ModelError(
            f"{c.file}: the {scaling} rope does not use {', '.join(unknown)}, which may change the answers; "
            f"--waive KEY goes on without."
        )


def _number(c: Config, p: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = p.get(key, default)
    if value is None:
        raise ModelError(f"{c.file}: the rope key {key} is missing.")
    return float(value)


def _original(c: Config, p: Mapping[str, Any]) -> int:
    """The trained length. Phi-3 keeps it outside, and that one counts."""
    if "original_max_position_embeddings" in c:
        return c.count("original_max_position_embeddings", low=2)
    inside = p.get("original_max_position_embeddings")
    return c.count("max_position_embeddings", low=2) if inside is None else int(inside)


def _factor(c: Config, p: Mapping[str, Any], original: int) -> float:
    return _number(c, p, "factor", c.count("max_position_embeddings", original) / original)


# (frequencies, scale, frequencies of long sessions, length above which a session is long)
_Scaled = tuple[list[float], float, list[float] | None, int | None]


def _default(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    return plain, 1.0, None, None


def _linear(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    factor = _number(c, p, "factor")
    return [w * factor for w in plain], 1.0, None, None


def _dynamic(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    """NTK: the reference stretches the base anew at every length. Cached keys forbid that here, so a session
    within the trained length uses the plain base, and a longer one the base for `factor` times that length."""
    factor, original = _number(c, p, "factor"), c.count("max_position_embeddings")
    dims = 2 * len(plain)
    growth = (factor * factor - (factor - 1.0)) ** (dims / (dims - 2)) if dims > 2 else 1.0
    long = [w * growth ** (2 * i / dims) for i, w in enumerate(plain)]
    return plain, 1.0, long, original


def _llama3(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    factor, original = _number(c, p, "factor"), _original(c, p)
    low, high = _number(c, p, "low_freq_factor"), _number(c, p, "high_freq_factor")
    if low >= high:
        raise ModelError(f"{c.file}: the rope key low_freq_factor must be below high_freq_factor.")

    def stretch(w: float) -> float:
        turns = original / (2 * math.pi * w)  # full turns within the trained length
        if turns < low:
            return w * factor
        if turns > high:
            return w
        smooth = (turns - low) / (high - low)
        return w / ((1 - smooth) / factor + smooth)

    return [stretch(w) for w in plain], 1.0, None, None


def _yarn(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    original, theta, dims = _original(c, p), _number(c, p, "rope_theta"), 2 * len(plain)
    factor = _factor(c, p, original)

    def pair_with(turns: float) -> float:
        return dims * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair_with(_number(c, p, "beta_fast", 32.0)), pair_with(_number(c, p, "beta_slow", 1.0))
    truncate = p.get("truncate", True)
    if not isinstance(truncate, bool):
        raise ModelError(f"{c.file}: the rope key truncate must be true or false, not {truncate!r}.")
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dims - 1)
    if low == high:
        high += 0.001

    def stretch(i: int, w: float) -> float:
        ramp = min(max((i - low) / (high - low), 0.0), 1.0)
        return 1.0 / (ramp / (w * factor) + (1.0 - ramp) / w)

    scale = p.get("attention_factor")
    if scale is None:
        one, all_ = p.get("mscale"), p.get("mscale_all_dim")
        scale = yarn_mscale(factor, one) / yarn_mscale(factor, all_) if one and all_ else yarn_mscale(factor)
    return [stretch(i, w) for i, w in enumerate(plain)], float(scale), None, None


def _longrope(c: Config, p: Mapping[str, Any], plain: list[float]) -> _Scaled:
    original = _original(c, p)
    factor = _factor(c, p, original)
    scale = p.get("short_mscale", p.get("attention_factor"))
    if scale is None:
        scale = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    tables = []
    for key in ("short_factor", "long_factor"):
        stretch = p.get(key)
        if not isinstance(stretch, list) or len(stretch) != len(plain) or not all(map(_is_stretch, stretch)):
            raise ModelError(f"{c.file}: the rope key {key} must be a list of {len(plain)} numbers.")
        tables.append([w * float(f) for w, f in zip(plain, stretch, strict=True)])
    return tables[0], float(scale), tables[1], original


def _is_stretch(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST


_SCHEMES: dict[str, Callable[[Config, Mapping[str, Any], list[float]], _Scaled]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
