"""Which kind of memory a layer gets, and how many bytes that will hold: both follow from its spec alone.

`width` is bytes of a value that is computed, `keys` of one of an attention's keys where those lie in pages: a single
byte has a scale beside it for each SCALED values of a row.
"""

from __future__ import annotations

from functools import lru_cache

from ..spec import (
    Attention,
    ChannelDelta,
    GatedDelta,
    GatedLinear,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    ShortConv,
    SideBySide,
)
from .keys import Keys, capacity
from .paired import Paired
from .recurrent import Recurrent
from .table import Group

FLOAT = 4  # bytes of a recurrent state's value
PAGE = 64  # positions
SCALED, SCALE = 64, 2  # values that share a scale, and its bytes
SLACK = 128  # positions behind the newest that can be taken back although no query will see what lies before them


def memory_for(layer: Layer) -> Keys | Recurrent | Paired | None:
    match layer.mixer:
        case Attention(borrows=None, causal=True):
            return Keys(keep=reach(layer))
        case LatentAttention():
            return Keys()
        case GatedDelta() | ChannelDelta() | ShortConv() | GatedLinear() | Mamba1() | Mamba2():
            return Recurrent()
        case SideBySide():
            return Paired()
        case _:
            return None


def is_recurrent(mixer: object) -> bool:
    return isinstance(mixer, GatedDelta | ChannelDelta | ShortConv | GatedLinear | Mamba1 | Mamba2 | SideBySide)


def planned_bytes(layer: Layer, tokens: int, width: int, chunk: int, keys: int | None = None) -> int:
    """The most that it holds while `tokens` go through in chunks; in pages, where `keys` are told."""
    if keys is None:
        rows = capacity(tokens, reach(layer), chunk)
    else:
        group = group_of(layer)
        rows = 0 if group is None else PAGE * most_pages(group, tokens, chunk)
    return rows * row_bytes(layer, width, keys) + (state_bytes(layer, width) if tokens else 0)


def group_of(layer: Layer) -> Group | None:
    """None: it keeps no keys."""
    match layer.mixer:
        case Attention(borrows=None, causal=True) as s:
            if s.window is not None:
                return Group(f"window {s.window}", reach=s.window)
            return Group("full") if s.chunk is None else Group(f"chunk {s.chunk}", chunk=s.chunk)
        case LatentAttention() | SideBySide():
            return Group("full")
        case _:
            return None


@lru_cache(maxsize=4096)
def most_pages(group: Group, tokens: int, chunk: int) -> int:
    """That a sequence has while so many tokens are appended in chunks."""
    if group.reach is None and group.chunk is None:
        return -(-tokens // PAGE)
    most = done = 0
    while done < tokens and done <= 4 * ((group.reach or group.chunk or 0) + chunk + SLACK):  # then it goes round
        first = group.oldest(max(0, done - SLACK)) // PAGE
        done = min(tokens, done + chunk)
        most = max(most, -(-done // PAGE) - first)
    return most


def reach(layer: Layer) -> int | None:
    """How far back a query may look; None: to the beginning."""
    mixer = layer.mixer
    if not isinstance(mixer, Attention):
        return None
    return mixer.window if mixer.window is not None else mixer.chunk


def row_bytes(layer: Layer, width: int, keys: int | None = None) -> int:
    """That one token leaves behind."""
    match layer.mixer:
        case (Attention(borrows=None, causal=True) as s) | SideBySide(attention=s):
            return 2 * s.kv_heads * kept_bytes(s.head_dim, keys or width)
        case LatentAttention() as s:
            return (s.kv_rank + s.rope_dim + (s.indexer.dim if s.indexer is not None else 0)) * width
        case _:
            return 0


def kept_bytes(values: int, each: int) -> int:
    """Of one head's row of keys or values."""
    return values * each + (SCALE * -(-values // SCALED) if each == 1 else 0)


def state_bytes(layer: Layer, width: int) -> int:
    """A recurrent layer's state, whatever the length: the convolution's window and the float32 state."""
    match layer.mixer:
        case GatedDelta() as s:
            channels, state = 2 * s.k_heads * s.k_dim + s.v_heads * s.v_dim, s.v_heads * s.v_dim * s.k_dim
        case ChannelDelta() as s:
            channels, state = 3 * s.heads * s.dim, s.heads * s.dim * s.dim
        case GatedLinear() as s:
            channels = state = s.width
        case ShortConv() as s:
            channels, state = s.channels, 0
        case Mamba1() as s:
            channels, state = s.inner, s.inner * s.state
        case (Mamba2() as s) | SideBySide(mamba=s):
            channels = s.heads * s.head_dim + 2 * s.groups * s.state
            state = s.heads * s.head_dim * s.state
        case _:
            return 0
    return (s.conv - 1) * channels * width + state * FLOAT
