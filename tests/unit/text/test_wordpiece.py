"""WordPiece out of GGUF: against transformers' tokenizer of the same vocabulary, and BERT's rule written out here."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.convert.text import calibration
from mlxrun.spec import ModelError
from mlxrun.text.opening import gguf_tokenizer

CONTROLS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
STRINGS = 2000
PIECES = (
    *("Hello", " world", "don't", "naïve café", "ÅNGSTRÖM", "İstanbul", "ß", "日本語", "한국어", "e\u0301", "ﬁ"),
    *("\n", "\t", "  ", "\u00a0", "\u200b", "\u3000", "\ufffd", "\x00", "\x07", "—", "...", "$5", "a+b=c", "x" * 120),
    *("[CLS]", "[SEP]", "[MASK]", "[", "##ing", "##", "government", "unbelievable", "123", "4567.89", "👩‍👩‍👧", "ǅ"),
)


def vocabulary(text: str, cased: bool) -> list[str]:
    """Frequent words whole, letters alone and going on, and some endings."""
    text = unicodedata.normalize("NFD", text + "naïve café Hello world")
    words = basic(text, lower=not cased, strip=not cased)
    letters = sorted({letter for word in words for letter in word} | set("0123456789$+=.日本"))
    endings = ["ing", "ed", "s", "able", "ment", "un", "tion", "ly"]
    whole = sorted(set(words) | {"un", "go"}, key=lambda w: (len(w), w))[::2]
    return [*CONTROLS, *dict.fromkeys([*letters, *("##" + x for x in letters), *("##" + x for x in endings), *whole])]


def phantom(tokens: Iterable[str]) -> list[str]:
    """As llama.cpp's converter writes them."""
    return [t if t in CONTROLS else t[2:] if t.startswith("##") else "▁" + t for t in tokens]


def metadata(tokens: list[str], **extra: Any) -> dict[str, Any]:
    said = {
        "model": "bert",
        "tokens": phantom(tokens),
        "token_type": [3 if token in CONTROLS else 1 for token in tokens],
        "unknown_token_id": 1,
        "cls_token_id": 2,
        "seperator_token_id": 3,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (said | extra).items() if value is not None}


def basic(text: str, *, lower: bool, strip: bool) -> list[str]:
    """Words and signs."""
    spaced = ""
    for letter in text:
        kind = unicodedata.category(letter)
        if letter in "\t\n\r" or kind == "Zs":
            spaced += " "
        elif letter in ("\0", "\ufffd") or kind in ("Cc", "Cf", "Cn", "Co", "Cs"):
            continue
        else:
            spaced += f" {letter} " if ideograph(ord(letter)) else letter
    if strip:
        spaced = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn")
    spaced = "".join(c.lower() for c in spaced) if lower else spaced
    return "".join(f" {c} " if sign(c) else c for c in spaced).split()


def ideograph(point: int) -> bool:
    ranges = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF), (0xF900, 0xFAFF))
    return any(low <= point <= high for low, high in (*ranges, (0x2F800, 0x2FA1F)))


def sign(letter: str) -> bool:
    ascii_sign = letter.isascii() and letter.isprintable() and not letter.isalnum() and letter != " "
    return ascii_sign or unicodedata.category(letter).startswith("P")


def by_rule(tokens: list[str], text: str, *, lower: bool) -> list[int]:
    """The longest piece first; a word with a part that is none is unknown."""
    places = {token: i for i, token in reversed(list(enumerate(tokens)))}
    found = []
    for word in basic(text, lower=lower, strip=lower):
        ids, at = [], 0
        while at < len(word) and len(word) <= 100:
            mark = "##" if at else ""
            end = next((e for e in range(len(word), at, -1) if mark + word[at:e] in places), None)
            if end is None:
                break
            ids.append(places[mark + word[at:end]])
            at = end
        found += ids if word and at == len(word) else [1]
    return found


def strings() -> list[str]:
    random = Random(0)
    words = calibration().split()
    return [
        "".join(random.choices(PIECES, k=random.randint(1, 10)))
        if number % 2
        else " ".join(random.choices(words, k=random.randint(1, 12)))
        for number in range(STRINGS)
    ]


@pytest.mark.parametrize("cased", [False, True])
def test_the_ids_of_transformers(cased: bool, tmp_path: Path) -> None:
    from transformers import BertTokenizer

    tokens = vocabulary(calibration(), cased)
    (tmp_path / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"), do_lower_case=not cased)
    ours = gguf_tokenizer(metadata(tokens))
    assert (ours.prefix, ours.suffix) == ((2,), (3,))
    for text in strings():
        wanted = theirs(text)["input_ids"]
        assert [*ours.prefix, *ours.encode(text, special=True), *ours.suffix] == wanted, repr(text)


TOKENS = vocabulary(calibration(), cased=False)


@given(text=st.text(st.characters(codec="utf-8", max_codepoint=0x36F), max_size=40))
def test_the_ids_by_the_rule(text: str) -> None:
    assert gguf_tokenizer(metadata(TOKENS)).encode(text, special=False) == by_rule(TOKENS, text, lower=True)


def test_the_ids_of_words_by_the_rule() -> None:
    ours = gguf_tokenizer(metadata(TOKENS))
    for text in strings():
        if "[" not in text:
            assert ours.encode(text, special=False) == by_rule(TOKENS, text, lower=True), repr(text)


def test_words_come_back(tmp_path: Path) -> None:
    ours = gguf_tokenizer(metadata(TOKENS))
    ids = ours.encode("Hello unable world", special=False)
    assert 1 not in ids
    assert ours.decode(ids, whole=True) == "hello unable world"
    assert ours.decode([2, *ids, 3], whole=True) == "hello unable world"


def test_control_tokens_are_meant_only_when_said() -> None:
    ours = gguf_tokenizer(metadata(TOKENS))
    assert ours.encode("[MASK]", special=True) == [4]
    assert 4 not in ours.encode("[MASK]", special=False)


def test_what_the_file_says_outranks_the_vocabulary() -> None:
    kept = gguf_tokenizer(metadata(TOKENS, **{"normalizer.lowercase": False}))
    assert kept.encode("A", special=False) == [1]
    bare = gguf_tokenizer(metadata(TOKENS, add_bos_token=False, add_sep_token=False))
    assert (bare.prefix, bare.suffix) == ((), ())
    named = gguf_tokenizer(metadata(TOKENS, cls_token_id=None, seperator_token_id=None, unknown_token_id=None))
    assert (named.prefix, named.suffix, named.encode("\u0e01", special=False)) == ((2,), (3,), [1])


def test_no_unknown_token() -> None:
    tokens = [token for token in TOKENS if token != "[UNK]"]
    said = metadata(tokens, unknown_token_id=None)
    with pytest.raises(ModelError, match="unknown_token_id"):
        gguf_tokenizer(said)
