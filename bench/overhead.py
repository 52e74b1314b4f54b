"""What the server adds to its engine: both in one process, asked for the same answers in turns.

    python bench/overhead.py MODEL [--rounds N] [--tokens N] [--threads N] [--json]

A round asks the engine and then the server, by 1, 8 and 32 clients at once: chats with tools, streamed, with usage.
The engine is handed token ids; its time begins when they are ready, and is taken on its own thread. A ratio is that of
two plays side by side, and the median of the rounds counts. Clients are in this process and look at bytes only, yet on
a machine without a GPU they take from the engine what they use; so by default the engine leaves one core to others,
as a GPU would leave all. Beside it: what the event loop's thread uses for a token, in seconds of the processor, which
nobody else on the machine changes; how long 50 tools take to be compiled; and how long a stream stands still while a
body of 1 MB comes in. MODEL must be one that calls tools.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from peers.workers import Worker

CLIENTS = (1, 8, 32)
FEW, MANY = 2, 50  # tools
MEGABYTE, BODIES, BETWEEN = 1 << 20, 20, 10  # a large body; how many of them; pieces of the stream before the next
REPLAYS = 20  # of WORDS
PATH = "/v1/chat/completions"
WORDS = "the old harbour was quiet when rain came over low hills and every boat turned slowly toward open water"


@dataclass(frozen=True)
class Heard:
    began: float
    times: list[float]  # at which bytes with something said came
    tokens: int


def tools(count: int) -> list[dict[str, Any]]:
    kinds = (
        {"type": "string"},
        {"type": "integer"},
        {"type": "boolean"},
        {"type": "array", "items": {"type": "number"}},
    )
    fields = {
        f"{word}_{i}": {**kinds[i % 4], "description": f"The {word} of it."} for i, word in enumerate(WORDS.split()[:8])
    }
    schema = {"type": "object", "properties": fields, "required": list(fields)[:3]}
    described = "Looks something up, or changes it, and tells what came of it."
    return [
        {"type": "function", "function": {"name": f"tool_{i}", "description": described, "parameters": schema}}
        for i in range(count)
    ]


def body(number: int, tokens: int, count: int) -> dict[str, Any]:
    words = WORDS.split()
    text = " ".join(words[(number * 7 + i * (number % 5 + 1)) % len(words)] for i in range(50))
    return {
        "messages": [
            {"role": "user", "content": f"Tell tale {number}, which has no end, and call nothing: {text}"},
            {"role": "assistant", "content": "Once upon a time"},  # a call would be held back until its name is known
        ],
        "tools": tools(count),
        "max_tokens": tokens,
        "min_tokens": tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def heard(port: int, sent: dict[str, Any] | bytes) -> Heard:
    """Bytes are read and hardly looked at: a client that parses each piece costs more than the server."""
    raw = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(raw)}\r\n\r\n"
    began, times, said = time.perf_counter(), [], b""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(head.encode() + raw)
        while new := await reader.read(1 << 16):
            said = said[-2000:] + new
            if b'"delta":{' in new:
                times.append(time.perf_counter())
    finally:
        writer.close()
    counted = said.rpartition(b'"completion_tokens":')[2].partition(b",")[0]
    return Heard(began, times, int(counted) if counted.isdigit() else 0)


async def through_server(port: int, bodies: Sequence[dict[str, Any]]) -> dict[str, Any]:
    began = time.perf_counter()
    told = await asyncio.gather(*(heard(port, one) for one in bodies))
    seconds = time.perf_counter() - began
    return {"first": [one.times[0] - began for one in told], "tokens": sum(t.tokens for t in told), "seconds": seconds}


def rates(worker: Worker, port: int, flags: argparse.Namespace) -> list[dict[str, Any]]:
    """Each answer has a number of its own, so that no prompt is known beyond what all have in common."""
    told, number = [], 1
    for clients in CLIENTS:
        found: dict[str, list[float]] = {"rate": [], "first": [], "engine_rate": [], "server_rate": []}
        for turn in range(flags.rounds + 1):
            plays = {}
            for who in ("engine", "server") if turn % 2 else ("server", "engine"):
                bodies = [body(number + i, flags.tokens, FEW) for i in range(clients)]
                number += clients
                one = (
                    worker.ask("alone", bodies=bodies) if who == "engine" else asyncio.run(through_server(port, bodies))
                )
                plays[who] = (one["tokens"] / one["seconds"], statistics.median(one["first"]))
            if turn:  # the first is for warmth
                (mine, my_first), (its, its_first) = plays["server"], plays["engine"]
                found["rate"].append(mine / its)
                found["first"].append(my_first / its_first)
                found["engine_rate"].append(its)
                found["server_rate"].append(mine)
        told.append({"clients": clients} | {name: statistics.median(values) for name, values in found.items()})
    return told


def compiled(worker: Worker, port: int, flags: argparse.Namespace) -> dict[str, Any]:
    return worker.ask("compile", body=body(1, 8, MANY))


def costs(worker: Worker, port: int, flags: argparse.Namespace) -> list[dict[str, float]]:
    """Of the event loop, for a token that an engine tells which takes nothing."""
    return [asyncio.run(cost(worker, port, clients, count)) for clients in (1, 8) for count in (FEW, MANY)]


async def cost(worker: Worker, port: int, clients: int, count: int) -> dict[str, float]:
    asked = [asyncio.create_task(heard(port, {**body(i, 999, count), "model": "still"})) for i in range(clients)]
    replay = partial(worker.ask, "replay", clients=clients, text=WORDS, times=REPLAYS)
    took = sorted(await asyncio.get_running_loop().run_in_executor(None, replay))
    await asyncio.gather(*asked)
    return {"clients": clients, "tools": count, "median": statistics.median(took), "p99": took[len(took) * 99 // 100]}


def gaps(worker: Worker, port: int, flags: argparse.Namespace) -> dict[str, float]:
    return asyncio.run(gaps_beside(port, 12 * flags.tokens))


async def gaps_beside(port: int, tokens: int) -> dict[str, float]:
    """How long a stream stands still while a large body comes in, beside how long it always does."""
    stream = asyncio.create_task(heard(port, body(920_000, tokens, FEW)))
    await asyncio.sleep(3.0)
    large = json.dumps({"messages": [{"role": "user", "content": "words and " * (MEGABYTE // 10)}]}).encode()
    spans: list[tuple[float, float]] = []
    for _ in range(BODIES):
        began = time.perf_counter()
        await heard(port, large)
        spans.append((began, time.perf_counter()))
        await asyncio.sleep(0.3)
    times = (await stream).times
    between = list(pairwise(times))
    beside = [
        max((b - a for a, b in between if b > began and a < ended), default=0.0)
        for began, ended in spans
        if ended < times[-1]
    ]
    usual = [b - a for a, b in between if not any(b > began and a < ended for began, ended in spans)]
    return {"bodies": len(beside), "usual": statistics.median(usual), "longest": statistics.median(beside)}


PARTS = {"rates": rates, "compile": compiled, "costs": costs, "gaps": gaps}


def figures(told: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """(what, what was found, the most that is wanted)."""
    for one in told.get("rates", ()):
        yield f"{one['clients']} clients: the engine's tokens/s to the server's", 1 / one["rate"], 1.03
        yield f"{one['clients']} clients: time to the first token to the engine's", one["first"], 1.03
    for one in told.get("costs", ()):
        wanted = 0.3 if one["tools"] == FEW else 0.5
        yield f"{one['clients']} clients, {one['tools']} tools: ms a token, 99 of 100", 1000 * one["p99"], wanted
    if "compile" in told:
        yield f"{MANY} tools compiled, ms", 1000 * told["compile"]["first"], 300
        yield f"{MANY} tools that are known, ms", 1000 * told["compile"]["known"], 1
    if "gaps" in told:
        yield "longest gap beside a body of 1 MB to the usual one", told["gaps"]["longest"] / told["gaps"]["usual"], 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", nargs="?")
    parser.add_argument("--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one (repeatable)")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if flags.model is None:
        print("Not run: name a MODEL that calls tools, such as a Qwen coder; the starter model does not.")
        return
    from mlxrun.settings import from_environment
    from mlxrun.store.resolve import resolve

    ready = from_environment().ready
    options = {"threads": flags.threads, "ready": str(ready) if ready else None}
    with Worker("served", Path(resolve(flags.model)), **options) as worker:
        port = worker.ask("port")
        told = {part: PARTS[part](worker, port, flags) for part in flags.part or PARTS}
    if flags.json:
        print(json.dumps(told, indent=2))
        return
    for what, found, wanted in figures(told):
        print(f"{what:64} {found:8.3g}, wanted at most {wanted:g}{'' if found <= wanted else ': missed'}")


if __name__ == "__main__":
    main()
