"""The arguments of a call as grammar rules, in each style that models write them in (`tool_args` reads them).

A rule a property, in the schema's order; those that are not required may be left out. Knows no call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .lark import ANY, EMPTY, LarkText, quoted
from .tool_formats import BareArgs, JsonArgs, PythonArgs, Strings, TaggedArgs
from .tool_schema import Schema, kind_of, kinds_of, property_schema, shared_of

STARTS = {"number": r"\-0-9", "boolean": "tTfF", "null": "nN", "array": r"\[", "object": "{"}  # letters of other kinds
KEY = r"[A-Za-z_]\w{0,63}"
SINGLE = r"'([^'\\\x00-\x1f]|\\[\\'nt])*'"
DOUBLE = SINGLE.replace("'", '"')


def arguments(lark: LarkText, style: JsonArgs | PythonArgs | TaggedArgs | BareArgs, schema: Schema) -> str:
    match style:
        case JsonArgs():
            return lark.json(schema)
        case PythonArgs():
            values = Literals(lark, style)
            return listed(lark, schema, lambda name, one: quoted(f"{name}=") + " " + values.value(one), ", ")
        case TaggedArgs():
            return listed(lark, schema, lambda name, one: tagged(lark, style, name, one), "")
    bare = Literals(lark, style)
    inner = listed(lark, schema, lambda name, one: quoted(f"{name}:") + " " + bare.value(one), ",")
    return lark.joined([quoted("{"), inner, quoted("}")])


def listed(lark: LarkText, schema: Schema, written: Callable[[str, Schema | bool], str], between: str) -> str:
    """The properties in order, those that are not required or not."""
    required = frozenset(schema.get("required", ()))
    names = [*schema.get("properties", {})]
    names += [name for name in schema.get("required", ()) if name not in names]
    first = after = EMPTY  # what may come from here on, where nothing stands before it and where something does
    for name in reversed(names):
        one = lark.rule(written(name, property_schema(schema, name)), "arg")
        begun = lark.joined([one, after])
        more = lark.joined([quoted(between) if between else EMPTY, one, after])
        if name not in required:
            begun, more = f"{begun} | {first}", f"{more} | {after}"
        first, after = lark.rule(begun, "args"), lark.rule(more, "args")
    return first


def tagged(lark: LarkText, style: TaggedArgs, name: str, schema: Schema | bool) -> str:
    kinds, opener = kinds_of(schema), style.open.replace("{key}", name)
    by_attribute = style.strings is Strings.BY_ATTR
    options = []
    if "string" in kinds:
        said = opener.replace("{raw}", style.raw)
        options.append(lark.joined([lark.literal(said), raw(lark, style.close, schema, kinds, sure=by_attribute)]))
    others = kinds - {"string"}
    for kind in sorted(others) if style.other is None else [style.other] if others else ():
        held = others if style.other is not None else frozenset({kind})
        value = lark.json(only(schema, held))
        options.append(lark.joined([lark.literal(opener.replace("{raw}", kind)), value, lark.literal(style.close)]))
    return lark.one_of(options, "value")


def raw(lark: LarkText, close: str, schema: Schema | bool, kinds: frozenset[str], *, sure: bool) -> str:
    """A text as it is, and what ends it. Unless it is `sure` that it is one, nothing that looks like another kind."""
    if not isinstance(schema, bool) and ("enum" in schema or "const" in schema):
        texts = [one for one in schema.get("enum", [schema.get("const")]) if isinstance(one, str)]
        return lark.joined([lark.one_of([quoted(one) for one in texts], "enum"), lark.literal(close)])
    others = "".join(STARTS[kind] for kind in sorted(kinds - {"string"}))
    inner = ANY if sure or not others else rf"([^\s{others}]{ANY})?"
    return lark.until(close, inner)


def only(schema: Schema | bool, kinds: frozenset[str]) -> Schema:
    """What of the schema is of these kinds."""
    if isinstance(schema, bool):
        return {"type": sorted(kinds)}
    if kinds_of(schema) <= kinds:
        return schema
    if "enum" in schema:
        return {**schema, "enum": [one for one in schema["enum"] if kind_of(one) in kinds]}
    for word in ("anyOf", "oneOf"):
        if word in schema:
            parts = [one if isinstance(one, bool) else one | shared_of(schema) for one in schema[word]]
            return {**schema, word: [only(one, kinds_of(one) & kinds) for one in parts if kinds_of(one) & kinds]}
    return {**schema, "type": sorted(kinds)}


class Literals:
    """Values as Python or an object with bare keys writes them. Nested ones are held to their kind alone."""

    def __init__(self, lark: LarkText, style: PythonArgs | BareArgs) -> None:
        self._lark, self._style = lark, style

    def value(self, schema: Schema | bool) -> str:
        if not isinstance(schema, bool) and ("enum" in schema or "const" in schema):
            return self._lark.one_of([self.written(one) for one in schema.get("enum", [schema.get("const")])], "enum")
        kinds = kinds_of(schema)
        numbers = {"type": "integer"} if _only_whole(schema) else {"type": "number"}
        if isinstance(schema, dict) and kinds == {"number"}:
            return self._lark.json(schema)
        found = {
            "string": self._text(),
            "number": self._lark.json(numbers),
            "boolean": f"({self.written(True)} | {self.written(False)})",
            "null": self.written(None),
            "array": self._any("array"),
            "object": self._any("object"),
        }
        return self._lark.one_of([found[kind] for kind in sorted(kinds)], "value")

    def written(self, value: Any) -> str:
        if isinstance(self._style, BareArgs):
            text = self._style.quote + value + self._style.quote if isinstance(value, str) else json.dumps(value)
        else:
            words = {True: self._style.true, False: self._style.false, None: self._style.none}
            plain = value is None or isinstance(value, bool)
            text = words[value] if plain else repr(value)
        return self._lark.literal(text)

    def _text(self) -> str:
        if isinstance(self._style, BareArgs):
            return self._lark.joined([self._lark.literal(self._style.quote), self._lark.until(self._style.quote)])
        return self._lark.rule(f"/{SINGLE}|{DOUBLE}/", "text", terminal=True)

    def _any(self, kind: str) -> str:
        lark = self._lark
        python = isinstance(self._style, PythonArgs)
        key, colon, comma = (self._text(), ": ", ", ") if python else (f"/{KEY}/", ":", ",")
        literals = [self._text(), lark.json({"type": "number"}), *map(self.written, (True, False, None))]
        inner = lark.rule(" | ".join([*literals, "anyarray", "anyobject"]), "anyvalue")
        array = f"{quoted('[')} ({inner} ({quoted(comma)} {inner})*)? {quoted(']')}"
        pair = f"{key} {quoted(colon)} {inner}"
        object = f"{quoted('{')} ({pair} ({quoted(comma)} {pair})*)? {quoted('}')}"
        lark.named("anyarray", array)
        lark.named("anyobject", object)
        return "anyarray" if kind == "array" else "anyobject"


def _only_whole(schema: Schema | bool) -> bool:
    told = schema.get("type") if isinstance(schema, dict) else None
    return "integer" in (told if isinstance(told, list) else [told]) and "number" not in (told or ())
