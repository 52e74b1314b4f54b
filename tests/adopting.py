"""A Mac's way of mapping on a machine that has none: memory is taken as strictly as Metal takes it, and then copied.

`metal` stands for MLX's `asarray(copy=False)`, which adopts nothing on a CPU. What it is handed it checks: whole pages
of a Mac, at most so many bytes. The windows that it has taken are kept until `forget`, as MLX keeps a buffer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import mlx.core as mx
import numpy as np
from safetensors.numpy import save_file

from mlxrun.weights.adopted import Adoption

PAGE = 16384  # of Apple's processors


@dataclass
class FakeMetal:
    longest: int = 1 << 30
    taken: list[np.ndarray] = field(default_factory=list)
    made: list[mx.array] = field(default_factory=list)  # held, or MLX would compute into them, as it never does there

    def take(self, words: np.ndarray) -> mx.array:
        if words.ctypes.data % PAGE or words.nbytes % PAGE or not 0 < words.nbytes <= self.longest:
            raise ValueError("[convert] Cannot import a CPU array without a copy.")
        assert not words.flags.writeable
        self.taken.append(words)
        self.made.append(mx.array(words))
        return self.made[-1]

    def forget(self) -> None:
        self.taken.clear()
        self.made.clear()

    @property
    def adoption(self) -> Adoption:
        return Adoption(self.take, PAGE, self.longest)


LAYERS, WIDTH, HIDDEN, VOCAB = 33, 192, 384, 512
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "max_position_embeddings": 4096,
    "mlp_bias": False,
    "num_attention_heads": 4,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": VOCAB,
}


def write_sharded(folder: Path, files: int = 8) -> Path:
    """A Llama of 300 tensors in float16, in so many files; 25 MB."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (VOCAB, WIDTH), "model.norm": (WIDTH,)}
    shapes["lm_head"] = (VOCAB, WIDTH)
    for layer in (f"model.layers.{n}" for n in range(LAYERS)):
        shapes |= {f"{layer}.{norm}_layernorm": (WIDTH,) for norm in ("input", "post_attention")}
        shapes |= {f"{layer}.self_attn.{name}_proj": (WIDTH, WIDTH) for name in "qkvo"}
        shapes |= {f"{layer}.mlp.{name}_proj": (HIDDEN, WIDTH) for name in ("gate", "up")}
        shapes[f"{layer}.mlp.down_proj"] = (WIDTH, HIDDEN)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    places: dict[str, str] = {}
    for part in range(files):
        file = f"model-{part + 1:05}-of-{files:05}.safetensors"
        names = list(shapes)[part::files]
        arrays = {f"{name}.weight": (random.standard_normal(shapes[name]) / 16).astype(np.float16) for name in names}
        save_file(arrays, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(arrays, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    return folder
