"""Pictures in the chat: shown to a model that sees, refused where none can be seen, small on the screen."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from mlxrun.tui import attach
from mlxrun.tui.attach import Attached, AttachError, read_file
from mlxrun.tui.talk import joined, tokens_of
from mlxrun.tui.widgets.picture import half_blocks, thumbnail_of
from PIL import Image

from mlxrun.core import Finish
from mlxrun.parts import Piece

from .fakes import chat, said
from .helpers import idle, in_app, prompt, running, seen, send, shows, until


def png(folder: Path, name: str = "cat.png", size: tuple[int, int] = (64, 32)) -> bytes:
    file = io.BytesIO()
    picture = Image.new("RGB", size, "#ff0000")
    picture.paste("#0000ff", (0, size[1] // 2, *size))
    picture.save(file, "PNG")
    (folder / name).write_bytes(file.getvalue())
    return file.getvalue()


@in_app
async def test_a_picture_is_shown_to_a_model_that_sees_and_named_to_one_that_does_not(folder: Path) -> None:
    raw = png(folder)
    app, backend = chat(folder, said("Red and blue."), said("Yes."), said("I do not see."))
    client = backend.clients[0]
    client.sees = True
    async with running(app) as pilot:
        await send(pilot, f"What is @{folder / 'cat.png'} ?")
        await shows(pilot, "▣ cat.png  picture, 64 × 32", "▀▀▀▀▀▀▀▀", "Red and blue.")
        await idle(pilot)
        text = f"What is @{folder / 'cat.png'} ?"
        assert client.asked[0] == [{"role": "user", "content": [raw, text]}]
        await send(pilot, "Sure?")
        await idle(pilot)
        assert client.asked[1][0]["content"] == [raw, text]
        client.sees = False
        await send(pilot, "And you?")
        await idle(pilot)
        named = f"[a picture that you do not see: {folder / 'cat.png'}]\n\n{text}"
        assert client.asked[2][0]["content"] == named
        await send(pilot, f"@{folder / 'cat.png'}")
        # a path may be so long that the sentence breaks anywhere on the screen
        await until(pilot, lambda: any("this model sees none" in one.message for one in app._notifications))
        assert len(client.asked) == 3
        assert prompt(pilot).text.startswith("@")


@in_app
async def test_a_message_that_comes_back_shows_its_picture_once(folder: Path) -> None:
    png(folder)
    refused = [Piece(finish=Finish.REFUSED, reason="No."), Piece()]
    app, backend = chat(folder, refused[:1], said("Yes."))
    client = backend.clients[0]
    client.sees = None
    async with running(app) as pilot:
        await send(pilot, f"@{folder / 'cat.png'} Hm?")
        await shows(pilot, "Your message is back")
        await until(pilot, lambda: prompt(pilot).text, "it is back")
        await pilot.press("enter")
        await idle(pilot)
        assert [type(part) for part in client.asked[-1][0]["content"]] == [bytes, str]
        assert seen(app).count("▣ cat.png") == 1


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n\x1b[31m")
    with pytest.raises(AttachError, match=r"bad.png is none that can be read: PNG"):
        read_file(tmp_path / "bad.png", tmp_path)
    (tmp_path / "large.png").write_bytes(b"0" * (attach.LARGEST_PICTURE + 1))
    with pytest.raises(AttachError, match="at most 21 MB go along"):
        read_file(tmp_path / "large.png", tmp_path)
    png(tmp_path)
    assert read_file(tmp_path / "cat.png", tmp_path).picture
    kept = attach.read(attach.written([read_file(tmp_path / "cat.png", tmp_path), Attached("a", "text")]))
    assert [(file.name, bool(file.picture)) for file in kept] == [("cat.png", True), ("a", False)]
    assert attach.with_files("Hi", kept) == "Hi\n\na:\n```\ntext\n```"
    assert attach.read("[1]") == []


def test_half_blocks_have_two_pixels_a_cell(tmp_path: Path) -> None:
    png(tmp_path, size=(640, 320))
    small = thumbnail_of(read_file(tmp_path / "cat.png", tmp_path))
    assert [len(line) for line in small.plain.split("\n")] == [32] * 8
    top, bottom = half_blocks([(255, 0, 0)] * 3, [(0, 0, 255)] * 3), half_blocks([(255, 0, 0)], None)
    assert (top.plain, [str(span.style) for span in top.spans]) == ("▀▀▀", ["#ff0000 on #0000ff"])
    assert [str(span.style) for span in bottom.spans] == ["#ff0000"]
    odd = thumbnail_of(Attached("odd", "", "AAAA"))
    assert odd.plain == "▀▀"


def test_contents_are_joined_and_counted() -> None:
    assert joined("a", "b") == "a\n\nb"
    assert joined([b"1", "a"], "b") == [b"1", "a", "b"]
    assert tokens_of({"role": "user", "content": [b"1" * 1000, "word"]}) == tokens_of(
        {"role": "user", "content": "word"}
    )
