"""The door of `families`: both spellings give one spec, and whatever is not understood is told in a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest
from published_dense import BERT, GEMMA_3_4B, LLAMA_3_1, MISTRAL_V01, OPT_350M, PHI_4_MINI, PUBLISHED, PYTHIA, QWEN2_5

from mlxrun.families import FAMILIES, Recipe, UnknownFamily, resolve
from mlxrun.families.config import EPS
from mlxrun.families.gpt import alibi_slopes
from mlxrun.spec import Attention, Dense, Layer, ModelError
from tests.golden.cases import CASES
from tests.golden.checkpoint import reference
from tests.golden.spellings import NO_OLDER, older

TWO_SPELLINGS = [name for name, case in CASES.items() if case.model_type not in NO_OLDER]


def attentions(recipe: Recipe) -> list[Attention]:
    return [layer.mixer for layer in recipe.decoder.layers if isinstance(layer.mixer, Attention)]


@pytest.mark.parametrize("case", TWO_SPELLINGS)
def test_both_spellings_of_a_config_are_one_model(case: str) -> None:
    config = reference(case).config
    newer, old = resolve(config), resolve(older(config))
    lost = {"bloom": {"context": 128}}.get(case, {})  # its newer files no longer say how long a text may be
    assert old.decoder == replace(newer.decoder, family=old.decoder.family, **lost)
    assert (old.rules, old.folded) == (newer.rules, newer.folded)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_name_of_the_registry_leads_to_a_recipe(name: str) -> None:
    module, function = FAMILIES[name].split(".")
    assert callable(getattr(import_module(f"mlxrun.families.{module}"), function))


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_configs_are_understood_to_the_last_key(model: str) -> None:
    assert resolve(PUBLISHED[model]).decoder.layers


# ---- what some of them mean ---------------------------------------------------------------------


def test_llama_3_1() -> None:
    recipe = resolve(LLAMA_3_1)
    first = attentions(recipe)[0]
    assert (first.heads, first.kv_heads, first.head_dim, first.scale) == (32, 8, 128, 128**-0.5)
    assert first.rope is not None
    assert first.rope.freqs[0] == 1.0
    assert first.rope.freqs[-1] == pytest.approx(8 * 500000.0 ** (126 / 128))
    assert recipe.decoder.layers[5] == Layer(
        first, Dense(14336), mixer_norm=recipe.decoder.norm, ffn_norm=recipe.decoder.norm
    )
    assert not recipe.decoder.tied


def test_mistral_slides_only_where_a_window_is_written() -> None:
    assert {a.window for a in attentions(resolve(MISTRAL_V01))} == {4096}
    assert {a.window for a in attentions(resolve({**MISTRAL_V01, "sliding_window": None}))} == {None}


def test_qwen_2_has_biases_and_its_windows_only_when_it_uses_them() -> None:
    plain = attentions(resolve(QWEN2_5))
    assert {(a.qkv_bias, a.out_bias, a.window) for a in plain} == {(True, False, None)}
    used = attentions(resolve({**QWEN2_5, "use_sliding_window": True, "sliding_window": 64}))
    assert [a.window for a in used] == [None] * 21 + [64] * 3


def test_opt_350m_norms_after_adding_and_projects_its_embedding() -> None:
    decoder = resolve(OPT_350M).decoder
    assert (decoder.embed_dim, decoder.norm, decoder.tied) == (512, None, True)
    assert {layer.wiring for layer in decoder.layers} == {"post"}
    assert decoder.positions is not None
    assert (decoder.positions.count, decoder.positions.offset) == (2048, 2)


def test_pythia_turns_a_quarter_of_each_head_and_wires_in_parallel() -> None:
    layer = resolve(PYTHIA).decoder.layers[0]
    assert layer.wiring == "parallel"
    assert layer.ffn == Dense(2048, "gelu", gated=False, bias=True)
    assert isinstance(layer.mixer, Attention)
    assert layer.mixer.rope is not None
    assert layer.mixer.rope.dims == 16


def test_bert_is_an_encoder() -> None:
    decoder = resolve(BERT).decoder
    assert (decoder.kind, decoder.token_types, decoder.norm) == ("encoder", 2, None)
    assert not any(a.causal for a in attentions(resolve(BERT)))


def test_phi_4_mini_has_two_sets_of_frequencies() -> None:
    rope = attentions(resolve(PHI_4_MINI))[0].rope
    assert rope is not None
    assert rope.long_freqs is not None
    assert (rope.dims, rope.original) == (96, 4096)
    assert rope.scale == pytest.approx((1 + 5 / 12) ** 0.5)  # log(32) / log(4096)


@pytest.mark.parametrize(
    ("heads", "wanted"),
    [
        (1, [2**-8]),
        (8, [2.0**-i for i in range(1, 9)]),
        (6, [2**-2, 2**-4, 2**-6, 2**-8, 2**-1, 2**-3]),  # four of four, then every second one of eight
    ],
)
def test_alibi_slopes(heads: int, wanted: list[float]) -> None:
    assert alibi_slopes(heads) == pytest.approx(wanted)


# ---- refusals -----------------------------------------------------------------------------------

TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 48,
    "max_position_embeddings": 128,
}


def test_a_key_that_nobody_read_is_an_error_until_it_is_waived() -> None:
    config = {**TINY, "swirl_factor": 3}
    with pytest.raises(ModelError, match=r"swirl_factor.*--waive"):
        resolve(config)
    assert resolve(config, waive=frozenset({"swirl_factor"})).decoder == resolve(TINY).decoder


@pytest.mark.parametrize("value", [None, False, [], {}])
def test_a_key_that_says_nothing_may_stand_there(value: Any) -> None:
    assert resolve({**TINY, "swirl_factor": value})


def test_an_unknown_type_names_the_closest_known_ones() -> None:
    with pytest.raises(UnknownFamily, match=r"'qwen33' .* qwen3"):
        resolve({**TINY, "model_type": "qwen33"})
    with pytest.raises(ModelError, match="model_type"):
        resolve({key: value for key, value in TINY.items() if key != "model_type"})


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_size_is_told(key: str) -> None:
    with pytest.raises(ModelError, match=f"'{key}' is missing"):
        resolve({name: value for name, value in TINY.items() if name != key})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers must be"),
        ({"vocab_size": -1}, "vocab_size must be"),
        ({"hidden_size": "64"}, "hidden_size must be"),
        ({"num_attention_heads": True}, "num_attention_heads must be"),
        ({"num_attention_heads": 6}, "not a multiple"),
        ({"num_key_value_heads": 3}, "cannot share"),
        ({"hidden_act": "wave"}, "hidden_act 'wave' is not known"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
        ({"rms_norm_eps": None, "rope_scaling": []}, None),
        ({"rope_scaling": [1]}, "must be objects"),
        ({"layer_types": ["full_attention"]}, "each of the 2 layers"),
        ({"layer_types": ["full_attention", "spiral"]}, "'spiral' is not known"),
        ({"rope_scaling": {"type": "yarn", "factor": "4", "original_max_position_embeddings": 32}}, "factor must be"),
    ],
)
def test_absurd_values_are_told_in_a_sentence(changed: dict[str, Any], message: str | None) -> None:
    if message is None:
        assert resolve({**TINY, **changed})
        return
    with pytest.raises(ModelError, match=message) as error:
        resolve({**TINY, **changed})
    assert "\n" not in str(error.value)


ONE_A_TYPE = {case.model_type: name for name, case in CASES.items()}


@pytest.mark.parametrize("name", ONE_A_TYPE.values())
def test_each_family_reads_its_own_key_for_the_small_number_of_its_norms(name: str) -> None:
    """transformers reads one spelling a family; another one that says something else must not win in silence."""
    config = reference(name).config
    own = [key for key in EPS if key in config]
    assert own or config["model_type"] in ("olmo", "opt")  # whose number is fixed
    for other in EPS:
        if other in config:
            continue
        named = f"{own[0]}.*{other}" if own else other
        with pytest.raises(ModelError, match=named):
            resolve({**config, other: 0.003})
        if own:
            assert resolve({**config, other: config[own[0]]}).decoder == resolve(config).decoder
            with pytest.raises(ModelError, match=f"{own[0]} is 1.* where it is not written and {other} 0.003"):
                resolve({key: value for key, value in config.items() if key not in own} | {other: 0.003})


LIES: list[Any] = [True, 0, -1, 2**40, 1.5, float("nan"), float("inf"), "x", [], [[1]], {"x": {}}]


def lying(config: Any) -> Iterator[Any]:
    """The config with one value anywhere in it replaced; each key gets three of the lies."""
    for number, (key, value) in enumerate(config.items()):
        for lie in (LIES[(number + turn) % len(LIES)] for turn in (0, 4, 7)):
            yield {**config, key: lie}
        if isinstance(value, dict):
            yield from ({**config, key: inner} for inner in lying(value))


def refusal(config: Any) -> str:
    try:
        resolve(config)
    except ModelError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("case", ONE_A_TYPE.values(), ids=list(ONE_A_TYPE))
def test_a_lying_file_is_refused_in_a_sentence_or_taken_at_its_word(case: str) -> None:
    said = [refusal(config) for config in lying(reference(case).config)]
    assert any(said)
    assert not [message for message in said if "\n" in message]


def test_a_config_must_be_an_object() -> None:
    with pytest.raises(ModelError, match="one JSON object"):
        resolve([TINY])  # type: ignore[arg-type]  # what a file may hold


# ---- wrappers -----------------------------------------------------------------------------------


def test_the_text_half_of_gemma_3_takes_what_its_class_assumes() -> None:
    recipe = resolve(GEMMA_3_4B)
    assert recipe.left_out == "the vision tower (preprocessor_config.json is missing)"
    local, globe = attentions(recipe)[0], attentions(recipe)[5]
    assert (local.heads, local.kv_heads, local.head_dim, recipe.decoder.vocab) == (8, 4, 256, 262208)
    assert (local.window, globe.window) == (1024, None)
    assert local.rope is not None
    assert globe.rope is not None
    assert (local.rope.base, local.rope.scaling, globe.rope.base, globe.rope.freqs[0]) == (1e4, "default", 1e6, 8.0)


@pytest.mark.parametrize(("dialect", "tied"), [("hf", True), ("mlx", False)])
def test_whom_each_dialect_asks_whether_the_head_is_tied(dialect: Any, tied: bool) -> None:
    text = {**TINY, "model_type": "mistral", "tie_word_embeddings": False}
    wrapped = {"model_type": "mistral3", "text_config": text, "vision_config": {}, "tie_word_embeddings": True}
    assert resolve(wrapped, dialect).decoder.tied is tied


def test_a_text_half_must_be_an_object() -> None:
    with pytest.raises(ModelError, match="text_config must be an object"):
        resolve({"model_type": "gemma3", "text_config": "gemma3_text"})
