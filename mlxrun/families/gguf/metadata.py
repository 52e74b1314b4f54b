"""The metadata of a GGUF file as keys of config.json: what all architectures of llama.cpp say alike.

`Metadata` remembers which keys were read. Knows no architecture; `architectures.py` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...spec import ModelError, shown
from ..rules import Rule

FILE = "the GGUF file"
MOST_FURTHER = 64  # layers that predict further tokens
MOST_LAYERS, MOST_WIDE = 10_000 + MOST_FURTHER, 1 << 20
Factors = Mapping[str, Sequence[float]]


@dataclass
class Metadata:
    """The architecture's own keys, without its prefix; remembers what was read."""

    values: Mapping[str, Any]
    arch: str
    shapes: Mapping[str, Sequence[int]]
    factors: Factors
    seen: set[str] = field(default_factory=set)
    last: tuple[str, Any] = ("", None)  # what was asked for last, and what it is

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        value = self.values.get(f"{self.arch}.{key}")
        if value is None:
            return default
        self.last = f"{self.arch}.{key}", value
        return value

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ModelError(f"{FILE} has no {self.arch}.{key}, which a {self.arch} model needs.")
        return value

    def count(self, key: str, *, low: int = 1, high: int = 2**31 - 1) -> int:
        """A whole number that is a size: bounded, so that a lying file cannot make us allocate."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            name = f"{self.arch}.{key}"
            raise ModelError(f"{FILE}: {name} must be a whole number from {low} to {high}, not {shown(value)}.")
        return value

    def unread(self) -> list[str]:
        prefix = self.arch + "."
        keys = {key.removeprefix(prefix) for key, value in self.values.items() if key.startswith(prefix) and value}
        return sorted(prefix + key for key in keys - self.seen)


@dataclass(frozen=True, slots=True)
class Architecture:
    """How one llama.cpp architecture becomes a config: its model_type, and the keys that only it has."""

    model_type: Callable[[Metadata], str]
    config: Callable[[Metadata], dict[str, Any]]
    interleaved: bool = False  # rows of q and k are permuted in the file
    folded: bool = False  # norms hold their offset
    fused: tuple[str, ...] = ()  # of FUSED: what stands in one tensor
    writes: tuple[str, ...] = ()  # model_types whose checkpoints can be written so
    own: Mapping[str, str] = field(default_factory=dict)  # names as in PLACES, before those
    causal: bool = True
    own_widths: bool = False  # of heads, ropes and feed-forward: its config says them all
    rules: Callable[[Metadata], tuple[Rule, ...]] = lambda m: ()  # before those of the names


def common(m: Metadata, arch: Architecture) -> dict[str, Any]:
    heads, dim = m["attention.head_count"], m.count("embedding_length", high=MOST_WIDE)
    embedding = m.shapes.get("token_embd.weight")
    if not embedding:
        raise ModelError(f"{FILE} has no token_embd.weight.")
    if m.get("attention.causal", arch.causal) is not arch.causal:
        raise ModelError(
            f"{FILE}: a {m.arch} model that sees {'both ways' if arch.causal else 'back only'} is not known."
        )
    found = {
        "hidden_size": dim,
        "vocab_size": int(embedding[0]),
        "num_hidden_layers": layers_of(m),
        "num_attention_heads": heads,
        **({} if arch.own_widths else {**_heads(m, heads), "intermediate_size": _width(m)}),
        "max_position_embeddings": m["context_length"],
        "rms_norm_eps": m.get("attention.layer_norm_rms_epsilon") or m["attention.layer_norm_epsilon"],
        "tie_word_embeddings": "output.weight" not in m.shapes,
    }
    for key, value in found.items():
        if isinstance(value, list):
            raise ModelError(f"{FILE}: {key} differs from layer to layer, which is not supported in a {m.arch} model.")
    return found


def _width(m: Metadata) -> Any:
    """Where every layer has experts, only theirs may be said."""
    said = m.get("feed_forward_length")
    return m["feed_forward_length"] if said is None and m.get("expert_feed_forward_length") is None else said


def _heads(m: Metadata, heads: Any) -> dict[str, Any]:
    head_dim = m.get("attention.key_length") or (_head_dim(m) if isinstance(heads, int) and heads > 0 else None)
    if m.get("attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{FILE}: values of another size than keys are not supported.")
    return {"num_key_value_heads": m.get("attention.head_count_kv", heads), "head_dim": head_dim}


def _head_dim(m: Metadata) -> int:
    """Where the file does not say it."""
    dim = m.count("embedding_length", high=MOST_WIDE)
    return dim // m.count("attention.head_count", high=dim)


def layers_of(m: Metadata) -> int:
    """Without those that predict further tokens, which are counted as blocks."""
    blocks, further = m.count("block_count", high=MOST_LAYERS), m.get("nextn_predict_layers", 0)
    if not isinstance(further, int) or not 0 <= further <= MOST_FURTHER:
        raise ModelError(f"{FILE}: {m.arch}.nextn_predict_layers must be at most {MOST_FURTHER}, not {shown(further)}.")
    return blocks - further


def layer_types(m: Metadata, period: int | None = None) -> list[str] | None:
    """Written as one truth a layer (does it slide?), or as the period in which the last one does not; else by
    llama.cpp's own period for the architecture; None: not said."""
    said = m.get("attention.sliding_window_pattern", period)
    if said is None:
        return None
    if not isinstance(said, list):
        said = [said == 0 or i % said < said - 1 for i in range(layers_of(m))]
    return ["sliding_attention" if slides else "full_attention" for slides in said]


