"""GGUF metadata -> the config.json that the same model has, the same recipe's spec, and rules for llama.cpp's names.

Two things are facts of the file and not of its metadata: the head is tied where there is no `output.weight`,
and Llama-like projections have biases where there are any. Where llama.cpp permuted query and key rows so that
rope turns neighbours, the rows stay as they lie and the rope is told so: scores do not change, and no bit does.
Knows nothing of the file's bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..spec import Attention, Decoder, ModelError, Rope
from .common import Recipe, Sizes, UnknownFamily, sizes_of, split_gate_up, split_qkv, with_attention
from .config import Config
from .rules import Drop, Rename, Rule, Stack

FILE = "the GGUF file"
Factors = Mapping[str, Sequence[float]]


@dataclass
class Metadata:
    """The architecture's own keys, without its prefix; remembers what was read."""

    values: Mapping[str, Any]
    arch: str
    shapes: Mapping[str, Sequence[int]]
    factors: Factors
    seen: set[str] = field(default_factory=set)

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        value = self.values.get(f"{self.arch}.{key}")
        return default if value is None else value

    def __getitem__(self, key: str) -> Any:
        value = self.get(key)
        if value is None:
            raise ModelError(f"{FILE} has no {self.arch}.{key}, which a {self.arch} model needs.")
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


@dataclass(frozen=True, slots=True)
class Fused:
    """Canonical modules of a layer whose rows follow each other in one tensor."""

    parts: tuple[str, ...]
    rule: Callable[[Sizes], Rule]


def resolve_gguf(
    metadata: Mapping[str, Any],
    shapes: Mapping[str, Sequence[int]],
    rope_factors: Factors | None = None,
    waive: Collection[str] = (),
) -> Recipe:
    """`shapes` slowest axis first; `rope_factors` the values of the tensors of factors that the file has."""
    from . import recipe_for  # the registry imports nothing of this module

    m, arch, config = _told(metadata, shapes, rope_factors or {}, waive)
    c = Config(config, "gguf", file=FILE)
    recipe = recipe_for(config["model_type"], FILE)(c)
    turned = with_attention(recipe, lambda i, a: replace(a, rope=_rope(a, arch, m.factors)))
    s = sizes_of(c)
    rules = (*(FUSED[name].rule(s) for name in arch.fused), *_placed(arch.own), *_NAMES)
    return Recipe(_named(turned.decoder, m.arch), rules, folded=arch.folded)


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
        raise UnknownFamily(f"{FILE}: the architecture {name!r} is not known; known are {', '.join(ARCHITECTURES)}.")
    m = Metadata(metadata, name, shapes, factors)
    config = {**_common(m, arch), "model_type": arch.model_type(m), **arch.config(m)}
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


