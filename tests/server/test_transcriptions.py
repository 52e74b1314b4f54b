"""/v1/audio/transcriptions and /v1/audio/translations over a real model of random weights, through OpenAI's SDK and by
hand; and what is no form, no sound, or no model for it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

import mlxrun
from mlxrun.assistant import Assistant
from mlxrun.client.client import Client
from mlxrun.client.local import LocalTransport
from mlxrun.client.sounds import form_of, wav_of
from mlxrun.core import RequestError, Sampling
from mlxrun.engine.registry import RegistryLimits
from mlxrun.server.app import Server, ServerConfig
from mlxrun.server.dialect import Voice
from mlxrun.server.models import Models
from tests.golden.speech import sound, speech_reference

from .scripted import ask, error_of, server

PATH = "/v1/audio/transcriptions"
SOUND = wav_of(sound()[:16_000])
SAYS = {"response_format": "verbose_json", "language": "de", "temperature": "1"}


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assistant]:
    folder = speech_reference("whisper").write(tmp_path_factory.mktemp("models") / "hears")
    found = Assistant.open(folder, name="hears")
    yield found
    found.close()


@pytest.fixture
def hears(assistant: Assistant) -> Server:
    voice = Voice(assistant, "hears", assistant.sampling)
    limits = RegistryLimits(pinned=frozenset({"hears"}))
    models = Models(lambda name, beside: voice, lambda: ("hears",), "hears", limits)
    models.registry.hold("hears", voice)
    return Server(models, ServerConfig(Sampling()))


def posted(own: Server, fields: dict[str, Any] | None = None, data: bytes = SOUND, path: str = PATH) -> httpx.Response:
    body, kind = form_of(SAYS if fields is None else fields, data)
    return ask(own, path, body, headers={"content-type": kind})


def test_every_format(hears: Server) -> None:
    whole = posted(hears).json()
    assert whole["task"] == "transcribe"
    assert (whole["language"], whole["duration"], whole["usage"]) == ("de", 1.0, {"type": "duration", "seconds": 1})
    assert whole["text"] == "".join(one["text"] for one in whole["segments"]).strip()
    assert whole["segments"]
    plain = posted(hears, {**SAYS, "response_format": "json"}).json()
    assert set(plain) == {"text", "usage"}
    assert plain["text"] == whole["text"]  # the same seed
    text = posted(hears, {**SAYS, "response_format": "text"})
    assert text.headers["content-type"].startswith("text/plain")
    assert text.text == whole["text"] + "\n"
    cue = r"\d\d:\d\d:\d\d{}\d\d\d --> \d\d:\d\d:\d\d{}\d\d\d\n"
    srt = posted(hears, {**SAYS, "response_format": "srt"}).text
    assert re.match("1\n" + cue.format(",", ","), srt)
    assert posted(hears, {**SAYS, "response_format": "vtt"}).text.startswith("WEBVTT\n\n00:00:0")


def test_other_paths(hears: Server) -> None:
    told = posted(hears, {"response_format": "verbose_json"}, path="/v1/audio/translations").json()
    assert told["task"] == "translate"
    assert told["language"] in ("en", "de", "haw")
    assert posted(hears, {"prompt": "Mr. Fox", "language": "en"}, path="/audio/transcriptions").status_code == 200
    described = ask(hears, "/openapi.json").json()["paths"]
    form = described[PATH]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["file"]["format"] == "binary"
    assert "language" not in described["/v1/audio/translations"]["post"]["requestBody"]["content"]


def test_through_the_sdk(hears: Server) -> None:
    def handed(request: httpx.Request) -> httpx.Response:
        found = ask(hears, request.url.path, request.read(), headers={"content-type": request.headers["content-type"]})
        return httpx.Response(found.status_code, content=found.content, headers=found.headers)

    web = httpx.Client(transport=httpx.MockTransport(handed))
    client = openai.OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="none", http_client=web)
    file = io.BytesIO(SOUND)
    told = client.audio.transcriptions.create(
        model="hears",
        file=("a.wav", file),
        response_format="verbose_json",
        timestamp_granularities=["segment"],
        language="de",
    )
    assert told.segments
    assert told.segments[0].avg_logprob < 0
    assert isinstance(client.audio.translations.create(model="hears", file=("a.wav", SOUND)).text, str)
    with pytest.raises(openai.NotFoundError):
        client.audio.transcriptions.create(model="whisper-1", file=("a.wav", SOUND))


def part(name: str, value: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + value + b"\r\n"


FILE = part("file", SOUND, '; filename="a.wav"')
FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("kind", "body", "status", "said"),
    [
        ("application/json", b"{}", 415, "Send a form with a file"),
        ("multipart/form-data", FILE + b"--x--", 415, "Send a form with a file"),
        (FORM, b"", 400, "does not begin with the boundary"),
        (FORM, b"hello", 400, "does not begin with the boundary"),
        (FORM, b"--x--\r\n", 400, "The form has no parts."),
        (FORM, FILE, 400, "ends in the middle of a part"),
        (FORM, b"--x\r\n\r\n\r\n--x--", 400, "A part of the form has no"),
        (FORM, b"--x\r\nA: b\r\n\r\nc\r\n--x--", 400, "A part of the form has no name."),
        (FORM, b"--x\r\n" + b"a" * 9000 + b"\r\n--x--", 400, "no end of its headers"),
        (FORM, part("a", b"1") * 65 + b"--x--", 400, "more than 64 parts"),
        (FORM, part("model", b"hears") + b"--x--", 400, "must hold one file"),
        (FORM, FILE + FILE + b"--x--", 400, "must hold one file"),
        (FORM, FILE + part("model", b"\xff") + b"--x--", 400, "is not valid UTF-8"),
        (FORM, FILE + part("prompt", b"a" * (1 << 20 | 1)) + b"--x--", 400, "is longer than"),
        (FORM, FILE + part("temperature", b"hot") + b"--x--", 400, "temperature must be a number from 0 to 1"),
        (FORM, FILE + part("temperature", b"7") + b"--x--", 400, "temperature must be a number from 0 to 1"),
        (FORM, FILE + part("temperature", b"nan") + b"--x--", 400, "temperature must be a number from 0 to 1"),
        (FORM, FILE + part("response_format", b"docx") + b"--x--", 400, "response_format must be one of"),
        (FORM, FILE + part("language", b"klingon") + b"--x--", 400, "language must be a code that hears knows"),
        (FORM, FILE + part("stream", b"true") + b"--x--", 400, "stream"),
        (FORM, FILE + part("timestamp_granularities[]", b"word") + b"--x--", 400, "timestamp_granularities"),
        (FORM, part("file", b"", '; filename="a"') + b"--x--", 400, "file is an empty file."),
        (FORM, part("file", b"\r\n--x", '; filename="a"') + b"--x--", 400, "no end of its headers"),
        (FORM, part("file", b"hello", '; filename="a"') + b"--x--", 400, "file is none that can be read"),
    ],
)
def test_what_cannot_be_served(hears: Server, kind: str, body: bytes, status: int, said: str) -> None:
    refused = ask(hears, PATH, body, method="POST", headers={"content-type": kind})
    assert refused.status_code == status, refused.text
    assert said in error_of(refused)["message"]


def test_a_body_that_is_too_large_is_not_read(hears: Server) -> None:
    huge = {"content-type": FORM, "content-length": str(30 << 20)}
    assert ask(hears, PATH, b"", method="POST", headers=huge).status_code == 413


def test_what_a_form_has_beside_is_left_out_and_told(hears: Server) -> None:
    told = posted(hears, {**SAYS, "hotwords": "fox", "chunking_strategy": "auto"})
    assert told.status_code == 200
    assert told.headers["x-mlxrun-left-out"] == "hotwords"


def test_a_model_for_chats_is_asked_and_the_reverse(hears: Server) -> None:
    own, _ = server()
    refused = posted(own, {})
    assert refused.status_code == 400
    assert "scripted writes down no speech" in error_of(refused)["message"]
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/responses", {"input": "Hi"}),
    ):
        refused = ask(hears, path, body)
        assert refused.status_code == 400
        assert "hears writes down speech and holds no conversation" in json.dumps(refused.json())
    refused = ask(hears, "/v1/embeddings", {"input": "Hi"})
    assert "it writes down speech" in error_of(refused)["message"]


def test_from_python(assistant: Assistant, tmp_path: Path, hears: Server) -> None:
    model = Client(LocalTransport(assistant))
    (tmp_path / "a.wav").write_bytes(SOUND)
    by_file = model.transcribe(tmp_path / "a.wav", language="de", temperature=1.0)
    assert by_file == model.transcribe(SOUND, language="de", temperature=1.0)
    assert by_file.segments == model.transcribe(sound()[:16_000], language="de", temperature=1.0).segments
    assert by_file.text == posted(hears).json()["text"]
    for wrong, said in (
        (np.zeros(0, np.float32), "holds no samples"),
        (np.zeros((2, 9), np.float32), "holds no samples"),
        (np.zeros(9, np.int16), "must hold floats"),
        (np.full(9, np.inf, np.float32), "no numbers"),
    ):
        with pytest.raises(mlxrun.RequestError, match=said):
            model.transcribe(wrong)
    with pytest.raises(RequestError, match="temperature must be"):
        model.transcribe(SOUND, temperature=2.0)
