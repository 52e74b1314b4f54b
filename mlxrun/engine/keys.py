"""What the prefix cache knows a prompt by, where it shows pictures.

In the place of the tokens that stand for a picture come numbers made of its digest: two prompts that show different
pictures in the same words share nothing from there on.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence

from ..core import ShownTile


def keys_of(tokens: array[int], media: Sequence[ShownTile]) -> array[int]:
    """What the tokens are known by: no token is below 0, and the rows of a picture are."""
    keys = tokens[:]
    for one in media:
        words = array("i", hashlib.shake_128(one.tile.key).digest(4 * one.tile.rows))
        done = 0
        for first, count in one.spans:
            for place in range(count):
                keys[first + place] = words[done + place] | -(1 << 31)
            done += count
    return keys
