"""Which rows a step reads: an order that seed and epoch alone decide, so a run that goes on knows it by its step.

A batch is rows laid end to end; nothing is filled up, and no row sees another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from .config import TrainConfig
from .examples import AnyExample

Batch = tuple[int, ...]  # of examples, by number
Step = tuple[Batch, ...]  # what is read before the weights move once


@dataclass(frozen=True)
class Course:
    """All steps of a run. Epochs are laid out as they are asked for."""

    counts: tuple[int, ...]  # tokens of each example
    config: TrainConfig

    @property
    def steps(self) -> int:
        if self.config.steps is not None:
            return self.config.steps
        whole, part = divmod(self.config.epochs, 1)
        made = sum(len(self.epoch(number)) for number in range(int(whole)))
        return max(1, made + math.ceil(part * len(self.epoch(int(whole)))) if part else made)

    def epoch(self, number: int) -> tuple[Step, ...]:
        order = np.random.default_rng([self.config.seed, number]).permutation(len(self.counts)).tolist()
        batches = list(self._packed(order) if self.config.packing else self._rows(order))
        size = self.config.accumulate
        return tuple(tuple(batches[start : start + size]) for start in range(0, len(batches), size))

    def after(self, done: int) -> Iterator[Step]:
        """The steps that follow so many."""
        left, number = done, 0
        while True:
            steps = self.epoch(number)
            yield from steps[left:]
            left = max(0, left - len(steps))
            number += 1

    def _rows(self, order: Sequence[int]) -> Iterator[Batch]:
        for start in range(0, len(order), self.config.batch):
            yield tuple(order[start : start + self.config.batch])

    def _packed(self, order: Sequence[int]) -> Iterator[Batch]:
        """Whole rows, in the order as it is, until the next would be more than `batch` times `length`."""
        most, batch, held = self.config.batch * self.config.length, list[int](), 0
        for one in order:
            if batch and held + self.counts[one] > most:
                yield tuple(batch)
                batch, held = [], 0
            batch.append(one)
            held += self.counts[one]
        yield tuple(batch)


def course_of(examples: Sequence[AnyExample], config: TrainConfig) -> Course:
    return Course(tuple(example.count for example in examples), config)


def rate_at(step: int, steps: int, config: TrainConfig) -> float:
    """Of the step of that number, from 0 on."""
    if step < config.warmup:
        return config.rate * (step + 1) / (config.warmup + 1)
    if config.schedule == "constant":
        return config.rate
    done = (step - config.warmup) / max(1, steps - config.warmup)
    return config.rate * (1 - done if config.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2)
