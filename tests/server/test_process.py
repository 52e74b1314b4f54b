"""The endpoint as a process: start, signals, clients that leave, bytes that are no HTTP."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from .process import SECONDS, Serving, command, serving

LONG = {"prompt": "Once", "max_tokens": 900}
MEMORY = 48 << 20  # bytes that allocators may keep for themselves after a storm


def test_a_port_in_use(tiny: Serving, tiny_folder: Path) -> None:
    asked = command(str(tiny_folder), "--port", str(tiny.port))
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS)
    assert ended.returncode == 2
    assert ended.stderr == f"mlxrun: Port {tiny.port} of 127.0.0.1 is in use; choose another with --port.\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--key"),
        (["--max-concurrent", "0"], "--max-concurrent"),
        (["--grace", "-1"], "--grace"),
        (["--key", ""], "key"),
        (["--context", "1"], "takes from 2 to 1024"),
    ],
)
def test_what_cannot_start(arguments: list[str], told: str, tiny_folder: Path) -> None:
    asked = command(str(tiny_folder), "--port", "0", *arguments)
    ended = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert told in ended.stderr


def test_a_model_that_is_not_there() -> None:
    ended = subprocess.run(command("/no/such/model"), capture_output=True, text=True, timeout=SECONDS)
    assert (ended.returncode, "no model" in ended.stderr) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_finish(number: int, tiny_folder: Path) -> None:
    with serving(str(tiny_folder), "--grace", "60") as own:
        body = {**LONG, "max_tokens": 300, "stream": True}
        with httpx.stream("POST", f"{own.url}/v1/completions", json=body, timeout=SECONDS) as response:
            lines = response.iter_lines()
            next(lines)
            own.process.send_signal(number)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert own.process.wait(SECONDS) == 0


def test_after_the_grace_answers_are_cut_and_told_so(tiny_folder: Path) -> None:
    with serving(str(tiny_folder), "--grace", "0") as own:
        body = {**LONG, "n": 8, "stream": True}
        with httpx.stream("POST", f"{own.url}/v1/completions", json=body, timeout=SECONDS) as response:
            lines = response.iter_lines()
            next(lines)
            own.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert json.loads(rest[-1][6:])["error"]["message"] == "The server is stopping."
        assert own.process.wait(SECONDS) == 0


def test_an_idle_connection_does_not_hold_up_the_end(tiny_folder: Path) -> None:
    with serving(str(tiny_folder), "--port", "0") as own, socket.create_connection(("127.0.0.1", own.port)):
        assert own.answers()
        also = own.said[0].partition(" and ")[2].partition("/v1")[0]  # where two ports are asked for
        assert also not in ("", own.url)
        assert httpx.get(f"{also}/api/version", timeout=SECONDS).status_code == 200
        assert own.stop() == 0
    assert own.said[1:] == []


class Leaver:
    """Sends a request and leaves after so many bytes of the answer, or without reading any."""

    def __init__(self, own: Serving, seed: int) -> None:
        self._own, self._random = own, random.Random(seed)

    def __call__(self) -> None:
        pick = self._random
        body = json.dumps({**LONG, "stream": pick.random() < 0.6, "n": pick.choice([1, 1, 2])}).encode()
        head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
        whole = head + body
        with socket.create_connection(("127.0.0.1", self._own.port), timeout=SECONDS) as own:
            moment = pick.choice(["head", "body", "at once", "soon", "later"])
            own.sendall(whole[: {"head": 20, "body": len(whole) - 3}.get(moment, len(whole))])
            own.settimeout({"soon": 0.02, "later": pick.random()}.get(moment, 0.001))
            with suppress(TimeoutError):
                own.recv(pick.choice([1, 5000]))
            if pick.random() < 0.3:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell


def storm(own: Serving, clients: int, seed: int) -> None:
    with ThreadPoolExecutor(25) as pool:
        for job in [pool.submit(Leaver(own, seed + i)) for i in range(clients)]:
            job.result()
    own.idle()


def test_a_storm_of_clients_that_leave(tiny: Serving) -> None:
    storm(tiny, 40, seed=0)
    before = tiny.resident()
    storm(tiny, 100, seed=1000)
    assert tiny.answers()
    assert tiny.resident() - before < MEMORY
    assert tiny.metric("mlxrun_answers_waiting") == tiny.metric("mlxrun_answers_running") == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_the_engine(tiny: Serving, stream: bool) -> None:
    left = tiny.metric("mlxrun_answers_total{finish=.left.}")
    asked = {"method": "POST", "url": f"{tiny.url}/v1/completions", "json": {**LONG, "n": 8, "stream": stream}}
    if stream:
        with httpx.stream(**asked, timeout=SECONDS) as response:
            next(response.iter_bytes())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.request(**asked, timeout=httpx.Timeout(SECONDS, read=0.2))
    tiny.idle()
    assert tiny.metric("mlxrun_answers_total{finish=.left.}") > left
    assert tiny.answers()


GARBAGE = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    "a negative length": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
    "two lengths": b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "an endless header": b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "a broken chunk": b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_bytes_that_are_no_request(garbage: bytes, tiny: Serving) -> None:
    told = b""
    # a server that closes before it has read everything resets the connection
    with socket.create_connection(("127.0.0.1", tiny.port), timeout=SECONDS) as own, suppress(ConnectionError):
        own.sendall(garbage)
        with suppress(OSError):  # already reset: nothing is left to shut down
            own.shutdown(socket.SHUT_WR)
        told = own.makefile("rb").read()
    assert told == b"" or told.startswith(b"HTTP/1.1 4")
    assert tiny.answers()


def test_a_body_that_announces_too_much(tiny: Serving) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
    with socket.create_connection(("127.0.0.1", tiny.port), timeout=SECONDS) as own:
        own.sendall(head)
        assert own.makefile("rb").readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"


def test_eight_streams_at_once_are_what_each_is_alone(tiny: Serving) -> None:
    prompts = [f"Number {number} of these" * (number + 1) for number in range(8)]

    def said(prompt: str) -> list[str]:
        body = {"prompt": prompt, "max_tokens": 40, "temperature": 0, "stream": True, "logprobs": 0}
        frames = tiny.post("/v1/completions", body).text.split("\n\n")
        logprobs = [json.loads(frame[6:])["choices"][0]["logprobs"] for frame in frames[:-2] if frame[0] == "d"]
        return [token for part in logprobs for token in part["tokens"]]

    alone = [said(prompt) for prompt in prompts]
    together: dict[int, list[str]] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.__setitem__(i, said(prompts[i]))) for i in range(len(prompts))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(8)] == alone
    assert all(len(tokens) == 40 for tokens in alone)


def test_the_same_seed_gives_the_same_answer(tiny: Serving) -> None:
    body = {"prompt": "a", "max_tokens": 20, "seed": 5, "n": 2, "temperature": 1}
    one, other = (tiny.post("/v1/completions", body).json()["choices"] for _ in range(2))
    assert one == other
    assert one[0]["text"] != one[1]["text"]


def test_answers_outlive_the_server_where_a_folder_was_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "kept")
    with serving(str(tiny_folder), "--store", folder) as own:
        kept = own.post("/v1/responses", {"input": "a", "max_output_tokens": 2}).json()
        assert f"Answers of /v1/responses are kept on disk, in {folder}, for a day." in "".join(own.said)
        assert own.stop() == 0
    with serving(str(tiny_folder), "--store", folder) as own:
        assert httpx.get(f"{own.url}/v1/responses/{kept['id']}", timeout=60).json() == kept
