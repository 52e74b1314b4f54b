"""What a decoder is: plain frozen data, one `Layer` per layer, nothing left to work out.

A recipe in `families/` writes these; blocks in `nn/` read them. Kinds are union types; a flag switches one formula.
No block ever sees a layer index, a config key or a family name. It imports nothing and only tells what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LONGEST, SHOWN = 1000, 80  # characters of a sentence, and of a value
# control characters and what ends a line, as signs: ESC is ␛, a newline ␊, C1 as \x9b
SIGNS = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
SIGNS |= {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)} | {0x2028: "\\u2028", 0x2029: "\\u2029"}


def one_line(text: str) -> str:
    """What a terminal or a table can show: nothing in it steers, and it ends no line."""
    return text.translate(SIGNS)


class ModelError(ValueError):
    """A checkpoint that cannot be loaded: a sentence that names the file or field, one short line whatever is in it."""

    def __init__(self, sentence: str) -> None:
        line, half = one_line(sentence), LONGEST // 2
        super().__init__(line if len(line) <= LONGEST else f"{line[:half]} ... {line[-half:]}")


def shown(value: object) -> str:
    """A name or value out of a file, safe to print: escaped, and cut where it is absurdly long."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= SHOWN else text[: SHOWN - 4] + "...'"


Activation = Literal["silu", "gelu", "gelu_tanh", "relu", "relu2", "clamped_swiglu"]


@dataclass(frozen=True, slots=True)
class Norm:
    eps: float
    kind: Literal["rms", "layer", "scale"] = "rms"  # scale: the weight multiplies, and that is all
    weight: bool = True
    bias: bool = False
    offset: float = 0.0  # added to the stored weight when the model is built (Gemma: 1.0)


@dataclass(frozen=True, slots=True)
class Rope:
    """Rotate the first `dims` of a head by position / freqs[i]. Every scaling scheme ends up here."""

    dims: int
    freqs: tuple[float, ...]  # (dims / 2,), infinity: that pair stands still
    interleaved: bool = False  # pairs (0,1)(2,3)... instead of (0,d/2)(1,d/2+1)...
    scale: float = 1.0  # multiplies the rotated part (yarn, longrope)
    base: float = 10000.0  # for the reader; freqs already hold it
    scaling: str = "default"  # for the reader
    long_freqs: tuple[float, ...] | None = None  # used by a session longer than `original`
    long_scale: float | None = None  # and its scale, where that differs (Phi-3.5-MoE)
    original: int | None = None
    axes: tuple[int, ...] = ()  # of each pair, by which of several coordinates it turns; empty: by the position


@dataclass(frozen=True, slots=True)
class Temperature:
    """Query multiplier 1 + beta * log(1 + floor((position + shift) / floor))."""

    beta: float
    floor: float
    shift: int = 0


@dataclass(frozen=True, slots=True)
class Attention:
    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    rope: Rope | None = None
    causal: bool = True
    window: int | None = None  # causal: this many keys, itself included; else: this far to each side
    chunk: int | None = None  # block-diagonal blocks of this many positions
    qk_norm: Norm | None = None
    qk_norm_scope: Literal["head", "each", "all"] = "head"  # each: heads have their own; all: over the projection
    qk_norm_after_rope: bool = False
    v_norm: Norm | None = None
    qkv_bias: bool = False
    out_bias: bool = False
    sinks: bool = False  # one learned logit a head joins the softmax
    gate: Literal["packed", "elementwise", "head_softplus"] | None = None
    clip: float | None = None  # q, k, v clamped to +-clip
    slopes: tuple[float, ...] | None = None  # ALiBi, one a head
    softcap: float | None = None
    temperature: Temperature | None = None
    k_is_v: bool = False  # no v projection: the raw key projection is the value
    lends: int | None = None  # slot where later layers find this layer's keys of this pass
    borrows: int | None = None  # slot to read keys and values from; owns no k, v, no memory
    out_norm: Norm | None = None  # of what all heads found, before o (BitNet)
    pictures: bool = False  # the rows of a picture see each other, within the window (Gemma 3)
    k_bias: bool = True  # where queries and values have biases, keys have one too
    hears: int | None = None  # slot of the keys that were made of a clip; it makes none of a token, and remembers none
    bounded: bool = False  # what goes into a matrix and comes out is clamped to learned bounds (Gemma 4's tower)


@dataclass(frozen=True, slots=True)
class Indexer:
    """Picks the `top_k` keys a latent attention may look at (DeepSeek sparse attention)."""

    heads: int
    dim: int
    top_k: int
    rope: Rope
    norm: Norm
    lends: int | None = None  # slot where later layers find this layer's choice of this pass


