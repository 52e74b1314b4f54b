"""A folder's tokenizer and chat template -> the `tokenizer.*` metadata of a GGUF file: what `gguf.py` reads.

The format names no pattern: it has a list of names for ways to cut text. Whatever is written is therefore built again
as a reader of the file would, and must give the ids of the folder's own tokenizer for `PROBES`; the names whose
patterns are the file's own are tried first, then all others. Not carried over, because GGUF has no word for it:
Unicode normalization, and white space that a special token swallows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..spec import ModelError
from .folder import Folder
from .gguf import KEY, build
from .hub import BYTE_PIECE, HubTokenizer
from .opening import folder_tokenizer
from .pretokenizers import PRETOKENIZERS, WORDS_GPT2, PreTokenizer
from .sentence import BYTE, CONTROL, NORMAL, SPACE, UNKNOWN, UNUSED, USER_DEFINED, SentencePieceTokenizer, scores_of
from .template import ChatTemplate
from .tokenizer import Tokenizer

FILES = ("tokenizer.json", "tokenizer.model*", "vocab.json", "tekken.json")
PROBES = (
    *(
        "Hello world",
        "Hello, World! It's 2024.",
        " leading and trailing ",
        "don't I'LL we've SHE'S",
        "naïve café Ünïcödé",
    ),
    *(
        "1234567 3.14159 1,000,000 12 345",
        "x1y22z333",
        "日本語のテキスト。",
        "中文字符,測試",
        "한국어 문장",
        "Привет, мир",
    ),
    *("  two  spaces\n\n\tand tabs ", "\n\n\n", " \n ", "\r\nx\r\n", "a\tb", "for i in range(10):\n    pass\n"),
    *(
        "camelCase HTTPServer XMLHttpRequest",
        "snake_case __init__",
        "!!!??? ... --- ((()))",
        "$5 <tag/> a^b~c|d `e` x=y+z",
    ),
    *(
        "https://example.org/a?b=c&d=%20",
        "🙂👩‍👩‍👧 ok",
        "—…“quoted” ‘x’",
        "مرحبا بالعالم",
        "नमस्ते दुनिया",
        "e=mc² ½ ①",
        "",
    ),
)
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
BERT_ROLES = {"cls_token": "cls", "sep_token": "seperator", "mask_token": "mask"}  # spelled so in the format


@dataclass(slots=True)
class WrittenWords:
    """A vocabulary on its way into the file."""

    tokens: list[str]
    kinds: list[int]
    more: dict[str, Any] = field(default_factory=dict)  # by their keys without prefix

    @classmethod
    def of(cls, named: Mapping[int, str], count: int, where: Path) -> WrittenWords:
        """`count` tokens, as many as the model has embeddings; ids without a name stand for nothing."""
        beyond = [i for i in named if i >= count]
        if beyond:
            raise ModelError(f"{where}: the tokenizer has the id {max(beyond)}, and the model only {count} embeddings.")
        tokens = [named.get(i, f"[PAD{i}]") for i in range(count)]
        return cls(tokens, [NORMAL if i in named else UNUSED for i in range(count)])

    def metadata(self) -> dict[str, Any]:
        own = {"tokens": self.tokens, "token_type": self.kinds, **self.more}
        return {KEY + key: value for key, value in own.items()}


def tokenizer_metadata(place: Path, count: int, arch: str) -> dict[str, Any]:
    """With `general.name`, which some readers tell tokenizers by. `count`: how many embeddings the model has."""
    name = {"general.name": _name_of(place.absolute())}
    if not any(True for pattern in FILES for _ in place.glob(pattern)):
        return {**name, KEY + "model": "none"}  # it takes ids only
    folder, tokenizer = Folder.read(place), folder_tokenizer(place)
    ways = _hub(tokenizer, folder, count) if isinstance(tokenizer, HubTokenizer) else _sentence(tokenizer, place, count)
    if arch == "phi3" and "phi3" not in name["general.name"].lower().replace("-", ""):
        name["general.name"] = f"Phi-3 {name['general.name']}"
    for words in ways:
        found = {**name, **words.metadata(), **_roles(folder, tokenizer, words.tokens)}
        if _same(tokenizer, found):
            return {**found, **_template(place)}
    raise ModelError(
        f"{place}: its tokenizer cuts text in a way that GGUF has no name for, so no GGUF file is written."
    )


def _name_of(place: Path) -> str:
    """The folder's, or in Hugging Face's cache (models--org--name/snapshots/revision) the repository's."""
    return place.parent.parent.name.rpartition("--")[2] if place.parent.name == "snapshots" else place.name


def _same(tokenizer: Tokenizer, metadata: Mapping[str, Any]) -> bool:
    other = build(metadata)
    return all(other.encode(text, special=True) == tokenizer.encode(text, special=True) for text in PROBES)


def _roles(folder: Folder, tokenizer: Tokenizer, tokens: Sequence[str]) -> dict[str, Any]:
    ids = {text: i for i, text in reversed(list(enumerate(tokens)))}
    texts = folder.special_texts()
    roles = {**ROLES, **BERT_ROLES} if "cls_token" in texts else ROLES
    found = {role: ids[texts[name]] for name, role in roles.items() if texts.get(name) in ids}
    if tokenizer.bos_id is not None:
        found["bos"] = tokenizer.bos_id
    others = sorted(tokenizer.eos_ids - {found.get("eos")})
    if others and "eos" not in found:
        found["eos"] = others.pop(0)
    found |= dict(zip(("eot", "eom"), others, strict=False))
    told = {f"{KEY}{role}_token_id": i for role, i in found.items()}
    eos = found.get("eos")
    return told | {KEY + "add_bos_token": bool(tokenizer.prefix), KEY + "add_eos_token": eos in tokenizer.suffix}


