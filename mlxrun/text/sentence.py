"""SentencePiece tokenizers: tokenizer.model files, and the `llama` vocabulary of GGUF files.

SentencePiece itself never reads control tokens out of text. They are cut out here first. What follows
one gets the space that the model puts before a text, unless it already begins with one, or
`first_only` says that only the start of the whole text gets it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec import ModelError
from .folder import Folder, read_json
from .quoting import MARK
from .tokenizer import Marks, Tokenizer, well_formed

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # sentencepiece's numbers, and GGUF's
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"
NO_SPACE_BEFORE = b"\x1a\x02\x18\x00"  # normalizer_spec { add_dummy_prefix: false }, merged over the model's own
MAX_MODEL = 256 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Added:
    """A token recognised in text before SentencePiece sees it."""

    text: str
    id: int
    special: bool
    lstrip: bool = False  # swallows the white space before it
    rstrip: bool = False  # and after it


@dataclass(frozen=True, slots=True)
class Vocabulary:
    pieces: Sequence[str]
    kinds: Sequence[int]
    added: Sequence[Added] = ()
    first_only: bool = False


def from_model_file(path: Path, folder: Folder) -> Tokenizer:
    if path.stat().st_size > MAX_MODEL:
        raise ModelError(f"{path} is larger than {MAX_MODEL >> 20} MiB; that is no tokenizer.")
    proto = path.read_bytes()
    inner = _processor(proto, path)
    count = inner.get_piece_size()
    pieces, kinds = [inner.id_to_piece(i) for i in range(count)], [_kind(inner, i) for i in range(count)]
    added = [Added(pieces[i], i, special=True) for i in range(count) if kinds[i] in (CONTROL, UNKNOWN)]
    added = [*added, *_extra_tokens(folder)]
    first_only = folder.tokenizer.get("legacy") is not True
    ids = {text: i for i, text in enumerate(pieces)} | {token.text: token.id for token in added}
    marks = _marks(folder, inner, ids)
    return SentencePieceTokenizer(proto, Vocabulary(pieces, kinds, added, first_only), marks, path)


def scores_of(path: Path) -> dict[str, float]:
    """Piece -> score, of a tokenizer.model."""
    return _scores(_processor(path.read_bytes(), path))


def _scores(inner: Any) -> dict[str, float]:
    return {inner.id_to_piece(i): float(inner.get_score(i)) for i in range(inner.get_piece_size())}


def _marks(folder: Folder, inner: Any, ids: Mapping[str, int]) -> Marks:
    """The model's own bos and eos, unless a file beside it names others; bos before a text unless a file says no."""

    def id_of(role: str, own: int) -> int | None:
        if folder.named(role):
            return ids.get(folder.role(role) or "")
        return own if own >= 0 else None

    bos, eos = id_of("bos_token", inner.bos_id()), id_of("eos_token", inner.eos_id())
    eos_ids = folder.ids("eos_token_id") | (frozenset() if eos is None else {eos})
    prefix = (bos,) if bos is not None and folder.tokenizer.get("add_bos_token", True) else ()
    suffix = (eos,) if eos is not None and folder.tokenizer.get("add_eos_token", False) else ()
    return Marks(bos, eos_ids, prefix, suffix)


def _kind(inner: Any, token: int) -> int:
    tests = ((inner.is_unknown, UNKNOWN), (inner.is_control, CONTROL), (inner.is_unused, UNUSED), (inner.is_byte, BYTE))
    return next((kind for test, kind in tests if test(token)), NORMAL)


