"""Answers drawn at random from what a grammar lets come, in every format: none is invalid unless it is cut.

The parser is asked what they are and another implementation whether the arguments fit their schema. A few of each
format here; `make tool-grammar` draws many more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import jsonschema_rs
import numpy as np
import pytest
from llguidance import LLMatcher
from test_tool_grammar import AUTO, CASES, REQUIRED, TOOLS, Case

from mlxrun.parts import Arguments, CallBegun, CallEnded, Said, merged
from mlxrun.text.items import Hidden
from mlxrun.text.reasoning_formats import THINK
from mlxrun.text.router import PartRouter
from mlxrun.text.tool_grammar import held
from mlxrun.turns import ToolChoice

EACH = int(os.environ.get("MLXRUN_GENERATIONS", "1"))  # answers of each format, each way and each choice
MOST = 500  # tokens
SCHEMAS = {tool.name: held(tool).schema for tool in TOOLS}
LIKELY = 8.0  # in logits, of whatever brings an answer to its end


def drawn(case: Case, choice: ToolChoice, random: np.random.Generator) -> tuple[list[int], bool]:
    """An answer of random logits at temperature 2, and whether it came to its end. It tends to calls and to ends."""
    matcher, ids = case.matcher(choice), list[int]()
    lean = np.zeros(case.tokenizer.vocab_size)
    lean[256:] = LIKELY
    lean[[ord(letter) for letter in "\"'}])<>/[\n,:"]] = LIKELY
    for _ in range(MOST):
        if matcher.is_stopped():
            return ids, True
        words = np.frombuffer(matcher.compute_bitmask(), np.uint32)
        free = np.unpackbits(words.view(np.uint8), bitorder="little")[: lean.size].astype(bool)
        assert free.any(), ids
        logits = (random.normal(0, 4, lean.size) + lean) / 2.0 + random.gumbel(size=lean.size)
        token = int(np.where(free, logits, -np.inf).argmax())
        if token == case.end:
            return ids, True
        assert matcher.consume_tokens([token])
        ids.append(token)
    return ids, False


def parts_of(case: Case, ids: list[int], random: Random) -> Iterator[object]:
    router = PartRouter(case.tokenizer, THINK, "", case.form, TOOLS)
    items = []
    while ids:
        count = random.randrange(1, 9)
        items += router.push(ids[:count])
        ids = ids[count:]
    yield from merged(item for item in [*items, *router.finish()] if not isinstance(item, Hidden))


def check(case: Case, choice: ToolChoice, seed: int) -> bool:
    """Whether it came to its end, with a call."""
    ids, whole = drawn(case, choice, np.random.default_rng(seed))
    text = case.tokenizer.decode(ids, skip_special=False)
    parts = list(parts_of(case, ids, Random(seed)))
    told = f"seed {seed}: {text!r} is {parts}"
    names = {part.index: part.name for part in parts if isinstance(part, CallBegun)}
    ended = {part.index for part in parts if isinstance(part, CallEnded)}
    given = {part.index: part.text for part in parts if isinstance(part, Arguments)}
    assert ended <= names.keys(), told
    for index in ended:
        arguments = json.loads(given[index], strict=False)
        assert jsonschema_rs.is_valid(SCHEMAS[names[index]], arguments), told
    if whole:
        assert ended == names.keys(), told
        if choice.calling is REQUIRED.calling:
            assert names, told
            assert not "".join(part.text for part in parts if isinstance(part, Said)).strip(), told
    return whole and bool(names)


@pytest.mark.parametrize("form", CASES, ids=lambda form: form.id)
def test_no_answer_is_invalid_unless_it_is_cut(form: object) -> None:
    whole = 0
    for tokens in (True, False):
        case = Case(form, tokens=tokens)  # type: ignore[arg-type] # one of CASES
        for choice in (AUTO, REQUIRED, replace(REQUIRED, parallel=False)):
            whole += sum(check(case, choice, seed) for seed in range(EACH))
    assert whole


def test_what_is_drawn_is_not_drawn_twice() -> None:
    case = Case(CASES[0], tokens=True)
    assert isinstance(case.matcher(AUTO), LLMatcher)
    assert len({tuple(drawn(case, REQUIRED, np.random.default_rng(seed))[0]) for seed in range(4)}) == 4
