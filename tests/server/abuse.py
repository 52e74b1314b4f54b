"""Every field of every dialect with every kind of wrong value, made from the schemas that we show.

`python -m tests.server.abuse` sends all of them; the tests send a sample. What must hold: no answer is our fault, each
is JSON, and the next good request is answered rightly.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from mlxrun.server.app import Server

from .scripted import server

Schema = dict[str, Any]
Put = Callable[[Any], Any]  # a wrong value to a body that has it at some place

DEEPEST = 5  # fields inside fields
WRONG: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 1.5, -1e308, 1e308, 2**31, 2**63, -(2**70), 10**400),
    *("", "x", "NaN", "\x00", "\ud800", "../../etc/passwd", "http://127.0.0.1:1/", "<|im_end|>", "\u202e", "9" * 5000),
    *("{{ 7 * 7 }}", "{% for a in range(10**9) %}{% endfor %}", "a" * 50_000, "(" * 2000, "(a+)+$"),
    *([], [None], [[]], [{}], [1, "a", None], ["x"] * 2000, [0.5] * 100),
    *({}, {"": {}}, {"type": "nope"}, {"type": None}, {"$ref": "#"}, {"$ref": "http://127.0.0.1:1/"}),
    {"a": {"a": {"a": [{"a": 1}]}}},
)
SMALLEST: dict[str, Any] = {
    "model": "scripted",
    "messages": [{"role": "user", "content": "a"}],
    "prompt": "a",
    "input": "a",
    "max_tokens": 5,
    "documents": ["a"],
    "query": "a",
}


@dataclass(frozen=True)
class Case:
    path: str
    field: str
    body: dict[str, Any]

    @property
    def raw(self) -> bytes:
        return json.dumps(self.body).encode()


def options_of(schema: Schema) -> list[Schema]:
    return [inner for option in schema["anyOf"] for inner in options_of(option)] if "anyOf" in schema else [schema]


def example(schema: Schema) -> Any:
    """Some value that fits."""
    (first, *_) = options_of(schema)
    if "enum" in first:
        return first["enum"][0]
    kind = first.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        properties = first.get("properties", {})
        return {name: example(properties[name]) for name in first.get("required", ()) if name in properties}
    if kind == "array":
        return [example(first["items"])] if "items" in first else []
    return {"string": "a", "boolean": True, "number": first.get("minimum", 1)}.get(kind, first.get("minimum", 1))


def places(schema: Schema, name: str, put: Put, depth: int = 0) -> Iterator[tuple[str, Put]]:
    """Everywhere that a value may stand, with a body round it that is right but for that."""
    yield name, put
    if depth == DEEPEST:
        return
    for option in options_of(schema):
        if option.get("type") == "array" and isinstance(option.get("items"), dict):
            yield from places(option["items"], f"{name}[]", lambda value, put=put: put([value]), depth + 1)
        for field, inner in option.get("properties", {}).items():
            right = example(option)
            yield from places(
                inner,
                f"{name}.{field}",
                lambda value, put=put, right=right, field=field: put({**right, field: value}),
                depth + 1,
            )


def scripted() -> Server:
    own, _ = server()
    (voice,) = own.models.voices()
    voice.assistant.embedding = replace(voice.assistant.embedding, why_not="it is made up")
    return own


def cases() -> Iterator[Case]:
    own = scripted()
    asked = [(d.path, d.operation.request) for d in own._dialects]
    for plain in own._plains:
        told = plain.described.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        if "properties" in told.get("schema", {}):
            asked.append((plain.path, told["schema"]))
    for path, schema in asked:
        required = schema.get("required", ())
        right = {name: SMALLEST.get(name, example(schema["properties"][name])) for name in required}
        for field, inner in schema["properties"].items():
            for name, put in places(inner, field, lambda value, field=field, right=right: {**right, field: value}):
                for value in WRONG:
                    yield Case(path, name, put(value))


def send(own: Server, chosen: Sequence[Case]) -> Iterator[tuple[Case, httpx.Response]]:
    async def all_of_them() -> list[tuple[Case, httpx.Response]]:
        transport = httpx.ASGITransport(own.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            return [(case, await client.post(case.path, content=case.raw, timeout=60)) for case in chosen]

    yield from asyncio.run(all_of_them())


def fault_of(case: Case, answer: httpx.Response) -> str | None:
    if answer.status_code >= 500:
        return f"{case.path} {case.field}: {answer.status_code} {answer.text[:200]} to {case.raw[:200]!r}"
    if answer.headers["content-type"].startswith("application/json"):
        told = answer.json()
        if answer.status_code >= 400 and ("error" not in told or "Traceback" in answer.text):
            return f"{case.path} {case.field}: told {answer.text[:200]}"
    if answer.status_code >= 400 and len(answer.text) > 2000:
        return f"{case.path} {case.field}: an error of {len(answer.text)} letters"
    return None


def main() -> int:
    chosen, own = list(cases()), scripted()
    statuses: Counter[tuple[str, int]] = Counter()
    faults = []
    for at in range(0, len(chosen), 500):
        for case, answer in send(own, chosen[at : at + 500]):
            statuses[case.path, answer.status_code] += 1
            if (fault := fault_of(case, answer)) is not None:
                faults.append(fault)
    for (path, status), count in sorted(statuses.items()):
        print(f"{path:32} {status} {count:6}")
    print(f"{len(chosen)} requests, {len(faults)} faults")
    print("\n".join(faults[:40]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
