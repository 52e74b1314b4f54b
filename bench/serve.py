"""Serving: one client and eight, ours beside llama-server and mlx_lm.server, in turns within one run.

    python bench/serve.py [MODEL] [--llama-server PATH] [--gguf FILE] [--mlx-model FOLDER] [--json]

Every client streams a greedy continuation of a prompt of its own. Tokens are what the server counts, seconds
are wall clock from the first request to the last answer; a round asks every server once, and the median round
counts. llama-server comes from --llama-server or PATH and needs a GGUF (MODEL, if it is one). mlx_lm.server needs
a folder in its own format (--mlx-model, or MODEL if it is a folder). A peer that cannot run is named with its reason.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import httpx

CLIENTS = (1, 8)
SLOTS, CONTEXT = 8, 1024  # of each stream
START_SECONDS, ASK_SECONDS = 300, 600
WORDS = "the old harbour was quiet when rain came over low hills and every boat turned slowly toward open water"
HEAD = (
    b"POST /v1/completions HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
LEAVES = 10  # clients that leave, to time how soon their slot is free


@dataclass
class Peer:
    name: str
    command: list[str]
    model: str
    note: str = ""
    url: str = ""
    rates: dict[int, list[float]] = field(default_factory=dict)  # clients: tokens/s, one a round
    whole: list[float] = field(default_factory=list)  # tokens/s at the most clients, without streaming
    first: list[float] = field(default_factory=list)  # seconds to the first token
    beside: list[float] = field(default_factory=list)  # the same beside another stream


@dataclass(frozen=True)
class Answer:
    tokens: int
    first: float  # seconds until the first piece


def peers(flags: argparse.Namespace, place: Path) -> tuple[list[Peer], dict[str, str]]:
    """Who can run, and why the others cannot."""
    found, missing = [Peer("mlxrun", [sys.executable, "-m", "mlxrun", "serve", str(place), "--name", "m"], "m")], {}
    gguf = flags.gguf or (str(place) if place.suffix == ".gguf" else None)
    server = flags.llama_server or shutil.which("llama-server")
    if server is None:
        missing["llama-server"] = "not on PATH and not given with --llama-server"
    elif gguf is None:
        missing["llama-server"] = "no GGUF file given with --gguf"
    else:
        slots = ["-np", str(SLOTS), "-c", str(SLOTS * CONTEXT), "-t", str(os.cpu_count())]
        found.append(Peer("llama-server", [server, "-m", gguf, *slots, "--no-webui"], "m", Path(gguf).name))
    folder = flags.mlx_model or (str(place) if place.is_dir() else None)
    if folder is None:
        missing["mlx_lm.server"] = "no folder in its format given with --mlx-model"
    else:
        command = [sys.executable, "-m", "mlx_lm", "server", "--model", folder]
        found.append(Peer("mlx_lm.server", command, folder, Path(folder).name))
    return found, missing


@contextmanager
def running(peer: Peer) -> Iterator[None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    peer.url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as said:  # not a pipe: one that talks much would stand still once it is full
        command = [*peer.command, "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        try:
            wait_for(peer, process, said)
            yield
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(peer: Peer, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            said.seek(0)
            told = said.read().decode(errors="replace").strip().splitlines()
            raise SystemExit(f"{peer.name} did not start: {told[-1] if told else process.returncode}")
        try:
            if httpx.get(f"{peer.url}/health", timeout=5).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise SystemExit(f"{peer.name} did not start within {START_SECONDS} seconds.")


def prompt_of(number: int) -> str:
    """Some sixty tokens; the first word differs, so that no server finds a beginning it has seen."""
    words = WORDS.split()
    return " ".join([f"Tale {number}:", *(words[(number * 7 + i * (number % 5 + 1)) % len(words)] for i in range(50))])


async def ask(peer: Peer, number: int, tokens: int, *, stream: bool = True) -> Answer:
    """Bytes are read and hardly looked at: a client that parses each piece costs more than the server."""
    body = {"model": peer.model, "prompt": prompt_of(number), "max_tokens": tokens, "temperature": 0, "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    told = json.dumps(body).encode()
    host, port = peer.url.removeprefix("http://").split(":")
    began, first, end = time.perf_counter(), None, b""
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(HEAD % (host.encode(), len(told)) + told)
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"{peer.name} answered {status.decode().strip()}: {(await reader.read()).decode()[-300:]}")
        while new := await reader.read(1 << 16):
            end = end[-1000:] + new
            if first is None and (b'"text"' in end or b'"choices":[{' in end):
                first = time.perf_counter() - began
    finally:
        writer.close()
    counted = re.findall(rb'"completion_tokens":\s*(\d+)', end)
    return Answer(int(counted[-1]), first or 0.0)


async def rate(peer: Peer, numbers: Sequence[int], tokens: int, *, stream: bool) -> float:
    began = time.perf_counter()
    answers = await asyncio.gather(*(ask(peer, number, tokens, stream=stream) for number in numbers))
    return sum(answer.tokens for answer in answers) / (time.perf_counter() - began)


async def beside_another(peer: Peer, number: int, tokens: int) -> float:
    """Seconds to the first token while another stream runs; that one is ended afterwards."""
    other = asyncio.create_task(ask(peer, number, 8 * tokens))
    await asyncio.sleep(1.0)
    first = (await ask(peer, number + 1, 2)).first
    other.cancel()
    await asyncio.wait([other])
    return first


async def leaving(client: httpx.AsyncClient, peer: Peer, number: int, tokens: int) -> float:
    """Seconds from a client's leaving until the server counts no answer as running."""
    body = {"model": peer.model, "prompt": prompt_of(number), "max_tokens": 8 * tokens, "stream": True}
    async with client.stream("POST", f"{peer.url}/v1/completions", json=body) as response:
        await anext(response.aiter_lines())
    began = time.perf_counter()
    while "mlxrun_answers_running 0.0" not in (await client.get(f"{peer.url}/metrics")).text:
        pass
    return time.perf_counter() - began


