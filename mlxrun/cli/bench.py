"""mlxrun bench MODEL: how fast this machine runs a model, in a minute: a table to paste, or JSON.

Reading a prompt, writing one answer, and several at once, each a few times; medians. What is measured is what a request
has, tokenizing and all. Drafts are off: what repeats in a made-up text would flatter.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..core import Finish, RequestError, Sampling
from . import options, quantize
from .terminal import aside, tell

if TYPE_CHECKING:
    from ..assistant import Assistant

HELP = "measure how fast this machine runs a model, in about a minute"
ROUNDS = 3


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--prompt", type=int, default=512, metavar="N", help="tokens that are read; 512 if not said")
    parser.add_argument("--answer", type=int, default=64, metavar="N", help="tokens that are written; 64 if not said")
    parser.add_argument("--parallel", type=int, default=4, metavar="N", help="answers at once; 4 if not said")
    parser.add_argument("--json", action="store_true", help="for programs")
    options.add_loading(parser)
    quantize.add_quantize(parser)
    options.add_memory(parser)


def main(flags: argparse.Namespace) -> int:
    from ..assistant import Assistant
    from ..settings import OFF, from_environment
    from ..store.resolve import resolve
    from ..tune import begin

    for name in ("prompt", "answer", "parallel"):
        if getattr(flags, name) < 2:
            raise RequestError(f"--{name} must be a whole number from 2 on, not {getattr(flags, name)}.")
    settings = from_environment()
    flags.draft = flags.draft or OFF
    opened = options.open_flagged(resolve(flags.model, settings), flags, begin(settings).device)
    opened = quantize.copy_of(opened, flags, settings)
    began = time.perf_counter()
    assistant = Assistant.load(opened, options.load_options(flags, settings), name=flags.model)
    try:
        loaded = time.perf_counter() - began
        found = measured(assistant, flags.prompt, flags.answer, flags.parallel)
        found |= {"model": flags.model, "load_seconds": loaded, "machine": machine(), "mlxrun": __version__}
    finally:
        assistant.close()
    if flags.json:
        print(json.dumps(found, indent=2))
    else:
        tell(*table(found))
    return 0


def measured(assistant: Assistant, prompt: int, answer: int, parallel: int) -> dict[str, Any]:
    """Tokens a second, medians of rounds. Each prompt is new, so nothing of it is remembered."""
    vocabulary, draw = assistant.engine.model.vocab, random.Random(0)
    special = set(assistant.tokenizer.eos_ids)
    words = [token for token in range(min(vocabulary, 20_000)) if token not in special]

    def ids(count: int) -> list[int]:
        return draw.choices(words, k=count)

    read, wrote, together = [], [], []
    once(assistant, [ids(8)], 4)
    for number in range(ROUNDS):
        aside(f"round {number + 1} of {ROUNDS} ...")
        usage = once(assistant, [ids(prompt)], answer)[0]
        read.append(prompt / usage.prefill_seconds)
        wrote.append((usage.output_tokens - 1) / usage.decode_seconds)
        began = time.perf_counter()
        usages = once(assistant, [ids(16) for _ in range(parallel)], answer)
        together.append(sum(one.output_tokens for one in usages) / (time.perf_counter() - began))
    rates = {"prompt": read, "answer": wrote, "parallel": together}
    return {
        "prompt_tokens": prompt,
        "answer_tokens": answer,
        "answers_at_once": parallel,
        "tokens_a_second": {name: statistics.median(each) for name, each in rates.items()},
        "least_and_most": {name: [min(each), max(each)] for name, each in rates.items()},
    }


def once(assistant: Assistant, prompts: list[list[int]], answer: int) -> list[Any]:
    """What each took. Nothing ends an answer before its last token."""
    from ..assistant import Wish

    sampling = replace(Sampling(temperature=0), banned=frozenset(assistant.tokenizer.eos_ids))
    answers = [assistant.complete(prompt, Wish(answer, sampling))[0] for prompt in prompts]
    usages = []
    for one in answers:
        last = list(one)[-1]
        if last.finish is not Finish.LENGTH or last.usage is None:
            raise RequestError(last.reason or "The model ended an answer too early to be measured.")
        usages.append(last.usage)
    return usages


def machine() -> str:
    from ..memory.here import this_machine

    here = this_machine()
    return f"{here.name}, {here.total / 2**30:.0f} GiB, {platform.system()} {platform.machine()}"


def table(found: dict[str, Any]) -> list[str]:
    """Markdown."""
    speeds, ranges = found["tokens_a_second"], found["least_and_most"]
    rows = {
        "prompt": f"reading a prompt of {found['prompt_tokens']} tokens",
        "answer": f"writing an answer of {found['answer_tokens']}",
        "parallel": f"writing {found['answers_at_once']} at once",
    }
    head = [
        f"{found['model']} on {found['machine']}; mlxrun {found['mlxrun']}, loaded in {found['load_seconds']:.1f} s",
        "",
    ]
    lines = ["| | tokens a second | of three rounds |", "|---|---|---|"]
    for name, words in rows.items():
        least, most = ranges[name]
        lines.append(f"| {words} | {speeds[name]:.1f} | {least:.1f} to {most:.1f} |")
    return [*head, *lines]
