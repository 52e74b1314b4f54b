"""mlxrun run MODEL [PROMPT]: one answer, or a chat where there is a terminal to chat in."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import Constraint, Finish, RequestError, Shape
from . import chat, options, quantize
from .kept import KeptConversation
from .terminal import answer, aside
from .tool_file import functions_of

if TYPE_CHECKING:
    from ..assistant import Assistant

HELP = "answer a prompt, or open a chat"
PATIENCE = 3.0  # seconds
STILL_OPEN = "Waiting for the end of what is piped in; with '< /dev/null' nothing is."


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument(
        "words", metavar="PROMPT", nargs="*", help="without it: a chat; what is piped in goes before it"
    )
    options.add_sampling(parser)
    parser.add_argument("--max-tokens", type=int, metavar="N", help="end the answer after N tokens")
    parser.add_argument("--system", metavar="TEXT", help="the system message")
    parser.add_argument("--image", metavar="FILE", action="append", default=[], help="show it, before the prompt")
    parser.add_argument("--json", action="store_true", help="the answer and all about it as one JSON object")
    parser.add_argument("--schema", type=Path, metavar="FILE", help="a JSON schema that the answer must fit")
    parser.add_argument(
        "--tools", type=Path, metavar="FILE.py", help="functions that the model may call; they run here"
    )
    parser.add_argument("--conversation", metavar="NAME", help="go on with what was said under that name, and keep it")
    parser.add_argument("--raw", action="store_true", help="complete the text as it is, without the chat template")
    parser.add_argument("--context", type=int, metavar="N", help="tokens that prompt and answers may take together")
    options.add_adapters(parser, "to answer with")
    options.add_loading(parser)
    quantize.add_quantize(parser)
    options.add_memory(parser)


def main(flags: argparse.Namespace) -> int:
    from ..assistant import Assistant, recommended
    from ..client.pictures import picture_of
    from ..settings import from_environment
    from ..store.resolve import resolve
    from ..tune import begin

    settings = from_environment().but(context=flags.context)
    path = resolve(flags.model, settings)
    tuning = begin(settings)
    opened = options.open_flagged(path, flags, tuning.device)
    sampling = options.sampling(flags, recommended(opened.checkpoint))
    interactive = not flags.words and sys.stdin.isatty() and sys.stdout.isatty()
    if flags.max_tokens is not None and flags.max_tokens < 1:  # a model may take minutes to load
        raise RequestError(f"max_tokens must be a whole number from 1 on, not {flags.max_tokens}.")
    prompt = "" if interactive else prompt_of(flags.words)
    if not interactive and not prompt.strip():
        raise RequestError("The prompt is empty.")
    pictures = [picture_of(file) for file in flags.image]
    constraint = None if flags.schema is None else schema_of(flags.schema)
    functions = None if flags.tools is None else functions_of(flags.tools)
    kept = None if flags.conversation is None else KeptConversation.named(flags.conversation, settings)
    if flags.raw and (functions or kept):
        raise RequestError("--raw goes on with a text; --tools and --conversation are for chats.")
    if kept and flags.image:
        raise RequestError("A conversation that is kept holds no pictures: leave out --image or --conversation.")
    if flags.json and interactive:
        raise RequestError("--json is for one answer; give a question.")
    began = time.perf_counter()
    opened = quantize.copy_of(opened, flags, settings)
    how = replace(options.load_options(flags, settings), adapters=options.one_adapter(flags))
    assistant = Assistant.load(opened, how, name=flags.model, idle=tuning.idle)
    for name, _ in how.adapters:
        assistant = assistant.adapted(name)
    try:
        introduce(assistant, flags.model, time.perf_counter() - began)
        ask = chat.Asker(assistant, sampling, flags.max_tokens, flags.system, raw(assistant, flags), constraint)
        ask.functions = functions
        ask.show(pictures)
        if kept is not None:
            ask.keep(kept)
        if flags.json:
            return as_json(ask, prompt, flags.model)
        return chat.loop(ask) if interactive else once(ask, prompt)
    finally:
        assistant.close()


def prompt_of(words: Sequence[str]) -> str:
    """The words, and before them what is piped in: a question is understood better behind what it is about."""
    question = " ".join(words)
    if question and sys.stdin.isatty():
        return question
    return "\n\n".join(part for part in (from_stdin(), question) if part.strip())


def from_stdin() -> str:
    if sys.stdin.isatty():
        aside("Reading the prompt; Ctrl-D ends it.")
    waiting = threading.Timer(PATIENCE, aside, (STILL_OPEN,))  # whoever started us may have left a pipe open
    waiting.daemon = True
    waiting.start()
    try:
        return sys.stdin.buffer.read().decode("utf-8", "replace").rstrip("\n")
    finally:
        waiting.cancel()


def raw(assistant: Assistant, flags: argparse.Namespace) -> bool:
    if not flags.raw and not assistant.template.has_chat:
        if flags.system is not None:
            raise RequestError("This is a base model without a chat template, so it has no use for a system message.")
        aside("This is a base model without a chat template: it goes on with your text.")
        return True
    return bool(flags.raw)


def introduce(assistant: Assistant, name: str, seconds: float) -> None:
    for note in assistant.engine.notes:
        aside(note)
    aside(f"{name} loaded in {seconds:.1f} s, context {assistant.engine.context} tokens.")


def once(ask: chat.Asker, prompt: str) -> int:
    reply = ask(prompt)
    if not reply.text.endswith("\n"):
        answer("\n")
    aside(chat.summary(reply))
    return 128 + signal.SIGINT if reply.finish is Finish.CANCELLED else 0


def as_json(ask: chat.Asker, prompt: str, model: str) -> int:
    reply = ask(prompt, lambda text: None, lambda text: None)
    told = {
        "model": model,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "finish": str(reply.finish),
        "tool_calls": [asdict(call) for call in reply.ran],
        "usage": None if reply.usage is None else asdict(reply.usage),
    }
    print(json.dumps(told, indent=2))
    return 128 + signal.SIGINT if reply.finish is Finish.CANCELLED else 0


def schema_of(file: Path) -> Constraint:
    try:
        schema = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise RequestError(f"{file} is no JSON: {error}.") from error
    if not isinstance(schema, dict):
        raise RequestError(f"{file} must hold a JSON schema, which is an object.")
    return Constraint(Shape.JSON_SCHEMA, json.dumps(schema))
