"""From config.json to a spec and weight rules: one recipe a family, found by `model_type`.

`resolve` is the only door. It knows no family; each recipe's module is imported when it is asked for.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

from ..spec import ModelError, shown
from .common import Recipe, RecipeFunction, UnknownFamily, with_attention
from .config import Config, Dialect, refusing
from .rules import Rule
from .sounds import check_sound
from .towers import TowerRecipe, tower_of
from .wrappers import VISION, unwrap

__all__ = ["FAMILIES", "Recipe", "UnknownFamily", "recipe_for", "resolve"]

# model_type: module.function
FAMILIES: dict[str, str] = {
    "afmoe": "afmoe.afmoe",
    "apertus": "apertus.apertus",
    "arcee": "llama.arcee",
    "bailing_hybrid": "kimi.bailing_hybrid",
    "bamba": "bamba.bamba",
    "bailing_moe": "bailing.bailing_moe",
    "bert": "bert.bert",
    "bitnet": "bitnet.bitnet",
    "bloom": "gpt.bloom",
    "camembert": "bert.roberta",
    "cohere": "cohere.cohere",
    "cohere2": "cohere.cohere2",
    "deepseek": "glm_moe.deepseek",
    "deepseek_v2": "deepseek.deepseek_v2",
    "deepseek_v3": "deepseek.deepseek_v3",
    "deepseek_v32": "deepseek.deepseek_v32",
    "dots1": "glm_moe.dots1",
    "ernie4_5": "ernie.ernie4_5",
    "ernie4_5_moe": "ernie.ernie4_5_moe",
    "eurobert": "llama.eurobert",
    "exaone": "exaone.exaone",
    "exaone4": "olmo.exaone4",
    "exaone_moe": "exaone.exaone_moe",
    "falcon_h1": "falcon_h1.falcon_h1",
    "falcon_mamba": "mamba.falcon_mamba",
    "gemma": "gemma.gemma",
    "gemma2": "gemma.gemma2",
    "gemma3_text": "gemma.gemma3_text",
    "gemma3n_text": "gemma3n.gemma3n_text",
    "gemma4_text": "gemma4.gemma4_text",
    "gemma4_unified_text": "gemma4.gemma4_unified_text",
    "glm": "glm.glm",
    "glm4": "glm.glm4",
    "glm4_moe": "glm_moe.glm4_moe",
    "glm4_moe_lite": "deepseek.glm4_moe_lite",
    "glm4v_text": "glm.glm4",
    "glm_moe_dsa": "deepseek.glm_moe_dsa",
    "gpt2": "gpt.gpt2",
    "gpt_bigcode": "gpt.gpt_bigcode",
    "gpt_neox": "gpt.gpt_neox",
    "gpt_oss": "gpt_oss.gpt_oss",
    "gptj": "gpt.gptj",
    "granite": "granite.granite",
    "granitemoe": "granite.granitemoe",
    "granitemoehybrid": "granite_hybrid.granitemoehybrid",
    "helium": "llama.helium",
    "gte": "rope_bert.gte",
    "hunyuan": "hunyuan.hunyuan_v1_moe",
    "hunyuan_v1_dense": "hunyuan.hunyuan_v1_dense",
    "hunyuan_v1_moe": "hunyuan.hunyuan_v1_moe",
    "internlm2": "llama.internlm2",
    "internlm3": "llama.internlm3",
    "iquestcoder": "llama.iquestcoder",
    "jamba": "jamba.jamba",
    "jina_embeddings_v3": "rope_bert.jina_embeddings_v3",
    "kimi_linear": "kimi.kimi_linear",
    "kimi_k2": "deepseek.deepseek_v3",
    "laguna": "laguna.laguna",
    "lfm2": "lfm2.lfm2",
    "lfm2_moe": "lfm2.lfm2_moe",
    "llama": "llama.llama",
    "llama4_text": "llama4.llama4_text",
    "mamba": "mamba.mamba",
    "mamba2": "mamba.mamba2",
    "mellum": "qwen_moe.mellum",
    "mimo": "llama.mimo",
    "minicpm": "minicpm.minicpm",
    "minicpm3": "minicpm.minicpm3",
    "minimax_m2": "minimax.minimax_m2",
    "ministral": "llama.ministral",
    "ministral3": "llama.ministral3",
    "mistral": "llama.mistral",
    "mistral4": "deepseek.mistral4",
    "mixtral": "mixtral.mixtral",
    "modernbert": "bert.modernbert",
    "mpnet": "mpnet.mpnet",
    "nanochat": "nanochat.nanochat",
    "nemotron": "nemotron.nemotron",
    "nemotron_h": "nemotron_h.nemotron_h",
    "new": "rope_bert.gte",
    "nomic_bert": "rope_bert.nomic_bert",
    "olmo": "olmo.olmo",
    "olmo2": "olmo.olmo2",
    "olmo3": "olmo.olmo3",
    "olmo_hybrid": "olmo_hybrid.olmo_hybrid",
    "olmoe": "olmoe.olmoe",
    "opt": "gpt.opt",
    "phi": "phi.phi",
    "phi3": "phi.phi3",
    "phimoe": "mixtral.phimoe",
    "qwen2": "llama.qwen2",
    "qwen2_5_vl_text": "llama.qwen2",
    "qwen2_moe": "qwen_moe.qwen2_moe",
    "qwen2_vl_text": "llama.qwen2",
    "qwen3": "llama.qwen3",
    "qwen3_5_moe_text": "qwen_next.qwen3_5_moe",
    "qwen3_5_text": "qwen_next.qwen3_5",
    "qwen3_moe": "qwen_moe.qwen3_moe",
    "qwen3_next": "qwen_next.qwen3_next",
    "qwen3_vl_moe_text": "qwen_moe.qwen3_vl_moe",
    "qwen3_vl_text": "llama.qwen3",
    "recurrent_gemma": "recurrent_gemma.recurrent_gemma",
    "roberta": "bert.roberta",
    "seed_oss": "llama.seed_oss",
    "smollm3": "llama.smollm3",
    "solar_open": "glm_moe.solar_open",
    "stablelm": "stablelm.stablelm",
    "starcoder2": "starcoder.starcoder2",
    "whisper": "whisper.whisper",
    "xlm-roberta": "bert.roberta",
    "youtu": "deepseek.youtu",
    "youtu_llm": "deepseek.youtu",
}


def resolve(
    config: Mapping[str, Any],
    dialect: Dialect = "hf",
    waive: frozenset[str] = frozenset(),
    file: str = "config.json",
    processor: Mapping[str, Any] | None = None,
    names: Collection[str] = (),
) -> Recipe:
    """The recipe of this config. Raises ModelError, and UnknownFamily where no recipe exists.

    `processor`: what the checkpoint says of how its pictures are made ready; None: nothing. `names`: of its tensors.
    """
    if not isinstance(config, Mapping):
        raise ModelError(f"{file}: it must hold one JSON object.")
    text, outer_rules, left_out = unwrap(config, dialect, file)
    c = Config(text, dialect, waive, file)
    with refusing(file, c.family, c):
        recipe = recipe_for(text.get("model_type"), file)(c)
    if recipe.listener is not None and processor is not None:
        check_sound(processor, recipe.listener.sound)
    unread = c.unread()
    if unread:
        raise ModelError(
            f"{file}: a {c.family} model with {', '.join(unread)} is not known here, and the answers may depend on it; "
            f"--waive KEY goes on without."
        )
    return with_tower(recipe, outer_rules, left_out, tower_of(config, processor, recipe.decoder, dialect, waive, names))


def with_tower(
    recipe: Recipe, outer: tuple[Rule, ...], left_out: tuple[str, ...], tower: TowerRecipe | str | None
) -> Recipe:
    """The text half of a checkpoint and what sees in it, if that is served."""
    if isinstance(tower, TowerRecipe):
        rules, towers = (*tower.rules, *outer, *recipe.rules), tower.towers
        if towers.picture.whole:
            every = not tower.sliding
            recipe = with_attention(recipe, lambda _, m: replace(m, pictures=every or m.window is not None))
        if tower.axes:
            turned = lambda _, mixer: replace(mixer, rope=mixer.rope and replace(mixer.rope, axes=tower.axes))  # noqa: E731 one use
            recipe = with_attention(recipe, turned)
        recipe = replace(recipe, decoder=replace(recipe.decoder, deep=len(towers.vision.deep)))
        left_out = tuple(part for part in left_out if part != VISION)
    else:
        rules, towers = (*outer, *recipe.rules), None
    said = " and ".join(left_out) or recipe.left_out
    why = f" ({tower})" if isinstance(tower, str) else ""
    further = recipe.further and replace(recipe.further, rules=(*outer, *recipe.further.rules))
    seeing = towers is not None  # whose head would meet the tower's weights
    return replace(recipe, rules=rules, left_out=said + why, towers=towers, further=None if seeing else further)


def recipe_for(model_type: object, file: str) -> RecipeFunction:
    if not isinstance(model_type, str):
        raise ModelError(f"{file}: model_type must name the family, not be {shown(model_type)}.")
    if model_type not in FAMILIES:
        near = difflib.get_close_matches(model_type, FAMILIES, n=3)
        hint = f"; close ones are {', '.join(near)}" if near else ""
        raise UnknownFamily(f"{file}: the model type {shown(model_type)} has no recipe here{hint}.")
    module, function = FAMILIES[model_type].split(".")
    found: RecipeFunction = getattr(import_module(f"{__name__}.{module}"), function)
    return found
