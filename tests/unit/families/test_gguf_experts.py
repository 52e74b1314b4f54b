"""Experts as converters write them otherwise: in MXFP4, by Ollama, with fused tensors and layers that guess ahead."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gguf
import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlxrun.loading import load_model
from mlxrun.spec import MoE
from tests.golden.checkpoint import Reference, reference
from tests.golden.exact import EXACT
from tests.golden.measure import Driver
from tests.unit.families import gguf_conversions
from tests.unit.families.test_gguf_models import add_own, add_rope, add_sizes, finished, tensors_of

Array = NDArray[np.float32]
FOUR = gguf.GGMLQuantizationType.MXFP4


def is_expert(name: str) -> bool:
    return name.endswith("_exps.weight")


def four_bits(value: Array) -> NDArray[np.uint8]:
    return gguf.quants.quantize(value, FOUR)


def started(known: Reference, path: Path) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(str(path), "gpt-oss")
    add_sizes(writer, known.config)
    add_rope(writer, known.config)
    add_own(writer, known.config, "gpt-oss")
    return writer


def rounded(known: Reference, path: Path) -> Path:
    """Float32 of what MXFP4 makes of the experts."""
    writer = started(known, path)
    for name, value in tensors_of(known, "gpt-oss").items():
        writer.add_tensor(name, gguf.quants.dequantize(four_bits(value), FOUR) if is_expert(name) else value)
    return finished(writer, path)


def in_four_bits(known: Reference, path: Path) -> Path:
    writer = started(known, path)
    for name, value in tensors_of(known, "gpt-oss").items():
        if is_expert(name):
            writer.add_tensor(name, four_bits(value), raw_dtype=FOUR)
        else:
            writer.add_tensor(name, value)
    return finished(writer, path)


class OllamaWriter(gguf.GGUFWriter):
    """Writes MXFP4 as the type 4, as Ollama's files have it."""

    def write_ti_data_to_file(self) -> None:
        for info in self.tensors[0].values():
            if info.dtype == FOUR:
                info.dtype = 4  # type: ignore[assignment]  # a number that the package has no name for
        super().write_ti_data_to_file()


