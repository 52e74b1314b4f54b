"""Tokenizers from folders and from GGUF metadata, against llama.cpp's ids, sentencepiece and tokenizers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st
from text_files import SPECIAL, write
from tokenizers import Tokenizer as Inner
from tokenizers import decoders, models, normalizers

from mlxrun.spec import ModelError
from mlxrun.text.opening import folder_tokenizer, gguf_tokenizer
from mlxrun.text.tokenizer import Tokenizer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
TAGGED = st.lists(st.one_of(TEXT, st.sampled_from(["<|im_start|>", "<|im_end|>", "<|endoftext|>"]))).map("".join)

# ids of llama.cpp for the same file
SMOLLM2 = {
    "Hello world": [19556, 905],
    "  two  spaces\n\n\tand a tab": [216, 827, 216, 5600, 1116, 197, 397, 253, 10147],
    "3.14159 and 2026": [35, 30, 33, 36, 33, 37, 41, 284, 216, 34, 32, 34, 38],
    "don't I'LL we've": [12420, 982, 339, 23, 16421, 392, 3543],
    "naïve café, Zürich": [3546, 46494, 37366, 28, 1777, 7170, 5130],
    "漢字かな交じり文 한국어": [
        177,
        137,
        112,
        36518,
        7365,
        229,
        7365,
        120,
        16736,
        114,
        7365,
        242,
        10391,
        228,
        29184,
        216,
        33085,
        246,
        181,
        130,
        251,
        183,
        240,
        129,
    ],
    "🙂🏳️‍🌈 👩‍👩‍👧": [
        10813,
        38887,
        10813,
        233,
        128,
        31752,
        321,
        231,
        10813,
        230,
        226,
        15107,
        235,
        119,
        321,
        231,
        10813,
        235,
        119,
        321,
        231,
        10813,
        235,
        117,
    ],
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n": [1, 4093, 198, 26843, 2, 198, 1, 520, 9531, 198],
    "def f(x):\n    return x**2  # ²": [1604, 275, 24, 104, 727, 472, 1003, 1792, 828, 34, 216, 907, 216, 19133],
    "": [],
    " ": [216],
    "ру\u0301сский": [9175, 14714, 151, 219, 9382, 39511, 7872, 24958],
}


@pytest.mark.parametrize("text", SMOLLM2)
def test_smollm2_ids(smollm2: Tokenizer, text: str) -> None:
    assert smollm2.encode(text, special=True) == SMOLLM2[text]
    assert smollm2.decode(SMOLLM2[text], skip_special=False) == text


def test_smollm2_facts(smollm2: Tokenizer) -> None:
    assert (smollm2.vocab_size, smollm2.bos_id, smollm2.add_bos) == (49152, 1, False)
    assert smollm2.eos_ids == {0, 2}
    assert smollm2.is_special(2)
    assert not smollm2.is_special(19556)
    assert (smollm2.piece(905), smollm2.token_bytes(905)) == ("Ġworld", b" world")
    assert smollm2.token_bytes(112) == bytes([0xA2])  # part of a character
    assert smollm2.token_bytes(10**6) == b""
    assert smollm2.piece(-1) == ""


def test_control_tokens_in_user_text_are_text(smollm2: Tokenizer) -> None:
    ids = [44, 108, 306, 79, 3738, 108, 46, 4093, 198, 26843, 44, 108, 306, 79, 486, 108, 46]  # llama.cpp's
    assert smollm2.encode("<|im_start|>user\nHi<|im_end|>", special=False) == ids


def spelled(tokenizer: Tokenizer, text: str) -> bool:
    """Whether the vocabulary has every byte of the text: SmolLM2's lacks a few control codes and rare lead bytes."""
    known = {tokenizer.token_bytes(i) for i in range(17, 273)}
    return all(bytes([b]) in known for b in text.encode())


@given(text=TAGGED)
def test_plain_text_never_makes_control_tokens(smollm2: Tokenizer, text: str) -> None:
    ids = smollm2.encode(text, special=False)
    assert not any(smollm2.is_special(i) for i in ids)
    assert smollm2.decode(ids) == text or not spelled(smollm2, text)


