"""Adapters that come and go over HTTP, from a real process: vLLM's two paths, within one folder and nowhere else."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.adapters.made import Pair, drawn_pairs, stored, write_peft

from .process import SECONDS, Serving, serving

ASKED = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    for seed, name in enumerate(("inside/a", "inside/b", "inside/deep/c", "outside")):
        write_peft(place / name, drawn_pairs(stored(tiny_folder), seed))
    (place / "inside" / "link").symlink_to(place / "outside")
    half = write_peft(place / "inside" / "half", drawn_pairs(stored(tiny_folder), 9))
    (half / "adapter_model.safetensors").unlink()
    (half / "adapter_model.safetensors").symlink_to(place / "outside" / "adapter_model.safetensors")
    write_peft(place / "inside" / "other", {"model.layers.7.mlp.up_proj.weight": one_pair(tiny_folder)})
    return place


def one_pair(tiny: Path) -> Pair:
    return next(iter(drawn_pairs(stored(tiny)).values()))


@pytest.fixture(scope="module")
def own(tiny_folder: Path, folder: Path) -> Iterator[Serving]:
    flags = ("--name", "tiny", "--adapter", f"first={folder / 'outside'}")
    with serving(str(tiny_folder), *flags, "--adapter-dir", str(folder / "inside"), "--max-adapters", "2") as made:
        yield made


def load(own: Serving, name: str, path: str, **more: object) -> httpx.Response:
    return own.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path, **more})


def unload(own: Serving, name: str) -> httpx.Response:
    return own.post("/v1/unload_lora_adapter", {"lora_name": name})


def text(own: Serving, model: str) -> str:
    answer = own.post("/v1/completions", {**ASKED, "model": model})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["text"])


def names(own: Serving) -> list[str]:
    return [one["id"] for one in httpx.get(f"{own.url}/v1/models").json()["data"]]


def test_one_is_loaded_answers_and_is_unloaded(own: Serving, folder: Path) -> None:
    answer = load(own, "poet", "a")
    assert (answer.status_code, answer.text) == (200, "Success: LoRA adapter 'poet' added successfully.")
    assert names(own) == ["tiny", "first", "poet"]
    assert httpx.get(f"{own.url}/v1/models/poet").json()["parent"] == "tiny"
    assert [one["path"] for one in httpx.get(f"{own.url}/lora-adapters").json()] == ["first", "poet"]
    said = text(own, "poet")
    assert said not in (text(own, "tiny"), text(own, "first"))
    assert load(own, "poet", "b").status_code == 400
    assert load(own, "poet", str(folder / "inside" / "b"), load_inplace=True).status_code == 200
    assert text(own, "poet") != said
    assert unload(own, "poet").text == "Success: LoRA adapter 'poet' removed successfully."
    assert names(own) == ["tiny", "first"]
    gone = own.post("/v1/completions", {**ASKED, "model": "poet"})
    assert gone.status_code == 404
    assert unload(own, "poet").status_code == 404


def test_who_is_being_answered_keeps_the_adapter(own: Serving) -> None:
    assert load(own, "poet", "a").status_code == 200
    body = {**ASKED, "max_tokens": 300, "model": "poet"}
    whole = own.post("/v1/completions", body).json()["choices"][0]["text"]
    pieces = []
    asked = {**body, "stream": True}
    with httpx.stream("POST", f"{own.url}/v1/completions", json=asked, timeout=SECONDS) as answer:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            if not pieces:
                assert load(own, "poet", "deep/c", load_inplace=True).status_code == 200
            pieces.append(json.loads(line.removeprefix("data: "))["choices"][0]["text"])
    assert "".join(pieces) == whole
    assert own.post("/v1/completions", body).json()["choices"][0]["text"] != whole
    assert unload(own, "poet").status_code == 200


def test_more_than_may_be_loaded_take_turns(own: Serving) -> None:
    told = {}
    for name, path in (("x", "a"), ("y", "b"), ("z", "deep/c")):
        assert load(own, name, path).status_code == 200
        told[name] = text(own, name)
    assert len(set(told.values())) == 3
    assert {name: text(own, name) for name in told} == told
    for name in told:
        unload(own, name)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../outside", 404),
        ("deep/../../outside", 404),
        ("link", 404),
        (".", 404),
        ("..", 404),
        ("/etc", 404),
        ("/", 404),
        ("nowhere", 404),
        ("a\0b", 404),
        ("~", 404),
        ("a" * 5000, 404),
        ("half", 400),
        ("other", 400),
        ("a/adapter_config.json", 400),
    ],
)
def test_nothing_outside_of_the_folder_is_read(own: Serving, folder: Path, path: str, status: int) -> None:
    answer = load(own, "evil", path)
    assert answer.status_code == status, answer.text
    message = answer.json()["error"]["message"]
    assert str(folder) not in message
    assert "Traceback" not in message
    assert "evil" not in names(own)
    assert own.answers()


def test_the_outside_is_refused_alike_whether_it_is_there_or_not(own: Serving, folder: Path) -> None:
    told = [load(own, "evil", str(folder / name)) for name in ("outside", "nobody")]
    assert [answer.status_code for answer in told] == [404, 404]
    there, not_there = (re.sub("'.*'", "", answer.json()["error"]["message"]) for answer in told)
    assert there == not_there


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"lora_name": "n"}, "lora_path"),
        ({"lora_path": "a"}, "lora_name"),
        ({"lora_name": "", "lora_path": "a"}, "lora_name"),
        ({"lora_name": "tiny", "lora_path": "a"}, "lora_name"),
        ({"lora_name": "n\n", "lora_path": "a"}, "lora_name"),
        ({"lora_name": "first", "lora_path": "a"}, "lora_name"),
        ({"lora_name": 3, "lora_path": "a"}, "lora_name"),
    ],
)
def test_what_is_wrong_is_named(own: Serving, body: dict[str, object], param: str) -> None:
    answer = own.post("/v1/load_lora_adapter", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param or param in answer.json()["error"]["message"]


def test_without_the_flag_nothing_is_loaded(tiny: Serving, folder: Path) -> None:
    for answer in (load(tiny, "poet", str(folder / "inside" / "a")), unload(tiny, "poet")):
        assert answer.status_code == 403
        assert "--adapter-dir" in answer.json()["error"]["message"]


def test_a_model_that_went_comes_back_with_its_adapters(own: Serving) -> None:
    assert load(own, "poet", "b").status_code == 200
    said = [text(own, name) for name in ("poet", "first")]
    assert own.post("/models/unload", {"model": "tiny"}).json() == {"success": True}
    deadline = time.monotonic() + SECONDS
    while httpx.get(f"{own.url}/health").json()["models"]:
        assert time.monotonic() < deadline
    assert [text(own, name) for name in ("poet", "first")] == said
    assert unload(own, "poet").status_code == 200


def test_many_ask_while_many_load(own: Serving) -> None:
    """More than may be loaded: who finds all of them in use is told to come again, and nobody gets another's answer."""
    paths = {"x": "a", "y": "b", "z": "deep/c"}
    wanted = {}
    for name, path in paths.items():
        assert load(own, name, path).status_code == 200
        wanted[name] = text(own, name)

    def asked(turn: int) -> tuple[str, httpx.Response]:
        name = "xyz"[turn % 3]
        return name, own.post("/v1/completions", {**ASKED, "model": name})

    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(asked, range(24)))
    answered = [(name, answer) for name, answer in told if answer.status_code == 200]
    assert {answer.status_code for _, answer in told} <= {200, 503}
    assert answered
    assert all(answer.json()["choices"][0]["text"] == wanted[name] for name, answer in answered)
    for _, answer in told:
        if answer.status_code == 503:
            assert "all of them answer somebody" in answer.json()["error"]["message"]
            assert "retry-after" in answer.headers
    assert {name: text(own, name) for name in paths} == wanted
    for name in paths:
        assert unload(own, name).status_code == 200
