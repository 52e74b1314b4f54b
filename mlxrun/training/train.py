"""The run: read, plan, then step after step until all are done. What is told on the way are events.

Everything that a step depends on is in the state: trained arrays, the optimizer's, and the number of steps that are
done, of which order and rate follow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.optimizers import AdamW, clip_grad_norm

from ..assistant import template_of, tokenizer_of
from ..loading.open import OpenedModel
from ..memory.headroom import let_large_blocks_go
from ..nn.decoder import DecoderModel
from ..spec import ModelError
from ..text.prompting import Prompter
from . import state as states
from .batches import Course, Step, course_of, rate_at
from .config import TrainConfig
from .core import Progress, build_core, quiet, refuse_untrainable
from .events import Began, Evaluated, Listen, Log, Sampled, Saved, Stepped, TrainEvent
from .examples import AnyExample, DataSet, read_data
from .objectives import loss_of, units
from .pairs import Pairs, Trained, find_pairs, row_lengths, row_squares
from .samples import sample


@dataclass(frozen=True)
class Prepared:
    """All that is known before a weight is read."""

    opened: OpenedModel
    config: TrainConfig
    prompter: Prompter
    data: DataSet
    held: DataSet | None  # whose loss is told and not learnt
    course: Course

    @cached_property
    def made_of(self) -> dict[str, object]:
        data = states.digest_of_files(self.config.data)
        return states.fingerprint(self.config, data, states.digest_of_model(self.opened.checkpoint.files))


def prepare(opened: OpenedModel, config: TrainConfig) -> Prepared:
    refuse_untrainable(opened)
    context = opened.recipe.decoder.context
    if config.length > context:
        raise ModelError(f"length is {config.length}, and this model reads {context} tokens at most.")
    prompter = Prompter(tokenizer_of(opened.checkpoint), template_of(opened.checkpoint))
    data = read_data(config.data, config, prompter)
    held = read_data(config.evaluate, config, prompter) if config.evaluate else None
    return Prepared(opened, config, prompter, data, held, course_of(data.examples, config))


class Training:
    """A core and what is trained beside it."""

    def __init__(self, prepared: Prepared, progress: Progress = quiet) -> None:
        self.prepared, self.config = prepared, prepared.config
        self.decoder: DecoderModel = build_core(prepared.opened, progress)
        assert self.decoder.adapted is not None
        self.pairs: Pairs = find_pairs(prepared.opened, self.decoder.adapted.places, self.config)
        if self.pairs.dora:
            self.pairs = replace(self.pairs, squares=row_squares(prepared.opened, self.pairs.changed))
        self.optimizer = AdamW(self.config.rate, weight_decay=self.config.decay, bias_correction=True)
        self.trained: Trained = self.pairs.drawn(self.config.seed, row_lengths(self.pairs))
        self.optimizer.init(self.trained)
        self.done = 0
        self._loss = loss_of(self.decoder, self.pairs, self.config)
        self._gradient = mx.value_and_grad(self._loss)

    def go_on(self, state: states.TrainState) -> None:
        if {name: a.shape for name, a in state.trained.items()} != {n: a.shape for n, a in self.trained.items()}:
            raise ModelError("The state is of other matrices than these; begin anew in another out.")
        self.trained = {name: state.trained[name] for name in self.trained}  # lengths are summed in this order
        self.optimizer.state, self.done = state.optimizer, state.step

    @property
    def state(self) -> states.TrainState:
        return states.TrainState(self.done, self.trained, self.optimizer.state)

    def step(self, step: Step, steps: int) -> Stepped:
        began = time.perf_counter()
        batches = [[self.prepared.data.examples[number] for number in batch] for batch in step]
        loss, gradients = self.gradients(batches)
        rate = rate_at(self.done, steps, self.config)
        gradients, length = clip_grad_norm(gradients, self.config.clip or float("inf"))
        self.optimizer.learning_rate = mx.array(rate, mx.float32)
        self.trained = self.optimizer.apply_gradients(gradients, self.trained)
        mx.eval(self.trained, self.optimizer.state, length)
        self.done += 1
        read = sum(one.count for batch in batches for one in batch)
        learnt = sum(one.supervised for batch in batches for one in batch)
        spent = time.perf_counter() - began
        return Stepped(self.done, steps, loss, rate, number_in(length), read, learnt, spent)

    def gradients(self, batches: Sequence[Sequence[AnyExample]]) -> tuple[float, Mapping[str, mx.array]]:
        """Of the mean over all of them, one batch after the other."""
        count = sum(map(units, batches))
        total, summed = 0.0, dict[str, mx.array]()
        for batch in batches:
            loss, found = self._gradient(self.trained, batch, count)
            summed = {name: summed[name] + found[name] for name in found} if summed else found
            mx.eval(loss, summed)
            total += number_in(loss)
        return total, summed

    def evaluate(self, held: DataSet) -> Evaluated:
        count, total = units(held.examples), 0.0
        size = self.config.batch
        for at in range(0, len(held.examples), size):
            total += number_in(self._loss(self.trained, held.examples[at : at + size], count))
        return Evaluated(self.done, total, held.supervised)

    def samples(self) -> list[Sampled]:
        adapter = self.pairs.adapter(self.trained)
        mx.eval([part.gain for part in adapter.parts.values() if part.gain is not None])
        told = (
            (prompt, sample(self.decoder, self.prepared.prompter, adapter, prompt)) for prompt in self.config.samples
        )
        return [Sampled(self.done, prompt, text) for prompt, text in told]


def train(prepared: Prepared, listen: Listen, *, resume: bool = False, progress: Progress = quiet) -> Training:
    config, out = prepared.config, Path(prepared.config.out)
    before = states.load_state(out, prepared.made_of) if resume else None
    if not resume:
        begin_out(out)
    let_large_blocks_go()
    run = Training(prepared, progress)
    if before is not None:
        run.go_on(before)
    steps = prepared.course.steps
    log = Log(out / states.LOG, anew=not resume)

    def tell(event: TrainEvent) -> None:
        log(event)
        listen(event)

    try:
        tell(Began(run.done, steps, sum(array.size for array in run.trained.values())))
        for step in prepared.course.after(run.done):
            if run.done >= steps:
                break
            tell(run.step(step, steps))
            last = run.done == steps
            if last or (config.save and run.done % config.save == 0):
                tell(save(run, out))
            if last or (config.evaluate_every and run.done % config.evaluate_every == 0):
                for event in look(run):
                    tell(event)
    finally:
        log.close()
    return run


def number_in(array: mx.array) -> float:
    found: Any = array.item()
    return float(found)


def begin_out(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} is there already: --resume goes on with what is in it; else name another out.")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{out} cannot be made: {error.strerror or error}.") from error


def look(run: Training) -> Sequence[TrainEvent]:
    held = run.prepared.held
    return [*([run.evaluate(held)] if held is not None else []), *run.samples()]


def save(run: Training, out: Path) -> Saved:
    """The adapter first: a state never stands for more than can be served."""
    states.save_adapter(out, run.config, run.pairs, run.trained)
    states.save_state(out, run.state, run.prepared.made_of)
    return Saved(run.done, str(out))