def _common(m: Metadata, arch: Architecture) -> dict[str, Any]:
    heads, dim = m["attention.head_count"], m["embedding_length"]
    embedding = m.shapes.get("token_embd.weight")
    if not embedding:
        raise ModelError(f"{FILE} has no token_embd.weight.")
    head_dim = m.get("attention.key_length") or (dim // heads if isinstance(heads, int) and heads > 0 else None)
    if m.get("attention.value_length", head_dim) != head_dim:
        raise ModelError(f"{FILE}: values of another size than keys are not supported.")
    if m.get("attention.causal", arch.causal) is not arch.causal:
        raise ModelError(
            f"{FILE}: a {m.arch} model that sees {'both ways' if arch.causal else 'back only'} is not known."
        )
    found = {
        "hidden_size": dim,
        "vocab_size": int(embedding[0]),
        "num_hidden_layers": m["block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": m.get("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "intermediate_size": m["feed_forward_length"],
        "max_position_embeddings": m["context_length"],
        "rms_norm_eps": m.get("attention.layer_norm_rms_epsilon") or m["attention.layer_norm_epsilon"],
        "tie_word_embeddings": "output.weight" not in m.shapes,
    }
    for key, value in found.items():
        if isinstance(value, list):
            raise ModelError(f"{FILE}: {key} differs from layer to layer, which is not supported in a {m.arch} model.")
    return found


# ---- what only some have ------------------------------------------------------------------------


def _rope_config(m: Metadata, base: float = 10000.0) -> dict[str, Any]:
    """The older spelling: rope_theta, and rope_scaling where there is one."""
    found: dict[str, Any] = {"rope_theta": float(m.get("rope.freq_base", base))}
    dims, head_dim = m.get("rope.dimension_count"), m.get("attention.key_length")
    head_dim = head_dim or m["embedding_length"] // m["attention.head_count"]
    if dims is not None and dims != head_dim:
        found["partial_rotary_factor"] = dims / head_dim
    kind = m.get("rope.scaling.type", "none")
    scaling = {
        "rope_type": kind,
        "factor": m.get("rope.scaling.factor"),
        "original_max_position_embeddings": m.get("rope.scaling.original_context_length"),
        "beta_fast": m.get("rope.scaling.yarn_beta_fast"),
        "beta_slow": m.get("rope.scaling.yarn_beta_slow"),
    }
    if kind not in ("none", "longrope"):  # longrope comes as tensors of factors
        found["rope_scaling"] = {key: value for key, value in scaling.items() if value is not None}
    return found


def _biases(m: Metadata) -> dict[str, Any]:
    return {"attention_bias": "blk.0.attn_q.bias" in m.shapes, "mlp_bias": "blk.0.ffn_up.bias" in m.shapes}


def _llama_type(m: Metadata) -> str:
    if m.get("expert_count"):
        return "mixtral"
    return "mistral" if m.get("attention.sliding_window") else "llama"


def _llama(m: Metadata) -> dict[str, Any]:
    window = m.get("attention.sliding_window") or None
    if m.get("expert_count"):
        experts = {"num_local_experts": m["expert_count"], "num_experts_per_tok": m["expert_used_count"]}
        return {**_rope_config(m), **experts, "sliding_window": window}
    return {**_rope_config(m), **({"sliding_window": window} if window else _biases(m))}


def _granite(m: Metadata) -> dict[str, Any]:
    scales = {
        "attention_multiplier": m.get("attention.scale", 1.0),
        "embedding_multiplier": m.get("embedding_scale", 1.0),
        "residual_multiplier": m.get("residual_scale", 1.0),
        "logits_scaling": m.get("logit_scale", 1.0),
    }
    return {**_rope_config(m), **_biases(m), **scales}


def _qwen3_moe(m: Metadata) -> dict[str, Any]:
    return {
        **_rope_config(m),
        "num_experts": m["expert_count"],
        "num_experts_per_tok": m["expert_used_count"],
        "moe_intermediate_size": m["expert_feed_forward_length"],
        "norm_topk_prob": bool(m.get("expert_weights_norm", True)),
    }


def _phi3(m: Metadata) -> dict[str, Any]:
    found = {**_rope_config(m), "sliding_window": m.get("attention.sliding_window") or None}
    short, long = (m.factors.get(f"rope_factors_{which}.weight") for which in ("short", "long"))
    if short is not None and long is not None:
        found["rope_scaling"] = {
            "type": "longrope",
            "short_factor": list(short),
            "long_factor": list(long),
            "original_max_position_embeddings": m["rope.scaling.original_context_length"],
            "attention_factor": m.get("rope.scaling.attn_factor"),
        }
    return found


def _gemma(m: Metadata) -> dict[str, Any]:
    """The query's scale is not written; only the 27B models' is not that of the head."""
    wide = (m.arch, m["block_count"]) in (("gemma2", 46), ("gemma3", 62))
    width = m["embedding_length"] // m["attention.head_count"] if wide else m["attention.key_length"]
    return {"query_pre_attn_scalar": width, "sliding_window": m.get("attention.sliding_window")}


def _gemma2(m: Metadata) -> dict[str, Any]:
    caps = {
        "attn_logit_softcapping": m.get("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": m.get("final_logit_softcapping", 30.0),
    }
    return {**_rope_config(m), **_gemma(m), **caps}


def _gemma3(m: Metadata) -> dict[str, Any]:
    found = {**_rope_config(m, 1e6), **_gemma(m), "final_logit_softcapping": m.get("final_logit_softcapping")}
    period = m.get("attention.sliding_window_pattern")
    if isinstance(period, list):  # one truth a layer: does it slide
        found["layer_types"] = ["sliding_attention" if slides else "full_attention" for slides in period]
    elif period is not None:
        found["sliding_window_pattern"] = period
    return {**found, "rope_local_base_freq": float(m.get("rope.freq_base_swa", 10000.0))}


def _olmo2(m: Metadata) -> dict[str, Any]:
    window = m.get("attention.sliding_window")
    m.get("attention.sliding_window_pattern")  # three to one, as the family has it
    return {**_rope_config(m), **({"sliding_window": window} if window else {})}


def _gpt2(m: Metadata) -> dict[str, Any]:
    m.get("rope.dimension_count")
    return {}


def _bert(m: Metadata) -> dict[str, Any]:
    return {"type_vocab_size": int(m.shapes.get("token_types.weight", (0,))[0])}


def _always(model_type: str) -> Callable[[Metadata], str]:
    return lambda m: model_type


_AT = r"^blk\.(\d+)\."
FUSED: dict[str, Fused] = {
    "attn_qkv": Fused(("mixer.q", "mixer.k", "mixer.v"), lambda s: split_qkv(s, "attn_qkv", _AT)),
    "ffn_up": Fused(("ffn.gate", "ffn.up"), lambda s: split_gate_up("ffn_up", "ffn", _AT)),
}
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(_llama_type, _llama, interleaved=True, writes=("llama", "mistral", "mixtral")),
    "smollm3": Architecture(
        _always("smollm3"), lambda m: {**_rope_config(m), **_biases(m)}, interleaved=True, writes=("smollm3",)
    ),
    "granite": Architecture(_always("granite"), _granite, interleaved=True, writes=("granite",)),
    "qwen2": Architecture(_always("qwen2"), _rope_config, writes=("qwen2",)),
    "qwen3": Architecture(_always("qwen3"), _rope_config, writes=("qwen3",)),
    "qwen3moe": Architecture(_always("qwen3_moe"), _qwen3_moe, writes=("qwen3_moe",)),
    "gemma": Architecture(_always("gemma"), _rope_config, folded=True, writes=("gemma",)),
    "gemma2": Architecture(_always("gemma2"), _gemma2, folded=True, writes=("gemma2",)),
    "gemma3": Architecture(_always("gemma3_text"), _gemma3, folded=True, writes=("gemma3_text",)),
    "phi3": Architecture(_always("phi3"), _phi3, fused=("attn_qkv", "ffn_up"), writes=("phi3",)),
    "olmo2": Architecture(
        lambda m: "olmo3" if m.get("attention.sliding_window") else "olmo2", _olmo2, writes=("olmo2", "olmo3")
    ),
    "gpt2": Architecture(_always("gpt2"), _gpt2, fused=("attn_qkv",), writes=("gpt2",)),
    "bert": Architecture(
        _always("bert"),
        _bert,
        own={"attn_output_norm": "mixer_norm", "layer_output_norm": "ffn_norm"},
        causal=False,
        writes=("bert",),
    ),
}

# Bookkeeping, or said again by what is read; pooling is what a caller does with hidden states.
_IGNORED = {
    *("vocab_size", "tensor_data_layout", "pooling_type"),
    *("rope.scaling.finetuned", "rope.scaling.attn_factor", "rope.scaling.original_context_length"),
}

WHOLE = {
    "token_embd": "embed",
    "token_embd_norm": "embed_norm",
    "token_types": "token_types",
    "position_embd": "positions",
    "output_norm": "norm",
    "output": "head",
}
PLACES = {
    "attn_norm": "mixer_norm",
    "attn_q": "mixer.q",
    "attn_k": "mixer.k",
    "attn_v": "mixer.v",
    "attn_output": "mixer.o",
    "attn_q_norm": "mixer.q_norm",
    "attn_k_norm": "mixer.k_norm",
    "post_attention_norm": "mixer_post",
    "ffn_norm": "ffn_norm",
    "ffn_gate": "ffn.gate",
    "ffn_up": "ffn.up",
    "ffn_down": "ffn.down",
    "post_ffw_norm": "ffn_post",
    "ffn_gate_inp": "ffn.router",
    "ffn_gate_exps": "ffn.experts.gate",
    "ffn_up_exps": "ffn.experts.up",
    "ffn_down_exps": "ffn.experts.down",
}


def _placed(places: Mapping[str, str]) -> tuple[Rule, ...]:
    return tuple(Rename(_AT + theirs + r"\.(?=weight|bias)", rf"layers.\1.{ours}.") for theirs, ours in places.items())


_NAMES: tuple[Rule, ...] = (
    Drop(r"^rope_(?:freqs|factors_long|factors_short)\.weight$"),  # they are in the spec
    Drop(_AT + r"attn_rot_embd\."),
    Drop(r"^cls\.", "the task head"),
    *(Rename(rf"^{theirs}\.", f"{ours}.") for theirs, ours in WHOLE.items()),
    Stack(
        _AT + r"ffn_(?P<part>gate|up|down)\.(?P<e>\d+)\.weight$", r"layers.\1.ffn.experts.\g<part>.weight"
    ),  # of 2023
    *_placed(PLACES),
)