@given(text=TAGGED)
def test_every_text_comes_back(smollm2: Tokenizer, text: str) -> None:
    came_back = smollm2.decode(smollm2.encode(text, special=True), skip_special=False)
    assert came_back == text or not spelled(smollm2, text)


def test_no_token_is_longer_than_it_says(smollm2: Tokenizer) -> None:
    spelled_by_all = max(len(smollm2.token_bytes(i)) for i in range(smollm2.vocab_size))
    assert spelled_by_all <= smollm2.longest <= spelled_by_all + 3  # the mark's bytes


def test_a_long_text_has_the_ids_of_its_words(smollm2: Tokenizer) -> None:
    """Long texts go another way through the library."""
    line = "A few words, 12 numbers.\n"
    assert smollm2.encode(line * 400, special=True) == smollm2.encode(line, special=True) * 400


def test_half_a_surrogate_pair_is_replaced(smollm2: Tokenizer, spm_folder: Path) -> None:
    for tokenizer in (smollm2, folder_tokenizer(spm_folder)):
        assert tokenizer.decode(tokenizer.encode("a\ud800b", special=True), whole=True) == "a\ufffdb"
    assert smollm2.decode(smollm2.encode("\ud83d\ude42", special=False)) == "🙂"


# SentencePiece


@given(text=TEXT)
def test_tokenizer_model_is_sentencepiece(
    spm: sentencepiece.SentencePieceProcessor, spm_folder: Path, text: str
) -> None:
    tokenizer = folder_tokenizer(spm_folder)
    assert tokenizer.encode(text, special=False) == spm.encode(text)
    assert tokenizer.decode(spm.encode(text), whole=True) == text


@given(text=TEXT)
def test_llama_vocabulary_in_gguf_is_sentencepiece(
    spm: sentencepiece.SentencePieceProcessor, spm_metadata: dict[str, Any], text: str
) -> None:
    tokenizer = gguf_tokenizer(spm_metadata)
    assert tokenizer.encode(text, special=False) == spm.encode(text)
    assert tokenizer.decode(spm.encode(text), whole=True) == text


def test_sentencepiece_control_tokens(spm: sentencepiece.SentencePieceProcessor, spm_folder: Path) -> None:
    tokenizer = folder_tokenizer(spm_folder)
    inst, bos, eos = spm.piece_to_id("[INST]"), spm.bos_id(), spm.eos_id()
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.add_bos) == (bos, {eos}, True)
    ids = tokenizer.encode("<s>[INST] the dog</s>", special=True)
    assert ids == [bos, inst, *spm.encode("the dog"), eos]  # the space is there already: no second one
    assert tokenizer.decode(ids) == " the dog"
    assert tokenizer.decode(ids, skip_special=False) == "<s>[INST] the dog</s>"
    plain = tokenizer.encode("<s>[INST]", special=False)
    assert not any(tokenizer.is_special(i) for i in plain)
    assert tokenizer.decode(plain, whole=True) == "<s>[INST]"


@pytest.mark.parametrize(("legacy", "spaced"), [(True, True), (False, False), (None, False)])
def test_space_after_a_control_token(
    spm: sentencepiece.SentencePieceProcessor, spm_folder: Path, tmp_path: Path, legacy: bool | None, spaced: bool
) -> None:
    """As transformers 5 reads the same files."""
    shutil.copy(spm_folder / "tokenizer.model", tmp_path)
    write(tmp_path, "tokenizer_config.json", {} if legacy is None else {"legacy": legacy})
    ids = folder_tokenizer(tmp_path).encode("the</s>dog", special=True)
    dog = spm.encode("dog") if spaced else spm.encode("the dog")[0:0] + spm.encode("\ndog")[2:]
    assert ids == [*spm.encode("the"), spm.eos_id(), *dog]


