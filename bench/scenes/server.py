"""llama-server over HTTP, with so many slots of so much context each; its frames are counted, not parsed."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from .asked import Ask, Told

START_SECONDS = 120
BEFORE = 4
HEAD = "POST /completion HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n"


class Server:
    def __init__(self, program: str, file: Path, slots: int, context: int, threads: int) -> None:
        self.name, self.context = "llama-server", context
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [program, "-m", str(file), "-np", str(slots), "-c", str(slots * context), "-t", str(threads)]
        command += ["--port", str(self._port), "--no-webui", "--no-warmup", "-lv", "0"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while b" 200 " not in self._get():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"llama-server did not start: {' '.join(command)}")
            time.sleep(0.1)

    def _get(self) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self._port), timeout=5) as own:
                own.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return own.recv(64)
        except OSError:
            return b""

    def ask(self, asks: Sequence[Ask]) -> list[Told]:
        return asyncio.run(self._all(asks))

    async def _all(self, asks: Sequence[Ask]) -> list[Told]:
        started, ended = ([asyncio.Event() for _ in asks] for _ in range(2))
        began = time.perf_counter()

        async def one(number: int) -> Told:
            ask, told = asks[number], Told()
            if ask.behind is not None:
                await started[ask.behind].wait()
            await asyncio.sleep(max(0.0, began + ask.after - time.perf_counter()))
            reading = asyncio.create_task(self._one(ask, told, started[number]))
            others = [] if ask.until is None else [asyncio.create_task(ended[ask.until].wait())]
            await asyncio.wait([reading, *others], return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            reading.cancel()
            ended[number].set()
            return told

        return await asyncio.gather(*map(one, range(len(asks))))

    async def _one(self, ask: Ask, told: Told, started: asyncio.Event) -> None:
        body = {"prompt": list(ask.tokens), "n_predict": ask.answer, "stream": True, "ignore_eos": True}
        body |= {"temperature": 0.8 if ask.sampled else 0.0, "top_p": 0.95, "seed": 1}
        sent = json.dumps({**body, "cache_prompt": True, "return_tokens": True}).encode()
        head = HEAD.format(host=f"127.0.0.1:{self._port}") + f"Content-Length: {len(sent)}\r\n\r\n"
        told.began, said = time.perf_counter(), b""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(head.encode() + sent)
            while new := await reader.read(1 << 16):
                now, said = time.perf_counter(), said + new
                told.times += [now] * new.count(b"data: {")  # one too many: the last frame tells how it ended
                if len(told.times) >= BEFORE:
                    started.set()
        finally:
            started.set()
            writer.close()
        self._read(said, told)

    def _read(self, said: bytes, told: Told) -> None:
        """Once nothing is timed any more. A token that is no text yet comes in the frame of the next."""
        frames = [json.loads(line[6:]) for line in said.splitlines() if line.startswith(b"data: {")]
        if not frames or "tokens_predicted" not in frames[-1]:
            raise SystemExit(f"llama-server gave no answer: {said[-300:].decode(errors='replace')}")
        told.tokens = [token for frame in frames for token in frame.get("tokens", ())]
        told.cached = frames[-1].get("timings", {}).get("cache_n")
        del told.times[len(frames) - 1 :]
        told.times += told.times[-1:] * (frames[-1]["tokens_predicted"] - len(told.times))

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def threads_here() -> int:
    return os.cpu_count() or 1
