"""Streaming decode equals decoding at once, wherever the stream is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.text.detokenizer import Detokenizer
from mlxrun.text.opening import folder_tokenizer, gguf_tokenizer
from mlxrun.text.tokenizer import Tokenizer

CUTS = st.lists(st.integers(0, 60), max_size=12)


@pytest.fixture(scope="module", params=["smollm2", "tokenizer.json", "tokenizer.model", "gguf llama"])
def tokenizer(
    request: pytest.FixtureRequest, smollm2: Tokenizer, bpe_folder: Path, spm_folder: Path, spm_metadata: dict[str, Any]
) -> Tokenizer:
    made = {
        "smollm2": lambda: smollm2,
        "tokenizer.json": lambda: folder_tokenizer(bpe_folder),
        "tokenizer.model": lambda: folder_tokenizer(spm_folder),
        "gguf llama": lambda: gguf_tokenizer(spm_metadata),
    }
    return made[request.param]()


def pieces(tokenizer: Tokenizer, ids: list[int], cuts: list[int], skip: bool) -> list[str]:
    stream, ends = Detokenizer(tokenizer, skip_special=skip), sorted({min(cut, len(ids)) for cut in (*cuts, len(ids))})
    starts = [0, *ends[:-1]]
    return [stream.push(ids[a:b]) for a, b in zip(starts, ends, strict=True)] + [stream.finish()]


@given(numbers=st.lists(st.integers(0, 10**6), max_size=60), cuts=CUTS, skip=st.booleans())
def test_any_ids(tokenizer: Tokenizer, numbers: list[int], cuts: list[int], skip: bool) -> None:
    """Random tokens are mostly broken characters: the hardest case."""
    ids = [number % (tokenizer.vocab_size + 3) for number in numbers]
    assert "".join(pieces(tokenizer, ids, cuts, skip)) == tokenizer.decode(ids, skip_special=skip)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_text_one_token_at_a_time(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, special=False)
    shown = pieces(tokenizer, ids, list(range(len(ids))), True)
    assert "".join(shown) == tokenizer.decode(ids)
    assert all("\ufffd" not in piece for piece in shown) or "\ufffd" in tokenizer.decode(ids)


def test_a_leading_space_stays(tokenizer: Tokenizer) -> None:
    the = next(i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i).startswith(b" "))
    assert Detokenizer(tokenizer).push([the]).startswith(" ")


def test_a_character_is_held_until_it_is_whole(smollm2: Tokenizer) -> None:
    first, second = smollm2.encode("🙂", special=False)
    stream = Detokenizer(smollm2)
    assert stream.push([first]) == ""
    assert stream.push([second]) == "🙂"
    assert stream.push([first]) == ""
    assert stream.finish() == "\ufffd"  # three of its four bytes, cut off: one character
    assert stream.push([19556]) == "Hello"


def test_control_tokens_do_not_break_a_character(smollm2: Tokenizer) -> None:
    first, second = smollm2.encode("🙂", special=False)
    assert Detokenizer(smollm2).push([first, 2, second, 10**7, -1]) == "🙂"
    assert Detokenizer(smollm2, skip_special=False).push([2, 19556]) == "<|im_end|>Hello"
