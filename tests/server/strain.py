"""The server as a process under people who mean it no good: what it holds, and that it answers rightly afterwards.

`python -m tests.server.strain MODEL [REQUESTS]`; `make abuse` runs it. Times are told and not judged: they are the
machine's. What is judged: statuses, memory, the answer afterwards.
"""

from __future__ import annotations

import json
import random
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import Any

import httpx

from .abuse import cases
from .process import SECONDS, Serving, serving

MIB = 1 << 20
GROWS = 0.02  # of what it held after warming up, by as many requests
IDLE_STREAMS, SLOW, GIANT = 200, 300, 2_400_000
IDLE_BYTES = 50 * MIB
CONTEXT = 2048  # tokens: made-up requests may ask for as many as there are
QUESTION = {"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}
# answers that nobody limits go on until the context is full
SHORT: dict[str, dict[str, Any]] = {
    "/v1/completions": {"max_tokens": 2},
    "/v1/chat/completions": {"max_tokens": 2},
    "/v1/responses": {"max_output_tokens": 2},
    "/api/chat": {"options": {"num_predict": 2}},
    "/api/generate": {"options": {"num_predict": 2}},
    "/completion": {"n_predict": 2},
    "/infill": {"n_predict": 2},
}
LONG = {"prompt": "Once upon a time", "max_tokens": 400, "stream": True, "seed": 1}

Faults = list[str]


def opened(own: Serving, body: dict[str, Any], path: str = "/v1/completions") -> socket.socket:
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(raw)}\r\n\r\n".encode()
    client = socket.create_connection(("127.0.0.1", own.port), timeout=SECONDS)
    client.sendall(head + raw)
    return client


def slow_readers(own: Serving, faults: Faults) -> None:
    def read(number: int) -> int:
        with opened(own, {**LONG, "max_tokens": 60, "seed": number}) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            said = b""
            while block := client.recv(2000):
                said += block
                if b"[DONE]" in block or said.endswith(b"}") or said.startswith(b"HTTP/1.1 4"):
                    break
                time.sleep(0.05)
        return int(said[9:12])

    with ThreadPoolExecutor(SLOW) as pool:
        told = Counter(pool.map(read, range(SLOW)))
    print(f"{SLOW} clients that read slowly: {dict(told)}")
    if set(told) - {200, 429, 503}:
        faults.append(f"slow readers were told {dict(told)}")


def idle_connections(own: Serving, faults: Faults) -> None:
    before = own.held()
    with ExitStack() as stack:
        for _ in range(IDLE_STREAMS):
            stack.enter_context(socket.create_connection(("127.0.0.1", own.port), timeout=SECONDS))
        streams = [stack.enter_context(opened(own, LONG)) for _ in range(100)]
        for one in streams:
            one.recv(200)
        grown = own.held() - before
        answers = own.answers()
    own.idle()
    print(f"{IDLE_STREAMS} silent connections and 100 streams that nobody reads: {grown / MIB:.0f} MiB")
    if grown > IDLE_BYTES or not answers:
        faults.append(f"idle connections took {grown / MIB:.0f} MiB, answered beside them: {answers}")


def giants(own: Serving, faults: Faults) -> None:
    def timed(work: Callable[[], httpx.Response]) -> tuple[float, int]:
        began = time.perf_counter()
        status = work().status_code
        return time.perf_counter() - began, status

    body = json.dumps({"prompt": "words and " * (GIANT // 10)}).encode()
    alone = min(timed(lambda: own.post("/v1/completions", {"prompt": "a", "max_tokens": 2}))[0] for _ in range(5))
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(timed, lambda: own.raw("/v1/completions", content=body)) for _ in range(6)]
        time.sleep(0.02)
        beside = timed(lambda: own.post("/v1/completions", {"prompt": "a", "max_tokens": 2}))
        told = [job.result() for job in jobs]
    longest = max(seconds for seconds, _ in told)
    print(f"6 giants of {GIANT} bytes: {longest:.2f} s; a small one {alone:.2f} s alone, {beside[0]:.2f} s beside them")
    if {status for _, status in told} != {400} or beside[1] != 200:
        faults.append(f"giants were told {told}, the one beside them {beside}")


def many(own: Serving, count: int, faults: Faults) -> None:
    """Made-up requests, good and bad, from threads that keep their connections."""
    chance = random.Random(1)
    chosen = chance.choices([case for case in cases() if len(case.raw) < 5000], k=count)
    statuses: Counter[int] = Counter()

    def send(part: list[Any]) -> None:
        with httpx.Client(base_url=own.url, timeout=SECONDS) as client:
            for case in part:
                body = {**SHORT.get(case.path, {}), **case.body}
                if body.get("model") == "scripted":
                    del body["model"]
                for name in ("max_tokens", "max_output_tokens", "max_completion_tokens"):
                    if name in body and case.field != name:
                        body[name] = 2
                statuses[client.post(case.path, content=json.dumps(body).encode()).status_code] += 1

    threads = [threading.Thread(target=send, args=(chosen[i::16],)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{count} made-up requests: {dict(sorted(statuses.items()))}")
    if any(status >= 500 and status != 503 for status in statuses):
        faults.append(f"made-up requests were told {dict(statuses)}")


def cancels(own: Serving) -> None:
    """How long after its client left an answer is no longer counted."""
    phases: dict[str, tuple[dict[str, Any], float]] = {
        "writing": (LONG, 0.5),
        "reading the prompt": ({**LONG, "prompt": "word " * 1500}, 0.3),
        "tokenizing": ({**LONG, "prompt": "words and " * 40_000}, 0.01),
        "compiling a grammar": ({**LONG, "guided_grammar": 'start: x{1,1000000}\nx: "a"'}, 0.05),
    }
    for name, (body, wait) in phases.items():
        took = []
        for _ in range(5):
            client = opened(own, body)
            time.sleep(wait)
            client.close()
            began = time.perf_counter()
            with suppress(AssertionError):
                own.idle()
            took.append(time.perf_counter() - began)
        print(f"a client that leaves while {name}: gone after {statistics.median(took) * 1000:.0f} ms")


def main(model: str, count: int) -> int:
    faults: Faults = []
    with serving(model, "--context", str(CONTEXT)) as own:
        wished = own.post("/v1/completions", QUESTION).json()["choices"][0]["text"]
        giants(own, faults)
        slow_readers(own, faults)
        many(own, count // 5, faults)
        own.idle()
        before = own.held()
        cancels(own)
        idle_connections(own, faults)
        giants(own, faults)
        many(own, count, faults)
        slow_readers(own, faults)
        own.idle()
        time.sleep(2)
        after = own.held()
        print(f"without sequences: {before / MIB:.0f} MiB after warming up, {after / MIB:.0f} MiB at the end")
        if after > before * (1 + GROWS):
            faults.append(f"it holds {after / MIB:.0f} MiB, and held {before / MIB:.0f}")
        if own.post("/v1/completions", QUESTION).json()["choices"][0]["text"] != wished:
            faults.append("it answers otherwise than before")
    print("\n".join(faults) or "no faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000))
