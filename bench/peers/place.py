"""What the benches keep in ~/.cache/mlxrun-bench: llama.cpp built here once, and the models. Delete it at will.

llama.cpp comes as llama-cpp-python's sources, built as `processor` says into a venv of its own. mlx-lm needs none:
mlxrun depends on it, so it runs in the venv that mlxrun runs in, and on the same MLX.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from mlxrun.store import starter

from .processor import build

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlxrun-bench"
READY = CACHE / "ready"
LLAMA = "llama-cpp-python==0.3.36"
Q4_0, BLOCK, SPREAD = gguf.GGMLQuantizationType.Q4_0, 32, 4.61  # SPREAD: of codes that are all equally likely


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def llama_python() -> str:
    """The Python that has llama_cpp; builds it where it is missing (about ten minutes on two cores)."""
    how = build()
    folder = CACHE / how.folder
    python = folder / "bin" / "python"
    if not any(folder.glob("lib/python*/site-packages/llama_cpp/__init__.py")):
        say(f"Building {LLAMA} into {folder}, {how.told}, once; it takes about ten minutes ...")
        venv.create(folder, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-binary", "llama-cpp-python", LLAMA]
        subprocess.run(install, check=True, env={**os.environ, "CMAKE_ARGS": how.options, "FORCE_CMAKE": "1"})
    return str(python)


QUANTIZE = """
import sys, llama_cpp as c
source, target, kind = sys.argv[1:]
params = c.llama_model_quantize_default_params()
params.ftype, params.allow_requantize, params.nthread = getattr(c, "LLAMA_FTYPE_MOSTLY_" + kind), True, 2
sys.exit(c.llama_model_quantize(source.encode(), target.encode(), params))
"""


def smollm2(kind: str) -> Path:
    """Q4_1: the starter's own file; else what llama.cpp's quantizer makes of it."""
    source = starter.fetch()
    if kind == "Q4_1":
        return source
    return made(CACHE / f"smollm2-{kind.lower()}.gguf", lambda part: requantize(source, part, kind))


def widened(source: Path) -> Path:
    """The same values in float32."""
    return made(CACHE / f"{source.stem}-f32.gguf", lambda part: widen(source, part))


def requantize(source: Path, target: Path, kind: str) -> None:
    command = [llama_python(), "-c", QUANTIZE, str(source), str(target), kind]
    subprocess.run(command, check=True, capture_output=True)


def made(target: Path, make: Callable[[Path], None]) -> Path:
    """In one step: a half-written model is never used."""
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        say(f"Making {target} ...")
        part = target.with_suffix(".part")
        make(part)
        part.replace(target)
    return target


def widen(source: Path, target: Path) -> None:
    """Every tensor in float32 by the gguf package's dequantizer; metadata copied."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        sub = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), field.types[0], sub_type=sub)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    finish(writer)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def qwen3_1_7b() -> Path:
    """The shape of Qwen3-1.7B with random weights, all matrices in Q4_0."""
    return made(CACHE / "qwen3-1.7b-random.gguf", lambda part: random_qwen3(part, "qwen3", 28, 16, 8, 6144))


def qwen3_moe() -> Path:
    """Six layers of the shape of Qwen3-30B-A3B with random weights, all matrices in Q4_0."""
    return made(CACHE / "qwen3-moe-6-layers-random.gguf", lambda part: random_qwen3(part, "qwen3moe", 6, 32, 4, 768))


def random_qwen3(file: Path, arch: str, layers: int, heads: int, kv_heads: int, hidden: int) -> None:
    dim, head, vocab, experts = 2048, 128, 151936, 128
    writer = gguf.GGUFWriter(file, arch, use_temp_file=True)
    writer.add_block_count(layers)
    writer.add_context_length(40960)
    writer.add_embedding_length(dim)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(vocab)
    writer.add_tokenizer_model("no_vocab")
    moe = arch == "qwen3moe"
    if moe:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(8)
        writer.add_expert_feed_forward_length(hidden)
    rng = np.random.default_rng(0)

    def matrix(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", random_blocks(rng, shape), raw_dtype=Q4_0)

    def ones(name: str, count: int) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(count, np.float32))

    matrix("token_embd", vocab, dim)
    ones("output_norm", dim)
    if moe:
        matrix("output", vocab, dim)
    for i in range(layers):
        layer = f"blk.{i}."
        matrix(layer + "attn_q", heads * head, dim)
        matrix(layer + "attn_k", kv_heads * head, dim)
        matrix(layer + "attn_v", kv_heads * head, dim)
        matrix(layer + "attn_output", dim, heads * head)
        for name, count in (("attn_norm", dim), ("ffn_norm", dim), ("attn_q_norm", head), ("attn_k_norm", head)):
            ones(layer + name, count)
        each, ending = ((experts,), "_exps") if moe else ((), "")
        for name, out, into in (("gate", hidden, dim), ("up", hidden, dim), ("down", dim, hidden)):
            matrix(f"{layer}ffn_{name}{ending}", *each, out, into)
        if moe:  # routers are float32 in every such file
            router = rng.standard_normal((experts, dim), np.float32) / np.float32(dim**0.5)
            writer.add_tensor(f"{layer}ffn_gate_inp.weight", router)
    finish(writer)


def random_blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Q4_0: a float16 scale, then 32 codes in 16 bytes. Products keep the size of what is multiplied."""
    *rows, width = shape
    blocks = np.empty((*rows, width // BLOCK, 18), np.uint8)
    blocks[..., :2] = np.array([1 / (SPREAD * width**0.5)], np.float16).view(np.uint8)
    flat = blocks.reshape(-1, 18)
    for start in range(0, len(flat), 1 << 20):
        part = flat[start : start + (1 << 20)]
        part[:, 2:] = np.frombuffer(rng.bytes(part.shape[0] * 16), np.uint8).reshape(-1, 16)
    return blocks.reshape(*rows, -1)
