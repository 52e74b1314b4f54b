"""Part: the starter model, SmolLM2: what it says to some questions beside what was recorded, and how fast.

`starter.json` holds its greedy answers, computed in float32 on Linux, and by how much each token's logit was above the
next. Types that are narrower may take another token where that was little: told, and no fault. Speeds are told and not
judged; mlx-lm runs the same weights beside. The model is not fetched here.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from .. import gpu
from ..assistant import Assistant, Wish
from ..core import Request, Sampling
from ..loading import LoadOptions
from ..settings import from_environment
from ..store import starter
from ..tune import begin
from .notes import Notes
from .results import NotRun

DATA = "starter.json"
NEAR = 0.3  # of a logit: tokens that near may change places in half precision
GREEDY = Sampling(temperature=0)
STREAMS = (1, 4, 8)
PROMPT = 512


@dataclass(frozen=True, slots=True)
class Recorded:
    asked: str
    tokens: tuple[int, ...]
    margins: tuple[float, ...]  # of each token's logit over the next best


def recorded() -> list[Recorded]:
    told = json.loads(files(__package__).joinpath(DATA).read_text(encoding="utf-8"))
    return [Recorded(one["asked"], tuple(one["tokens"]), tuple(one["margins"])) for one in told]


def missing() -> str | None:
    """Why this part cannot run; None: the model is here."""
    settings = from_environment()
    if starter.present(settings.models / starter.FILE):
        return None
    return "The starter model is not here: `mlxrun pull smollm2` fetches it (93 MB)."


def answer(notes: Notes) -> str:
    if (reason := missing()) is not None:
        raise NotRun(reason)
    settings = from_environment()
    notes.begin("loading")
    began = time.perf_counter()
    path = starter.fetch(settings)
    options = LoadOptions(2048, ready=settings.ready, memory=settings.memory, device=begin(settings).device)
    assistant = Assistant.open(path, options=options)
    try:
        notes.number("load_seconds", time.perf_counter() - began)
        said = [compare(assistant, one, notes) for one in recorded()[: 1 if notes.quick else None]]
        notes.begin("measuring speed")
        rates = speeds(assistant, 8 if notes.quick else 64, 128 if notes.quick else PROMPT)
        notes.number("tokens_a_second", rates)
    finally:
        assistant.close()
    if not notes.quick:
        notes.begin("mlx-lm beside")
        notes.number("mlx_lm_tokens_a_second", theirs(str(path), notes))
    same = sum(one is None for one in said)
    told = f"{same} of {len(said)} answers as recorded"
    return f"{told}; {rates['1']:.0f} tokens/s alone, {rates['8']:.0f} by 8, {rates['prompt']:.0f} of a prompt"


def compare(assistant: Assistant, one: Recorded, notes: Notes) -> int | None:
    """Where an answer leaves the recorded one; None: nowhere."""
    notes.begin(f"answering {one.asked!r}")
    wish = Wish(max_tokens=len(one.tokens), sampling=Sampling(temperature=0, logprobs=0))
    pieces = list(assistant.chat([{"role": "user", "content": one.asked}], wish))
    tokens = [token.id for piece in pieces for token in piece.tokens if token.id is not None]
    away = next((i for i, (a, b) in enumerate(zip(tokens, one.tokens, strict=False)) if a != b), None)
    text = assistant.tokenizer.decode(tokens)
    if away is None:
        good = len(tokens) == len(one.tokens)
        notes.check(one.asked, good, f"{len(tokens)} of {len(one.tokens)} tokens as recorded", text=text)
        return None if good else len(tokens)
    margin = one.margins[away]
    said = f"token {away} is another one; the recorded one was {margin:.2f} of a logit ahead"
    notes.check(one.asked, margin < NEAR, f"{said}, and {NEAR} is near", text=text, away=away, margin=margin)
    return away


def speeds(assistant: Assistant, steps: int, prompt: int) -> dict[str, float]:
    """Tokens a second of so many streams together, and of a prompt. The first pass of each size is not counted."""
    found = {}
    for streams in STREAMS:
        for count in (2, steps):
            spent = decoded(assistant, streams, count)
        found[str(streams)] = streams * (steps - 1) / spent
    for first in (3, 5):
        ids = tuple((first + 7 * i) % 40000 + 100 for i in range(prompt))
        *_, last = assistant.engine.submit(Request(ids, 1, GREEDY))
        assert last.usage is not None
        found["prompt"] = last.usage.prompt_tokens / max(last.usage.prefill_seconds, 1e-9)
    return found


def decoded(assistant: Assistant, streams: int, count: int) -> float:
    """Seconds of the slowest from its first token to its last."""
    prompts = [tuple((11 * stream + 13 * i) % 40000 + 100 for i in range(32)) for stream in range(streams)]
    handles = [assistant.engine.submit(Request(prompt, count, GREEDY)) for prompt in prompts]
    ends = [list(handle)[-1] for handle in handles]
    return max(end.usage.decode_seconds for end in ends if end.usage is not None) or 1e-9


def theirs(path: str, notes: Notes) -> dict[str, Any]:
    """On a CPU mlx-lm takes seconds for a token: there it is asked for few, of weights that are widened to float32."""
    try:
        from .beside import decode_rate, model_of
    except ImportError as error:
        return {"not_run": f"mlx-lm cannot be imported: {error}"}
    on_gpu = gpu.usable()
    model, vocab = model_of(path, widened=not on_gpu)
    found: dict[str, Any] = {"weights": "as in the file" if on_gpu else "float32"}
    steps, prompt = 64 if on_gpu else 3, [(13 * i) % vocab for i in range(32 if on_gpu else 2)]
    for streams in STREAMS if on_gpu else STREAMS[:1]:
        if notes.left < 15:
            return {**found, "not_run": "There was no time for more."}
        decode_rate(model, prompt, streams, 1)
        found[str(streams)] = decode_rate(model, prompt, streams, steps)
    return found
