"""Which tool format a model has, and what its chat template wants: found by rendering small conversations.

Each question is asked when somebody first needs its answer, and kept. A model's name is never looked at. Knows no
conversation of anybody's and no answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import Any

from ..core import RequestError
from ..spec import ModelError
from ..turns import Call
from .template import ChatTemplate
from .tokenizer import Tokenizer
from .tool_formats import FORMATS, Ids, JsonHead, RecipientHead, TaggedArgs, TextHead, ToolFormat
from .tool_render import written

Message = dict[str, Any]

NAME, KEY, VALUE, RESULT = "zq_tool", "zq_key", "zq_value", "zq_result"
LONG_ID, NINE_IDS = "call_zq1234567890abcdef", ("zq1234567", "zq7654321")
COUNTED_IDS = (f"functions.{NAME}:0", f"functions.{NAME}:1")
FIELDS = ("reasoning_content", "thinking", "reasoning", "thought", "thoughts", "tool_plan")  # of thoughts
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Looks something up.",
        "parameters": {
            "type": "object",
            "properties": {KEY: {"type": "string", "description": "what"}},
            "required": [KEY],
        },
    },
}


class Probe:
    """What one model's chat template does."""

    def __init__(self, template: ChatTemplate, tokenizer: Tokenizer | None = None) -> None:
        """Without its tokenizer what only its tokens tell is not found."""
        self._template, self._tokenizer = template, tokenizer

    # tools

    @cached_property
    def tool_format(self) -> ToolFormat | None:
        """How it writes calls; None: it knows no tools."""
        if not self.shows_tools:
            return None
        return self._by_rendering[0] or self._by_markers or self._by_tokens

    @cached_property
    def shows_tools(self) -> bool:
        shown = self._rendered([user("zq")], tools=[TOOL], generation=True)
        return shown is not None and NAME in shown

    @cached_property
    def text_arguments(self) -> bool:
        """Whether it wants a call's arguments as JSON text, and not as the object that they are."""
        return self._by_rendering[1]

    @cached_property
    def parallel(self) -> bool:
        """Whether one turn may hold several calls."""
        told = self._calls(2, self.text_arguments)
        return told is not None and all(value in told for value in values(2))

    @cached_property
    def ids(self) -> Ids:
        """What form of a call's id it insists on."""
        if self.tool_format is not None and self.tool_format.ids is not Ids.FREE:
            return self.tool_format.ids
        taken = self._calls(1, self.text_arguments, (LONG_ID,)) is not None
        return Ids.FREE if taken or self._calls(1, self.text_arguments) is None else Ids.NINE

    @cached_property
    def _by_rendering(self) -> tuple[ToolFormat | None, bool]:
        """The format that writes the same calls in the same words, and whether arguments must be text for that."""
        for as_text in (False, True):
            one, two = self._calls(1, as_text), self._calls(2, as_text)
            if (found := best_match(one, two)) is not None:
                return found, as_text
        told = self._calls(1, as_text=False)
        return None, told is not None and f"{{'{KEY}'" in told

    @cached_property
    def _by_markers(self) -> ToolFormat | None:
        source = self._template.source(tools=True)
        return most_marked(form for form in FORMATS if all(text in source for text in markers(form)))

    @cached_property
    def _by_tokens(self) -> ToolFormat | None:
        if self._tokenizer is None:
            return None
        known = self._tokenizer.added_id
        return most_marked(form for form in FORMATS if all(known(text) is not None for text in markers(form)))

    def _calls(self, count: int, as_text: bool, ids: Sequence[str] = NINE_IDS) -> str | None:
        """A conversation in which an assistant calls a tool, with its results where the template wants them."""
        asked = [user("zq"), calling(count, as_text, ids)]
        results = [result(ids[at]) for at in range(count)]
        for turns in (asked, [*asked, *results]):
            told = self._rendered(turns, tools=[TOOL])
            if told is not None and values(count)[-1] in told:
                return told
        return None

    # turns

    @cached_property
    def parts(self) -> bool:
        """Whether it shows a text only where it comes as a part of a list (SmolVLM)."""
        listed = [as_parts(user("zq_user"))]
        return not self._told([user("zq_user")], "zq_user") and self._told(listed, "zq_user")

    @cached_property
    def system(self) -> bool:
        """Whether it has system turns at all."""
        return self._shows([system("zq_system"), user("zq_user")], "zq_system", "zq_user")

    @cached_property
    def inline_system(self) -> bool:
        """Whether a system turn may stand in the middle."""
        turns = [system("zq"), user("zq"), assistant("zq"), system("zq_system"), user("zq_user")]
        return self.system and self._shows(turns, "zq_system", "zq_user")

    @cached_property
    def alternates(self) -> bool:
        """Whether it insists on the users' and the assistant's turns by turns."""
        return not self._shows([user("zq_first"), user("zq_second")], "zq_first", "zq_second")

    @cached_property
    def thoughts_field(self) -> str | None:
        """Under which name it reads an assistant's thoughts; None: it reads none."""
        thinking = {field: f"zq_{field}_thought" for field in FIELDS}
        last = assistant("zq") | thinking
        for turns in (
            [user("zq"), last],
            [user("zq"), calling(1, self.text_arguments) | thinking, result(NINE_IDS[0])],
        ):
            told = self._rendered(turns, tools=[TOOL] if self.shows_tools else None)
            found = [field for field, text in thinking.items() if told is not None and text in told]
            if found:
                return found[0]
        return None

    @cached_property
    def thought_parts(self) -> bool:
        """Whether it reads thoughts as a part of the content."""
        parts = [{"type": "thinking", "thinking": "zq_thought"}, {"type": "text", "text": "zq_text"}]
        told = self._rendered([user("zq"), assistant("") | {"content": parts}])
        return told is not None and "'zq_thought'" not in told and "zq_thought" in told and "zq_text" in told

    # variables

    @cached_property
    def variables(self) -> frozenset[str]:
        """Names that its source holds."""
        return frozenset(word for source in self._template.sources for word in re.findall(r"[A-Za-z_]\w*", source))

    def differs(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        """Whether these variables make different prompts."""
        told = [self._rendered([user("zq")], generation=True, **variables) for variables in (first, second)]
        return None not in told and told[0] != told[1]

    def takes(self, **variables: Any) -> bool:
        return self._rendered([user("zq")], generation=True, **variables) is not None

    def _shows(self, turns: Sequence[Message], *texts: str) -> bool:
        told = self._rendered(turns)
        return told is not None and all(text in told for text in texts)

    def _told(self, turns: Sequence[Message], text: str) -> bool:
        try:
            return text in self._template.render(turns, add_generation_prompt=False)
        except (RequestError, ModelError):
            return False

    def _rendered(
        self, turns: Sequence[Message], *, tools: Any = None, generation: bool = False, **more: Any
    ) -> str | None:
        turns = [as_parts(turn) for turn in turns] if self.parts else turns
        try:
            return self._template.render(turns, tools=tools, add_generation_prompt=generation, **more)
        except (RequestError, ModelError):
            return None


def as_parts(message: Message) -> Message:
    """Its text as a list of one."""
    content = message["content"]
    if not isinstance(content, str):
        return message
    return message | {"content": [{"type": "text", "text": content}] if content else []}


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> Message:
    return {"role": "system", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}


def result(id: str) -> Message:
    return {"role": "tool", "content": RESULT, "tool_call_id": id, "name": NAME}


def calling(count: int, as_text: bool, ids: Sequence[str] = NINE_IDS) -> Message:
    calls: list[Message] = []
    for call in calls_of(ids[:count]):
        given = call.arguments if as_text else {KEY: values(2)[len(calls)]}
        calls.append({"id": call.id, "type": "function", "function": {"name": NAME, "arguments": given}})
    return {"role": "assistant", "content": "", "tool_calls": calls}


def calls_of(ids: Sequence[str]) -> list[Call]:
    return [Call(id, NAME, f'{{"{KEY}": "{value}"}}') for id, value in zip(ids, values(len(ids)), strict=True)]


def values(count: int) -> list[str]:
    return [f"{VALUE}_{at}" for at in range(count)]


def best_match(one: str | None, two: str | None) -> ToolFormat | None:
    """The format whose own words for one call and for two are in these renderings: the same to the letter before the
    same but for white space, both before one, the longest words before shorter ones."""
    best: tuple[tuple[bool, bool, int], ToolFormat] | None = None
    for form, start in product(FORMATS, (0, 1)):
        ids = COUNTED_IDS if form.ids is Ids.COUNTED else NINE_IDS
        first, both = written(form, calls_of(ids[:1]), start), written(form, calls_of(ids), start)
        for loosely in (False, True):
            change: Callable[[str], str] = bare if loosely else str
            if one is None or change(first) not in change(one):
                continue
            rank = not loosely, two is not None and change(both) in change(two), len(first)
            if best is None or rank > best[0]:
                best = rank, form
            break
    return None if best is None else best[1]


def bare(text: str) -> str:
    return "".join(text.split())


def markers(form: ToolFormat) -> list[str]:
    """The texts by which its calls are known, without white space round them."""
    texts = [form.call[0], form.call[1] or "", *(form.section or ())]
    match form.head:
        case TextHead(text):
            texts += re.split(r"\{\w+\}", text)
        case JsonHead(name, args):
            texts += [] if form.head.name_is_key else [f'"{name}"', f'"{args}"']
        case RecipientHead():
            texts += ["<|channel|>commentary", "functions."]
    if isinstance(form.args, TaggedArgs):
        texts += [piece for text in (form.args.open, form.args.close) for piece in re.split(r"\{\w+\}", text)]
    return [text.strip() for text in texts if len(text.strip()) > 1]


def most_marked(forms: Iterable[ToolFormat]) -> ToolFormat | None:
    """The one that most speaks for; a format without a marker of its own is never guessed."""
    sure = [form for form in forms if any(len(text.strip("[{( ")) > 1 for text in markers(form))]
    return max(sure, key=lambda form: sum(map(len, markers(form))), default=None)