@dataclass(frozen=True, slots=True)
class LatentAttention:
    heads: int
    q_rank: int | None
    kv_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    scale: float
    rope: Rope | None  # None: what heads share of a key stands still (Kimi Linear)
    norm: Norm
    bias: bool = False
    indexer: Indexer | None = None
    borrows: int | None = None  # slot of the indexer whose choice this layer shares (GLM-5)
    temperature: Temperature | None = None
    gate: bool = False  # a sigmoid for each head multiplies what it found (Ling 3)


@dataclass(frozen=True, slots=True)
class GatedDelta:
    k_heads: int
    v_heads: int
    k_dim: int
    v_dim: int
    conv: int
    norm: Norm
    apart: bool = False  # queries, keys and values have matrices of their own
    strength: float = 1.0  # what a row corrects at most: 2 turns a value around (OLMo Hybrid)


@dataclass(frozen=True, slots=True)
class ChannelDelta:
    """The gated delta rule where each channel of a key decays on its own, with a sigmoid gate (Kimi Linear, Ling 3)."""

    heads: int
    dim: int  # of keys and values
    conv: int
    rank: int | None  # of the bottleneck that decay and gate come through
    norm: Norm
    floor: float | None = None  # decays are floor * sigmoid(rate * step), so never below; else -rate * softplus(step)


@dataclass(frozen=True, slots=True)
class ShortConv:
    """A convolution over the last rows between two gates: out(c * conv(b * x)) of in's parts b, c, x (LFM2)."""

    channels: int
    conv: int
    bias: bool = False


@dataclass(frozen=True, slots=True)
class GatedLinear:
    """A linear recurrence, decay and input gated by head (RG-LRU), between a convolution and a gate, with biases."""

    width: int
    heads: int
    conv: int
    act: Activation = "gelu_tanh"


@dataclass(frozen=True, slots=True)
class Mamba1:
    inner: int
    state: int
    dt_rank: int
    conv: int
    norm: Norm | None = None  # on dt, B and C
    bias: bool = False
    conv_bias: bool = True


@dataclass(frozen=True, slots=True)
class Mamba2:
    heads: int
    head_dim: int
    groups: int
    state: int
    conv: int
    norm: Norm | None  # gated; over inner / norm_groups at a time. None: the gate alone
    norm_groups: int = 1
    dt_min: float = 0.0
    dt_max: float = float("inf")
    bias: bool = False
    conv_bias: bool = True
    out_bias: bool | None = None  # None: as `bias`
    norm_first: bool = False  # then the gate; else the norm sees what the gate let through
    scales: tuple[float, float, float, float, float] | None = None  # of gate, input, B, C and step as projected


@dataclass(frozen=True, slots=True)
class Dense:
    hidden: int
    act: Activation = "silu"
    gated: bool = True
    bias: bool = False
    out_bias: bool | None = None  # of the last matrix; None: as `bias`
    sparsity: float = 0.0  # so much of a row's gate would be cut off, were its values normally distributed (Gemma 3n)
    down_norm: Norm | None = None  # of the hidden row, before the last matrix (BitNet)
    bounded: bool = False  # as in `Attention`


@dataclass(frozen=True, slots=True)
class ScaledDense:
    """A gated network with a multiplier inside the activation and one on what it makes (Falcon H1)."""

    dense: Dense
    gate: float
    out: float


@dataclass(frozen=True, slots=True)
class XieluDense:
    """A plain network whose activation learns (xIELU, Apertus): right of 0 it is x * (beta + alpha_p * x), left of it
    beta * x + alpha_n * (exp(min(x, eps)) - 1 - x); alpha_p is a weight's softplus, alpha_n another's plus beta."""

    hidden: int
    learned: tuple[float, float, float, float] | None = None  # alpha_p, alpha_n, beta, eps; None: among the weights
    bias: bool = False


@dataclass(frozen=True, slots=True)
class Router:
    """Order is fixed: score, bias, group mask, top-k, gather the unbiased score, renormalise, scale."""

    top_k: int
    score: Literal["softmax", "softmax_topk", "sigmoid", "sparsemixer"] = "softmax"
    renorm: bool = False
    scale: float = 1.0
    bias: bool = False
    select_bias: bool = False  # added for choosing experts, never for weighting them
    groups: int = 1
    top_groups: int = 1
    jitter: float = 0.0  # sparsemixer's threshold
    norm: Norm | None = None  # weightless norm and learned scale before the router (Gemma 4)
    expert_scale: bool = False  # a learned factor for each expert's weight
    renorm_eps: float = 1e-20  # beside the sum that is divided by


