"""GGUF metadata -> the config.json that the same model has, the same recipe's spec, and rules for llama.cpp's names.

Two things are facts of the file and not of its metadata: the head is tied where there is no `output.weight`,
and Llama-like projections have biases where there are any. Where llama.cpp permuted query and key rows so that
rope turns neighbours, the rows stay as they lie and the rope is told so: scores do not change, and no bit does.
Knows nothing of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...spec import Attention, Decoder, ModelError, Rope, shown
from ..common import Recipe, UnknownFamily, sizes_of, with_attention
from ..config import Config, refusing
from .architectures import ARCHITECTURES
from .metadata import FILE, Architecture, Factors, Metadata, common
from .names import FUSED, NAMES, PREDICTION, placed, predictions

# Bookkeeping, or said again by what is read; pooling is what a caller does with hidden states.
_IGNORED = {
    *("vocab_size", "tensor_data_layout", "pooling_type"),
    *("rope.scaling.finetuned", "rope.scaling.original_context_length"),
}


def resolve_gguf(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    rope_factors: Factors | None = None,
    waive: Collection[str] = (),
) -> Recipe:
    """`shapes` slowest axis first; `rope_factors` the values of the tensors of factors that the file has."""
    from .. import recipe_for  # the registry imports nothing of this module

    m, arch, config = _told(metadata, shapes, rope_factors or {}, waive)
    c = Config(config, "gguf", file=FILE)
    with refusing(FILE, m.arch, c):
        recipe = recipe_for(config["model_type"], FILE)(c)
    turned = recipe
    if not arch.own_widths:
        turned = with_attention(recipe, lambda i, a: replace(a, rope=_rope(a, arch, m.factors)))
    c.ignore("rope_theta")  # unread where no layer turns, or all do by another base
    unread = c.unread()
    if unread:
        raise ModelError(f"{FILE}: a {m.arch} model with {', '.join(unread)} is not known here.")
    fused = dict.fromkeys(arch.fused if arch.own_widths else (*arch.fused, "attn_qkv"))  # which any converter may fuse
    further = predictions(range(len(turned.decoder.layers), m["block_count"]))
    cut = (FUSED[name].rule(sizes_of(c)) for name in fused)
    rules = (*further, *arch.rules(m), *cut, *placed(arch.own), *NAMES)
    return Recipe(_named(turned.decoder, m.arch), rules, arch.folded, PREDICTION if further else "")


def config_of(metadata: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> tuple[dict[str, Any], Architecture]:
    """The config.json that the same model has, where nothing of it is in tensors of factors."""
    _, arch, config = _told(metadata, shapes, {}, ())
    return config, arch


def _told(
    metadata: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], factors: Factors, waive: Collection[str]
) -> tuple[Metadata, Architecture, dict[str, Any]]:
    name = metadata.get("general.architecture")
    if not isinstance(name, str):
        raise ModelError(f"{FILE} does not say its general.architecture.")
    arch = ARCHITECTURES.get(name)
    if arch is None:
        raise UnknownFamily(
            f"{FILE}: the architecture {shown(name)} is not known; known are {', '.join(ARCHITECTURES)}."
        )
    m = Metadata(metadata, name, shapes, factors)
    with refusing(FILE, name, m):
        config = {**common(m, arch), "model_type": arch.model_type(m), **arch.config(m)}
    m.seen |= _IGNORED
    unread = [key for key in m.unread() if key not in waive]
    if unread:
        raise ModelError(
            f"{FILE} has {', '.join(unread)}, not known here, and the answers may depend on it; "
            f"--waive KEY goes on without."
        )
    return m, arch, config


def _named(decoder: Decoder, name: str) -> Decoder:
    return replace(decoder, family=name)


def _rope(a: Attention, arch: Architecture, factors: Factors) -> Rope | None:
    rope = a.rope
    if rope is None:
        return None
    stretch = factors.get("rope_freqs.weight")
    if stretch is not None:  # Llama 3's scaling comes as a tensor
        if len(stretch) != len(rope.freqs):
            raise ModelError(f"{FILE}: rope_freqs.weight must hold {len(rope.freqs)} values, not {len(stretch)}.")
        freqs = tuple(w * float(f) for w, f in zip(rope.freqs, stretch, strict=True))
        rope = replace(rope, freqs=freqs, scaling="llama3")
    return replace(rope, interleaved=rope.interleaved or arch.interleaved)
