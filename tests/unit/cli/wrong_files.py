"""A tiny Llama as a folder and as a GGUF file, with something wrong in it: a value, a name, a piece of text."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.server.tiny import write_tiny
from tests.unit.families.values import VALUES, mutant
from tests.unit.weights.weight_files import gguf_bytes, gguf_info, gguf_pair, gguf_string, safetensors_bytes

DIM, HIDDEN, WORDS = 32, 48, ["a", "b", "ab", "</s>"]
METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.context_length": 128,
    "llama.embedding_length": DIM,
    "llama.block_count": 2,
    "llama.feed_forward_length": HIDDEN,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 8,
    "general.sampling.top_k": 5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": WORDS,
    "tokenizer.ggml.token_type": [1, 1, 1, 3],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.eos_token_id": 3,
    "tokenizer.chat_template": "{{ messages[0].content }}",
}
SHAPES = {"token_embd.weight": (len(WORDS), DIM), "output_norm.weight": (DIM,)} | {
    f"blk.{layer}.{name}.weight": shape
    for layer in range(2)
    for name, shape in {
        **dict.fromkeys(("attn_q", "attn_output"), (DIM, DIM)),
        **dict.fromkeys(("attn_k", "attn_v"), (DIM // 2, DIM)),
        **dict.fromkeys(("attn_norm", "ffn_norm"), (DIM,)),
        **dict.fromkeys(("ffn_gate", "ffn_up"), (HIDDEN, DIM)),
        "ffn_down": (DIM, HIDDEN),
    }.items()
}
NAMES = [
    *("blk.7.attn_q.weight", f"blk.1{'0' * 30}.attn_q.weight", f"blk.{'9' * 5000}.attn_q.weight"),
    *("blk.\u0663.attn_q.weight", "blk.00.attn_q.weight", "blk.-1.attn_q.weight", "blk.0.attn_q\n\x1b[31m.weight"),
    *("model.layers.99.mlp.up_proj.weight", f"layers.{'9' * 5000}.mlp.up_proj.weight", "", "."),
    *("model.layers.\u0660.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight\n\x1b]0;x\x07"),
]
PIECES = ["1" + "0" * 5000, '"\\ud800"', "NaN", "1e400", "}", "[[", "\0", ""]
SOURCES = ["{{ 1e400 }}", "{{ " + "9" * 5000 + " }}", "{{ x.y.z }}", "{% for", "{{ 'a'|truncate(-1) }}", "x" * 70000]


def write_gguf(path: Path, metadata: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]] = SHAPES) -> Path:
    pairs = [gguf_pair(key, *typed(value)) for key, value in metadata.items()]
    infos, data = [], b""
    for name, shape in shapes.items():
        infos.append(gguf_info(name, shape[::-1], 0, len(data)))
        data += np.full(shape, 0.01, np.float32).tobytes()
        data += b"\0" * (-len(data) % 32)
    path.write_bytes(gguf_bytes(pairs, infos, data))
    return path


def typed(value: Any) -> tuple[int, bytes]:
    """(type, bytes); what has no type in the format is written as a text."""
    match value:
        case bool():
            return 7, struct.pack("<?", value)
        case int() if 0 <= value < 2**32:
            return 4, struct.pack("<I", value)
        case int() if -(2**63) <= value < 2**64:
            return (10, struct.pack("<Q", value)) if value > 0 else (11, struct.pack("<q", value))
        case float():
            return 12, struct.pack("<d", value)
        case list() if value:
            items = [typed(item) for item in value]
            alike = [raw for kind, raw in items if kind == items[0][0]]
            return 9, struct.pack("<IQ", items[0][0], len(alike)) + b"".join(alike)
        case list():
            return 9, struct.pack("<IQ", 4, 0)
    return 8, gguf_string(str(value) if not isinstance(value, int) else "9" * 5000)


def wrong_gguf(path: Path, chance: random.Random) -> Path:
    metadata, shapes = copy.deepcopy(METADATA), dict(SHAPES)
    if chance.random() < 0.2:
        shapes[chance.choice(NAMES)] = (DIM,)
        return write_gguf(path, metadata, shapes)
    key = chance.choice(list(metadata))
    metadata[key] = chance.choice(SOURCES if key.endswith("template") else [v for v in VALUES if not deep(v)])
    return write_gguf(path, metadata)


def deep(value: Any) -> bool:
    """No array is of dicts there, nor of arrays of nothing."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, (list, dict)) for v in value))


class Folder:
    """Written once; each wrong one is that one with one file changed."""

    def __init__(self, path: Path) -> None:
        self.path = write_tiny(path, context=128)
        more = {
            "generation_config.json": {"eos_token_id": [3], "temperature": 0.5, "top_k": 5},
            "special_tokens_map.json": {"eos_token": "<|special|>", "bos_token": {"content": "a"}},
        }
        for name, content in more.items():
            (path / name).write_text(json.dumps(content))
        self.files = {file.name: file.read_bytes() for file in path.iterdir()}

    def wrong(self, chance: random.Random) -> Path:
        for name, content in self.files.items():
            (self.path / name).write_bytes(content)
        name = chance.choice(list(self.files))
        content = self.files[name]
        if name.endswith(".safetensors"):
            content = renamed(content, chance)
        elif chance.random() < 0.3:
            at = chance.randrange(len(content))
            content = content[:at] + chance.choice(PIECES).encode() + content[at + chance.randrange(3) :]
        elif name == "tokenizer_config.json":
            content = json.dumps({"chat_template": chance.choice(SOURCES)}).encode()
        else:
            content = json.dumps(mutant(json.loads(content), chance)).encode()
        (self.path / name).write_bytes(content)
        return self.path


def renamed(content: bytes, chance: random.Random) -> bytes:
    """One tensor under another name."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header[chance.choice(NAMES)] = header.pop(chance.choice([name for name in header if name != "__metadata__"]))
    return safetensors_bytes(header, content[end:])
