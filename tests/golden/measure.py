"""How far a loaded model is from a reference, or from itself on another way to the same answer.

Every function returns a largest absolute difference of float32 outputs. The model is driven through
the engine's interface only; what it is made of is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from .checkpoint import Reference

Outputs = NDArray[np.float32]  # (rows, vocabulary or hidden)
CHUNKS = (10, 7)  # uneven; single steps follow
FIRST, STEPS = (1, 6, 11), 11  # rows before all are stepped together, and how often that is


class Driver:
    """A model that answers for rows: logits, or the hidden states of an encoder."""

    def __init__(self, model: Any, reference: Reference) -> None:
        self.model, self.encoder = model, reference.encoder
        self.context = len(reference.prompt)  # decides between short and long RoPE

    def sequence(self) -> Any:
        return self.model.new_sequence(context=self.context)

    def run(self, rows: Sequence[tuple[Any, Sequence[int]]]) -> list[Outputs]:
        """One pass over (memory, its next tokens); the outputs of each."""
        ids = mx.array([token for _, tokens in rows for token in tokens], dtype=mx.int32)
        hidden = self.model(ids, [(memory, len(tokens)) for memory, tokens in rows])
        out = np.array((hidden if self.encoder else self.model.logits(hidden)).astype(mx.float32))
        ends = np.cumsum([len(tokens) for _, tokens in rows])
        return np.split(out, ends[:-1])

    def alone(self, tokens: Sequence[int]) -> Outputs:
        return self.run([(self.sequence(), tokens)])[0]


def apart(got: Outputs, wanted: Outputs) -> float:
    if got.shape != wanted.shape:
        raise AssertionError(f"the output has shape {got.shape}, the reference {wanted.shape}")
    worst = np.abs(got.astype(np.float64) - wanted).max()
    return float(worst) if np.isfinite(worst) else float("inf")


def whole(driver: Driver, reference: Reference) -> float:
    return apart(driver.alone(reference.prompt), reference.expected)


def chunked(driver: Driver, reference: Reference) -> float:
    memory, left, out = driver.sequence(), list(reference.prompt), []
    sizes = [*CHUNKS, *[1] * (len(left) - sum(CHUNKS))]
    for size in sizes:
        out += driver.run([(memory, left[:size])])
        left = left[size:]
    if left or memory.length != len(reference.prompt):
        raise AssertionError(f"{len(left)} tokens are left and the memory holds {memory.length}")
    return apart(np.concatenate(out), reference.expected)


def others(prompt: Sequence[int]) -> list[list[int]]:
    """Four sequences of different lengths; the first is the prompt."""
    turned = [[*prompt[i:], *prompt[:i]] for i in (0, 5, 11, 17)]
    return [tokens[: len(tokens) - short] for tokens, short in zip(turned, (0, 7, 4, 15), strict=True)]


def ragged(driver: Driver, reference: Reference) -> float:
    """Four sequences in one batch, each at its own point of prefill or decoding, against each alone."""
    prompts = others(reference.prompt)
    alone = [driver.alone(tokens) for tokens in prompts]
    if driver.encoder:
        together = driver.run([(driver.sequence(), tokens) for tokens in prompts])
        return max(map(apart, together, alone))
    memories, outs = [driver.sequence() for _ in prompts], [[] for _ in prompts]
    first = len(reference.prompt) // 2
    # per pass: (sequence, tokens); then all are decoded, one or a few tokens at a time, in changing order
    passes = [[(0, first), (1, 5)], [(0, 1), (1, 4), (2, first + 2)], [(1, 1), (3, 2), (0, 1), (2, 3)]]
    passes += [[((i + n) % 4, 1 + (i + n) % 4 // 2 * (n % 2)) for i in range(4)] for n in range(len(reference.prompt))]
    for step in passes:
        rows = [(i, prompts[i][memories[i].length :][:count]) for i, count in step]
        rows = [(i, tokens) for i, tokens in rows if tokens]
        if not rows:
            break
        for (i, _), out in zip(rows, driver.run([(memories[i], tokens) for i, tokens in rows]), strict=True):
            outs[i].append(out)
    return max(apart(np.concatenate(out), wanted) for out, wanted in zip(outs, alone, strict=True))


def stepped(driver: Driver, reference: Reference) -> float:
    """Three sequences of different lengths, then a token of each in every pass, against each alone."""
    prompts = others(reference.prompt)[:3]
    outs, memories = [], []
    for tokens, first in zip(prompts, FIRST, strict=True):
        memories.append(driver.sequence())
        outs.append(driver.run([(memories[-1], tokens[:first])]))
    for _ in range(STEPS):
        rows = [(memory, [tokens[memory.length]]) for memory, tokens in zip(memories, prompts, strict=True)]
        for out, kept in zip(driver.run(rows), outs, strict=True):
            kept.append(out)
    got = [np.concatenate(out) for out in outs]
    wanted = [reference.expected, *(driver.alone(tokens) for tokens in prompts[1:])]
    return max(apart(out, all_rows[: len(out)]) for out, all_rows in zip(got, wanted, strict=True))


def rewound(driver: Driver, reference: Reference, points: int = 4) -> float:
    """Back to an earlier length, then other tokens, against a fresh run of the same."""
    prompt, worst = list(reference.prompt), 0.0
    tail = prompt[::-1][:6]
    length = len(prompt)
    for back_to in (length - 1, length // 2, length - 3, 2)[:points]:
        for undo in (by_rewind, by_fork):
            memory = undo(driver, prompt, back_to)
            kept = prompt[: memory.length]
            got = np.concatenate(
                [driver.run([(memory, tail[:4])])[0], *(driver.run([(memory, [t])])[0] for t in tail[4:])]
            )
            worst = max(worst, apart(got, driver.alone([*kept, *tail])[len(kept) :]))
    return worst


def by_rewind(driver: Driver, prompt: Sequence[int], back_to: int) -> Any:
    """As far back as the memory says that it can go."""
    memory = driver.sequence()
    driver.run([(memory, prompt[:9])])
    for start in range(9, len(prompt), 6):
        driver.run([(memory, prompt[start : start + 6])])
    can = memory.reusable(back_to)
    if not 0 <= can <= back_to:
        raise AssertionError(f"reusable({back_to}) says {can}")
    if can < back_to and memory.rewind(back_to):
        raise AssertionError(f"rewind({back_to}) went where reusable() said that it cannot")
    if not memory.rewind(can) or memory.length != can:
        raise AssertionError(f"rewind({can}) did not go where reusable() said that it can")
    return memory


def by_fork(driver: Driver, prompt: Sequence[int], back_to: int) -> Any:
    memory = driver.sequence()
    driver.run([(memory, prompt[:back_to])])
    kept = memory.fork()
    driver.run([(memory, prompt[back_to:])])
    if kept.length != back_to:
        raise AssertionError(f"what was forked at {back_to} stands at {kept.length}")
    return kept


Measure = Callable[[Driver, Reference], float]
