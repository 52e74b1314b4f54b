"""What the request types of an installed SDK ask of a schema: every field and every literal that has no verdict there.

A field has one if the schema names it: honoured, ignored, or taking only the value that changes nothing. What is
knowingly left out is listed by whoever asks.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict  # the SDKs' own, which typing's does not know

from mlxrun.server.check import UNSUPPORTED, option_of

Schema = Mapping[str, Any]
Seen = frozenset[Any]


def without_verdict(kind: Any, schema: Schema, path: str = "", seen: Seen = frozenset()) -> Iterator[str]:
    """Paths: `messages[].content[]<type=file>` is a kind of object, `stop=5` a literal."""
    if schema.get(UNSUPPORTED):
        return  # refused by its name
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        for one in get_args(kind):
            yield from without_verdict(one, schema, path, seen)
    elif origin is Literal:
        yield from _literals(get_args(kind), schema, path)
    elif is_typeddict(kind):
        if (kind, path) not in seen:
            yield from _fields(kind, schema, path, seen | {(kind, path)})
    elif origin is not None and issubclass(origin, Iterable) and not issubclass(origin, Mapping):
        for option in _options(schema):
            if "items" in option:
                yield from without_verdict(get_args(kind)[0], option["items"], f"{path}[]", seen)


def _literals(values: tuple[Any, ...], schema: Schema, path: str) -> Iterator[str]:
    options = [
        option for option in _options(schema) if "enum" in option or option.get("type") in ("string", "boolean", None)
    ]
    for value in values:
        taken = any("enum" not in option or value in option["enum"] for option in options)
        if not taken and value is not None:
            yield f"{path}={value}"


def _fields(kind: Any, schema: Schema, path: str, seen: Seen) -> Iterator[str]:
    fields = {name: _plain(hint) for name, hint in get_type_hints(kind, include_extras=False).items()}
    objects = [option for option in _options(schema) if option.get("type") == "object"]
    tags = {name: get_args(hint)[0] for name, hint in fields.items() if get_origin(hint) is Literal}
    for union in _unions(schema):
        option = option_of(tags, union)
        if option is None:
            tag = union["discriminator"]["propertyName"]
            yield f"{path}<{tag}={tags.get(tag)}>"
            return
        objects = [option]
    for option in objects[:1]:
        for name, hint in fields.items():
            inner = option.get("properties", {}).get(name)
            at = f"{path}.{name}" if path else name
            if inner is not None:
                yield from without_verdict(hint, inner, at, seen)
            elif option.get("additionalProperties") is False:
                yield at


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if str(get_origin(hint)) in ("typing.Required", "typing.NotRequired") else hint


def _options(schema: Schema) -> list[Schema]:
    return [inner for option in schema["anyOf"] for inner in _options(option)] if "anyOf" in schema else [schema]


def _unions(schema: Schema) -> list[Schema]:
    return [option for option in _options(schema) if "oneOf" in option]