async def measure(found: Sequence[Peer], flags: argparse.Namespace) -> list[float]:
    number = 1000
    async with httpx.AsyncClient(timeout=ASK_SECONDS, limits=httpx.Limits(max_connections=None)) as client:
        for peer in found:
            await ask(peer, 1, 4)  # what is only slow once
        for _ in range(flags.rounds):
            for peer in found:
                peer.first.append((await ask(peer, number, 2)).first)
                peer.beside.append(await beside_another(peer, number + 1, flags.tokens))
                for clients in CLIENTS:
                    own = range(number + 3, number + 3 + clients)
                    peer.rates.setdefault(clients, []).append(await rate(peer, own, flags.tokens, stream=True))
                own = range(number + 20, number + 20 + CLIENTS[-1])
                peer.whole.append(await rate(peer, own, flags.tokens, stream=False))
                number += 40
        return [await leaving(client, found[0], number + i, flags.tokens) for i in range(LEAVES)]


def summary(peer: Peer) -> dict[str, float]:
    middle = statistics.median
    most = CLIENTS[-1]
    return {
        **{f"tokens_per_second_{clients}": middle(rates) for clients, rates in peer.rates.items()},
        "first_token_seconds": middle(peer.first),
        "first_token_beside_another": middle(peer.beside) / middle(peer.first),
        "streaming_overhead": 1 - middle(peer.rates[most]) / middle(peer.whole),
    }


def table(results: dict[str, dict[str, float]], missing: dict[str, str], left: Sequence[float]) -> str:
    heads = ["", *(f"{n} client{'s' * (n > 1)}, tok/s" for n in CLIENTS), "first token", "beside another", "streaming"]
    rows = [
        [
            name,
            *(f"{found[f'tokens_per_second_{clients}']:.1f}" for clients in CLIENTS),
            f"{1000 * found['first_token_seconds']:.0f} ms",
            f"{found['first_token_beside_another']:.1f} times",
            f"{100 * found['streaming_overhead']:+.1f}% cost",
        ]
        for name, found in results.items()
    ]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    lines += [f"{name}: missing, {why}" for name, why in missing.items()]
    told = f"median {1000 * statistics.median(left):.0f} ms, worst {1000 * max(left):.0f} ms"
    return "\n".join([*lines, f"mlxrun: a client that leaves frees its slot in {told}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2")
    parser.add_argument("--llama-server", metavar="PATH")
    parser.add_argument("--gguf", metavar="FILE", help="for llama-server: the same weights in its fastest form")
    parser.add_argument("--mlx-model", metavar="FOLDER", help="for mlx_lm.server: the same weights in its form")
    parser.add_argument("--tokens", type=int, default=64, help="of each answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    from mlxrun.store.resolve import resolve

    found, missing = peers(flags, resolve(flags.model))
    with ExitStack() as stack:
        for peer in found:
            stack.enter_context(running(peer))
        left = asyncio.run(measure(found, flags))
    results = {f"{peer.name} {peer.note}".rstrip(): summary(peer) for peer in found}
    if flags.json:
        print(json.dumps({"servers": results, "missing": missing, "leaving_seconds": left}, indent=2))
    else:
        print(table(results, missing, left))


if __name__ == "__main__":
    main()
