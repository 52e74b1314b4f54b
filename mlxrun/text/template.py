"""Chat templates: a conversation to the text that a model was trained on.

A template comes with the model and is somebody else's program: it runs in the sandbox, on a budget that
grows with the conversation. A model without one is a base model: `has_chat` is False and nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import CodeType
from typing import Any

from ..core import RequestError
from ..spec import SIGNS, ModelError
from .folder import Folder, is_there, read_json, read_text

MAX_SOURCE = 64 << 10  # characters; the longest template in use has about 20,000
STEPS = 200_000  # a rendering may take so many steps (see meter.py)
STEPS_PER_VALUE = 10_000  # and so many more for every value in the conversation: some templates look at all pairs
MAX_DEPTH = 100  # of values inside values
# What running somebody else's code on somebody else's data can raise.
PYTHON_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, NameError),
    *(RuntimeError, StopIteration, SyntaxError, TypeError, ValueError),
)


class ChatTemplate:
    def __init__(
        self,
        sources: Mapping[str, str],
        specials: Mapping[str, str],
        *,
        model: str = "This model",
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        """`sources` by name, "default" and perhaps "tool_use"; `specials` are variables such as bos_token."""
        self._sources, self._specials = dict(sources), dict(specials)
        self._model, self._clock = model, clock
        self._compiled: dict[str, CodeType] = {}

    @classmethod
    def from_folder(cls, path: Path | str) -> ChatTemplate:
        folder = Folder.read(Path(path))
        return cls(_sources(folder), folder.special_texts(), model=folder.path.name)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> ChatTemplate:
        key = "tokenizer.chat_template"
        found = {"default": metadata.get(key)} | {
            n[len(key) + 1 :]: v for n, v in metadata.items() if n[: len(key) + 1] == f"{key}."
        }
        sources = {name: source for name, source in found.items() if source is not None}
        if not all(isinstance(source, str) for source in sources.values()):
            raise ModelError(f"{key} in the GGUF metadata must be text.")
        tokens = metadata.get("tokenizer.ggml.tokens", ())
        ids = {f"{role}_token": metadata.get(f"tokenizer.ggml.{role}_token_id") for role in ("bos", "eos")}
        specials = {name: tokens[i] for name, i in ids.items() if isinstance(i, int) and 0 <= i < len(tokens)}
        return cls(sources, specials, model=str(metadata.get("general.name", "This model")))

    @property
    def model(self) -> str:
        """For a sentence about it."""
        return self._model

    @property
    def has_chat(self) -> bool:
        return bool(self._sources)

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(self._sources.values())

    def source(self, *, tools: bool = False) -> str:
        return self._sources[self._pick(tools)]

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        **extra: Any,
    ) -> str:
        name = self._pick(bool(tools))
        variables = {**self._specials, "documents": None, **extra, "messages": messages, "tools": tools or None}
        variables["add_generation_prompt"] = add_generation_prompt
        return self._run(name, variables)

    def _pick(self, tools: bool) -> str:
        if not self._sources:
            raise RequestError(f"{self._model} is a base model without a chat template; ask it to complete a text.")
        if tools and "tool_use" in self._sources:
            return "tool_use"
        if "default" not in self._sources:
            raise ModelError(f"{self._model} has chat templates named {', '.join(self._sources)}, but no default one.")
        return "default"

    def _run(self, name: str, variables: Mapping[str, Any]) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError
        from jinja2.sandbox import SecurityError

        from . import sandbox
        from .meter import Meter, OverBudget

        meter = Meter(STEPS + _budget(variables))
        source = self._sources[name]
        if len(source) > MAX_SOURCE:
            raise ModelError(f"The chat template of {self._model} has {len(source)} characters; at most {MAX_SOURCE}.")
        try:
            code = self._compiled.get(name) or sandbox.compile_template(source)
            self._compiled[name] = code
            return sandbox.render(code, variables, meter, self._clock)
        except sandbox.TemplateRefusal as error:
            said = _one_line(str(error))
            raise RequestError(f"The chat template of {self._model} refuses this conversation: {said}") from error
        except TemplateSyntaxError as error:
            why = f"has an error in line {error.lineno}: {error.message}"
        except (SecurityError, OverBudget) as error:
            why = f"was stopped: {error}"
        except (RecursionError, MemoryError):
            why = "was stopped: it nests too deeply"
        except TemplateError as error:
            why = f"failed on this conversation: {error}"
        except PYTHON_ERRORS as error:
            why = f"failed on this conversation: {type(error).__name__}: {error}"
        raise ModelError(f"The chat template of {self._model} {_one_line(why)[:300].rstrip('.')}.")


def _sources(folder: Folder) -> dict[str, str]:
    """chat_template.jinja outranks tokenizer_config.json, which outranks chat_template.json."""
    found: Any = None
    if is_there(folder.path / "chat_template.jinja"):
        found = read_text(folder.path / "chat_template.jinja")
    elif "chat_template" in folder.tokenizer:
        found = folder.tokenizer["chat_template"]
    else:
        found = read_json(folder.path / "chat_template.json").get("chat_template")
    sources = {} if found is None else {"default": found} if isinstance(found, str) else _named(found, folder.path)
    for path in sorted((folder.path / "additional_chat_templates").glob("*.jinja")):
        sources[path.stem] = read_text(path)
    return sources


def _named(found: Any, path: Path) -> dict[str, str]:
    items = found.items() if isinstance(found, dict) else found
    try:
        pairs = [item if isinstance(item, tuple) else (item["name"], item["template"]) for item in items]
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path}: chat_template must be text or a list of named templates.") from error
    if not all(isinstance(name, str) and isinstance(source, str) for name, source in pairs):
        raise ModelError(f"{path}: chat_template must be text or a list of named templates.")
    return dict(pairs)


def _budget(variables: Mapping[str, Any]) -> int:
    """What the conversation adds to the budget; on the way, that it is plain data and not nested without end."""
    values = texts = 0
    waiting: list[tuple[Any, int]] = [(variables, 0)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if depth > MAX_DEPTH:
            raise RequestError(f"The messages are nested more than {MAX_DEPTH} deep.")
        if isinstance(value, str):
            texts += len(value)
        elif isinstance(value, Mapping):
            waiting.extend((inner, depth + 1) for item in value.items() for inner in item)
        elif isinstance(value, (list, tuple)):
            waiting.extend((inner, depth + 1) for inner in value)
        elif value is not None and not isinstance(value, (bool, int, float)):
            raise RequestError(f"The messages must be plain JSON data, but hold a {type(value).__name__}.")
    return values * STEPS_PER_VALUE + texts


def _one_line(text: str) -> str:
    return " ".join(text.split()).translate(SIGNS)
