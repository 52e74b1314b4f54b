"""The tokenizer inside a GGUF file, from its metadata alone.

`gpt2` (byte-level BPE), `gemma4` (BPE on plain text), `llama` (SentencePiece) and `bert` (WordPiece) vocabularies
are built; any other model or pre-tokenizer is refused by name. Reads no file: `weights/gguf.py` does.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..spec import ModelError, shown
from .hub import HubTokenizer, reading
from .pretokenizers import PRETOKENIZERS, PreTokenizer
from .sentence import (
    BYTE,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Added,
    SentencePieceTokenizer,
    Vocabulary,
)
from .tokenizer import Marks, Tokenizer

KEY = "tokenizer.ggml."
# Control tokens that end a turn in every model that has them. Files converted before the format had a
# key for the end of a turn name only the end of the document, and a chat would never stop.
ENDS = frozenset(
    (
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<turn|>"),
        *("<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<eos>", "<end_of_utterance>"),
        *("</s>", "<\uff5cend\u2581of\u2581sentence\uff5c>"),
    )
)


@dataclass(frozen=True, slots=True)
class Words:
    """What the metadata says about the vocabulary, checked."""

    tokens: Sequence[str]
    kinds: Sequence[int]
    metadata: Mapping[str, Any]

    @classmethod
    def read(cls, metadata: Mapping[str, Any]) -> Words:
        tokens = _list(metadata, "tokens", str)
        if not tokens:
            raise ModelError(f"The GGUF metadata has no {KEY}tokens: this file carries no vocabulary.")
        kinds = _list(metadata, "token_type", int) or [NORMAL] * len(tokens)
        if len(kinds) != len(tokens):
            raise ModelError(f"{KEY}token_type has {len(kinds)} entries for {len(tokens)} tokens.")
        ends = [kind == USER_DEFINED and text in ENDS for kind, text in zip(kinds, tokens, strict=True)]
        return cls(tokens, [CONTROL if end else kind for end, kind in zip(ends, kinds, strict=True)], metadata)

    def id(self, name: str) -> int | None:
        found = self.metadata.get(f"{KEY}{name}_token_id")
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < len(self.tokens):
            raise ModelError(f"{KEY}{name}_token_id is {found!r}; the vocabulary has {len(self.tokens)} tokens.")
        return found

    def role(self, text: str, *names: str) -> int | None:
        """The first of these ids that is said; else that of the token."""
        said = next((i for i in map(self.id, names) if i is not None), None)
        return said if said is not None else next((i for i, found in enumerate(self.tokens) if found == text), None)

    def flag(self, name: str, default: bool) -> bool:
        return bool(self.metadata.get(KEY + name, default))

    def of_kind(self, *kinds: int) -> list[tuple[int, str]]:
        return [(i, self.tokens[i]) for i, kind in enumerate(self.kinds) if kind in kinds and self.tokens[i]]

    def marks(self, *, add_bos: bool) -> Marks:
        bos, eos = self.id("bos"), self.id("eos")
        controls = self.of_kind(CONTROL)
        channels = any(text == "<|channel|>" for _, text in controls)  # gpt-oss: an answer is several messages
        ends = {i for i, text in controls if text in ENDS and not (channels and text == "<|end|>")}
        ends |= {i for i in (eos, self.id("eot"), self.id("eom")) if i is not None}
        prefix = (bos,) if bos is not None and self.flag("add_bos_token", add_bos) else ()
        suffix = (eos,) if eos is not None and self.flag("add_eos_token", False) else ()
        return Marks(bos, frozenset(ends), prefix, suffix)


def build(metadata: Mapping[str, Any]) -> Tokenizer:
    model = metadata.get(KEY + "model")
    builders = {"gpt2": _byte_level, "gemma4": _plain_bpe, "llama": _sentencepiece, "bert": _wordpiece}
    if not isinstance(model, str) or model not in builders:
        raise ModelError(f"{KEY}model is {shown(model)}; known are {', '.join(builders)}.")
    return builders[model](Words.read(metadata))


def as_files(metadata: Mapping[str, Any]) -> dict[str, str]:
    """The tokenizer and chat template as the files that stand in a model's folder."""
    tokenizer = build(metadata)
    if not isinstance(tokenizer, HubTokenizer):
        raise ModelError(f"A vocabulary of the kind {metadata.get(KEY + 'model')!r} cannot be written as files yet.")
    words = Words.read(metadata)
    roles = {f"{role}_token": words.id(role) for role in ("bos", "eos", "unknown", "padding")}
    names = {"unknown_token": "unk_token", "padding_token": "pad_token"}
    told: dict[str, Any] = {names.get(role, role): words.tokens[i] for role, i in roles.items() if i is not None}
    told |= {"add_bos_token": tokenizer.add_bos, "tokenizer_class": "PreTrainedTokenizerFast"}
    ends = {"eos_token_id": sorted(tokenizer.eos_ids)}
    files = {"tokenizer.json": tokenizer.as_json(), "generation_config.json": json.dumps(ends)}
    template = metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        told["chat_template"] = template
    return {**files, "tokenizer_config.json": json.dumps(told, indent=2, ensure_ascii=False)}


