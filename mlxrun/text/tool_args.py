"""The arguments of a call, in each of the styles that models write them in, read as one JSON object while they come.

Knows where arguments end, not what stands round them: `ends` are the texts that may follow. See `tool_formats`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..turns import Tool
from .incoming import SPACE, Broken, Incoming, Waiting, as_json, certain, finder
from .tool_formats import BareArgs, JsonArgs, PythonArgs, Strings, TaggedArgs
from .tool_markers import pieces
from .tool_values import JSON, Emit, Notation, ValueReader, bare, python, spelled, take_raw, whole

ALL_KINDS = frozenset({"string", "number", "boolean", "null", "array", "object"})
STARTS = {"number": "-0123456789", "boolean": "tTfF", "null": "nN", "array": "[", "object": "{"}
TAGGED = replace(python({}), opens="{[")  # templates print Python's
NAME = re.compile(r"[^\W\d]\w*")
IDENTIFIER = re.compile(r"\w*")
MOST_DEEP = 8  # schemas looked through
LONGEST_ATTRIBUTE = 300
ArgsStyle = JsonArgs | PythonArgs | TaggedArgs | BareArgs


@dataclass(slots=True)
class ArgsTask:
    """What a reader is given: where from, where to, and of which tool."""

    source: Incoming
    emit: Emit
    tool: Tool


class ArgsReader(Protocol):
    def begins(self, source: Incoming) -> Generator[None, None, bool]:
        """Whether arguments come next, or an end without any; nothing is taken."""

    def read(self, call: ArgsTask) -> Waiting: ...


class ObjectReader:
    """An object as JSON or with bare keys writes it."""

    def __init__(self, notation: Notation, ends: tuple[str, ...]) -> None:
        self._notation, self._ends = notation, ends

    def begins(self, source: Incoming) -> Generator[None, None, bool]:
        yield from source.space()
        return (yield from source.ahead(("{", *self._ends))) is not None

    def read(self, call: ArgsTask) -> Waiting:
        yield from call.source.space()
        if (yield from call.source.next()) == "{":
            yield from ValueReader(call.source, self._notation, call.emit).read()
        else:
            call.emit("{}")


class KeywordReader:
    """Keyword arguments as Python writes them, up to the bracket that ends them."""

    def __init__(self, args: PythonArgs, ends: tuple[str, ...]) -> None:
        self._notation = python({args.true: "true", args.false: "false", args.none: "null"})
        self._ends = ends

    def begins(self, source: Incoming) -> Generator[None, None, bool]:
        yield from source.space()
        letter = yield from source.next()
        return bool(NAME.match(letter)) or (yield from source.ahead(self._ends)) is not None

    def read(self, call: ArgsTask) -> Waiting:
        source = call.source
        values = ValueReader(source, self._notation, call.emit)
        call.emit("{")
        some = False
        while True:
            yield from source.space()
            if (yield from source.ahead(self._ends)) is not None:
                break
            name = yield from source.run(IDENTIFIER, LONGEST_ATTRIBUTE)
            yield from source.must("=")
            if not NAME.fullmatch(name):
                raise Broken
            call.emit(f'{", " if some else ""}"{name}": ')
            yield from values.read()
            some = True
            yield from source.space()
            if (yield from source.take((",",))) is None and (yield from source.ahead(self._ends)) is None:
                raise Broken
        call.emit("}")


class TaggedReader:
    """One tagged parameter after the other. `opener`: texts and the fields {key} and {raw} in turn."""

    def __init__(self, args: TaggedArgs, opener: tuple[str, ...], close: str, ends: tuple[str, ...]) -> None:
        self._args, self._close, self._ends = args, close, ends
        self._pieces = (*opener[:-1], opener[-1].strip(SPACE))
        self._skipped = opener[-1][len(opener[-1].rstrip(SPACE)) :]  # white space that is none of the value
        self._first = opener[0].strip(SPACE)
        self._after = (self._first, *ends)
        core = close.strip(SPACE)
        self._closers = (close.rstrip(SPACE), core) if close.rstrip(SPACE) != core else (core,)
        self._find = finder(self._closers)

    def begins(self, source: Incoming) -> Generator[None, None, bool]:
        yield from source.space()
        return (yield from source.ahead(self._after)) is not None

    def read(self, call: ArgsTask) -> Waiting:
        source = call.source
        call.emit("{")
        some = False
        while True:
            yield from source.space()
            if (yield from source.ahead(self._after)) != self._first:
                break
            source.at += len(self._first)
            key, raw = yield from self._head(source)
            kinds = kinds_of(call.tool, key)
            if self._args.strings is Strings.BY_ATTR:
                kinds = frozenset({"string"}) if raw == self._args.raw else ALL_KINDS - {"string"}
            call.emit(f'{", " if some else ""}"{as_json(key)}": ')
            yield from self._value(call, kinds)
            some = True
        if (yield from source.ahead(self._ends)) is None:
            raise Broken
        call.emit("}")

    def _head(self, source: Incoming) -> Generator[None, None, tuple[str, str]]:
        """The rest of a parameter's opener."""
        found = {"{key}": "", "{raw}": ""}
        for at in range(1, len(self._pieces), 2):
            end, *more = self._pieces[at + 1].split()
            found[self._pieces[at]] = yield from attribute(source, end)
            for text in more:
                yield from source.must(text)
        if self._skipped:
            yield from source.take((self._skipped,))
        return found["{key}"].strip(SPACE), found["{raw}"]

    def _value(self, call: ArgsTask, kinds: frozenset[str]) -> Waiting:
        letter = yield from call.source.next()
        if "string" not in kinds and letter.strip(SPACE):
            if letter in "{[":
                yield from ValueReader(call.source, TAGGED, call.emit).read()
                yield from call.source.must(self._closers[-1])
                return
        elif kinds == {"string"} or not any(letter in STARTS[kind] for kind in kinds - {"string"}):
            call.emit('"')
            yield from self._to_close(call.source, lambda text: call.emit(as_json(text)))
            call.emit('"')
            return
        held: list[str] = []
        yield from self._to_close(call.source, held.append)
        call.emit(judged("".join(held), kinds, call.source))

    def _to_close(self, source: Incoming, emit: Emit) -> Waiting:
        """A raw text up to its closer: the first one that is followed by what may follow one."""
        start = 0  # how much of what comes was looked at
        while True:
            found = self._find.search(source.text, source.at + start)
            if found is None:
                end = certain(source.text[source.at :], self._closers)
                take_raw(source, end, emit)
                start = 0
                if source.ended:
                    raise Broken
                yield
                continue
            length, closer = found.start() - source.at, len(found[0])
            if (yield from self._closes(source, length + closer)):
                take_raw(source, length, emit)
                source.at += closer
                return
            start = length + 1

    def _closes(self, source: Incoming, ahead: int) -> Generator[None, None, bool]:
        """Whether a closer that ends `ahead` letters from here is one. A cut answer may end in what follows."""
        while not (rest := source.text[source.at + ahead :].lstrip(SPACE)) and not source.ended:
            yield
        spaces = len(source.text) - source.at - ahead - len(rest)
        if (yield from source.ahead(self._after, ahead + spaces)) is not None:
            return True
        rest = source.text[source.at + ahead + spaces :]
        return source.ended and any(text.startswith(rest) for text in self._after)


