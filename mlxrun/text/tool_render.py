"""Calls as a model writes them in one tool format: the counterpart of the parser, by the same entry.

For whoever compares a chat template's words with an entry's (`tool_probe`), and for tests. Knows no state and no model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..turns import Call
from .tool_formats import BareArgs, JsonArgs, JsonHead, PythonArgs, RecipientHead, Strings, TaggedArgs, ToolFormat
from .tool_schema import kind_of


def written(form: ToolFormat, calls: Sequence[Call], first: int = 0) -> str:
    """`first`: how many calls the conversation has had before."""
    told = form.between.join(_call(form, call, first + at) for at, call in enumerate(calls))
    before, after = form.section or ("", "")
    return before + told + after


def _call(form: ToolFormat, call: Call, n: int) -> str:
    opener, closer = form.call
    return opener + _body(form, call, n) + form.tail + (closer or "")


def _body(form: ToolFormat, call: Call, n: int) -> str:
    values: Mapping[str, Any] = json.loads(call.arguments)
    match form.head:
        case JsonHead(name_is_key=True):
            return dumped({call.name: values})
        case JsonHead(name, args, id=known):
            id = {} if known is None else {known: call.id}
            told = {name: call.name, args: values}
            return dumped(id | told if form.head.id_first else told | id)
        case RecipientHead(to):
            head = f"<|channel|>commentary to={filled(to, call, n)} <|constrain|>json<|message|>"
        case _:
            head = filled(form.head.text, call, n)
    return head + arguments(form, values)


def filled(text: str, call: Call, n: int) -> str:
    """A head's text with what it names."""
    for key, value in (("{name}", call.name), ("{id}", call.id), ("{n}", str(n))):
        text = text.replace(key, value)
    return text


def arguments(form: ToolFormat, values: Mapping[str, Any]) -> str:
    match form.args:
        case JsonArgs():
            return dumped(values)
        case PythonArgs():
            return ", ".join(f"{key}={_literal(form.args, value)}" for key, value in values.items())
        case TaggedArgs():
            return "".join(_tagged(form.args, key, value) for key, value in values.items())
    return _bare(form.args, values)


def dumped(value: Any) -> str:
    """As templates write JSON."""
    return json.dumps(value, ensure_ascii=False)


def _tagged(style: TaggedArgs, key: str, value: Any) -> str:
    text, opener = isinstance(value, str), style.open.replace("{key}", key)
    if style.strings is Strings.BY_ATTR:
        opener = opener.replace("{raw}", style.raw if text else style.other or kind_of(value))
    return opener + (value if text else dumped(value)) + style.close


def _literal(style: PythonArgs, value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_literal(style, one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_literal(style, one) for one in value) + "]"
    if value is None:
        return style.none
    if isinstance(value, bool):
        return style.true if value else style.false
    return repr(value)


def _bare(style: BareArgs, value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_bare(style, one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_bare(style, one) for one in value) + "]"
    return style.quote + value + style.quote if isinstance(value, str) else dumped(value)
