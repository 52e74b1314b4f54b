"""Adapters by name over HTTP, from a real process: each is asked for as a model, and tells its parent."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.adapters.made import drawn_pairs, stored, write_peft

from .process import Serving, command, serving

ASKED = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def adapted(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("adapters")
    poet = write_peft(folder / "poet", drawn_pairs(stored(tiny_folder), 1))
    other = write_peft(folder / "other", drawn_pairs(stored(tiny_folder), 2))
    with serving(str(tiny_folder), "--name", "tiny", "--adapter", str(poet), "--adapter", f"clerk={other}") as own:
        yield own


def text(own: Serving, model: str) -> str:
    answer = own.post("/v1/completions", {**ASKED, "model": model})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    said = answer.json()["choices"][0]["text"]
    assert isinstance(said, str)
    return said


def test_each_name_answers_in_its_own_way(adapted: Serving) -> None:
    told = {name: text(adapted, name) for name in ("tiny", "poet", "clerk")}
    assert len(set(told.values())) == 3
    assert {name: text(adapted, name) for name in told} == told


def test_adapters_are_listed_with_their_parent(adapted: Serving) -> None:
    listed = {one["id"]: one for one in httpx.get(f"{adapted.url}/v1/models").json()["data"]}
    assert [name for name in listed if "parent" in listed[name]] == ["poet", "clerk"]
    assert listed["poet"]["parent"] == "tiny"
    assert listed["poet"]["state"] == "loaded"
    one = httpx.get(f"{adapted.url}/v1/models/clerk").json()
    assert (one["id"], one["parent"]) == ("clerk", "tiny")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 3}),
        ("/v1/responses", {"input": "a", "max_output_tokens": 3}),
        ("/api/chat", {"messages": [{"role": "user", "content": "a"}], "options": {"num_predict": 3}, "stream": False}),
        ("/v1/embeddings", {"input": "a"}),
    ],
)
def test_every_dialect_knows_them(adapted: Serving, path: str, body: dict[str, object]) -> None:
    told = [adapted.post(path, {**body, "model": name}) for name in ("tiny", "poet")]
    assert [answer.status_code for answer in told] == [200, 200], [answer.text for answer in told]
    assert told[1].json()["model"] == "poet"
    same = {"model", "id", "created", "created_at"}
    first, second = ({k: v for k, v in answer.json().items() if k not in same} for answer in told)
    assert first != second


def test_log_probabilities_of_a_prompt_are_the_adapters(adapted: Serving) -> None:
    asked = {"prompt": "Once upon", "max_tokens": 1, "echo": True, "logprobs": 1}
    told = [adapted.post("/v1/completions", {**asked, "model": name}).json() for name in ("tiny", "poet")]
    first, second = (answer["choices"][0]["logprobs"]["token_logprobs"][1:9] for answer in told)
    assert first != second


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--adapter", "nowhere"], "There is no adapter at"),
        (["--adapter", "tiny={one}"], "a model has that name"),
        (["--adapter", "a={one}", "--adapter", "a={one}"], "Two adapters would be called 'a'"),
        (["--adapter", "={one}"], "--adapter wants NAME=PATH"),
    ],
)
def test_what_cannot_be_is_refused_before_it_serves(
    flags: list[str], told: str, tiny_folder: Path, tmp_path: Path
) -> None:
    one = write_peft(tmp_path / "one", drawn_pairs(stored(tiny_folder)))
    given = [flag.replace("{one}", str(one)) for flag in flags]
    ended = subprocess.run(
        command(str(tiny_folder), "--name", "tiny", *given), capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
