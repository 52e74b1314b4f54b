"""A soak: the real server under clients that stream, cancel, hang up and send too much; what it holds before and after.

    python bench/soak.py [MODEL] [--seconds 60] [--clients 6] [--swap] [--large 12] [--crowd 0] [--seed 0] [--json]

Answers are drawn in every way, some prompts begin alike, some are long. With --swap the model is served under two names
of which one may be loaded at a time, so that whoever asks for the other has them change places.
Tells anonymous and file-mapped memory, threads, open descriptors, and what the server says of its own caches: before,
during, right after and after a silence. What grew beside the prefix cache, which is meant to grow, is judged against
--most, and threads and descriptors against what they were after the first answers; beyond any it ends with 1.
Reads /proc, so it needs Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

MB = 1e6
READY = re.compile(r"answers at (http://\S+)/v1")
START_SECONDS, ASK_SECONDS = 300, 300
SAMPLES = 4  # while it runs
NAMES = ("m", "twin")
DOCUMENT = 300  # words that many prompts begin with
LOOKS = 5  # at descriptors
SETTLE = 5.0  # seconds after the first answers, for what only requests need to be given back
DRAWN: list[dict[str, object]] = [  # how answers are drawn
    {},
    {"temperature": 0},
    {"top_p": 0.9, "seed": 5},
    {"top_k": 20, "min_p": 0.05},
    {"logprobs": 3},
    {"repetition_penalty": 1.2, "presence_penalty": 0.5},
    {"dry_multiplier": 0.8},
    {"mirostat": 2},
]
WORDS = [
    "the",
    "old",
    "harbour",
    "was",
    "quiet",
    "when",
    "rain",
    "came",
    "over",
    "low",
    "hills",
    "and",
    "every",
    "boat",
    "turned",
    "slowly",
    "toward",
    "open",
    "water",
]


@dataclass(frozen=True)
class Sample:
    when: str
    anonymous: float  # MB, as are the next ones
    mapped: float
    prefixes: float  # prefix cache, as the server says
    buffers: float  # freed ones that MLX keeps
    active: float  # all that MLX holds
    threads: int
    descriptors: int

    @property
    def own(self) -> float:
        """What nothing that is meant to grow accounts for."""
        return self.anonymous - self.prefixes


class Soaked:
    """A server as its own process, seen from outside."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url
        self.port = int(url.rpartition(":")[2])

    @property
    def _folder(self) -> Path:
        return Path(f"/proc/{self.process.pid}")

    def sample(self, when: str) -> Sample:
        told = httpx.get(f"{self.url}/memory", timeout=ASK_SECONDS).json()
        rollup = dict(re.findall(r"^(\w+):\s+(\d+) kB", (self._folder / "smaps_rollup").read_text(), re.M))
        resident, anonymous = (1024 * int(rollup[name]) for name in ("Rss", "Anonymous"))
        return Sample(
            when,
            anonymous / MB,
            (resident - anonymous) / MB,
            told["prefix_cache"] / MB,
            told["freed"] / MB,
            told["active"] / MB,
            len(list((self._folder / "task").iterdir())),
            min(self._descriptors() for _ in range(LOOKS)),
        )

    def _descriptors(self) -> int:
        """Those of a connection that has ended may still be there."""
        time.sleep(0.1)
        return len(list((self._folder / "fd").iterdir()))

    def thread_names(self) -> Counter[str]:
        return Counter((task / "comm").read_text().strip() for task in (self._folder / "task").iterdir())


@contextmanager
def soaked(model: str, *, swap: bool) -> Iterator[Soaked]:
    """Under the name m; with `swap` under the name twin too, one of the two at a time."""
    from mlxrun.store.resolve import resolve

    with tempfile.TemporaryDirectory() as folder:
        place = resolve(model).absolute()
        ending = place.suffix if place.is_file() else ""
        named = [Path(folder) / f"{name}{ending}" for name in NAMES[: 1 + swap]]
        for link in named:
            link.symlink_to(place)
        with started([*map(str, named), *(["--max-models", "1"] if swap else [])]) as server:
            yield server