def test_tokens_added_to_a_sentencepiece_model(spm_folder: Path, tmp_path: Path) -> None:
    shutil.copy(spm_folder / "tokenizer.model", tmp_path / "tokenizer.model.v3")  # Mistral's name for it
    added = {"400": {"content": "<|user|>", "special": True, "rstrip": True}, "401": {"content": "<tool>"}}
    write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": added, "eos_token": "<|user|>"})
    write(tmp_path, "added_tokens.json", {"<|end|>": 402})
    tokenizer = folder_tokenizer(tmp_path)
    ids = tokenizer.encode("<|user|>\n the<tool>", special=True)
    assert (ids[0], ids[-1]) == (400, 401)
    assert tokenizer.decode(ids) == "the<tool>"  # the white space after <|user|> is not the model's to see
    assert tokenizer.encode("<tool><|user|>", special=False)[0] == 401
    assert 400 not in tokenizer.encode("<|user|>", special=False)
    assert (tokenizer.vocab_size, tokenizer.eos_ids) == (403, {400})
    assert tokenizer.is_special(402)
    assert not tokenizer.is_special(401)


def test_a_gguf_vocabulary_with_oddities(spm_metadata: dict[str, Any]) -> None:
    """Twice the same piece, an empty one, a second unknown: converters pad vocabularies with such."""
    odd = {key: [*value] if isinstance(value, list) else value for key, value in spm_metadata.items()}
    odd["tokenizer.ggml.tokens"] += ["[PAD]", "[PAD]", "", "<tool>", "<|end|>"]
    odd["tokenizer.ggml.scores"] += [-1000.0] * 5
    odd["tokenizer.ggml.token_type"] += [5, 2, 1, 4, 4]
    tokenizer = gguf_tokenizer(odd)
    assert tokenizer.encode("the dog", special=False) == gguf_tokenizer(spm_metadata).encode("the dog", special=False)
    assert tokenizer.encode("<tool>", special=False) == [403]
    assert tokenizer.decode([400, 402, 403, 10**9]) == "<tool>"
    assert tokenizer.eos_ids == {2, 404}  # a token that ends a turn, whatever its type says
    assert tokenizer.is_special(404)


# tokenizers


@given(text=TEXT)
def test_tokenizer_json_is_tokenizers(bpe: Inner, bpe_folder: Path, text: str) -> None:
    tokenizer = folder_tokenizer(bpe_folder)
    ids = bpe.encode(text).ids
    assert tokenizer.encode(text, special=True) == ids
    assert tokenizer.decode(ids) == bpe.decode(ids) == text


@given(ids=st.lists(st.integers(0, 399)))
def test_any_ids_decode_as_tokenizers_does(bpe: Inner, bpe_folder: Path, ids: list[int]) -> None:
    assert folder_tokenizer(bpe_folder).decode(ids) == bpe.decode(ids)


def test_folder_facts(bpe_folder: Path) -> None:
    tokenizer = folder_tokenizer(bpe_folder)
    assert (tokenizer.bos_id, tokenizer.eos_ids, tokenizer.prefix, tokenizer.suffix) == (1, {2}, (1,), ())
    assert tokenizer.add_bos
    assert tokenizer.vocab_size == 400
    assert [tokenizer.is_special(i) for i in (0, 3, 4)] == [True, True, False]