def rope_config(m: Metadata, base: float = 10000.0, kind: str = "linear") -> dict[str, Any]:
    """The older spelling: rope_theta, and rope_scaling where there is one; of that `kind` if the file is silent."""
    found: dict[str, Any] = {"rope_theta": float(m.get("rope.freq_base", base))}
    dims, head_dim = m.get("rope.dimension_count"), m.get("attention.key_length") or _head_dim(m)
    if dims is not None and dims != head_dim:
        found["partial_rotary_factor"] = dims / head_dim
    return {**found, **scaling_config(m, kind)}


def scaling_config(m: Metadata, kind: str = "linear") -> dict[str, Any]:
    factor = m.get("rope.scaling.factor")
    kind = m.get("rope.scaling.type", kind if factor else "none")
    scaling = {
        "rope_type": kind,
        "factor": factor,
        "original_max_position_embeddings": m.get("rope.scaling.original_context_length"),
        "beta_fast": m.get("rope.scaling.yarn_beta_fast"),
        "beta_slow": m.get("rope.scaling.yarn_beta_slow"),
    }
    if kind in ("none", "longrope"):  # longrope comes as tensors of factors
        return {}
    return {"rope_scaling": {key: value for key, value in scaling.items() if value is not None}}


def longrope_config(m: Metadata) -> dict[str, Any]:
    """Two tensors of factors; nothing where there are none."""
    short, long = (m.factors.get(f"rope_factors_{which}.weight") for which in ("short", "long"))
    if short is None or long is None:
        return {}
    scaling = {
        "type": "longrope",
        "short_factor": list(short),
        "long_factor": list(long),
        "original_max_position_embeddings": m.get("rope.scaling.original_context_length") or m["context_length"],
        "attention_factor": m.get("rope.scaling.attn_factor"),
    }
    return {"rope_scaling": scaling}


def query_biases(m: Metadata) -> bool:
    return not m.shapes.keys().isdisjoint(("blk.0.attn_q.bias", "blk.0.attn_qkv.bias"))


def biases(m: Metadata) -> dict[str, Any]:
    return {"attention_bias": query_biases(m), "mlp_bias": "blk.0.ffn_up.bias" in m.shapes}


def always(model_type: str) -> Callable[[Metadata], str]:
    return lambda m: model_type
