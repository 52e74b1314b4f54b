"""What most families share: sizes, norms, attention and feed-forward specs, groups of name rules.

Rules are groups of data that a recipe puts in order; patterns that begin with `LAYER` accept names
with and without the leading `model.`. Knows no family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..spec import Activation, Attention, Decoder, Dense, FeedForward, Layer, ModelError, Norm
from ..spec_sound import Listener
from ..spec_towers import Towers
from .config import Config
from .rope import rope_of, scaling_of
from .rules import Drop, Rename, Rule, Split, Stack


@dataclass(frozen=True, slots=True)
class Recipe:
    """A resolved model: its spec, and how the file's tensors become its weights."""

    decoder: Decoder
    rules: tuple[Rule, ...]
    folded: bool = False  # the file's norm weights already hold the spec's offsets
    left_out: str = ""  # parts of the checkpoint that are not loaded, in words
    towers: Towers | None = None  # None: it reads text only
    listener: Listener | None = None  # None: it hears nothing
    further: Recipe | None = None  # of its head that guesses further tokens, where it may have one


RecipeFunction = Callable[[Config], Recipe]


class UnknownFamily(ModelError):
    """There is no recipe for this model_type; another runtime may have one."""


# ---- sizes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sizes:
    dim: int
    vocab: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int


def sizes_of(c: Config) -> Sizes:
    dim = c.count("hidden_size", high=1 << 20)
    heads = c.count("num_attention_heads", high=1 << 14)
    kv_heads = c.count("num_key_value_heads", heads, high=1 << 14)
    head_dim = c.get("head_dim")
    if head_dim is None and dim % heads:
        raise ModelError(f"{c.file}: hidden_size {dim} is not a multiple of num_attention_heads {heads}.")
    head_dim = dim // heads if head_dim is None else c.count("head_dim", high=1 << 14)
    _share_evenly(c, heads, kv_heads)
    return Sizes(dim, vocab_of(c), layers_of(c), heads, kv_heads, head_dim)


def _share_evenly(c: Config, heads: int, kv_heads: int) -> None:
    if heads % kv_heads:
        raise ModelError(f"{c.file}: {heads} attention heads cannot share {kv_heads} key/value heads evenly.")


def vocab_of(c: Config) -> int:
    return c.count("vocab_size", high=1 << 26)


def layers_of(c: Config) -> int:
    return c.count("num_hidden_layers", high=10_000)


def context_of(c: Config, default: int | None = None) -> int:
    """The longest context that the authors promise; yarn and dynamic rope promise more than was trained."""
    written = c.count("max_position_embeddings", default)
    keys = c.get("rope_parameters") or c.get("rope_scaling") or {}
    p = keys.get("full_attention", keys) if isinstance(keys, Mapping) else None
    if not isinstance(p, Mapping) or scaling_of(p) not in ("yarn", "dynamic"):
        return written
    scaling = Config(p, file=c.file)
    trained = scaling.count("original_max_position_embeddings", written)
    return max(written, int(scaling.number("factor", 1.0, above=0) * trained))


def layer_types(
    c: Config,
    layers: int,
    default: Callable[[int], str],
    known: Iterable[str] = ("full_attention", "sliding_attention"),
) -> tuple[str, ...]:
    """One type a layer, as written or by the family's own pattern."""
    written = c.get("layer_types")
    if written is None:
        return tuple(default(i) for i in range(layers))
    if not isinstance(written, list) or len(written) != layers:
        raise ModelError(f"{c.file}: layer_types must list one type for each of the {layers} layers.")
    strange = sorted({str(name) for name in written} - set(known))
    if strange:
        raise ModelError(f"{c.file}: the layer type {strange[0]!r} is not known; known are {', '.join(known)}.")
    return tuple(written)


def window_of(c: Config, kind: str, default: int | None = None) -> int | None:
    """The window of a layer of that type; only sliding ones have one."""
    c.get("sliding_window")
    return c.count("sliding_window", default) if kind == "sliding_attention" else None


# ---- parts --------------------------------------------------------------------------------------

ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def activation(c: Config, default: str = "silu") -> Activation:
    found: Activation = c.choice("hidden_act", ACTIVATIONS, default)
    return found


def cap_of(c: Config, key: str, default: float | None = None) -> float | None:
    """A soft cap: null or 0 means none; the family's default stands where the key is missing."""
    value = c.number(key, 0.0) if key in c.data else default
    return value or None


def rms(c: Config, default: float = 1e-6, key: str = "rms_norm_eps", *, offset: float = 0.0) -> Norm:
    return Norm(c.eps(default, key), offset=offset)


def layer_norm(c: Config, default: float = 1e-5, key: str = "layer_norm_eps", *, bias: bool = True) -> Norm:
    return Norm(c.eps(default, key), "layer", bias=bias)


def attention(c: Config, s: Sizes, kind: str | None = None, **changes: Any) -> Attention:
    """Grouped-query attention with the file's rope, scaled by the head; `changes` say what differs."""
    _share_evenly(c, s.heads, s.kv_heads)
    usual: dict[str, Any] = {
        "heads": s.heads,
        "kv_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "scale": s.head_dim**-0.5,
    }
    if "rope" not in changes:
        usual["rope"] = rope_of(c, s.head_dim, kind)
    return Attention(**{**usual, **changes})