@contextmanager
def started(arguments: list[str]) -> Iterator[Soaked]:
    command = [sys.executable, "-m", "mlxrun", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        lines = iter(process.stderr or ())
        found = next((found for line in lines if (found := READY.search(line))), None)
        if found is None:
            raise SystemExit("The server did not start.")
        yield Soaked(process, found[1])
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


def request_of(body: bytes, path: str = "/v1/completions") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client:
    """Behaves in another way each time, drawn from `seed`; what it did is counted."""

    def __init__(self, port: int, seed: int, did: Counter[str], names: Sequence[str] = NAMES[:1]) -> None:
        self._port, self._pick, self._did, self._names = port, random.Random(seed), did, names

    async def until(self, end: float) -> None:
        kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.stream, 4),
            (self.cancel, 4),
            (self.hang_up, 2),
            (self.idle, 1),
            (self.unload, int(len(self._names) > 1)),
        ]
        while time.monotonic() < end:
            (kind,) = self._pick.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
            self._did[kind.__name__] += 1
            with suppress(ConnectionError):
                await kind()

    def _asked(self) -> bytes:
        pick = self._pick
        words = " ".join(pick.choices(WORDS, k=pick.randint(5, 400)))
        if pick.random() < 0.3:
            words = f"{' '.join(WORDS[i % len(WORDS)] for i in range(DOCUMENT))} {words}"
        body = {"prompt": words, "max_tokens": pick.randint(4, 64), "stream": pick.random() < 0.8}
        body["model"] = pick.choices(self._names, [8, 1][: len(self._names)])[0]
        if pick.random() < 0.2:
            body["n"] = 2
        body |= pick.choice(DRAWN)
        return json.dumps(body).encode()

    async def unload(self) -> None:
        """Whoever uses it goes on; the next one has it loaded again."""
        async with connected(self._port) as (reader, writer):
            body = json.dumps({"model": self._pick.choice(self._names)}).encode()
            writer.write(request_of(body, "/models/unload"))
            await reader.read(1 << 16)

    async def stream(self) -> None:
        """A whole answer."""
        async with connected(self._port) as (reader, writer):
            writer.write(request_of(self._asked()))
            while await reader.read(1 << 16):
                pass

    async def cancel(self) -> None:
        """Leaves in the middle of an answer."""
        async with connected(self._port) as (reader, writer):
            writer.write(request_of(self._asked()))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pick.uniform(0.01, 1.0)):
                    while await reader.read(1 << 16):
                        pass

    async def hang_up(self) -> None:
        """Leaves before the request is complete."""
        async with connected(self._port) as (_, writer):
            whole = request_of(self._asked())
            writer.write(whole[: self._pick.randrange(len(whole))])
            await writer.drain()

    async def idle(self) -> None:
        """A connection that is kept and not used."""
        async with connected(self._port) as (reader, writer):
            writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.read(1 << 16)
            await asyncio.sleep(self._pick.uniform(0.1, 2.0))

    async def large(self) -> None:
        """A body near the limit: a prompt beyond any context, or no JSON."""
        text = " ".join(self._pick.choices(WORDS, k=200)) * 4000
        size = self._pick.randint(1 << 20, 15 << 20)
        body = json.dumps({"prompt": text[:size], "max_tokens": 4}).encode()
        async with connected(self._port) as (reader, writer):
            with suppress(ConnectionError):
                writer.write(request_of(body if self._pick.random() < 0.8 else body[:-2]))
                await writer.drain()
                while await reader.read(1 << 16):
                    pass


