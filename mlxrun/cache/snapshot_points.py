"""After which tokens of a prompt the recurrent states are worth keeping. Knows no states.

A recurrence cannot go back, so a prompt that begins alike can only go on from where a state was kept. Late ones alone
serve the next turn, but not who changed something in the middle; and a template's opening of the answer is not always
what the next turn repeats. Where a request ends its states are there anyway, and are always worth keeping.
"""

from __future__ import annotations

EVERY = 2048  # prompt tokens
MOST = 8  # of those that lie so far apart
OPENING = 8  # tokens at a prompt's end that the next turn may not repeat


def snapshot_points(begun: int, prompt: int, size: int, known: int = 0, every: int = EVERY) -> list[int]:
    """Lengths, in order, where a pass should end: more than `begun`, which need not run, and less than `prompt`.

    `known`: tokens that were found in the tree, which no state of theirs goes with (`Hit.known`): others begin alike.
    """
    last = max(0, prompt - OPENING) // size * size
    wanted = {length for length in (known, last) if begun < length < prompt}
    apart = every * -(-prompt // (every * MOST))  # so few that a long prompt's are spread over all of it
    for length in range(apart, prompt, apart):
        point = length // size * size
        if begun < point < prompt and all(abs(point - other) >= every // 4 for other in [begun, *wanted]):
            wanted.add(point)
    return sorted(wanted)