def _template(place: Path) -> dict[str, str]:
    template = ChatTemplate.from_folder(place)
    return {"tokenizer.chat_template": template.source()} if template.has_chat else {}


# ---- tokenizer.json -----------------------------------------------------------------------------


def _hub(tokenizer: HubTokenizer, folder: Folder, count: int) -> Iterator[WrittenWords]:
    """The ways to write it, the likeliest first."""
    state = json.loads(tokenizer.as_json())
    model, added = state["model"], {token["id"]: token for token in state["added_tokens"]}
    if model["type"] not in ("BPE", "WordPiece"):
        raise ModelError(f"{folder.path}: a tokenizer of the kind {model['type']} has no place in a GGUF file.")
    named = {i: text for text, i in model["vocab"].items()} | {i: token["content"] for i, token in added.items()}
    words = WrittenWords.of(named, count, folder.path)
    for i, token in added.items():
        words.kinds[i] = CONTROL if token["special"] else USER_DEFINED
    if model["type"] == "WordPiece":
        yield _wordpiece(words, state["normalizer"] or {}, model)
    elif model.get("byte_fallback"):
        first = [tokenizer.piece(i) for i in tokenizer.encode("a", special=False)[:1]]
        spaced = bool(first) and first[0].startswith(SPACE)
        yield _merged_by_score(words, model, folder.path, add_space=spaced)
    else:
        words.more = {"model": "gpt2", "merges": [_merge(merge) for merge in model["merges"]]}
        for name in _names(_patterns(state["pre_tokenizer"]), bool(model.get("ignore_merges"))):
            words.more["pre"] = name
            yield words


def _merge(merge: Any) -> str:
    return merge if isinstance(merge, str) else " ".join(merge)


def _patterns(step: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The patterns of a pre-tokenizer, in order; of steps that are none, nothing."""
    match step:
        case {"type": "Sequence", "pretokenizers": steps}:
            return tuple(pattern for each in steps for pattern in _patterns(each))
        case {"type": "Split", "pattern": {"Regex": pattern}}:
            return (pattern,)
        case {"type": "Digits", "individual_digits": True}:
            return (r"\p{N}",)
        case {"type": "ByteLevel", "use_regex": True}:
            return (WORDS_GPT2,)
    return ()


def _names(patterns: tuple[str, ...], whole_words: bool) -> Iterator[str]:
    """One name for each way to cut, those with just these patterns first."""
    first: dict[PreTokenizer, str] = {}
    for name, rules in PRETOKENIZERS.items():
        first.setdefault(rules, name)

    def unlike(name: str) -> tuple[bool, bool]:
        rules = PRETOKENIZERS[name]
        return rules.patterns != patterns, rules.whole_words != whole_words

    return iter(sorted(first.values(), key=unlike))


def _merged_by_score(words: WrittenWords, model: Mapping[str, Any], place: Path, *, add_space: bool) -> WrittenWords:
    """SentencePiece as tokenizer.json has it: merges by rank, where GGUF has scores. tokenizer.model knows them."""
    merges = [tuple(merge.split(" ", 1)) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    rank = {left + right: i for i, (left, right) in reversed(list(enumerate(merges)))}
    said = next((scores_of(file) for file in sorted(place.glob("tokenizer.model*"))), {})
    unknown = model.get("unk_token")
    for i, text in enumerate(words.tokens):
        if text == unknown:
            words.kinds[i] = UNKNOWN
        elif words.kinds[i] == NORMAL and BYTE_PIECE.fullmatch(text):
            words.kinds[i] = BYTE
    scores = [said.get(text, -float(rank.get(text, len(merges)))) for text in words.tokens]
    words.more = {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": add_space}
    return words


def _wordpiece(words: WrittenWords, normalizer: Mapping[str, Any], model: Mapping[str, Any]) -> WrittenWords:
    """What begins a word is marked there, not what goes on in one."""
    mark = model["continuing_subword_prefix"]
    for i, text in enumerate(words.tokens):
        if words.kinds[i] == NORMAL:
            words.tokens[i] = text.removeprefix(mark) if text.startswith(mark) else SPACE + text
    words.more = {"model": "bert", "pre": "jina-v2-en", "normalizer.lowercase": bool(normalizer.get("lowercase"))}
    if isinstance(strip := normalizer.get("strip_accents"), bool):
        words.more["normalizer.strip_accents"] = strip
    return words


# ---- tokenizer.model ----------------------------------------------------------------------------


def _sentence(tokenizer: Tokenizer, place: Path, count: int) -> Iterator[WrittenWords]:
    assert isinstance(tokenizer, SentencePieceTokenizer), "there is no third kind"
    vocabulary = tokenizer.vocabulary
    named = dict(enumerate(vocabulary.pieces)) | {token.id: token.text for token in vocabulary.added}
    words = WrittenWords.of(named, count, place)
    words.kinds[: len(vocabulary.kinds)] = vocabulary.kinds
    for token in vocabulary.added:
        if words.kinds[token.id] != UNKNOWN:
            words.kinds[token.id] = CONTROL if token.special else USER_DEFINED
    said = tokenizer.scores()
    scores = [said.get(text, 0.0) for text in words.tokens]
    words.more = {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": tokenizer.strips_start}
    yield words
