"""mlx-lm's own llama on the weights of a GGUF file, to stand beside ours: its class, its cache, its operations.

It reads no GGUF itself, so the reader is ours. For models that are llamas by their spec, and no others.
"""

from __future__ import annotations

import time
from typing import Any

import mlx.core as mx

from ..loading.open import recipe_of
from ..ops.quantized import QuantizedWeight, Weight
from ..weights import open_checkpoint, read_weights

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
    """The model and the size of its vocabulary. `widened`: float32 in place of the file's own types."""
    from mlx import nn
    from mlx_lm.models import llama

    checkpoint = open_checkpoint(file)
    recipe = recipe_of(checkpoint)
    spec = recipe.decoder
    attention: Any = spec.layers[0].mixer
    ffn: Any = spec.layers[0].ffn
    assert spec.norm is not None
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


def wide(weight: Weight) -> mx.array:
    return weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight.astype(mx.float32)


def decode_rate(model: Any, prompt: list[int], batch: int, steps: int) -> float:
    """Tokens a second of `batch` greedy sequences, one step built while the one before runs, as mlx-lm's own loop."""
    from mlx_lm.models import cache

    caches = cache.make_prompt_cache(model)
    tokens = mx.argmax(model(mx.array([prompt] * batch), cache=caches)[:, -1], axis=-1)
    mx.eval([tokens, *(one.state for one in caches)])
    before, start = tokens, time.perf_counter()
    for _ in range(steps):
        tokens = mx.argmax(model(tokens[:, None], cache=caches)[:, -1], axis=-1)
        mx.async_eval(tokens)
        before.tolist()
        before = tokens
    tokens.tolist()
    return batch * steps / (time.perf_counter() - start)
