"""What one sequence will remember, in bytes, from the spec alone: keys and values, latents, recurrent states.

It retells the growth of `cache.keys`: buffers grow in steps, and one with a window keeps some slack and a prompt's
chunk beyond it. A test holds it to the caches themselves.
"""

from __future__ import annotations

from functools import lru_cache

from ..cache.keys import SLACK, STEP
from ..spec import Attention, Decoder, GatedDelta, LatentAttention, Layer, Mamba1, Mamba2

FLOAT = 4  # bytes of a recurrent state's value


def sequence_bytes(decoder: Decoder, tokens: int, width: int, chunk: int, keys: int | None = None) -> int:
    """The most that it held while `tokens` went through in chunks; `width` bytes a value, `keys` one of an attention's
    keys where those are narrower."""
    return sum(layer_bytes(layer, tokens, width, chunk, keys) for layer in decoder.layers)


def layer_bytes(layer: Layer, tokens: int, width: int, chunk: int, keys: int | None = None) -> int:
    keep = kept(layer)
    rows = capacity(tokens, keep, chunk)
    return rows * row_bytes(layer, width, keys) + (state_bytes(layer, width) if tokens else 0)


def token_bytes(decoder: Decoder, width: int, keys: int | None = None) -> int:
    """What every further token costs, for ever: layers with a window do not count."""
    return sum(row_bytes(layer, width, keys) for layer in decoder.layers if kept(layer) is None)


def read_bytes(decoder: Decoder, tokens: int, width: int, keys: int | None = None) -> int:
    """What one step reads of a sequence of that length: keys in sight, and recurrent states."""
    found = 0
    for layer in decoder.layers:
        keep, mixer = kept(layer), layer.mixer
        seen = tokens if keep is None else min(tokens, keep)
        found += seen * row_bytes(layer, width, keys) + state_bytes(layer, width)
        if isinstance(mixer, Attention) and mixer.borrows is not None:  # reads what another layer holds
            reach = min(tokens, mixer.window or tokens)
            found += reach * 2 * mixer.kv_heads * mixer.head_dim * (keys or width)
    return found


def kept(layer: Layer) -> int | None:
    """How far back this layer's memory must reach; None: to the beginning."""
    mixer = layer.mixer
    if not isinstance(mixer, Attention):
        return None
    return mixer.window if mixer.window is not None else mixer.chunk


def row_values(layer: Layer) -> int:
    """Values that one token leaves behind."""
    match layer.mixer:
        case Attention(borrows=None, causal=True) as s:
            return 2 * s.kv_heads * s.head_dim
        case LatentAttention() as s:
            return s.kv_rank + s.rope_dim + (s.indexer.dim if s.indexer is not None else 0)
        case _:
            return 0


def row_bytes(layer: Layer, width: int, keys: int | None = None) -> int:
    return row_values(layer) * (keys if keys is not None and isinstance(layer.mixer, Attention) else width)


def state_bytes(layer: Layer, width: int) -> int:
    """A recurrent layer's state, whatever the length: the convolution's window and the float32 state."""
    match layer.mixer:
        case GatedDelta() as s:
            channels, state = 2 * s.k_heads * s.k_dim + s.v_heads * s.v_dim, s.v_heads * s.v_dim * s.k_dim
        case Mamba1() as s:
            channels, state = s.inner, s.inner * s.state
        case Mamba2() as s:
            channels = s.heads * s.head_dim + 2 * s.groups * s.state
            state = s.heads * s.head_dim * s.state
        case _:
            return 0
    return (s.conv - 1) * channels * width + state * FLOAT


@lru_cache(maxsize=4096)
def capacity(tokens: int, keep: int | None, chunk: int) -> int:
    """The most rows that the buffer had on the way."""
    if keep is None:
        return rounded(tokens)
    most = held = used = done = 0
    while done < tokens:
        added = min(chunk, tokens - done)
        drop = used - (keep - 1) - SLACK
        if drop >= SLACK:
            used -= drop
            held = rounded(used + added)
        elif used + added > held:
            held = rounded(used + added)
        most = max(most, held)
        if done > 4 * (keep + chunk + SLACK):  # it goes round from here on
            break
        used, done = used + added, done + added
    return most


def rounded(rows: int) -> int:
    return -(-rows // STEP) * STEP
