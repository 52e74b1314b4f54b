"""Which GGUF file of a repository is meant, by names as people give them and sizes as they are."""

from __future__ import annotations

import pytest

from mlxrun.spec import ModelError
from mlxrun.store import ggufs, names
from mlxrun.store.names import Name

GIB = 2**30
# Qwen3 4B as others publish it, in GB
SIZES = {
    "BF16": 8.05,
    "Q8_0": 4.28,
    "Q6_K": 3.31,
    "Q5_K_M": 2.89,
    "Q5_K_S": 2.82,
    "Q4_1": 2.60,
    "Q4_K_M": 2.50,
    "Q4_K_S": 2.38,
    "IQ4_XS": 2.27,
    "Q4_0": 2.37,
    "Q4_0_4_4": 2.37,
    "Q3_K_M": 2.08,
    "IQ3_XXS": 1.67,
    "Q2_K": 1.67,
}
FILES: dict[str, int | None] = {f"Qwen_Qwen3-4B-{label}.gguf": int(size * 1e9) for label, size in SIZES.items()}
OTHERS: dict[str, int | None] = {"mmproj-Qwen3-F16.gguf": 10**8, "Qwen3-4B-imatrix.gguf": 10**6, "README.md": 9}


def labels(*files: str) -> list[str | None]:
    return [offer.label for offer in ggufs.offers(dict.fromkeys(files, 1))]


@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("Qwen_Qwen3-4B-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.Q4_K_M.gguf", "Q4_K_M"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "q4_k_m"),
        ("Qwen3-4B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("ggml-model-f16.gguf", "f16"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "fp16"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "q4"),
        ("gpt-oss-20b-MXFP4_MOE.gguf", "MXFP4_MOE"),
        ("gpt-oss-20b-mxfp4.gguf", "mxfp4"),
        ("model_Q8_0.gguf", "Q8_0"),
        ("x.i1-IQ2_XXS.gguf", "IQ2_XXS"),
        ("UD-Q4_K_XL/Big-00001-of-00001.gguf", "UD-Q4_K_XL"),
        ("BF16/Big-BF16-00001-of-00001.gguf", "BF16"),
        ("QwQ-32B.gguf", None),
        ("m.gguf", None),
    ],
)
def test_labels(file: str, label: str | None) -> None:
    assert labels(file) == [label]


def test_towers_and_matrices_are_no_models() -> None:
    assert (
        labels("mmproj-F16.gguf", "x-mmproj-BF16.gguf", "mmproj.gguf", "x-imatrix.gguf", "deep/mmproj-F32.gguf") == []
    )


@pytest.mark.parametrize("file", ["../x.gguf", "a/../../x.gguf", "/x.gguf", "[ab].gguf", "*.gguf", "a\n.gguf", ".gguf"])
def test_names_that_lead_elsewhere_are_not_seen(file: str) -> None:
    assert ggufs.offers({file: 1}) == []


def test_parts_go_together() -> None:
    files = {f"Q4_K_M/big-Q4_K_M-{n:05}-of-00003.gguf": 10 for n in (3, 1, 2)}
    (offer,) = ggufs.offers(files)
    assert offer.files == tuple(sorted(files))
    assert (offer.size, offer.missing, offer.model) == (30, 0, "big")
    del files["Q4_K_M/big-Q4_K_M-00002-of-00003.gguf"]
    (offer,) = ggufs.offers(files)
    assert offer.missing == 1
    with pytest.raises(ModelError, match="lacks 1 of the parts"):
        ggufs.tagged("org/name", [offer], "q4_k_m")


def test_impossible_parts_are_not_seen() -> None:
    assert ggufs.offers({"a-00000-of-00002.gguf": 1, "b-00003-of-00002.gguf": 1, "c-00001-of-99999.gguf": 1}) == []


@pytest.mark.parametrize("tag", ["Q4_K_M", "q4_k_m", "Qwen_Qwen3-4B-Q4_K_M"])
def test_a_tag_is_a_whole_piece_of_the_name(tag: str) -> None:
    assert ggufs.tagged("org/name", ggufs.offers(FILES), tag).files == ("Qwen_Qwen3-4B-Q4_K_M.gguf",)


@pytest.mark.parametrize("tag", ["Q4_K", "4_K_M", "K_M", "Q9", "F16", "."])
def test_an_unknown_tag_names_those_there_are(tag: str) -> None:
    with pytest.raises(ModelError, match=r"^org/name has no .*; it has .*Q2_K, .*Q4_K_M, .*BF16\.$") as raised:
        ggufs.tagged("org/name", ggufs.offers(FILES | OTHERS), tag)
    assert "\n" not in str(raised.value)