def test_stop_ids_come_from_every_file(bpe_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(bpe_folder, tmp_path, dirs_exist_ok=True)
    write(tmp_path, "generation_config.json", {"eos_token_id": [2, 7, 9]})
    write(tmp_path, "config.json", {"eos_token_id": 8, "text_config": {"eos_token_id": [11]}})
    assert folder_tokenizer(tmp_path).eos_ids == {2, 7, 8, 9, 11}


@pytest.mark.parametrize(
    ("settings", "prefix", "suffix"),
    [
        ({"bos_token": "<s>", "add_bos_token": False}, (), ()),
        ({"bos_token": "<|turn|>", "add_bos_token": True}, (3, 1), ()),
        ({"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": True}, (1,), (2,)),
        ({"bos_token": None}, (1,), ()),
    ],
)
def test_what_stands_around_a_text(
    bpe_folder: Path, tmp_path: Path, settings: dict[str, Any], prefix: tuple[int], suffix: tuple[int]
) -> None:
    shutil.copytree(bpe_folder, tmp_path, dirs_exist_ok=True)
    write(tmp_path, "tokenizer_config.json", settings)
    tokenizer = folder_tokenizer(tmp_path)
    assert (tokenizer.prefix, tokenizer.suffix) == (prefix, suffix)


def test_special_tokens_map_and_config_fill_in(bpe_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bpe_folder / "tokenizer.json", tmp_path)
    write(tmp_path, "special_tokens_map.json", {"eos_token": "<|turn|>"})
    write(tmp_path, "config.json", {"bos_token_id": 1})
    tokenizer = folder_tokenizer(tmp_path)
    assert (tokenizer.bos_id, tokenizer.eos_ids) == (1, {3})


def test_tokens_only_tokenizer_config_knows(bpe_folder: Path, tmp_path: Path) -> None:
    shutil.copy(bpe_folder / "tokenizer.json", tmp_path)
    write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": {"400": {"content": "<x>", "special": True}}})
    assert folder_tokenizer(tmp_path).encode("<x>", special=True) == [400]
    write(tmp_path, "tokenizer_config.json", {"added_tokens_decoder": {"600": {"content": "<x>", "special": True}}})
    with pytest.raises(ModelError, match=r"gives '<x>' the id 600, but tokenizer\.json makes it 400"):
        folder_tokenizer(tmp_path)


def test_vocab_and_merges(bpe: Inner, tmp_path: Path) -> None:
    bpe.model.save(str(tmp_path))
    write(
        tmp_path,
        "tokenizer_config.json",
        {"tokenizer_class": "GPT2Tokenizer", "bos_token": "</s>", "add_bos_token": True},
    )
    tokenizer = folder_tokenizer(tmp_path)
    text = "the dog's 42\n  naïve</s>"
    assert tokenizer.encode(text, special=False) == [
        i
        for part in ("the dog's 42\n  naïve", "</s>")
        for i in (bpe.encode(part).ids if part != "</s>" else plain(bpe, part))
    ]
    assert tokenizer.encode("</s>", special=True) == [2]
    assert tokenizer.prefix == (2,)
    write(tmp_path, "tokenizer_config.json", {"tokenizer_class": "OtherTokenizer"})
    with pytest.raises(ModelError, match="tokenizer_class is 'OtherTokenizer'"):
        folder_tokenizer(tmp_path)


def plain(bpe: Inner, text: str) -> list[int]:
    inner = Inner.from_str(bpe.to_str())
    inner.encode_special_tokens = True
    return inner.encode(text).ids


def test_llama_style_tokenizer_json(spm: sentencepiece.SentencePieceProcessor, tmp_path: Path) -> None:
    """Llama 2's decoder in tokenizer.json: spaces as U+2581, bytes as <0x0A>, a first space taken away."""
    vocab = {spm.id_to_piece(i): i for i in range(spm.get_piece_size())}
    inner = Inner(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    inner.decoder = decoders.Sequence(steps)
    inner.save(str(tmp_path / "tokenizer.json"))
    tokenizer = folder_tokenizer(tmp_path)
    text = "a 🙂 é"
    ids = tokenizer.encode(text, special=False)
    assert tokenizer.decode(ids, whole=True) == inner.decode(ids) == text
    assert tokenizer.decode(ids) == " " + text  # it continues a text: the space is the model's


@pytest.mark.parametrize(
    ("decoder", "pieces", "expected"),
    [
        (decoders.Metaspace(), ["▁a", "▁b"], "a b"),
        (decoders.WordPiece(cleanup=False), ["a", "##b", "c"], "ab c"),
        (None, ["a", "b"], "a b"),
    ],
)
def test_other_decoders(tmp_path: Path, decoder: Any, pieces: list[str], expected: str) -> None:
    inner = Inner(models.WordLevel({piece: i for i, piece in enumerate(pieces)}, unk_token=pieces[0]))
    if decoder:
        inner.decoder = decoder
    inner.save(str(tmp_path / "tokenizer.json"))
    ids = list(range(len(pieces)))
    assert folder_tokenizer(tmp_path).decode(ids, whole=True) == inner.decode(ids) == expected


# GGUF, byte-level


@pytest.fixture(scope="module")
def bpe_metadata(bpe: Inner, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("merges")
    bpe.model.save(str(folder))
    tokens = [bpe.id_to_token(i) for i in range(400)]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3 if token in SPECIAL else 1 for token in tokens],
        "tokenizer.ggml.merges": (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:],
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.bos_token_id": 1,
    }


@given(text=TEXT)
def test_gpt2_vocabulary_in_gguf_is_tokenizers(bpe: Inner, bpe_metadata: dict[str, Any], text: str) -> None:
    assert gguf_tokenizer(bpe_metadata).encode(text, special=True) == bpe.encode(text).ids


@pytest.mark.parametrize(("others", "ends"), [((), {2, 400}), (("<|channel|>", "<|return|>"), {2, 402})])
def test_a_message_that_ends_is_no_answer_that_ends_where_there_are_channels(
    bpe_metadata: dict[str, Any], others: tuple[str, ...], ends: set[int]
) -> None:
    told = dict(bpe_metadata)
    told["tokenizer.ggml.tokens"] = [*bpe_metadata["tokenizer.ggml.tokens"], "<|end|>", *others]
    told["tokenizer.ggml.token_type"] = [*bpe_metadata["tokenizer.ggml.token_type"], 3, *(3 for _ in others)]
    assert gguf_tokenizer(told).eos_ids == ends


def test_gguf_marks(bpe_metadata: dict[str, Any]) -> None:
    def marks(**extra: Any) -> tuple[Any, ...]:
        tokenizer = gguf_tokenizer(bpe_metadata | {f"tokenizer.ggml.{k}": v for k, v in extra.items()})
        return tokenizer.prefix, tokenizer.suffix, tokenizer.eos_ids

    assert marks() == ((), (), {2})
    assert marks(add_bos_token=True, add_eos_token=True, eot_token_id=3) == ((1,), (2,), {2, 3})
    assert marks(pre="llama-bpe") == ((1,), (), {2})
    assert marks(pre="llama-bpe", add_bos_token=False) == ((), (), {2})


def test_a_word_that_is_a_token_is_not_merged_for_llama3(bpe_metadata: dict[str, Any]) -> None:
    tokens = [*bpe_metadata["tokenizer.ggml.tokens"], "Ġxyzzy"]  # no merges lead to it
    odd = bpe_metadata | {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": [1] * 401}
    assert gguf_tokenizer(odd | {"tokenizer.ggml.pre": "llama-bpe"}).encode(" xyzzy", special=False) == [400]
    assert 400 not in gguf_tokenizer(odd).encode(" xyzzy", special=False)


# what cannot be read


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, r"has no tokenizer: looked for tokenizer\.json, tokenizer\.model, or vocab\.json with merges\.txt"),
        ({"tekken.json": "{}"}, r"only tekken\.json, which is not read"),
        ({"tokenizer.json": "{"}, r"tokenizer\.json is not a usable tokenizer: EOF while parsing"),
        ({"tokenizer.json": '{"model": {}}'}, "is not a usable tokenizer"),
        ({"tokenizer.model": "nonsense"}, "is not a usable SentencePiece model"),
        ({"tokenizer.model": ""}, "is not a usable SentencePiece model"),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "["}, r"tokenizer_config\.json is not valid JSON"),
        ({"tokenizer.json": "{}", "tokenizer_config.json": "[]"}, "must hold a JSON object, not list"),
        ({"tokenizer.json": "{}", "config.json": "[" * 10**5}, r"config\.json is not valid JSON"),
        (
            {"tokenizer.json": "{}", "generation_config.json": '{"a": 1%s}' % ("0" * 5000)},
            r"generation_config\.json is not valid JSON",
        ),
    ],
)
def test_bad_folders(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    for name, content in files.items():
        write(tmp_path, name, content)
    with pytest.raises(ModelError, match=sentence) as error:
        folder_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("tokenizer_config.json", {"bos_token": 5}, "bos_token must be text, not 5"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, "is not a usable tokenizer"),
        ("generation_config.json", {"eos_token_id": "2"}, "eos_token_id must be a token id or a list of them, not '2'"),
        ("config.json", {"eos_token_id": [True]}, "eos_token_id must be a token id"),
    ],
)
def test_bad_settings(bpe_folder: Path, tmp_path: Path, name: str, content: Any, sentence: str) -> None:
    shutil.copytree(bpe_folder, tmp_path, dirs_exist_ok=True)
    write(tmp_path, name, content)
    with pytest.raises(ModelError, match=sentence):
        folder_tokenizer(tmp_path)


