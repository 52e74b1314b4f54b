"""Pictures over HTTP, to a model that sees: every dialect, and every file that somebody may send."""

from __future__ import annotations

import base64
import io
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlxrun.client import connect
from tests.golden.towers import ASKED, TowerReference, picture, png, tower_reference

from .process import Serving, serving

BOUND = 400 << 20  # bytes by which the server may grow over all of these
PLAIN = {"max_tokens": 3, "temperature": 0}


@pytest.fixture(scope="module")
def reference() -> TowerReference:
    return tower_reference("idefics3")


@pytest.fixture(scope="module")
def seeing(reference: TowerReference, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder: Path = reference.write(tmp_path_factory.mktemp("models") / "seeing")
    with serving(str(folder), "--name", "seeing") as own:
        yield own


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chat(pictures: list[bytes], **more: Any) -> dict[str, Any]:
    urls = [f"data:image/png;base64,{coded(data)}" for data in pictures]
    content = [part for url in urls for part in (image_url(url), {"type": "text", "text": ASKED})]
    return {"messages": [{"role": "user", "content": content}], **PLAIN, **more}


def image_url(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def said(seeing: Serving, pictures: list[bytes]) -> str:
    told = seeing.post("/v1/chat/completions", chat(pictures)).json()
    return str(told["choices"][0]["message"]["content"])


def likely(seeing: Serving, picture: bytes) -> list[float]:
    told = seeing.post("/v1/chat/completions", chat([picture], logprobs=True, top_logprobs=3)).json()
    return [one["logprob"] for token in told["choices"][0]["logprobs"]["content"] for one in token["top_logprobs"]]


def test_the_first_token_is_the_one_that_transformers_would_say(seeing: Serving, reference: TowerReference) -> None:
    body = chat(reference.pictures, max_tokens=1, logprobs=True, top_logprobs=3)
    told = seeing.post("/v1/chat/completions", body).json()
    assert told["usage"]["prompt_tokens"] == len(reference.tokens)
    logits = reference.logits[-1].astype(np.float64)
    wanted = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    found = told["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    assert [round(one["logprob"], 1) for one in found] == [round(x, 1) for x in sorted(wanted)[:-4:-1]]


def test_two_pictures_and_one_question_have_two_answers(seeing: Serving, reference: TowerReference) -> None:
    first, again, other = (likely(seeing, reference.pictures[at]) for at in (0, 0, 1))
    assert first == again != other


def test_every_dialect_shows_the_same_picture(seeing: Serving, reference: TowerReference) -> None:
    one = reference.pictures[0]
    wanted = said(seeing, [one])
    source = {"type": "base64", "media_type": "image/png", "data": coded(one)}
    content = [{"type": "image", "source": source}, {"type": "text", "text": ASKED}]
    body = {"messages": [{"role": "user", "content": content}], "model": "seeing", **PLAIN}
    anthropic = seeing.post("/v1/messages", body).json()
    assert anthropic["content"][0]["text"] == wanted
    url = f"data:image/png;base64,{coded(one)}"
    parts = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": ASKED}]
    asked = {"input": [{"role": "user", "content": parts}], "max_output_tokens": 3, "temperature": 0}
    responses = seeing.post("/v1/responses", asked).json()
    assert responses["output"][0]["content"][0]["text"] == wanted


def test_ollama_shows_pictures(seeing: Serving, reference: TowerReference) -> None:
    """Its pictures follow on the text."""
    one = reference.pictures[0]
    message = {"role": "user", "content": ASKED, "images": [coded(one)]}
    body = {"model": "seeing", "messages": [message], "stream": False, "options": {"temperature": 0, "num_predict": 3}}
    told = seeing.post("/api/chat", body).json()
    parts = [{"type": "text", "text": ASKED}, image_url(f"data:image/png;base64,{coded(one)}")]
    same = seeing.post("/v1/chat/completions", {"messages": [{"role": "user", "content": parts}], **PLAIN}).json()
    assert told["message"]["content"] == same["choices"][0]["message"]["content"]


def test_a_text_with_the_placeholder_in_it_is_only_a_text(seeing: Serving, reference: TowerReference) -> None:
    body = chat(reference.pictures[:1])
    body["messages"][0]["content"][1]["text"] = "What is <image> and <row_1_col_1>?"
    assert seeing.post("/v1/chat/completions", body).status_code == 200


def header(width: int, height: int) -> bytes:
    """A PNG that says so, and has next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def saved(picture: Image.Image, kind: str, **more: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **more)
    return file.getvalue()


GREY = Image.new("RGB", (64, 48), (90, 120, 200))
JPEG = saved(GREY, "JPEG")
REFUSED = {
    "no bytes at all": b"\0",
    "a text": b"hello",
    "an SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='10' height='10'/>",
    "a PDF": b"%PDF-1.7\n",
    "a TIFF": saved(GREY, "TIFF"),
    "a cut JPEG": JPEG[: len(JPEG) // 2],
    "a cut PNG": png(np.zeros((64, 64, 3), np.uint8))[:60],
    "60 megapixels": header(10_000, 6_000),
    "a side that no screen has": header(65_000, 2),
    "a bomb of 10 gigapixels": header(100_000, 100_000),
    "a header that lies": header(3_000, 3_000),
    "far too long": saved(Image.new("RGB", (4_000, 3)), "PNG"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_a_400(seeing: Serving, name: str) -> None:
    told = seeing.post("/v1/chat/completions", chat([REFUSED[name]]))
    assert told.status_code == 400, told.text
    assert told.json()["error"]["message"].startswith("The picture ")
    assert seeing.answers()


def test_what_is_only_unusual_is_read(seeing: Serving) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    frames = [Image.new("P", (40, 30), colour) for colour in range(3)]
    files = [
        saved(GREY.convert("CMYK"), "JPEG"),
        saved(GREY, "JPEG", exif=exif),
        saved(Image.fromarray(np.full((30, 40), 40_000, np.uint16)), "PNG"),
        saved(GREY.convert("RGBA"), "WEBP"),
        saved(GREY.convert("1"), "BMP"),
        saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        saved(Image.new("LA", (1, 1)), "PNG"),
    ]
    for data in files:
        told = seeing.post("/v1/chat/completions", chat([data]))
        assert told.status_code == 200, told.text


def test_too_many_are_a_400(seeing: Serving) -> None:
    told = seeing.post("/v1/chat/completions", chat([JPEG] * 17))
    assert told.status_code == 400
    assert "17 pictures; at most 16" in told.json()["error"]["message"]


def test_memory_is_bounded(seeing: Serving) -> None:
    before = seeing.resident()
    bombs = [saved(Image.new("RGB", (6_300, 4_000), (9, 9, 9)), "PNG", compress_level=1), REFUSED["a header that lies"]]
    for data in bombs:
        seeing.post("/v1/chat/completions", chat([data]))
    assert seeing.resident() < before + BOUND


def test_the_client_takes_pictures_as_a_program_has_them(
    seeing: Serving, reference: TowerReference, tmp_path: Path
) -> None:
    data, array = reference.pictures[0], picture(*reference.case.sizes[0])
    file = tmp_path / "seen.png"
    file.write_bytes(data)
    wanted = said(seeing, [data])
    with connect(seeing.url) as client:
        for given in (file, data, Image.open(file), array):
            for message in ({"content": [given, ASKED]}, {"content": ASKED, "images": [given]}):
                reply = client.chat([{"role": "user", **message}], max_tokens=3, temperature=0)
                assert reply.text == wanted


def test_the_command_shows_a_file(reference: TowerReference, tmp_path: Path) -> None:
    folder, file = reference.write(tmp_path / "model"), tmp_path / "seen.png"
    file.write_bytes(reference.pictures[0])
    asked = [sys.executable, "-m", "mlxrun", "run", str(folder), ASKED, "--max-tokens", "3", "--temperature", "0"]
    with_it, without = (
        subprocess.run([*asked, *more], capture_output=True, text=True) for more in (["--image", str(file)], [])
    )
    assert with_it.returncode == 0, with_it.stderr
    assert "tokens read" in with_it.stderr
    assert tokens_read(with_it.stderr) > tokens_read(without.stderr) + 9


def tokens_read(said: str) -> int:
    found = re.search(r"(\d+) tokens read", said)
    assert found is not None, said
    return int(found[1])
