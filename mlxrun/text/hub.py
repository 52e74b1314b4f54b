"""Tokenizers on the `tokenizers` library: tokenizer.json, vocab.json with merges.txt, and BPE out of GGUF.

What a token stands for is worked out from the decoder that the file names, one token at a time. A
decoder that looks at neighbours cannot be told that way and is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..spec import ModelError
from .folder import Folder
from .quoting import MARK
from .tokenizer import Marks, Pair, Tokenizer, well_formed

if TYPE_CHECKING:
    import tokenizers

BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
LONG = 4096  # characters: a batch is made without holding up Python's other threads, and takes longer to begin
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Turn what `tokenizers` raises into one sentence: plain Exception for a bad file, a panic for a worse one."""
    try:
        yield
    except ModelError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        why = (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")
        raise ModelError(f"{what} is not a usable tokenizer: {why}.") from error


def from_tokenizer_json(folder: Folder) -> Tokenizer:
    from tokenizers import Tokenizer as Inner

    path = folder.path / "tokenizer.json"
    with reading(path):
        inner = Inner.from_str(path.read_text("utf-8"))  # by its name the library finds no file whose name is not UTF-8
        inner.no_truncation()  # some files carry the limits of their training run
        inner.no_padding()
        _add_tokens(inner, folder)
    return _finish(inner, folder)


def from_vocab_and_merges(folder: Folder) -> Tokenizer:
    """GPT-2's own files, for models (OPT) that never got a tokenizer.json."""
    from tokenizers import Tokenizer as Inner
    from tokenizers import decoders, models, pre_tokenizers

    kind = folder.tokenizer.get("tokenizer_class")
    if kind not in GPT2_CLASSES:
        raise ModelError(
            f"{folder.path} has vocab.json and merges.txt but no tokenizer.json, and its tokenizer_class is {kind!r}; "
            f"only {GPT2_CLASSES[0]} can be built from them."
        )
    with reading(folder.path / "vocab.json"):
        inner = Inner(models.BPE.from_file(str(folder.path / "vocab.json"), str(folder.path / "merges.txt")))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        inner.add_special_tokens([text for text in folder.special_texts().values() if inner.token_to_id(text)])
        _add_tokens(inner, folder)
    return _finish(inner, folder)


def _add_tokens(inner: tokenizers.Tokenizer, folder: Folder) -> None:
    """Tokens that only tokenizer_config.json knows. They must get the ids that it says."""
    from tokenizers import AddedToken

    listed = folder.tokenizer.get("added_tokens_decoder", {})
    known = inner.get_added_tokens_decoder()
    for number, token in sorted(((int(k), v) for k, v in listed.items()), key=lambda item: item[0]):
        if number in known or not token.get("content"):
            continue
        flags = {k: bool(token[k]) for k in ("single_word", "lstrip", "rstrip", "normalized", "special") if k in token}
        inner.add_tokens([AddedToken(token["content"], **flags)])
        if inner.token_to_id(token["content"]) != number:
            raise ModelError(f"{folder.path}: tokenizer_config.json gives {token['content']!r} the id {number}, "
                             f"but tokenizer.json makes it {inner.token_to_id(token['content'])}.")  # fmt: skip


def _finish(inner: tokenizers.Tokenizer, folder: Folder) -> Tokenizer:
    def id_of(role: str) -> int | None:
        text = folder.role(role)
        return None if text is None else inner.token_to_id(text)

    bos = id_of("bos_token") if folder.named("bos_token") else min(folder.ids("bos_token_id"), default=None)
    eos = id_of("eos_token")
    eos_ids = folder.ids("eos_token_id") | (frozenset() if eos is None else {eos})
    with reading(folder.path):
        prefix, suffix = _around(inner)
    marks = Marks(bos, eos_ids, prefix, suffix)
    return HubTokenizer(inner, _asked_for(marks, eos, folder.tokenizer))


def _around(inner: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the file's own post-processor puts before and after a text."""
    plain, full = inner.encode("a", add_special_tokens=False).ids, inner.encode("a").ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return tuple(full[:start]), tuple(full[start + len(plain) :])
    return (), ()


def _pair(inner: tokenizers.Tokenizer) -> Pair | None:
    """What the file's own post-processor puts round two texts: only what it adds is special there."""
    full = inner.encode("a", "a")
    texts = [i for i, place in enumerate(full.sequence_ids) if place is not None]
    first = [i for i in texts if full.sequence_ids[i] == 0]
    second = [i for i in texts if full.sequence_ids[i] == 1]
    if not first or not second or first[-1] >= second[0]:
        return None
    between = full.ids[first[-1] + 1 : second[0]]
    kind = full.type_ids[second[0]]
    return Pair(tuple(full.ids[: first[0]]), tuple(between), tuple(full.ids[second[-1] + 1 :]), kind)


def _asked_for(marks: Marks, eos: int | None, settings: Mapping[str, Any]) -> Marks:
    """add_bos_token and add_eos_token, where tokenizer_config.json has them, outrank the post-processor."""
    prefix, suffix = marks.prefix, marks.suffix
    if isinstance(wanted := settings.get("add_bos_token"), bool) and marks.bos_id is not None:
        prefix = (*((marks.bos_id,) if wanted else ()), *(i for i in prefix if i != marks.bos_id))
    if isinstance(wanted := settings.get("add_eos_token"), bool) and eos is not None:
        suffix = (*(i for i in suffix if i != eos), *((eos,) if wanted else ()))
    return replace(marks, prefix=prefix, suffix=suffix)


class HubTokenizer(Tokenizer):
    def __init__(self, inner: tokenizers.Tokenizer, marks: Marks) -> None:
        super().__init__(marks)
        added = inner.get_added_tokens_decoder()
        self._inner, self._lock = inner, Lock()
        self._added = {i: token.content for i, token in added.items()}
        self._added_ids = {text: i for i, text in self._added.items()}
        self._special = frozenset(i for i, token in added.items() if token.special)
        self._found_late = any(token.normalized for token in added.values())
        self._spelling = Spelling.of(inner.decoder)
        self.vocab_size = max(inner.get_vocab_size(), *(i + 1 for i in added), 0)

    def as_json(self) -> str:
        """What a tokenizer.json holds."""
        return str(self._inner.to_str())

    @property
    def strips_start(self) -> bool:
        return self._spelling.strips_start

    @cached_property
    def pair(self) -> Pair | None:
        with self._lock, reading("tokenizer.json"):
            return _pair(self._inner)

    def encode(self, text: str, *, special: bool) -> list[int]:
        text = well_formed(text)
        with self._lock:  # the switch is the tokenizer's own state
            self._inner.encode_special_tokens = not special
            return self._ids(text)

    def encode_quoted(self, text: str) -> list[int]:
        if MARK not in text:
            return self.encode(text, special=True)
        with self._lock, self._dropping_marks():
            self._inner.encode_special_tokens = False
            return self._ids(well_formed(text))

    def _ids(self, text: str) -> list[int]:
        if len(text) < LONG:
            return list(self._inner.encode(text, add_special_tokens=False).ids)
        return list(self._inner.encode_batch_fast([text], add_special_tokens=False)[0].ids)

    @contextmanager
    def _dropping_marks(self) -> Iterator[None]:
        """As the first step after the library has found the control tokens; some it finds in normalized text only."""
        from tokenizers import normalizers, pre_tokenizers

        inner, normalizer, splitter = self._inner, self._inner.normalizer, self._inner.pre_tokenizer
        if self._found_late:
            drop = pre_tokenizers.Split(MARK, "removed")
            inner.pre_tokenizer = drop if splitter is None else pre_tokenizers.Sequence([drop, splitter])
        else:
            unmark = normalizers.Replace(MARK, "")
            inner.normalizer = unmark if normalizer is None else normalizers.Sequence([unmark, normalizer])
        try:
            yield
        finally:
            inner.normalizer, inner.pre_tokenizer = normalizer, splitter

    @cached_property
    def longest(self) -> int:
        """From the spelling alone, which is much quicker than by every token's bytes and never less. Piece by piece:
        all of a vocabulary at once would be a tenth of a second in which no other thread goes on."""
        size = len if self._spelling.bytes_of is _byte_level else lambda piece: len(piece.encode())
        own = max((size(self.piece(i)) for i in range(self.vocab_size)), default=0)
        return max(own, *(len(text.encode()) for text in self._added_ids), 0) + len(MARK.encode())

    @property
    def controls(self) -> Collection[str]:
        return [self._added[i] for i in self._special]

    @property
    def added(self) -> Collection[str]:
        return self._added_ids

    def added_id(self, text: str) -> int | None:
        return self._added_ids.get(text)

    def piece(self, token: int) -> str:
        return (self._inner.id_to_token(token) or "") if 0 <= token < self.vocab_size else ""

    def is_special(self, token: int) -> bool:
        return token in self._special

    def _spell(self, token: int) -> bytes:
        """Added tokens stand for themselves: their text was never put through the vocabulary's alphabet."""
        text = self._added.get(token)
        return self._spelling.bytes_of(self.piece(token)) if text is None else text.encode()


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a vocabulary spells bytes."""

    bytes_of: Callable[[str], bytes]
    strips_start: bool = False

    @staticmethod
    def of(decoder: Any) -> Spelling:
        if decoder is None:  # the library then joins words with spaces
            return Spelling(lambda piece: b" " + piece.encode() if piece else b"", strips_start=True)
        state = json.loads(decoder.__getstate__())
        steps = state["decoders"] if state["type"] == "Sequence" else [state]
        if any(step["type"] == "ByteLevel" for step in steps):
            return Spelling(_byte_level)
        return Spelling(_piecewise(steps), strips_start=any(map(_takes_first_space, steps)))


def _takes_first_space(step: Mapping[str, Any]) -> bool:
    kind = step["type"]
    return kind == "WordPiece" or (kind == "Strip" and step["start"] > 0) or (
        kind == "Metaspace" and step.get("prepend_scheme") != "never"
    )  # fmt: skip


def _piecewise(steps: Sequence[Mapping[str, Any]]) -> Callable[[str], bytes]:
    swaps: list[tuple[str, str]] = []
    byte_pieces, inner_mark = False, ""
    for step in steps:
        match step:
            case {"type": "Replace", "pattern": {"String": old}, "content": new}:
                swaps.append((old, new))
            case {"type": "Metaspace", "replacement": old}:
                swaps.append((old, " "))
            case {"type": "WordPiece", "prefix": mark}:
                inner_mark = mark
            case {"type": "ByteFallback"}:
                byte_pieces = True
            case {"type": "Fuse"} | {"type": "Strip", "content": " ", "stop": 0}:
                pass  # these act on the whole text: `strips_start`
            case _:
                raise ModelError(f"tokenizer.json: the decoder {step['type']} is not known; nothing can be decoded.")

    def bytes_of(piece: str) -> bytes:
        if byte_pieces and (found := BYTE_PIECE.fullmatch(piece)):
            return bytes.fromhex(found[1])
        if inner_mark:
            piece = piece.removeprefix(inner_mark) if piece.startswith(inner_mark) else " " + piece
        for old, new in swaps:
            piece = piece.replace(old, new)
        return piece.encode()

    return bytes_of


def _alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(0x100 + n): b for n, b in enumerate(others)}


ALPHABET = _alphabet()


def _byte_level(piece: str) -> bytes:
    try:
        return bytes(ALPHABET[letter] for letter in piece)
    except KeyError:
        return piece.encode()  # not spelled in the alphabet: a token put in by hand
