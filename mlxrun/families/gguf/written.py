"""A resolved model -> the metadata of a GGUF file and its tensors' names: the reader's tables the other way round.

Whether the format has a word for everything in the model is not argued but tried: what is to be written is resolved
as a file that has it would be, and must give the same spec. What would come out different is named in the refusal.
Knows nothing of bytes; floats are taken as the float32 that a file holds.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ...spec import Attention, Decoder, Dense, Layer, ModelError, MoE, Rope
from ..config import Config
from ..rope import rope_parameters
from . import resolve_gguf
from .architectures import ARCHITECTURES
from .metadata import Architecture
from .names import FUSED, PLACES, WHOLE

TYPES = {model_type: name for name, arch in ARCHITECTURES.items() for model_type in arch.writes}
# For the reader only, or told by how rows lie in the file.
_SAID_OTHERWISE = {"family", "interleaved", "base", "scaling"}
_CLOSE = 1e-6  # of float32
_LAYER = re.compile(r"^layers\.(\d+)\.(.+)\.(weight|bias)$")


@dataclass(frozen=True, slots=True)
class Written:
    name: str  # the architecture
    arch: Architecture
    metadata: dict[str, Any]  # its own keys, prefix and all
    factors: dict[str, tuple[float, ...]]  # tensors of rope factors


def metadata_of(decoder: Decoder, config: Mapping[str, Any]) -> Written:
    """`config` is that of the text half; only what yarn was told is taken from it."""
    name = TYPES.get(decoder.family)
    if name is None:
        raise ModelError(
            f"A model of the type {decoder.family!r} cannot be written as a GGUF file; {', '.join(sorted(TYPES))} can."
        )
    attention, rope = _attention(decoder), _global_rope(decoder)
    keys = {**_common(decoder, attention, config), **_OWN.get(name, lambda d, a: {})(decoder, attention)}
    factors: dict[str, tuple[float, ...]] = {}
    if rope is not None:
        said, factors = _rope(rope, config)
        keys |= said
    prefixed = {f"{name}.{key}": _as_stored(value) for key, value in keys.items()}
    metadata = {"general.architecture": name, **prefixed}
    if decoder.token_types:
        metadata["tokenizer.ggml.token_type_count"] = decoder.token_types
    return Written(name, ARCHITECTURES[name], metadata, {k: tuple(map(_single, v)) for k, v in factors.items()})


def check(written: Written, decoder: Decoder, shapes: Mapping[str, Sequence[int]]) -> None:
    """That the file will be read as the same model."""
    read = resolve_gguf(written.metadata, shapes, written.factors).decoder
    found = _difference(decoder, read, "")
    if found is not None:
        where, ours, theirs = found
        raise ModelError(
            f"A GGUF file of the architecture {written.name} has no words for this model: "
            f"its {where}, {_shown(ours)}, would be read as {_shown(theirs)}."
        )


def place_of(name: str, arch: Architecture) -> tuple[str, int]:
    """A canonical weight's tensor, and which of the parts it is that follow each other there."""
    module, _, part = name.rpartition(".")
    top = {ours: theirs for theirs, ours in WHOLE.items()}
    if module in top:
        return f"{top[module]}.{part}", 0
    match = _LAYER.match(name)
    if match is not None:
        layer, module, part = match.groups()
        for fused in arch.fused:
            if module in FUSED[fused].parts:
                return f"blk.{layer}.{fused}.{part}", FUSED[fused].parts.index(module)
        places = {ours: theirs for theirs, ours in {**PLACES, **arch.own}.items()}  # of two, the architecture's own
        if module in places:
            return f"blk.{layer}.{places[module]}.{part}", 0
    raise ModelError(f"The weight {name} has no place in a GGUF file, so this model cannot be written as one.")


# ---- metadata -----------------------------------------------------------------------------------


def _attention(decoder: Decoder) -> Attention:
    mixer = decoder.layers[0].mixer
    assert isinstance(mixer, Attention), "every type of TYPES has attention in every layer"
    return mixer


def _mixers(decoder: Decoder) -> list[Attention]:
    return [layer.mixer for layer in decoder.layers if isinstance(layer.mixer, Attention)]


def _norm_eps(layer: Layer) -> tuple[str, float]:
    norm = layer.mixer_norm or layer.mixer_post
    assert norm is not None
    return ("attention.layer_norm_rms_epsilon" if norm.kind == "rms" else "attention.layer_norm_epsilon"), norm.eps


def _common(decoder: Decoder, a: Attention, config: Mapping[str, Any]) -> dict[str, Any]:
    ffn = decoder.layers[0].ffn
    assert isinstance(ffn, Dense | MoE)
    eps, value = _norm_eps(decoder.layers[0])
    return {
        "vocab_size": decoder.vocab,
        "context_length": decoder.context,
        "embedding_length": decoder.dim,
        "block_count": len(decoder.layers),
        "feed_forward_length": ffn.hidden if isinstance(ffn, Dense) else Config(config).get("intermediate_size"),
        "attention.head_count": a.heads,
        "attention.head_count_kv": a.kv_heads,
        "attention.key_length": a.head_dim,
        "attention.value_length": a.head_dim,
        eps: value,
    }


def _global_rope(decoder: Decoder) -> Rope | None:
    """That of the layers that see everything, where only some do."""
    turning = [a for a in _mixers(decoder) if a.rope is not None]
    return next((a.rope for a in turning if a.window is None), turning[0].rope if turning else None)