def test_the_plain_label_comes_before_a_variant() -> None:
    both = ggufs.offers({"x-Q4_K_M.gguf": 1, "x-UD-Q4_K_M.gguf": 1, "x-UD-Q2_K_XL.gguf": 1})
    assert ggufs.tagged("o/n", both, "Q4_K_M").files == ("x-Q4_K_M.gguf",)
    assert ggufs.tagged("o/n", both, "UD-Q4_K_M").files == ("x-UD-Q4_K_M.gguf",)
    assert ggufs.tagged("o/n", both, "q2_k_xl").files == ("x-UD-Q2_K_XL.gguf",)


def test_a_tag_that_two_models_have() -> None:
    two = ggufs.offers({"big-Q4_0.gguf": 1, "small-Q4_0.gguf": 1})
    with pytest.raises(ModelError, match=r"holds several models; name one, as o/n/big-Q4_0\.gguf: .*small-Q4_0"):
        ggufs.tagged("o/n", two, "Q4_0")
    with pytest.raises(ModelError, match="several models"):
        ggufs.choose_file("o/n", two, GIB, lambda offer: True)
    assert ggufs.tagged("o/n", two, "small").files == ("small-Q4_0.gguf",)


@pytest.mark.parametrize(
    ("gib", "label"),
    [
        (64, "Q8_0"),  # more bits are of no use
        (8.2, "Q8_0"),
        (7.5, "Q6_K"),
        (5.9, "Q5_K_M"),
        (5.3, "Q5_K_S"),
        (5.0, "Q4_K_M"),  # of those with four bits the usual one, though another is larger
        (4.5, "Q4_K_S"),
        (3.5, "Q4_K_M"),  # half is too little for four bits, the whole is not
        (2.55, "Q4_K_M"),
        (2.3, "IQ4_XS"),
        (2.1, "Q3_K_M"),
    ],
)
def test_the_best_for_a_machine(gib: float, label: str) -> None:
    usable = int(gib * GIB)

    def fits(offer: ggufs.Offer) -> bool:
        return offer.size + 0.15e9 <= usable

    choice = ggufs.choose_file("org/name", ggufs.offers(FILES | OTHERS), usable, fits)
    assert choice.offer.label == label
    assert choice.why


def test_the_plan_has_the_last_word() -> None:
    asked = []

    def fits(offer: ggufs.Offer) -> bool:
        asked.append(offer.label)
        return offer.label == "Q5_K_S"

    assert ggufs.choose_file("org/name", ggufs.offers(FILES), 64 * GIB, fits).offer.label == "Q5_K_S"
    assert asked == ["Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S"]


def test_nothing_fits() -> None:
    with pytest.raises(ModelError, match=r"takes 1\.6 GiB with the fewest bits .*choose a smaller model"):
        ggufs.choose_file("org/name", ggufs.offers(FILES), GIB, lambda offer: True)


def test_only_many_bits() -> None:
    found = ggufs.offers({"x-F16.gguf": 3 * GIB, "x-F32.gguf": 6 * GIB})
    assert ggufs.choose_file("o/n", found, 8 * GIB, lambda offer: True).offer.label == "F16"


def test_one_file_is_taken_without_asking() -> None:
    found = ggufs.offers({"m.gguf": 100 * GIB, **OTHERS})
    assert ggufs.choose_file("o/n", found, GIB, lambda offer: False).offer.files == ("m.gguf",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("org/name", Name("org/name")),
        ("org/name@v1", Name("org/name", "v1")),
        ("org/name:Q4_K_M", Name("org/name", tag="Q4_K_M")),
        ("org/name:latest", Name("org/name")),
        ("hf.co/org/name-GGUF:Q8_0", Name("org/name-GGUF", tag="Q8_0")),
        ("https://huggingface.co/org/name", Name("org/name")),
        ("org/name@v1:UD-Q4_K_XL", Name("org/name", "v1", tag="UD-Q4_K_XL")),
        ("org/name/a.gguf", Name("org/name", file="a.gguf")),
        ("org/name@v1/deep/a-00001-of-00002.gguf", Name("org/name", "v1", file="deep/a-00001-of-00002.gguf")),
    ],
)
def test_names(text: str, name: Name) -> None:
    assert names.parse(text) == name


@pytest.mark.parametrize(
    "text",
    ["", "name", "name:4b", "org/name.gguf", "./a/b.gguf", "../a/b.gguf", "org/../b", "org/name:", "org/a/b", "/a/b"],
)
def test_no_names(text: str) -> None:
    assert names.parse(text) is None