def gated(c: Config, *, hidden: str = "intermediate_size", act: str = "silu", bias: bool = False) -> Dense:
    return Dense(c.count(hidden, high=1 << 22), activation(c, act), bias=bias)


def pre_norm_layers(norm: Norm, mixers: Sequence[Any], ffns: Sequence[Any]) -> tuple[Layer, ...]:
    return tuple(Layer(m, f, mixer_norm=norm, ffn_norm=norm) for m, f in zip(mixers, ffns, strict=True))


def with_attention(recipe: Recipe, change: Callable[[int, Attention], Attention]) -> Recipe:
    """The same recipe with every attention changed, by its layer's number."""
    layers = tuple(
        replace(layer, mixer=change(i, layer.mixer)) if isinstance(layer.mixer, Attention) else layer
        for i, layer in enumerate(recipe.decoder.layers)
    )
    return replace(recipe, decoder=replace(recipe.decoder, layers=layers))


def with_ffn(recipe: Recipe, ffns: Sequence[FeedForward]) -> Recipe:
    """The same recipe with those feed-forwards, one a layer."""
    layers = tuple(replace(layer, ffn=ffn) for layer, ffn in zip(recipe.decoder.layers, ffns, strict=True))
    return replace(recipe, decoder=replace(recipe.decoder, layers=layers))


def tied(c: Config, default: bool = False) -> bool:
    return c.flag("tie_word_embeddings", default)


# ---- rules --------------------------------------------------------------------------------------

LAYER = r"^(?:model\.)?layers\.(\d+)\."


def rename_in_layer(src: str, dst: str, layer: str = LAYER) -> Rename:
    """Rename modules inside a layer; groups of `src` count from \\2."""
    return Rename(layer + src + r"\.", rf"layers.\1.{dst}.")


def head_rules(tied_head: bool, name: str = "lm_head") -> tuple[Rule, ...]:
    """A tied head reads the embedding; a copy of it in the file is left out."""
    return (Drop(rf"^{name}\."),) if tied_head else (Rename(rf"^{name}\.", "head."),)


NAMES: tuple[Rule, ...] = (
    Drop(r"rotary_emb\.inv_freq$"),
    Rename(r"^(?:model\.)?embed_tokens\.", "embed."),
    Rename(r"^(?:model\.)?norm\.", "norm."),
    rename_in_layer(r"self_attn\.([qkvo])_proj", r"mixer.\2"),
    rename_in_layer(r"self_attn\.([qk])_(?:layer)?norm", r"mixer.\2_norm"),
    rename_in_layer(r"mlp\.(gate|up|down)_proj", r"ffn.\2"),
)
PRE: tuple[Rule, ...] = (
    rename_in_layer("input_layernorm", "mixer_norm"),
    rename_in_layer("post_attention_layernorm", "ffn_norm"),
)
POST: tuple[Rule, ...] = (
    rename_in_layer("post_attention_layernorm", "mixer_post"),
    rename_in_layer("post_feedforward_layernorm", "ffn_post"),
)
SANDWICH: tuple[Rule, ...] = (
    rename_in_layer("input_layernorm", "mixer_norm"),
    rename_in_layer("pre_feedforward_layernorm", "ffn_norm"),
    *POST,
)


def split_qkv(s: Sizes, src: str = r"self_attn\.qkv_proj", layer: str = LAYER) -> Split:
    """One projection holds all queries, then all keys, then all values."""
    rows, kv_rows = s.heads * s.head_dim, s.kv_heads * s.head_dim
    names = tuple(rf"layers.\1.mixer.{x}.\2" for x in "qkv")
    return Split(layer + src + r"\.(weight|bias)$", names, (rows, kv_rows, kv_rows))


def split_gate_up(src: str = r"mlp\.gate_up_proj", dst: str = "ffn", layer: str = LAYER) -> Split:
    """One projection holds the gate, then the up half."""
    return Split(layer + src + r"\.(weight|bias)$", (rf"layers.\1.{dst}.gate.\2", rf"layers.\1.{dst}.up.\2"))


def expert_rules(
    c: Config, block: str = r"mlp", names: Literal["gate up down", "w1 w3 w2"] = "gate up down", dst: str = "ffn"
) -> tuple[Rule, ...]:
    """Experts under `block`, one tensor each; in the mlx dialect already stacked under switch_mlp."""
    ours = ("gate", "up", "down")
    theirs = tuple(f"{n}_proj" for n in ours) if names == "gate up down" else ("w1", "w3", "w2")
    stacked = rename_in_layer(block + r"\.switch_mlp\.(gate|up|down)_proj", rf"{dst}.experts.\2")
    if c.dialect == "mlx":
        return (stacked,)
    return tuple(
        Stack(
            LAYER + block + rf"\.experts\.(?P<e>\d+)\.{their}\.(?P<part>weight|bias)$",
            rf"layers.\1.{dst}.experts.{our}.\g<part>",
        )
        for our, their in zip(ours, theirs, strict=True)
    )


def decoder(
    c: Config, s: Sizes, layers: Sequence[Layer], norm: Norm | None, tied_head: bool, **changes: Any
) -> Decoder:
    """The usual decoder around those layers."""
    context = changes.pop("context", None) or context_of(c)
    return Decoder(c.family, s.dim, s.vocab, tuple(layers), norm, tied_head, context, **changes)