def _rope(rope: Rope, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[float, ...]]]:
    keys: dict[str, Any] = {"rope.freq_base": rope.base, "rope.dimension_count": rope.dims}
    plain = [rope.base ** (2 * i / rope.dims) for i in range(rope.dims // 2)]

    def stretched(freqs: Sequence[float]) -> tuple[float, ...]:
        return tuple(w / p for w, p in zip(freqs, plain, strict=True))

    if rope.scaling == "linear":
        return {**keys, "rope.scaling.type": "linear", "rope.scaling.factor": rope.freqs[0]}, {}
    if rope.scaling == "llama3":
        return keys, {"rope_freqs.weight": stretched(rope.freqs)}
    if rope.scaling == "longrope" and rope.long_freqs is not None:
        own = {"rope.scaling.original_context_length": rope.original, "rope.scaling.attn_factor": rope.scale}
        tables = {"short": rope.freqs, "long": rope.long_freqs}
        return keys | own, {f"rope_factors_{name}.weight": stretched(freqs) for name, freqs in tables.items()}
    if rope.scaling == "yarn":
        p = rope_parameters(Config(config), "full_attention")
        names = {
            "factor": "factor",
            "original_max_position_embeddings": "original_context_length",
            "beta_fast": "yarn_beta_fast",
            "beta_slow": "yarn_beta_slow",
            "mscale_all_dim": "yarn_log_multiplier",
        }
        said = {f"rope.scaling.{theirs}": p[ours] for ours, theirs in names.items() if ours in p}
        floats = ("factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_log_multiplier")
        said |= {key: float(value) for key, value in said.items() if key.rpartition(".")[2] in floats}
        return {**keys, "rope.scaling.type": "yarn", **said}, {}
    return keys, {}


def _moe(decoder: Decoder) -> MoE | None:
    return next((layer.ffn for layer in decoder.layers if isinstance(layer.ffn, MoE)), None)


def _experts(decoder: Decoder, a: Attention) -> dict[str, Any]:
    moe = _moe(decoder)
    return {} if moe is None else {"expert_count": moe.experts, "expert_used_count": moe.router.top_k}


def _window(decoder: Decoder, a: Attention) -> dict[str, Any]:
    window = next((mixer.window for mixer in _mixers(decoder) if mixer.window is not None), None)
    return {} if window is None else {"attention.sliding_window": window}


def _qwen3_moe(decoder: Decoder, a: Attention) -> dict[str, Any]:
    moe = _moe(decoder)
    return _experts(decoder, a) | ({} if moe is None else {"expert_feed_forward_length": moe.hidden})


def _qwen2_moe(decoder: Decoder, a: Attention) -> dict[str, Any]:
    moe, found = _moe(decoder), _qwen3_moe(decoder, a)
    shared = None if moe is None else moe.shared
    return found if shared is None else {**found, "expert_shared_feed_forward_length": shared.hidden}


def _granite(decoder: Decoder, a: Attention) -> dict[str, Any]:
    return {
        "attention.scale": a.scale,
        "embedding_scale": decoder.embed_scale,
        "residual_scale": decoder.layers[0].residual,
        "logit_scale": 1.0 / decoder.logit_scale,
    }


def _gemma2(decoder: Decoder, a: Attention) -> dict[str, Any]:
    caps = {"attn_logit_softcapping": a.softcap, "final_logit_softcapping": decoder.logit_softcap}
    return _window(decoder, a) | {key: value for key, value in caps.items() if value is not None}


def _gemma3(decoder: Decoder, a: Attention) -> dict[str, Any]:
    slides = [mixer.window is not None for mixer in _mixers(decoder)]
    found = _window(decoder, a)
    if slides != [(i + 1) % 6 != 0 for i in range(len(slides))]:
        found["attention.sliding_window_pattern"] = slides
    if decoder.logit_softcap is not None:
        found["final_logit_softcapping"] = decoder.logit_softcap
    local = next((m.rope.base for m in _mixers(decoder) if m.window is not None and m.rope is not None), None)
    return found if local is None else {**found, "rope.freq_base_swa": local}


_OWN: dict[str, Callable[[Decoder, Attention], dict[str, Any]]] = {
    "llama": lambda d, a: {**_window(d, a), **_experts(d, a)},
    "mistral3": lambda d, a: {"attention.temperature_scale": a.temperature.beta} if a.temperature else {},
    "cohere2": lambda d, a: {**_window(d, a), "logit_scale": d.logit_scale},
    "granite": _granite,
    "olmoe": _experts,
    "qwen2moe": _qwen2_moe,
    "qwen3moe": _qwen3_moe,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "phi3": lambda d, a: {"attention.sliding_window": 0, **_window(d, a)},
    "olmo2": _window,
    "bert": lambda d, a: {"attention.causal": False},
}

# ---- the same again -----------------------------------------------------------------------------


def _shown(value: Any) -> str:
    if is_dataclass(value):
        return type(value).__name__
    return f"{len(value)} values" if isinstance(value, tuple) else repr(value)


def _single(value: float) -> float:
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _as_stored(value: Any) -> Any:
    return _single(value) if isinstance(value, float) else value


def _difference(ours: Any, read: Any, where: str) -> tuple[str, Any, Any] | None:
    """Where two specs first differ."""
    if is_dataclass(ours) and type(ours) is type(read):
        steps = [
            (f"{where}.{f.name}".lstrip("."), getattr(ours, f.name), getattr(read, f.name))
            for f in fields(ours)
            if f.name not in _SAID_OTHERWISE
        ]
    elif isinstance(ours, tuple) and isinstance(read, tuple) and len(ours) == len(read):
        steps = [(f"{where}.{i}", one, other) for i, (one, other) in enumerate(zip(ours, read, strict=True))]
    elif isinstance(ours, float) and isinstance(read, float) and math.isclose(ours, read, rel_tol=_CLOSE):
        return None
    else:
        return None if ours == read else (where, ours, read)
    return next((found for at, one, other in steps if (found := _difference(one, other, at)) is not None), None)