def _byte_level(words: Words) -> Tokenizer:
    from tokenizers import Regex, decoders, pre_tokenizers

    rules = _pretokenizer(words.metadata.get(KEY + "pre"))
    with reading("The vocabulary in the GGUF metadata"):
        inner = _bpe(words, ignore_merges=rules.whole_words)
        splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in rules.patterns]
        letters = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.pre_tokenizer = pre_tokenizers.Sequence([*splits, letters])
        inner.decoder = decoders.ByteLevel()
        return HubTokenizer(inner, words.marks(add_bos=rules.add_bos))


def _pretokenizer(name: object) -> PreTokenizer:
    if name is None:
        raise ModelError(f"The GGUF metadata has no {KEY}pre, so how text is cut into words is unknown; convert again.")
    if not isinstance(name, str) or name not in PRETOKENIZERS:
        raise ModelError(f"{KEY}pre is {shown(name)}; known are {', '.join(sorted(PRETOKENIZERS))}.")
    return PRETOKENIZERS[name]


def _plain_bpe(words: Words) -> Tokenizer:
    """Gemma 4: spaces are written as U+2581, whole texts are merged, and what has no token becomes bytes."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    with reading("The vocabulary in the GGUF metadata"):
        inner = _bpe(words, byte_fallback=True, fuse_unk=True, unk_token=words.tokens[words.id("unknown") or 0])
        inner.normalizer = normalizers.Replace(" ", SPACE)
        inner.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")  # finds none: one word a text
        inner.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
        return HubTokenizer(inner, words.marks(add_bos=True))


def _bpe(words: Words, **options: Any) -> Any:
    from tokenizers import AddedToken, models
    from tokenizers import Tokenizer as Inner

    merges = []
    for merge in _list(words.metadata, "merges", str):
        left, space, right = merge[1:].partition(" ")  # a piece may itself begin with a space
        if not space:
            raise ModelError(f"{KEY}merges holds {merge!r}, which is not two pieces with a space between them.")
        merges.append((merge[:1] + left, right))
    if not merges:
        raise ModelError(f"The GGUF metadata has no {KEY}merges, which a vocabulary of this kind needs.")
    vocabulary = {text: i for i, text in reversed(list(enumerate(words.tokens)))}  # of two equal ones, the first
    inner = Inner(models.BPE(vocab=vocabulary, merges=merges, **options))
    for kind, special in ((USER_DEFINED, False), (CONTROL, True)):
        inner.add_tokens([AddedToken(t, special=special, normalized=False) for _, t in words.of_kind(kind)])
    return inner


def _wordpiece(words: Words) -> Tokenizer:
    """Words begin with U+2581 there and are plain here; what goes on in a word is plain there and begins with ##."""
    from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers
    from tokenizers import Tokenizer as Inner

    controls = {i for i, _ in words.of_kind(CONTROL, UNKNOWN)}
    spelled = [text if i in controls else _word_or_part(text) for i, text in enumerate(words.tokens)]
    lower = words.flag("normalizer.lowercase", not any(text != text.lower() for text in spelled if text[:1] != "["))
    strip = words.flag("normalizer.strip_accents", lower)
    cls, sep, unknown = (
        words.role("[CLS]", "cls", "bos"),
        words.role("[SEP]", "seperator"),
        words.role("[UNK]", "unknown"),
    )
    if unknown is None:
        raise ModelError(f"The GGUF metadata has no {KEY}unknown_token_id, which a vocabulary of this kind needs.")
    with reading("The vocabulary in the GGUF metadata"):
        vocabulary = {text: i for i, text in reversed(list(enumerate(spelled)))}
        inner = Inner(models.WordPiece(vocab=vocabulary, unk_token=spelled[unknown], max_input_chars_per_word=100))
        inner.normalizer = normalizers.BertNormalizer(lowercase=lower, strip_accents=strip)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        inner.decoder = decoders.WordPiece(cleanup=False)
        inner.add_tokens(
            [AddedToken(spelled[i], special=True, normalized=False) for i in sorted(controls) if spelled[i]]
        )
    prefix = (cls,) if cls is not None and words.flag("add_bos_token", True) else ()
    suffix = (sep,) if sep is not None and words.flag("add_sep_token", True) else ()
    return HubTokenizer(inner, Marks(cls, frozenset(() if sep is None else (sep,)), prefix, suffix))