def attribute(source: Incoming, end: str) -> Generator[None, None, str]:
    """A short text in one line up to `end`, which is taken too."""
    while True:
        found = source.text.find(end, source.at)
        text = source.text[source.at : found if found >= 0 else None]
        if len(text) > LONGEST_ATTRIBUTE or "\n" in text.strip(SPACE):
            raise Broken
        if found >= 0:
            source.at = found + len(end)
            return spelled(source, text)
        if source.ended:
            raise Broken
        yield


def judged(text: str, kinds: frozenset[str], source: Incoming) -> str:
    """A value whose kind its tags do not tell: what the schema has a place for; else it is the text that it is."""
    found = whole(text, TAGGED, source)
    if found is not None and not found.startswith('"'):
        if "string" not in kinds or kind_of(found) in kinds:
            return found
    elif found is not None and "string" not in kinds:
        return found
    return f'"{as_json(text)}"'


def kind_of(value: str) -> str:
    return next((kind for kind, letters in STARTS.items() if value[0] in letters), "string")


def kinds_of(tool: Tool, key: str) -> frozenset[str]:
    """The kinds of value that a tool's schema allows there."""
    if tool.custom:
        return frozenset({"string"})
    properties = tool.parameters.get("properties")
    schema = properties.get(key) if isinstance(properties, Mapping) else None
    return _kinds(schema, tool.parameters, MOST_DEEP)


def _kinds(schema: Any, root: Mapping[str, Any], depth: int) -> frozenset[str]:
    if not isinstance(schema, Mapping) or depth == 0:
        return ALL_KINDS
    if isinstance(ref := schema.get("$ref"), str):
        return _kinds(_at(root, ref), root, depth - 1)
    told = schema.get("type")
    if told is not None:
        names = {told} if isinstance(told, str) else set(map(str, told)) if isinstance(told, list) else set()
        return frozenset("number" if name == "integer" else name for name in names) & ALL_KINDS or ALL_KINDS
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return frozenset(kind_of(json.dumps(value)) for value in values)
    for word in ("anyOf", "oneOf"):
        if isinstance(some := schema.get(word), list) and some:
            return frozenset().union(*(_kinds(one, root, depth - 1) for one in some))
    return ALL_KINDS


def _at(root: Any, ref: str) -> Any:
    for key in ref.removeprefix("#").split("/")[1:]:
        root = root.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root


def reader_of(args: ArgsStyle, written: Callable[[str], str], ends: tuple[str, ...]) -> ArgsReader:
    """`written`: an entry's text, its marker tokens as their letters. `ends`: what may follow the arguments."""
    match args:
        case JsonArgs():
            return ObjectReader(JSON, ends)
        case BareArgs(quote=quote):
            return ObjectReader(bare(written(quote)), ends)
        case PythonArgs():
            return KeywordReader(args, ends)
        case TaggedArgs():
            return TaggedReader(args, pieces(args.open, written), written(args.close), ends)
