"""Which adapters PEFT is asked about, on which golden models; its answers are beside this in `peft/`.

Knows nothing of torch, PEFT or mlxrun but how weights are drawn.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tests.golden.draw import draw

FOLDER = Path(__file__).parent / "peft"
LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class PeftCase:
    base: str  # a golden case
    config: dict[str, Any] = field(default_factory=dict)  # of LoraConfig
    fused: bool = False  # it cannot be served beside the model


def lora(base: str, *targets: str, fused: bool = False, **more: Any) -> PeftCase:
    return PeftCase(base, {"r": 3, "lora_alpha": 5, "target_modules": list(targets), **more}, fused)


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
PATTERNS = {"rank_pattern": {"o_proj": 5}, "alpha_pattern": {"layers.1.self_attn.o_proj": 9}}
PEFT_CASES: dict[str, PeftCase] = {
    "llama": lora("llama", *LINEARS),
    "llama_patterns": lora("llama", *LINEARS, use_rslora=True, **PATTERNS),
    "llama_dora": lora("llama_bias", *LINEARS, use_dora=True),
    "qwen3": lora("qwen3", *LINEARS),
    "phi3": lora("phi3", "qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
    "gpt2": lora("gpt2", "c_attn", "c_proj", "c_fc", fan_in_fan_out=True),
    "deepseek_v3": lora("deepseek_v3", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "o_proj"),
    "mamba": lora("mamba", "in_proj", "x_proj"),
    "latent_tables": lora("deepseek_v3", "kv_b_proj", fused=True),
    "trained_whole": lora("llama", "q_proj", modules_to_save=["lm_head"], fused=True),
    "trained_biases": lora("llama_bias", "q_proj", "up_proj", bias="lora_only", fused=True),
    "words": lora("llama", "embed_tokens", "lm_head", "q_proj", fused=True),
    "experts": lora("qwen3_moe", "q_proj", target_parameters=EXPERTS, fused=True),
    "experts_turned": lora("gpt_oss", "q_proj", target_parameters=EXPERTS, fused=True),
}


def drawn(case: str, tensor: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    kind = "norm" if "magnitude" in tensor else "bias" if tensor.endswith("bias") else "matrix"
    return draw(f"peft {case}", tensor, shape, kind, 0)


def write_adapter(case: str, config: dict[str, Any], shapes: dict[str, list[int]], folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {name: np.ascontiguousarray(drawn(case, name, tuple(shape))) for name, shape in shapes.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