def _extra_tokens(folder: Folder) -> list[Added]:
    """Tokens added after training: tokenizer_config.json knows their flags, added_tokens.json only their ids."""
    try:
        listed = {int(key): dict(value) for key, value in folder.tokenizer.get("added_tokens_decoder", {}).items()}
        for text, number in read_json(folder.path / "added_tokens.json").items():
            listed.setdefault(int(number), {"content": text, "special": True})
        flags = ("lstrip", "rstrip")
        return [
            Added(str(token["content"]), number, bool(token.get("special")), *(bool(token.get(k)) for k in flags))
            for number, token in sorted(listed.items())
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{folder.path}: the added tokens of tokenizer_config.json are not well formed.") from error


def _processor(proto: bytes, what: object) -> Any:
    from sentencepiece import SentencePieceProcessor

    if not proto:
        raise ModelError(f"{what} is not a usable SentencePiece model: it is empty.")
    try:
        return SentencePieceProcessor(model_proto=proto)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{what} is not a usable SentencePiece model: {str(error).rstrip('.')}.") from error


class SentencePieceTokenizer(Tokenizer):
    def __init__(self, proto: bytes, vocabulary: Vocabulary, marks: Marks, what: object) -> None:
        super().__init__(marks)
        self._first = _processor(proto, what)
        self._adds_space = self._first.encode("a", out_type=str)[:1] != ["a"]
        self._bare = _processor(proto + NO_SPACE_BEFORE, what) if self._adds_space else self._first
        self._vocabulary = vocabulary
        self._added = {token.text: token for token in vocabulary.added if token.text}
        self._by_id = {token.id: token for token in self._added.values()}
        self._with_special = _finder(self._added.values())
        self._without = _finder(token for token in self._added.values() if not token.special)
        self.vocab_size = max(len(vocabulary.pieces), *(i + 1 for i in self._by_id), 0)

    @property
    def strips_start(self) -> bool:
        return self._adds_space

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def scores(self) -> dict[str, float]:
        """Of pieces, by which they are merged: the highest first."""
        return _scores(self._first)

    def encode(self, text: str, *, special: bool) -> list[int]:
        finder = self._with_special if special else self._without
        return [i for part in self._parts(well_formed(text), finder) for i in part]

    def encode_quoted(self, text: str) -> list[int]:
        return [i for part in self._parts(well_formed(text), self._with_special, dropped=MARK) for i in part]

    @property
    def controls(self) -> Collection[str]:
        return [token.text for token in self._added.values() if token.special]

    def added_id(self, text: str) -> int | None:
        return self._added[text].id if text in self._added else None

    def _parts(self, text: str, finder: re.Pattern[str] | None, dropped: str = "") -> Iterator[list[int]]:
        """`dropped`: what the finder sees and SentencePiece does not."""
        at = 0
        for match in finder.finditer(text) if finder else ():
            token = self._added[match[0]]
            before = text[at : match.start()].replace(dropped, "")
            yield self._segment(before.rstrip() if token.lstrip else before, first=at == 0)
            yield [token.id]
            at = match.end()
            if token.rstrip:
                at = len(text) - len(text[at:].lstrip())
        yield self._segment(text[at:].replace(dropped, ""), first=at == 0)

    def _segment(self, text: str, *, first: bool) -> list[int]:
        spaced = first or not (self._vocabulary.first_only or text.startswith(" "))
        return list((self._first if spaced else self._bare).encode(text, out_type=int))

    def piece(self, token: int) -> str:
        if token in self._by_id:
            return self._by_id[token].text
        return self._vocabulary.pieces[token] if 0 <= token < len(self._vocabulary.pieces) else ""

    def is_special(self, token: int) -> bool:
        if token in self._by_id:
            return self._by_id[token].special
        return 0 <= token < len(self._vocabulary.kinds) and self._vocabulary.kinds[token] in (UNKNOWN, CONTROL)

    def _spell(self, token: int) -> bytes:
        if token in self._by_id:
            return self._by_id[token].text.encode()
        if token >= len(self._vocabulary.pieces) or self._vocabulary.kinds[token] == UNUSED:
            return b""
        piece = self._vocabulary.pieces[token]
        if self._vocabulary.kinds[token] == BYTE:
            return bytes.fromhex(piece[3:5])
        return piece.replace(SPACE, " ").encode()


def _finder(tokens: Iterable[Added]) -> re.Pattern[str] | None:
    """The longest token wins where several start at one place."""
    texts = sorted((token.text for token in tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, texts))) if texts else None