def neighbours(blocks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Of 16 bytes whose low halves come first: neighbours share a byte."""
    cut = blocks.reshape(*blocks.shape[:-1], -1, 17)
    codes = np.concatenate([cut[..., 1:] & 15, cut[..., 1:] >> 4], axis=-1)
    paired = codes[..., ::2] | codes[..., 1::2] << 4
    return np.concatenate([cut[..., :1], paired], axis=-1).reshape(blocks.shape)


def by_ollama(known: Reference, path: Path) -> Path:
    """No kind of scaling is said, gate and up rows alternate, and names differ."""
    c, writer = known.config, OllamaWriter(str(path), "gptoss")
    rope = c["rope_parameters"]
    add_sizes(writer, c)
    writer.add_expert_count(c["num_local_experts"])
    writer.add_expert_used_count(c["num_experts_per_tok"])
    writer.add_sliding_window(c["sliding_window"])
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_scaling_factor(rope["factor"])
    writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    found = tensors_of(known, "gpt-oss")
    for name, value in found.items():
        for theirs, ours in {
            "post_attention_norm": "ffn_norm",
            "attn_output": "attn_out",
            "attn_sinks.weight": "attn_sinks",
        }.items():
            name = name.replace(theirs, ours)
        if "_up_exps." in name:
            continue
        if "_gate_exps." in name:
            up = found[name.replace("gate", "up")]
            value = np.stack([value, up], axis=2).reshape(value.shape[0], -1, *value.shape[2:])
            name = name.replace("gate", "gate_up")
        if is_expert(name):
            writer.add_tensor(name, neighbours(four_bits(value)), raw_dtype=FOUR)
        else:
            writer.add_tensor(name, value)
    return finished(writer, path)


def logits(path: Path, known: Reference) -> Array:
    return Driver(load_model(path, dtype=mx.float32, options=EXACT), known).alone(known.prompt)


@pytest.mark.parametrize("write", [in_four_bits, by_ollama])
def test_experts_of_four_bits(write: Any, tmp_path: Path) -> None:
    known = reference("gpt_oss")
    wanted = logits(rounded(known, tmp_path / "rounded.gguf"), known)
    np.testing.assert_allclose(logits(write(known, tmp_path / "m.gguf"), known), wanted, atol=2e-5)


def test_on_native_kernels(tmp_path: Path) -> None:
    """As a person runs it: experts stay in four bits."""
    known = reference("gpt_oss")
    model = load_model(in_four_bits(known, tmp_path / "m.gguf"))
    assert isinstance(model.spec.layers[0].ffn, MoE)
    wanted = logits(rounded(known, tmp_path / "rounded.gguf"), known)
    np.testing.assert_allclose(Driver(model, known).alone(known.prompt), wanted, atol=0.1)


def with_more(known: Reference, path: Path) -> Path:
    """A layer that predicts further tokens, fused rows, and experts in one tensor: newer converters' options."""
    c, arch = known.config, "glm4moe"
    writer = gguf.GGUFWriter(str(path), arch)
    add_sizes(writer, {**c, "num_hidden_layers": c["num_hidden_layers"] + 1})
    writer.add_nextn_predict_layers(1)
    add_rope(writer, c)
    add_own(writer, c, arch)
    found = tensors_of(known, arch)
    last = c["num_hidden_layers"]
    found |= {f"blk.{last}.nextn.eh_proj.weight": found["blk.0.attn_q.weight"]}
    found |= {f"blk.{last}.attn_q.weight": found["blk.0.attn_q.weight"]}
    for layer in range(last):
        at = f"blk.{layer}."
        if layer:  # the first is dense
            experts = [found.pop(f"{at}ffn_{part}_exps.weight") for part in ("gate", "up")]
            found[f"{at}ffn_gate_up_exps.weight"] = np.concatenate(experts, axis=1)
        for kind in ("weight", "bias"):
            found[f"{at}attn_qkv.{kind}"] = np.concatenate([found.pop(f"{at}attn_{x}.{kind}") for x in "qkv"])
    for name, value in found.items():
        writer.add_tensor(name, value)
    return finished(writer, path)


def test_fused_tensors_and_layers_that_guess_ahead(tmp_path: Path) -> None:
    known = reference("glm4_moe")
    file = with_more(known, tmp_path / "m.gguf")
    np.testing.assert_allclose(logits(file, known), known.expected, atol=1e-4)
    assert "multi-token prediction" in load_model(file).notes[0]


# ---- DeepSeek -----------------------------------------------------------------------------------

EIGHT = gguf.GGMLQuantizationType.Q8_0


def of_early_2025(known: Reference, path: Path) -> Path:
    """kv_b is whole, the plain widths are a head's, and nothing is said of groups."""
    c = known.config
    writer = gguf.GGUFWriter(str(path), "deepseek2")
    add_sizes(writer, c)
    add_rope(writer, c)
    writer.add_expert_count(c["n_routed_experts"])
    writer.add_expert_used_count(c["num_experts_per_tok"])
    if c["q_lora_rank"]:
        writer.add_q_lora_rank(c["q_lora_rank"])
    writer.add_kv_lora_rank(c["kv_lora_rank"])
    writer.add_key_length(c["qk_nope_head_dim"] + c["qk_rope_head_dim"])
    writer.add_value_length(c["v_head_dim"])
    gguf_conversions.deepseek2_older(writer, c)
    found = {k: v for k, v in tensors_of(known, "deepseek2").items() if not re.search(r"attn_[kv]_b\.", k)}
    for name, value in known.checkpoint().weights.items():
        if match := re.search(r"layers\.(\d+)\.self_attn\.kv_b_proj", name):
            found[f"blk.{match[1]}.attn_kv_b.weight"] = value
    for name, value in found.items():
        writer.add_tensor(name, value)
    return finished(writer, path)


@pytest.mark.parametrize("case", ["deepseek_v2", "deepseek_v2_whole_q", "kimi_k2"])
def test_kv_b_in_one(case: str, tmp_path: Path) -> None:
    known = reference(case)
    np.testing.assert_allclose(logits(of_early_2025(known, tmp_path / "m.gguf"), known), known.expected, atol=1e-4)


def in_eight_bits(known: Reference, path: Path, *, plain: bool) -> Path:
    writer = gguf.GGUFWriter(str(path), "deepseek2")
    add_sizes(writer, known.config)
    add_rope(writer, known.config)
    add_own(writer, known.config, "deepseek2")
    for name, value in tensors_of(known, "deepseek2").items():
        blocks = gguf.quants.quantize(value, EIGHT) if value.ndim > 1 and value.shape[-1] % 32 == 0 else None
        if blocks is None or "ffn_gate_inp" in name:
            writer.add_tensor(name, value)
        elif plain:
            writer.add_tensor(name, gguf.quants.dequantize(blocks, EIGHT))
        else:
            writer.add_tensor(name, blocks, raw_dtype=EIGHT)
    return finished(writer, path)


def test_latent_attention_of_eight_bits(tmp_path: Path) -> None:
    known = reference("deepseek_v3")
    wanted = logits(in_eight_bits(known, tmp_path / "plain.gguf", plain=True), known)
    got = logits(in_eight_bits(known, tmp_path / "m.gguf", plain=False), known)
    np.testing.assert_allclose(got, wanted, atol=5e-5)
