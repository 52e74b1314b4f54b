"""mlx-lm on the weights of a llama-like GGUF, as they are or widened to float32, with MLX's own CPU code.

It reads no GGUF itself: the reader is ours, the model class, the cache and every operation are theirs.
"""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx
import numpy as np
from asked import answer, prompt
from mlx import nn
from mlx_lm.models import cache, llama

from mlxrun.loading.open import recipe_of
from mlxrun.ops.quantized import QuantizedWeight
from mlxrun.weights import open_checkpoint, read_weights

NAMES = {
    "mixer.": "self_attn.",
    "ffn.": "mlp.",
    "mixer_norm.": "input_layernorm.",
    "ffn_norm.": "post_attention_layernorm.",
}
PROJECTIONS = ("q", "k", "v", "o", "gate", "up", "down")


def their_name(name: str) -> str:
    if name.startswith("embed."):
        return name.replace("embed.", "model.embed_tokens.")
    if name.startswith("head."):
        return name.replace("head.", "lm_head.")
    found = "model." + name
    for ours, theirs in NAMES.items():
        found = found.replace("." + ours, "." + theirs)
    for one in PROJECTIONS:
        found = found.replace(f".{one}.", f".{one}_proj.")
    return found


def model_of(file: str, widened: bool) -> tuple[Any, int]:
    checkpoint = open_checkpoint(file)
    recipe = recipe_of(checkpoint)
    spec = recipe.decoder
    attention, ffn = spec.layers[0].mixer, spec.layers[0].ffn
    args = llama.ModelArgs(
        model_type="llama",
        hidden_size=spec.dim,
        num_hidden_layers=len(spec.layers),
        intermediate_size=ffn.hidden,
        num_attention_heads=attention.heads,
        num_key_value_heads=attention.kv_heads,
        head_dim=attention.head_dim,
        rms_norm_eps=spec.norm.eps,
        vocab_size=spec.vocab,
        rope_theta=attention.rope.base,
        rope_traditional=attention.rope.interleaved,
        tie_word_embeddings=spec.tied,
    )
    model = llama.Model(args)
    weights = {their_name(name): weight for name, weight in read_weights(checkpoint, recipe).items()}
    packed = {n.removesuffix(".weight"): w for n, w in weights.items() if isinstance(w, QuantizedWeight)}
    if widened:
        plain = {n: wide(w) for n, w in weights.items()}
    else:
        nn.quantize(model, class_predicate=lambda path, _: path in packed and of(packed[path]))
        plain = {n: w.astype(mx.float16) for n, w in weights.items() if not isinstance(w, QuantizedWeight)}
        for path, w in packed.items():
            plain |= {f"{path}.weight": w.packed, f"{path}.scales": w.scales, f"{path}.biases": biases_of(w)}
    model.load_weights(list(plain.items()))
    mx.eval(model.parameters())
    return model, spec.vocab


def of(weight: QuantizedWeight) -> dict[str, Any]:
    return {"group_size": weight.group, "bits": weight.bits, "mode": weight.mode}


def biases_of(weight: QuantizedWeight) -> mx.array:
    """Where one code stands for 0 and no biases are kept, MLX wants them written out."""
    return weight.biases if weight.biases is not None else weight.scales * -(1 << (weight.bits - 1))


def wide(weight: Any) -> mx.array:
    return weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)


class Plain:
    def __init__(self, file: str, options: dict[str, Any]) -> None:
        mx.set_default_device(mx.cpu)
        self.model, self.vocab = model_of(file, options.get("widened", False))
        self.caches: Any = []

    def fill(self, context: int, batch: int, steps: int) -> None:
        self.caches = cache.make_prompt_cache(self.model)
        rows = mx.array([prompt(self.vocab, context, i) for i in range(batch)])
        self.tokens = mx.argmax(self.model(rows, cache=self.caches)[:, -1], axis=-1)
        mx.eval([self.tokens, *(one.state for one in self.caches)])

    def decode(self, steps: int) -> float:
        tokens, before = self.tokens, None
        start = time.perf_counter()
        for _ in range(steps):
            tokens = mx.argmax(self.model(tokens[:, None], cache=self.caches)[:, -1], axis=-1)
            mx.async_eval(tokens)
            if before is not None:
                before.tolist()
            before = tokens
        tokens.tolist()
        spent = time.perf_counter() - start
        cache.trim_prompt_cache(self.caches, steps)
        return spent

    def prefill(self, tokens: int) -> float:
        start = time.perf_counter()
        self.fill(tokens, 1, 0)
        return time.perf_counter() - start

    def logits(self, ids: list[int], file: str) -> None:
        with open(file, "wb") as out:  # np.save would change a name
            np.save(out, np.array(self.model(mx.array([ids]))[0].astype(mx.float32)))


if __name__ == "__main__":
    answer(Plain)