@dataclass(frozen=True, slots=True)
class MoE:
    experts: int
    hidden: int
    router: Router
    act: Activation = "silu"
    gated: bool = True
    bias: bool = False
    shared: Dense | None = None
    shared_gate: bool = False
    scale_input: bool = False  # the router's weight multiplies the expert's input (Llama 4)
    latent: int | None = None  # experts work in a projection of this width (Nemotron 3)


@dataclass(frozen=True, slots=True)
class DenseAndExperts:
    """A dense network and experts side by side, both read from the residual (Gemma 4 MoE)."""

    dense: Dense
    moe: MoE
    norm: Norm  # kind of: dense_norm, dense_post, experts_norm, experts_post


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Attention and Mamba 2 read the same rows, and what they make is added, each with its multipliers (Falcon H1)."""

    attention: Attention
    mamba: Mamba2
    attention_in: float = 1.0
    attention_out: float = 1.0
    mamba_in: float = 1.0
    mamba_out: float = 1.0


Mixer = Attention | LatentAttention | GatedDelta | ChannelDelta | ShortConv | GatedLinear | Mamba1 | Mamba2 | SideBySide
FeedForward = Dense | ScaledDense | XieluDense | MoE | DenseAndExperts


@dataclass(frozen=True, slots=True)
class Layer:
    """serial:   x += r * post(mixer(norm(x)));   then the same for ffn
    parallel: x += r * (mixer(norm(x)) + ffn(ffn_norm(x), or the mixer's normed x where it has none))
    post:     x = norm(x + mixer(x));            then the same for ffn
    altup:    serial on one of several streams that the layer foresees and corrects; see `AltUp`
    """

    mixer: Mixer | None  # None: an ffn-only layer (Nemotron-H)
    ffn: FeedForward | None
    mixer_norm: Norm | None = None
    mixer_post: Norm | None = None
    ffn_norm: Norm | None = None
    ffn_post: Norm | None = None
    wiring: Literal["serial", "parallel", "post", "altup"] = "serial"
    residual: float = 1.0
    per_layer_input: bool = False
    out_scale: bool = False  # a learned scalar on the layer's output
    cross: Attention | None = None  # between mixer and ffn: looks at what was heard; x += cross(cross_norm(x))
    cross_norm: Norm | None = None


@dataclass(frozen=True, slots=True)
class LearnedPositions:
    count: int
    offset: int = 0  # the table's row of position 0


@dataclass(frozen=True, slots=True)
class RankingHead:
    """The head of a cross-encoder: rows of a question and a text that were read together -> how well they fit."""

    rows: Literal["first", "mean"]  # which of them it looks at
    act: Activation | Literal["tanh"]  # after its dense layer
    bias: bool = True  # of that
    norm: Norm | None = None  # behind the activation


@dataclass(frozen=True, slots=True)
class PerLayerInput:
    """A second embedding that feeds every layer (Gemma 4 E2B/E4B)."""

    dim: int
    vocab: int
    act: Activation
    norm: Norm
    soft: int = 0  # the token whose row stands where a tower's rows do


@dataclass(frozen=True, slots=True)
class AltUp:
    """Several streams of rows (Gemma 3n): a layer foresees all, computes one, corrects all; `laurel` is beside it."""

    streams: int
    active: int
    laurel: int
    norm: Norm
    scaled: bool = True  # what feeds on a layer's output sees it multiplied by a learned vector


@dataclass(frozen=True, slots=True)
class Joined:
    """Of a head that guesses on: a token's embedding beside what the model thought before it, normed, as one row."""

    embed_norm: Norm
    hidden_norm: Norm


@dataclass(frozen=True, slots=True)
class Decoder:
    family: str  # for messages and display only
    dim: int
    vocab: int
    layers: tuple[Layer, ...]
    norm: Norm | None
    tied: bool
    context: int  # the longest context its authors promise
    kind: Literal["decoder", "encoder"] = "decoder"  # an encoder ends at its hidden states
    embed_dim: int | None = None  # narrower embedding, projected in and out (OPT-350m)
    embed_scale: float = 1.0
    embed_norm: Norm | None = None
    positions: LearnedPositions | None = None
    token_types: int = 0
    distances: tuple[int, int, int] | None = None  # buckets, furthest, heads: what `by_distance` adds to scores
    ranking: RankingHead | None = None
    per_layer: PerLayerInput | None = None
    altup: AltUp | None = None
    head_bias: bool = False
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    joined: Joined | None = None  # it is no model but a head, which needs one's hidden rows
    deep: int = 0  # layers from the first on, to whose output rows of a picture are added that a tower made for it
    middle: bool = False  # layers from the middle of a model: rows come from another machine and go on to the next
