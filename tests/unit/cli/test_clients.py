"""The lines that point other programs at us are in the form that each of them reads."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from mlxrun.cli import main
from mlxrun.cli.clients import CLIENTS, told

HERE = ("http://127.0.0.1:8080", "qwen3:4b", "secret", 8192)
DOCS = Path(__file__).resolve().parents[3] / "docs" / "clients.md"


def lines(name: str) -> str:
    return "\n".join(line for line in told(name, *HERE) if not line.startswith("#"))


def test_what_is_toml() -> None:
    found = tomllib.loads(lines("codex"))
    assert found["model_providers"][found["model_provider"]]["base_url"] == f"{HERE[0]}/v1"
    assert found["model"] == "qwen3:4b"


def test_what_is_json() -> None:
    own = json.loads(lines("opencode"))
    assert own["provider"]["mlxrun"]["options"] == {"baseURL": f"{HERE[0]}/v1", "apiKey": "secret"}
    provider, _, model = own["model"].partition("/")
    assert model in own["provider"][provider]["models"]
    pi = json.loads(lines("pi"))["providers"]["mlxrun"]
    assert (pi["baseUrl"], pi["models"][0]["id"], pi["models"][0]["contextWindow"]) == (f"{HERE[0]}/v1", HERE[1], 8192)
    zed = json.loads(lines("zed"))["language_models"]["openai_compatible"]["mlxrun"]
    assert (zed["api_url"], zed["available_models"][0]["max_tokens"]) == (f"{HERE[0]}/v1", 8192)


@pytest.mark.parametrize("name", ["claude", "openwebui"])
def test_what_a_shell_reads(name: str) -> None:
    run = subprocess.run(["sh", "-eu", "-c", f"{lines(name)}\nenv"], capture_output=True, text=True, check=True)
    assert re.search(rf"^[A-Z_]+_URL={HERE[0]}(/v1)?$", run.stdout, re.MULTILINE)
    assert re.search(r"^[A-Z_]+_(TOKEN|KEY)=secret$", run.stdout, re.MULTILINE)


def test_what_is_yaml_stands_in_lines_of_its_own() -> None:
    assert "    apiBase: http://127.0.0.1:8080/v1" in lines("continue").splitlines()


def test_they_are_printed_for_the_server_that_the_flags_mean(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "qwen3:4b", "--port", "9000", "--key", "k", "--for", "claude"]) == 0
    said = capsys.readouterr().out
    assert "export ANTHROPIC_BASE_URL=http://127.0.0.1:9000\n" in said
    assert "export ANTHROPIC_MODEL=qwen3:4b\n" in said
    assert "export ANTHROPIC_AUTH_TOKEN=k\n" in said


def test_the_page_has_each_program_and_says_whether_it_was_tried() -> None:
    page = DOCS.read_text("utf-8")
    for name, client in CLIENTS.items():
        part = page.partition(f"## {client.title}\n")[2].partition("\n## ")[0]
        assert f"mlxrun serve MODEL --for {name}" in part
        assert (f"Tried: {client.tried}" if client.tried else "Written from its documentation") in part