def test_an_unknown_decoder_is_refused(bpe: Inner, tmp_path: Path) -> None:
    inner = Inner.from_str(bpe.to_str())
    inner.decoder = decoders.CTC()
    inner.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ModelError, match="the decoder CTC is not known"):
        folder_tokenizer(tmp_path)


def test_a_panic_in_the_library_is_a_sentence(bpe_folder: Path, tmp_path: Path) -> None:
    text = (bpe_folder / "tokenizer.json").read_text(encoding="utf-8")
    broken = text.replace('"special_tokens": {\n      "<s>"', '"special_tokens": {\n      "<t>"')
    assert broken != text
    write(tmp_path, "tokenizer.json", broken)
    with pytest.raises(ModelError, match="is not a usable tokenizer"):
        folder_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "rwkv"}, r"tokenizer\.ggml\.model is 'rwkv'; known are gpt2, gemma4, llama"),
        ({"model": None}, r"tokenizer\.ggml\.model is None"),
        ({"pre": "sheep"}, r"tokenizer\.ggml\.pre is 'sheep'; known are .*smollm"),
        ({"pre": None}, r"has no tokenizer\.ggml\.pre"),
        ({"tokens": None}, r"has no tokenizer\.ggml\.tokens"),
        ({"tokens": [1, 2]}, r"tokenizer\.ggml\.tokens must be a list of str"),
        ({"token_type": [1]}, "token_type has 1 entries for 400 tokens"),
        ({"merges": None}, r"has no tokenizer\.ggml\.merges"),
        ({"merges": ["a"]}, "merges holds 'a', which is not two pieces"),
        ({"merges": ["no such"]}, "is not a usable tokenizer: .*out of vocabulary"),
        ({"bos_token_id": 400}, r"bos_token_id is 400; the vocabulary has 400 tokens"),
        ({"eos_token_id": "2"}, r"eos_token_id is '2'"),
    ],
)
def test_bad_metadata(bpe_metadata: dict[str, Any], change: dict[str, Any], sentence: str) -> None:
    metadata = bpe_metadata | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    with pytest.raises(ModelError, match=sentence):
        gguf_tokenizer({key: value for key, value in metadata.items() if value is not None})


def test_llama_vocabulary_needs_scores(spm_metadata: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"scores has 1 entries for 400 tokens"):
        gguf_tokenizer(spm_metadata | {"tokenizer.ggml.scores": [0.0]})
    with pytest.raises(ModelError, match="is not a usable SentencePiece model"):
        gguf_tokenizer(spm_metadata | {"tokenizer.ggml.token_type": [1] * 400, "tokenizer.ggml.unknown_token_id": None})


def test_a_folder_whose_name_is_no_utf_8(bpe_folder: Path, tmp_path: Path) -> None:
    named = tmp_path / "mod\udce8le"
    shutil.copytree(bpe_folder, named)
    text = "It's 3 o'clock"
    assert folder_tokenizer(named).encode(text, special=False) == folder_tokenizer(bpe_folder).encode(
        text, special=False
    )
