"""The arguments of a call as grammar rules, in each style that models write them in (`tool_args` reads them).

A rule a property, in the schema's order; those that are not required may be left out. Knows no call.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .lark import ANY, EMPTY, LarkText, Literal, quoted
from .tool_formats import BareArgs, JsonArgs, PythonArgs, Strings, TaggedArgs
from .tool_schema import (
    WITH_LIST,
    WITH_SCHEMA,
    WITH_SCHEMAS,
    Schema,
    kind_of,
    kinds_of,
    property_schema,
    referred,
    shared_of,
)

ArgsStyle = JsonArgs | PythonArgs | TaggedArgs | BareArgs
MOST_DEEP = 8
STARTS = {"number": r"\-0-9", "boolean": "tTfF", "null": "nN", "array": r"\[", "object": "{"}  # letters of other kinds
KEY = r"[A-Za-z_]\w{0,63}"
SINGLE = r"'([^'\\\x00-\x1f]|\\[\\'nt])*'"
DOUBLE = SINGLE.replace("'", '"')


OF_TEXTS = ("pattern", "format", "minLength", "maxLength")
OF_MORE = (*OF_TEXTS, "minItems", "maxItems", "prefixItems", "patternProperties", "minProperties", "maxProperties")


def unheld(style: ArgsStyle, schema: Schema, where: str) -> list[str]:
    """The words of a schema that arguments in this style are not held to."""
    if isinstance(style, JsonArgs):
        return []
    if isinstance(style, TaggedArgs):  # only its texts are no JSON
        named = [(name, property_schema(schema, name)) for name in schema.get("properties", {})]
        texts = [(name, one) for name, one in named if isinstance(one, dict) and "string" in kinds_of(one)]
        return [f"{where}.properties.{name}.{word}" for name, one in texts for word in OF_TEXTS if word in one]
    found = [f"{where}.{word}" for word in OF_MORE if word in schema and not isinstance(schema[word], dict)]
    for name, one in schema.items():
        for key, part in parts_of(name, one):
            found += unheld(style, part, f"{where}.{name}{key}")
    return found


def parts_of(word: str, value: Any) -> list[tuple[str, Schema]]:
    """The schemas in what stands behind a word of one."""
    if word in WITH_SCHEMAS and isinstance(value, dict):
        return [(f".{name}", one) for name, one in value.items() if isinstance(one, dict)]
    if word in WITH_LIST and isinstance(value, list):
        return [(f".{at}", one) for at, one in enumerate(value) if isinstance(one, dict)]
    return [("", value)] if word in WITH_SCHEMA and isinstance(value, dict) else []


def arguments(lark: LarkText, style: ArgsStyle, schema: Schema, given: str | None = None) -> str:
    """`given`: the rule for the one text that a tool without a schema of its own takes, where texts are raw."""
    match style:
        case JsonArgs():
            return lark.json(schema)
        case TaggedArgs() if given is not None:
            opener = style.open.replace("{key}", "input").replace("{raw}", style.raw)
            return lark.joined([Literal(opener), given, Literal(style.close)])
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
    """Values as Python or an object with bare keys writes them."""

    def __init__(self, lark: LarkText, style: PythonArgs | BareArgs) -> None:
        self._lark, self._style = lark, style
        self._python = isinstance(style, PythonArgs)
        self._comma, self._colon = (", ", ": ") if self._python else (",", ":")

    def value(self, schema: Schema | bool, depth: int = 0) -> str:
        """`depth`: of schemas in schemas; far down any value of that kind may come, so that none goes on for ever."""
        if isinstance(schema, bool) or depth > MOST_DEEP:
            return self._lark.one_of([self._any(kind) for kind in sorted(kinds_of(schema))], "value")
        if "enum" in schema or "const" in schema:
            return self._lark.one_of([self.written(one) for one in schema.get("enum", [schema.get("const")])], "enum")
        if "$ref" in schema:
            return self.value(referred(schema), depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                parts = [one if isinstance(one, bool) else one | shared_of(schema) for one in schema[word]]
                return self._lark.one_of([self.value(one, depth + 1) for one in parts], "value")
        return self._lark.one_of([self._kind(kind, schema, depth) for kind in sorted(kinds_of(schema))], "value")

    def _kind(self, kind: str, schema: Schema, depth: int) -> str:
        lark = self._lark
        if kind == "number":
            return lark.json({**schema, "type": "integer" if _only_whole(schema) else "number"})
        if kind == "array" and isinstance(schema.get("items"), dict):
            one = self.value(schema["items"] | shared_of(schema), depth + 1)
            return lark.rule(f"{quoted('[')} ({one} ({quoted(self._comma)} {one})*)? {quoted(']')}", "array")
        if kind == "object" and "properties" in schema:
            inner = listed(lark, schema, lambda name, one: self._pair(name, one, depth + 1), self._comma)
            return lark.rule(lark.joined([quoted("{"), inner, quoted("}")]), "object")
        return self._any(kind)

    def _pair(self, name: str, schema: Schema | bool, depth: int) -> str:
        key = repr(name) if self._python else name
        return quoted(key + self._colon) + " " + self.value(schema, depth)

    def written(self, value: Any) -> str:
        if isinstance(self._style, BareArgs):
            text = self._style.quote + value + self._style.quote if isinstance(value, str) else json.dumps(value)
        else:
            words = {True: self._style.true, False: self._style.false, None: self._style.none}
            text = words[value] if value is None or isinstance(value, bool) else repr(value)
        return self._lark.literal(text)

    def _any(self, kind: str) -> str:
        lark = self._lark
        match kind:
            case "string" if isinstance(self._style, BareArgs):
                return lark.joined([lark.literal(self._style.quote), lark.until(self._style.quote)])
            case "string":
                return lark.rule(f"/{SINGLE}|{DOUBLE}/", "text", terminal=True)
            case "number":
                return lark.json({"type": "number"})
            case "boolean":
                return f"({self.written(True)} | {self.written(False)})"
            case "null":
                return self.written(None)
        simple = [self._any(one) for one in ("string", "number", "boolean", "null")]
        inner = lark.rule(" | ".join([*simple, "anyarray", "anyobject"]), "anyvalue")
        pair = f"{self._any('string') if self._python else f'/{KEY}/'} {quoted(self._colon)} {inner}"
        comma = quoted(self._comma)
        lark.named("anyarray", f"{quoted('[')} ({inner} ({comma} {inner})*)? {quoted(']')}")
        lark.named("anyobject", f"{quoted('{')} ({pair} ({comma} {pair})*)? {quoted('}')}")
        return "anyarray" if kind == "array" else "anyobject"


def _only_whole(schema: Schema) -> bool:
    told = schema.get("type")
    return "integer" in (told if isinstance(told, list) else [told]) and "number" not in (told or ())
