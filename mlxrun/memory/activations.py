"""What a chunk of a prompt needs while it runs, beside weights and caches: an estimate, not an account.

Counted are the values that the widest layer makes for a row, times how many layers' worth are alive at once. On a CPU
that is one: MLX runs in order and frees as it goes (SmolLM2, 512 rows over 1664 keys: 54 MB counted, 53 measured). On
Metal command buffers run behind and hold what they were given; 2.5 is fitted to the peaks that mlx-lm publishes
(BENCHMARKS.md: Qwen3 4B and 30B-A3B, nine precisions, M4 Max) and reaches all of them within 3%.
Scores are counted where MLX has no fused attention for them: on a CPU always, on Metal for other head sizes.
"""

from __future__ import annotations

from ..spec import (
    Attention,
    ChannelDelta,
    Decoder,
    Dense,
    DenseAndExperts,
    FeedForward,
    GatedDelta,
    GatedLinear,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Mixer,
    MoE,
    ScaledDense,
    ShortConv,
    SideBySide,
    XieluDense,
)

ALIVE_ON_METAL = 2.5
ALIVE_ON_CPU = 1.0
FUSED_HEADS = (64, 80, 128)  # MLX's steel attention
FLOAT = 4


def prefill_bytes(decoder: Decoder, rows: int, keys: int, width: int, gpu: bool) -> int:
    """A chunk of `rows` that sees `keys`, itself included; `width` bytes a value."""
    layers = decoder.layers
    widest = max((row_values(layer, decoder.dim) for layer in layers), default=0)
    scores = max((score_bytes(layer, rows, keys, width, gpu) for layer in layers), default=0)
    logits = 2 * decoder.vocab * FLOAT if decoder.kind == "decoder" else 0  # of one row, and its softmax
    if decoder.altup is not None:  # as they came, foreseen and corrected
        widest += 4 * decoder.altup.streams * decoder.dim
    return round(rows * widest * width * (ALIVE_ON_METAL if gpu else ALIVE_ON_CPU)) + scores + logits


def row_values(layer: Layer, dim: int) -> int:
    """Residual, norms and their sums, then what the mixer and the feed-forward make."""
    return 6 * dim + mixer_values(layer.mixer) + ffn_values(layer.ffn, dim)


def mixer_values(mixer: Mixer | None) -> int:
    match mixer:
        case Attention() as s:  # projected, normed, rotated, attended; keys and values once more when remembered
            return 4 * s.heads * s.head_dim + 5 * s.kv_heads * s.head_dim
        case LatentAttention() as s:
            queries = s.heads * (s.nope_dim + s.rope_dim)
            return 4 * queries + 2 * s.heads * s.v_dim + 3 * (s.kv_rank + s.rope_dim) + (s.q_rank or 0)
        case GatedDelta() as s:  # in float32 from the convolution on
            return 6 * (2 * s.k_heads * s.k_dim + s.v_heads * s.v_dim) + 4 * s.v_heads * s.v_dim
        case ChannelDelta() as s:  # decays between rows are held for every channel of a chunk of 16
            return (30 + 4 * 16) * s.heads * s.dim
        case GatedLinear() as s:  # in float32 from the gates on
            return (16 + s.conv) * s.width
        case ShortConv() as s:
            return (7 + s.conv) * s.channels
        case Mamba1() as s:  # its scan holds a state for every row, in float32
            return 8 * s.inner + 4 * s.inner * s.state
        case Mamba2() as s:
            return 10 * s.heads * s.head_dim + 6 * s.groups * s.state
        case SideBySide() as s:
            return mixer_values(s.attention) + mixer_values(s.mamba)
        case _:
            return 0


def ffn_values(ffn: FeedForward | None, dim: int) -> int:
    match ffn:
        case Dense() as s:
            return (3 if s.gated else 2) * s.hidden
        case ScaledDense() as s:
            return ffn_values(s.dense, dim)
        case XieluDense() as s:
            return 2 * s.hidden
        case MoE() as s:  # every chosen expert gets a copy of the row and gives one back
            width = s.latent or dim
            chosen = s.router.top_k * (3 * width + (3 if s.gated else 2) * s.hidden)
            return chosen + s.experts + (ffn_values(s.shared, dim) if s.shared is not None else 0)
        case DenseAndExperts() as s:
            return ffn_values(s.dense, dim) + ffn_values(s.moe, dim) + 4 * dim
        case _:
            return 0


def score_bytes(layer: Layer, rows: int, keys: int, width: int, gpu: bool) -> int:
    match layer.mixer:
        case (Attention() as s) | SideBySide(attention=s):
            fused = gpu and s.head_dim in FUSED_HEADS and s.softcap is None
            reach = keys if s.window is None else min(keys, s.window + rows)
            heads = s.heads
        case LatentAttention() as s:
            fused, reach, heads = False, keys, s.heads
        case _:
            return 0
    return 0 if fused else heads * rows * reach * (width if gpu else FLOAT)
