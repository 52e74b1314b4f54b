"""What llama.cpp's converter does to the tensors of an architecture before its map of names, and its own keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Config = dict[str, Any]
Tensors = dict[str, Array]


def gpt_oss(tensors: Tensors, c: Config) -> Tensors:
    """Rows come first; gate and up rows, which alternate, part."""
    made: Tensors = {}
    for name, value in tensors.items():
        match name.rpartition(".")[2]:
            case "sinks":
                made[f"{name}.weight"] = value
            case "gate_up_proj":
                made[name.replace("gate_up_proj", "gate_proj.weight")] = value.swapaxes(1, 2)[:, ::2]
                made[name.replace("gate_up_proj", "up_proj.weight")] = value.swapaxes(1, 2)[:, 1::2]
            case "gate_up_proj_bias":
                made[name.replace("gate_up_proj_bias", "gate_proj.bias")] = value[:, ::2]
                made[name.replace("gate_up_proj_bias", "up_proj.bias")] = value[:, 1::2]
            case "down_proj":
                made[f"{name}.weight"] = value.swapaxes(1, 2)
            case "down_proj_bias":
                made[name.replace("down_proj_bias", "down_proj.bias")] = value
            case _:
                made[name] = value
    return made


def gpt_oss_keys(writer: gguf.GGUFWriter, c: Config) -> None:
    writer.add_expert_feed_forward_length(c["intermediate_size"])


CONVERTED: dict[str, Callable[[Tensors, Config], Tensors]] = {"gpt-oss": gpt_oss}
KEYS: dict[str, Callable[[gguf.GGUFWriter, Config], None]] = {"gpt-oss": gpt_oss_keys}
