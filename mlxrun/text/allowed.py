"""The filters and tests that a chat template may use, each with how it pays before it runs.

A rule is handed the meter, the value and the arguments, pays, and returns the value to work on. What is not
listed does not exist for a template. The work itself is done by Jinja's own filters.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, cast

from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from .meter import Meter, OverBudget

Rule = Callable[[Meter, Any, Sequence[Any], Mapping[str, Any]], Any]
Comparison = Callable[[Any, Any], bool]

COMPARE: dict[str, Comparison] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lteq": operator.le,
    "gt": operator.gt,
    "gteq": operator.ge,
    "in": lambda a, b: a in b,
    "notin": lambda a, b: a not in b,
}


def _step(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.charge(2)
    return value


def _each(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Filters that look at items one by one when asked, and may let most of them fall."""
    meter.charge(8)
    return _metered_items(meter, value) if value else value


def _deep(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    held = meter.hold(value)
    meter.weigh(held, *args, *kwargs.values())
    return held


def _sorting(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    before, held = meter.left, _deep(meter, value, args, kwargs)
    meter.charge(8 * (before - meter.left))
    return held


def _copy(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.charge(len(value) if isinstance(value, str) else meter.span(value))
    return meter.hold(value)


def _letters(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.weigh(value)
    meter.charge(len(str(value)) // 2)
    return value


def _sum(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not isinstance(argument(1, "start", args, kwargs, 0), (int, float)):
        raise OverBudget("it sums what is not a number")
    return _deep(meter, value, args, kwargs)


def _join(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    held = meter.hold(value)
    meter.join(str(argument(0, "d", args, kwargs, "")), held)
    return held


def _trim(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.weigh(value)
    meter.product(str(value), argument(0, "chars", args, kwargs, None))
    return value


def _replace(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.weigh(value)
    meter.replace(str(value), str(argument(0, "old", args, kwargs, "")), str(argument(1, "new", args, kwargs, "")))
    return value


def _indent(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.weigh(value)
    width = argument(0, "width", args, kwargs, 4)
    width = len(width) if isinstance(width, str) else meter.width(width)
    text = str(value)
    meter.charge((2 + len(text.splitlines())) * (1 + width // 64))
    return value


def _center(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.weigh(value)
    meter.charge(1 + meter.width(argument(0, "width", args, kwargs, 80)) // 64)
    return value


def _percent(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.percent(str(value), [list(args), dict(kwargs)])
    return value


def _pieces(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    count = meter.width(argument(0, "linecount" if "linecount" in kwargs else "slices", args, kwargs, 1))
    meter.charge(4 + 8 * count)
    return _copy(meter, value, args, kwargs)


def _round(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    meter.charge(4)
    meter.width(argument(0, "precision", args, kwargs, 0), limit=100)
    return meter.whole(value)


def _number(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        meter.width(len(value), limit=300)
    meter.charge(4)
    return value


def _only_numbers(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not all(isinstance(v, (int, float)) for v in (value, *args)):
        raise OverBudget("it divides what is not a number")
    return _step(meter, value, args, kwargs)


def _comparing(name: str) -> Rule:
    def pay(meter: Meter, value: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        meter.compare(name, value, *args)
        return value

    return pay


def argument(place: int, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], default: Any) -> Any:
    return args[place] if place < len(args) else kwargs.get(name, default)


FILTER_RULES: dict[str, Rule] = {
    **dict.fromkeys(("default", "d", "abs", "attr", "first", "last", "length", "count", "items"), _step),
    **dict.fromkeys(("map", "select", "reject", "selectattr", "rejectattr"), _each),
    **dict.fromkeys(("lower", "upper", "capitalize", "string", "safe", "escape", "e", "truncate"), _deep),
    **dict.fromkeys(("sort", "unique", "groupby", "dictsort", "min", "max"), _sorting),
    **dict.fromkeys(("list", "reverse"), _copy),
    **dict.fromkeys(("batch", "slice"), _pieces),
    **dict.fromkeys(("int", "float"), _number),
    "sum": _sum,
    "join": _join,
    "trim": _trim,
    "replace": _replace,
    "indent": _indent,
    "center": _center,
    "title": _letters,
    "format": _percent,
    "round": _round,
}
LAZY = {"items", "unique", "batch", "slice"}  # what they make is paid for as it is taken

TEST_RULES: dict[str, Rule] = {
    **dict.fromkeys(("boolean", "callable", "defined", "undefined", "none", "true", "false", "integer"), _step),
    **dict.fromkeys(("float", "number", "string", "mapping", "sequence", "iterable", "sameas", "escaped"), _step),
    **dict.fromkeys(("filter", "test"), _step),
    **dict.fromkeys(("odd", "even", "divisibleby"), _only_numbers),
    **dict.fromkeys(("lower", "upper"), _deep),
    **dict.fromkeys(("eq", "equalto", "==", "ne", "!="), _comparing("eq")),
    **dict.fromkeys(("gt", "greaterthan", ">", "ge", ">=", "lt", "lessthan", "<", "le", "<="), _comparing("lt")),
}


def filters(meter: Meter) -> dict[str, Any]:
    table = {
        name: metered(meter, cast("Callable[..., Any]", FILTERS[name]), rule, name in LAZY)
        for name, rule in FILTER_RULES.items()
    }
    return table | {"tojson": _tojson(meter)} | _own(meter)


def tests(meter: Meter) -> dict[str, Any]:
    found = cast("dict[str, Callable[..., Any]]", TESTS)
    table: dict[str, Any] = {name: metered(meter, found[name], rule, False) for name, rule in TEST_RULES.items()}
    compare = _comparison(meter)
    return table | {"in": lambda value, container: compare(value, ("in",), container)}


def metered(meter: Meter, work: Callable[..., Any], rule: Rule, lazy: bool) -> Callable[..., Any]:
    """`work` behind its rule. Jinja's marks, such as "wants the context first", stay on it."""
    at = 1 if hasattr(work, "jinja_pass_arg") else 0

    def paid(*args: Any, **kwargs: Any) -> Any:
        meter.charge(4)
        value = rule(meter, args[at], args[at + 1 :], kwargs)
        found = work(*args[:at], value, *args[at + 1 :], **kwargs)
        return _metered_items(meter, found) if lazy else meter.whole(found)

    return wraps(work)(paid)


def _metered_items(meter: Meter, items: Any) -> Iterator[Any]:
    for item in items:
        meter.charge(2)
        yield item


def _tojson(meter: Meter) -> Callable[..., str]:
    """As Hugging Face has it: nothing escaped for HTML, non-ASCII letters kept."""

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        before = meter.left
        meter.weigh(value)
        filling = [*(separators or ()), indent if isinstance(indent, str) else " " * meter.width(indent or 0, limit=16)]
        if any(len(text) > 16 for text in filling):
            raise OverBudget("it writes JSON with absurd separators")
        # every line may begin with as many indents as Python can nest, about 1000: 16 units of text
        meter.charge((before - meter.left) * (1 + 16 * len(filling[-1])))
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    return tojson


def _comparison(meter: Meter) -> Callable[..., bool]:
    def compare(value: Any, names: Sequence[str], *others: Any) -> bool:
        for name, other in zip(names, others, strict=True):
            held = meter.compare(name, value, other)
            if not COMPARE[name](value, held):
                return False
            value = held
        return True

    return compare


def _own(meter: Meter) -> dict[str, Callable[..., Any]]:
    """What instrument.py puts in the place of plain Python."""

    def concat(*values: Any) -> str:
        meter.weigh(*values)
        meter.weigh(*values)  # read, then written
        return "".join(map(str, values))

    def cut(value: Any, start: Any, stop: Any, step: Any) -> Any:
        meter.charge(meter.span(value))
        return value[start:stop:step]

    def key(value: Any) -> Any:
        meter.weigh(value)
        return value

    return {"~charge": meter.charge, "~compare": _comparison(meter), "~concat": concat, "~slice": cut, "~key": key}