def _word_or_part(text: str) -> str:
    return text[1:] if text.startswith(SPACE) else f"##{text}"


def _sentencepiece(words: Words) -> Tokenizer:
    scores = _list(words.metadata, "scores", float)
    if len(scores) != len(words.tokens):
        raise ModelError(f"{KEY}scores has {len(scores)} entries for {len(words.tokens)} tokens.")
    rstrip = "phi3" in str(words.metadata.get("general.name", "")).lower().replace("-", "")  # the file cannot say it
    keeps = ("<s>", "<unk>", "<|endoftext|>")
    added = [
        Added(text, i, special=kind == CONTROL, rstrip=rstrip and text not in keeps)
        for kind in (CONTROL, USER_DEFINED)
        for i, text in words.of_kind(kind)
    ]
    proto = _model_proto(words, scores, add_space=words.flag("add_space_prefix", True))
    vocabulary = Vocabulary(words.tokens, words.kinds, added)
    return SentencePieceTokenizer(proto, vocabulary, words.marks(add_bos=True), "The vocabulary in the GGUF metadata")


def _model_proto(words: Words, scores: Sequence[float], *, add_space: bool) -> bytes:
    """A SentencePiece ModelProto: pieces (1), trainer_spec (2), normalizer_spec (3).

    SentencePiece wants one unknown token, no two pieces alike and none empty, and must not find control
    tokens in text: those that break this become unused ones.
    """
    seen: set[str] = set()
    unknown = words.id("unknown")
    unknown = unknown if unknown is not None else next((i for i, k in enumerate(words.kinds) if k == UNKNOWN), None)
    out = bytearray()
    for i, (text, kind, score) in enumerate(zip(words.tokens, words.kinds, scores, strict=True)):
        if not text or text in seen:
            text, kind = f"\1{i}", UNUSED
        seen.add(text)
        if i == unknown or kind not in (NORMAL, BYTE):
            kind = UNKNOWN if i == unknown else CONTROL if kind in (CONTROL, USER_DEFINED) else UNUSED
        piece = _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        out += _field(1, piece)
    byte_fallback = BYTE in words.kinds
    trainer = b"\x18\x02" + b"\x98\x02" + bytes([byte_fallback])  # model_type = BPE, byte_fallback
    normalizer = _field(1, b"identity") + b"\x18" + bytes([add_space]) + b"\x20\x00\x28\x01"  # spaces kept, escaped
    return bytes(out) + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, value: bytes) -> bytes:
    """A length-delimited protobuf field."""
    length, size = bytearray(), len(value)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + value


def _list(metadata: Mapping[str, Any], name: str, kind: type) -> list[Any]:
    found = metadata.get(KEY + name, [])
    wanted = (float, int) if kind is float else kind
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, wanted) for item in found):
        raise ModelError(f"{KEY}{name} must be a list of {kind.__name__}.")
    return list(found)