async def storm(port: int, flags: argparse.Namespace, did: Counter[str]) -> None:
    end = time.monotonic() + flags.seconds
    names = NAMES[: 1 + flags.swap]
    clients = [Client(port, flags.seed + number, did, names) for number in range(flags.clients)]
    await asyncio.gather(*(client.until(end) for client in clients))

    async def one(number: int, kind: str) -> None:
        client = Client(port, flags.seed + 1000 + number, did)
        did[kind] += 1
        await getattr(client, kind)()

    for first in range(0, flags.large, 4):
        await asyncio.gather(*(one(number, "large") for number in range(first, min(first + 4, flags.large))))
    await asyncio.gather(*(one(number, "cancel") for number in range(flags.crowd)))


async def watched(server: Soaked, flags: argparse.Namespace, samples: list[Sample], did: Counter[str]) -> None:
    running = asyncio.create_task(storm(server.port, flags, did))
    began = time.monotonic()
    while not running.done():
        await asyncio.wait([running], timeout=max(1.0, flags.seconds / SAMPLES))
        samples.append(await asyncio.to_thread(server.sample, f"{time.monotonic() - began:.0f} s"))
    await running


def table(samples: list[Sample]) -> str:
    heads = ["", "anonymous", "file-mapped", "prefix cache", "freed buffers", "MLX holds", "threads", "descriptors"]
    rows = [
        [
            one.when,
            *(f"{mb:.1f}" for mb in (one.anonymous, one.mapped, one.prefixes, one.buffers, one.active)),
            str(one.threads),
            str(one.descriptors),
        ]
        for one in samples
    ]
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", nargs="?", default="smollm2")
    parser.add_argument("--seconds", type=float, default=60, help="that the clients go on")
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--swap", action="store_true", help="two names, of which one may be loaded at a time")
    parser.add_argument("--large", type=int, default=12, help="bodies of up to 15 MiB afterwards, four at once")
    parser.add_argument("--crowd", type=int, default=0, help="clients at once at the end, all of which leave")
    parser.add_argument("--silence", type=float, default=30, help="seconds after it")
    parser.add_argument("--most", type=float, default=32, metavar="MB", help="that may remain beside the prefix cache")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if not sys.platform.startswith("linux"):
        raise SystemExit("bench/soak.py reads /proc, which only Linux has.")
    samples: list[Sample] = []
    did: Counter[str] = Counter()
    with soaked(flags.model, swap=flags.swap) as server:
        samples.append(server.sample("loaded"))
        asyncio.run(first_answers(server.port, NAMES[: 1 + flags.swap]))
        time.sleep(SETTLE)
        samples.append(server.sample("before"))
        names = server.thread_names()
        asyncio.run(watched(server, flags, samples, did))
        samples.append(server.sample("after"))
        time.sleep(flags.silence)
        samples.append(server.sample("silence"))
        new = server.thread_names() - names
    before, after = samples[1], samples[-1]
    grown, threads = after.own - before.own, after.threads - before.threads
    descriptors = after.descriptors - before.descriptors
    if flags.json:
        told = [asdict(one) for one in samples]
        print(
            json.dumps(
                {"samples": told, "clients": did, "grown": grown, "threads": threads, "descriptors": descriptors},
                indent=2,
            )
        )
    else:
        print(table(samples))
        print("clients: " + ", ".join(f"{count} {kind}" for kind, count in sorted(did.items())))
        threads_told = f"threads {threads:+d} {dict(new) or ''}".rstrip()
        print(f"beside the prefix cache {grown:+.1f} MB; descriptors {descriptors:+d}; {threads_told}")
    if grown > flags.most or threads > 0 or descriptors > 0:
        raise SystemExit(1)


async def first_answers(port: int, names: Sequence[str]) -> None:
    """What is only made once: as many answers at a time as the server has threads for, of each model in turn."""
    did: Counter[str] = Counter()
    for name in (*names[1:], *names[:1]):
        await asyncio.gather(*(Client(port, number, did, [name]).stream() for number in range(8)))


if __name__ == "__main__":
    main()
