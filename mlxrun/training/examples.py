"""Rows -> token ids, and which of them are learnt.

What an assistant said is what its conversation's tokens grow by: up to a turn, with the answer begun; and with it said.
The first must be how the second begins, and both how the whole begins, or nobody knows what was said: then the row is
broken, told, and left out. A text alone is learnt whole, whatever `loss` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..core import RequestError
from ..spec import ModelError
from ..text.prompting import Prompter
from ..turns import Ask, Role, Tool, Turn
from .config import Loss, TrainConfig
from .rows import BrokenRows, PairRow, RowError, TextRow, read_rows

LONGEST = 1 << 20  # tokens of a row before it is cut


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """`learnt[n]`: whether token n is. The first never is: nothing stands before it."""

    ids: NDArray[np.int32]
    learnt: NDArray[np.bool_]

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def supervised(self) -> int:
        return int(self.learnt.sum())


@dataclass(frozen=True, slots=True, eq=False)
class PairExample:
    chosen: Example
    rejected: Example

    @property
    def count(self) -> int:
        return self.chosen.count + self.rejected.count

    @property
    def supervised(self) -> int:
        return self.chosen.supervised + self.rejected.supervised


AnyExample = Example | PairExample


@dataclass(frozen=True, slots=True)
class DataSet:
    examples: tuple[AnyExample, ...]
    broken: BrokenRows
    cut: int  # rows that were longer
    empty: int  # rows of which nothing is left to learn once they are cut

    @property
    def tokens(self) -> int:
        return sum(example.count for example in self.examples)

    @property
    def supervised(self) -> int:
        return sum(example.supervised for example in self.examples)


def read_data(files: Sequence[str], config: TrainConfig, prompter: Prompter) -> DataSet:
    broken, made, cut, empty = BrokenRows(), [], 0, 0
    for row in read_rows(files, broken, pairs=config.objective != "sft"):
        try:
            found = _pair_example(row, prompter) if isinstance(row, PairRow) else _example(row, config.loss, prompter)
        except (RowError, RequestError, ModelError) as error:
            broken.add(row.place, str(error).removesuffix("."))
            continue
        short = _cut(found, config.length)
        cut += short is not found
        if _learns(short):
            made.append(short)
        else:
            empty += 1
    broken.refuse_many()
    if not made:
        raise ModelError(f"There is nothing to learn in {', '.join(files)}: {broken.rows} rows, none of them of use.")
    return DataSet(tuple(made), broken, cut, empty)


def _cut(found: AnyExample, length: int) -> AnyExample:
    if isinstance(found, Example):
        return found if found.count <= length else Example(found.ids[:length], found.learnt[:length])
    parts = [_cut(part, length) for part in (found.chosen, found.rejected)]
    if parts == [found.chosen, found.rejected]:
        return found
    chosen, rejected = parts
    assert isinstance(chosen, Example)
    assert isinstance(rejected, Example)
    return PairExample(chosen, rejected)


def _learns(found: AnyExample) -> bool:
    if isinstance(found, Example):
        return found.supervised > 0
    return found.chosen.supervised > 0 and found.rejected.supervised > 0


def _example(row: TextRow, loss: Loss, prompter: Prompter) -> Example:
    if row.text is not None:
        return _text(prompter, "", row.text, everything=True)
    if prompter.template.has_chat:
        return conversation(prompter, row.turns, row.tools, loss)
    if not row.joins:
        raise RowError("the model has no chat template for messages")
    return _text(prompter, row.turns[0].text, row.turns[1].text, everything=loss == "all")


def _text(prompter: Prompter, before: str, text: str, *, everything: bool) -> Example:
    tokenizer = prompter.tokenizer
    first = [*tokenizer.prefix, *tokenizer.encode(before, special=False)] if before else [*tokenizer.prefix]
    end = sorted(tokenizer.eos_ids)[:1] if not tokenizer.suffix else list(tokenizer.suffix)
    ids = [*first, *tokenizer.encode(text, special=False), *end]
    return _made(ids, [(1 if everything else len(first), len(ids))])


def _pair_example(row: PairRow, prompter: Prompter) -> PairExample:
    chosen, rejected = (
        conversation(prompter, turns, (), "last")
        if prompter.template.has_chat
        else _text(prompter, turns[0].text if len(turns) > 1 else "", turns[-1].text, everything=False)
        for turns in (row.chosen, row.rejected)
    )
    return PairExample(chosen, rejected)


def conversation(prompter: Prompter, turns: Sequence[Turn], tools: Sequence[Tool], loss: Loss) -> Example:
    ask = Ask(tuple(turns), tuple(tools))
    whole = prompter.written(ask, LONGEST, opens=False)
    if loss == "all":
        return _made(whole, [(1, len(whole))])
    spans = []
    for number, turn in enumerate(turns):
        if turn.role is not Role.ASSISTANT or (loss == "last" and number < len(turns) - 1):
            continue
        if number == 0 or turns[number - 1].role is Role.ASSISTANT:
            raise RowError("an assistant's message follows no other's")
        before = prompter.written(replace(ask, turns=tuple(turns[:number])), LONGEST, opens=True)
        after = whole
        if number < len(turns) - 1:
            after = prompter.written(replace(ask, turns=tuple(turns[: number + 1])), LONGEST, opens=False)
        if whole[: len(before)] != before or whole[: len(after)] != after:
            raise RowError("the chat template writes earlier messages in another way once more follow; try loss: last")
        spans.append((len(before), _end(prompter, whole, len(before), len(after))))
    return _made(whole, spans)


def _end(prompter: Prompter, ids: Sequence[int], start: int, end: int) -> int:
    """Behind the token that ends the answer: what a template writes after it, no model ever says."""
    ends = prompter.tokenizer.eos_ids
    return next((at + 1 for at in range(end - 1, start - 1, -1) if ids[at] in ends), end)


def _made(ids: Sequence[int], spans: Sequence[tuple[int, int]]) -> Example:
    learnt = np.zeros(len(ids), np.bool_)
    for start, end in spans:
        learnt[max(start, 1) : end] = True
    return Example(np.array(ids, np.int32), learnt)
