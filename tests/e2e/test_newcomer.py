"""The real starter model through the real command, as a newcomer meets it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from mlxrun.settings import from_environment
from mlxrun.store import starter

needs_starter = pytest.mark.skipif(
    not starter.present(from_environment().models / starter.FILE),
    reason="the starter model is not here; 'mlxrun pull smollm2' brings it",
)


def mlxrun(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mlxrun", *arguments], input=stdin, capture_output=True, text=True)


@needs_starter
@pytest.mark.parametrize("where", ["argument", "stdin"])
def test_the_capital_of_france(where: str) -> None:
    prompt = "What is the capital of France?"
    arguments = (prompt,) if where == "argument" else ()
    done = mlxrun("run", "smollm2", *arguments, "--temperature", "0", stdin=prompt)
    assert (done.returncode, done.stdout) == (0, "The capital of France is Paris.\n"), done.stderr
    assert "tokens/s" in done.stderr


@needs_starter
def test_show() -> None:
    done = mlxrun("show", "smollm2")
    assert done.returncode == 0
    assert "layers 0-29" in done.stdout
    assert "9 heads of 64 over 3 key/value heads" in done.stdout
    assert re.search(r"135 M parameters, 9[2-4]\.\d MiB", done.stdout)  # biases that follow from scales may be left out
