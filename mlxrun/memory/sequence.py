"""What one sequence will remember, in bytes, from the spec alone: what the caches say of each layer, added up.

`width` is bytes of a value that is computed, `keys` of one of an attention's keys where those lie in pages.
"""

from __future__ import annotations

from ..cache.kinds import kept_bytes, planned_bytes, reach, row_bytes, state_bytes
from ..spec import Attention, Decoder


def sequence_bytes(decoder: Decoder, tokens: int, width: int, chunk: int, keys: int | None = None) -> int:
    """The most that it held while `tokens` went through in chunks."""
    return sum(planned_bytes(layer, tokens, width, chunk, keys) for layer in decoder.layers)


def fixed_bytes(decoder: Decoder, width: int) -> int:
    """What it holds from its first token on, whatever its length."""
    return sum(state_bytes(layer, width) for layer in decoder.layers)


def token_bytes(decoder: Decoder, width: int, keys: int | None = None) -> int:
    """What every further token costs, for ever: layers with a window do not count."""
    return sum(row_bytes(layer, width, keys) for layer in decoder.layers if reach(layer) is None)


def read_bytes(decoder: Decoder, tokens: int, width: int, keys: int | None = None) -> int:
    """What one step reads of a sequence of that length: keys in sight, and recurrent states."""
    found = 0
    for layer in decoder.layers:
        keep, mixer = reach(layer), layer.mixer
        seen = tokens if keep is None else min(tokens, keep)
        found += seen * row_bytes(layer, width, keys) + state_bytes(layer, width)
        if isinstance(mixer, Attention) and mixer.borrows is not None:  # reads what another layer holds
            sight = min(tokens, mixer.window or tokens)
            found += sight * 2 * mixer.kv_heads * kept_bytes(mixer.head_dim, keys or width)
    return found
