"""The methods of text and containers that a chat template may call, each with how it pays before it runs.

None of them changes anything. What is not listed is refused, so nothing is gained by reaching an object that
has more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .allowed import argument
from .meter import Meter

# A method's rule may hand back other arguments, where reading them used them up.
MethodRule = Callable[[Meter, Any, Sequence[Any], Mapping[str, Any]], Sequence[Any] | None]


def _m_text(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.charge(meter.span(owner))
    meter.weigh(*args, *kwargs.values())


def _m_product(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.product(owner, args[0] if args else None)


def _m_split(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    separator = argument(0, "sep", args, kwargs, None)
    meter.split(owner, separator)
    meter.product(owner, separator)


def _m_lines(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.split(owner, None)


def _m_width(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.charge(meter.span(owner) + meter.width(args[0]) // 64)


def _m_tabs(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.charge((1 + owner.count("\t")) * (1 + meter.width(argument(0, "tabsize", args, kwargs, 8)) // 64))
    meter.charge(meter.span(owner))


def _m_replace(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.replace(owner, args[0], args[1])


def _m_join(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Any]:
    held = [meter.hold(arg) for arg in args]
    meter.join(owner, *held)
    return held


def _m_deep(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.weigh(owner, *args)


def _m_key(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.weigh(*args)


def _m_copy(meter: Meter, owner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    meter.charge(meter.span(owner))


TEXT_METHODS = (
    *("lower", "upper", "title", "capitalize", "swapcase", "casefold", "startswith", "endswith", "removeprefix"),
    *("removesuffix", "find", "index", "count", "partition", "isdigit", "isalpha", "isalnum", "isspace", "isupper"),
    *("islower", "isnumeric", "isdecimal", "istitle", "isidentifier", "isascii", "isprintable"),
)
METHODS: dict[type, dict[str, MethodRule]] = {
    str: {
        **dict.fromkeys(TEXT_METHODS, _m_text),
        **dict.fromkeys(("strip", "lstrip", "rstrip", "rfind", "rindex", "rpartition"), _m_product),
        **dict.fromkeys(("split", "rsplit"), _m_split),
        **dict.fromkeys(("center", "ljust", "rjust", "zfill"), _m_width),
        "splitlines": _m_lines,
        "expandtabs": _m_tabs,
        "replace": _m_replace,
        "join": _m_join,
    },
    dict: {"get": _m_key, "keys": _m_key, "values": _m_key, "items": _m_key, "copy": _m_copy},
    list: {"index": _m_deep, "count": _m_deep, "copy": _m_copy},
    tuple: {"index": _m_deep, "count": _m_deep},
    float: {"is_integer": _m_key},
}


def rule_of(owner: Any, name: str) -> MethodRule | None:
    return next((table.get(name) for kind, table in METHODS.items() if isinstance(owner, kind)), None)
