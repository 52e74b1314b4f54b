"""Python time to build one decode step: ours over mlx-lm's, same shapes, same run.

On a fast GPU the host builds step n+1 while the device runs step n, so the host must be the quicker
one. Weights are tiny: nothing is evaluated inside the timed part, only the graph is built.

    python bench/graph.py [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import mlx.core as mx
import mlx.utils
from mlx_lm.models import cache, qwen3, qwen3_moe

from mlxrun.cache.sequence import SequenceCache
from mlxrun.families import resolve
from mlxrun.nn.decoder import DecoderModel
from mlxrun.ops.device import this_device
from mlxrun.weights.apply import apply_rules

COMMON = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "vocab_size": 64,
    "max_position_embeddings": 4096,
    "rope_theta": 1e6,
    "tie_word_embeddings": False,
}
MOE = {
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "norm_topk_prob": True,
}
CASES = {
    "qwen3, 36 layers": (qwen3, {"model_type": "qwen3", "num_hidden_layers": 36, **COMMON}),
    "qwen3_moe, 48 layers": (qwen3_moe, {"model_type": "qwen3_moe", "num_hidden_layers": 48, **COMMON, **MOE}),
}
PROMPT, STEPS, ROUNDS = 8, 20, 15


def theirs(module, config):
    model = module.Model(module.ModelArgs.from_dict(config))
    mx.eval(model.parameters())
    memory = cache.make_prompt_cache(model)
    mx.eval(model(mx.zeros((1, PROMPT), mx.int32), cache=memory))
    token = mx.array([[3]])
    return model, lambda: model(token, cache=memory), lambda: mx.eval([c.state for c in memory])


def ours(model, config):
    """The same weights, read the way a checkpoint of theirs is read."""
    weights = dict(mlx.utils.tree_flatten(model.parameters()))
    recipe = resolve(config, "mlx")
    device = this_device()
    decoder = DecoderModel(recipe.decoder, apply_rules(recipe.rules, weights), device, fold_offsets=not recipe.folded)
    memory = SequenceCache(recipe.decoder, 4096)
    mx.eval(decoder.logits(decoder(mx.zeros((PROMPT,), mx.int32), [(memory, PROMPT)])))
    token = mx.array([3])
    return lambda: decoder.logits(decoder(token, [(memory, 1)])), lambda: mx.eval(memory.arrays())


def milliseconds(step, plan_load) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    spent = time.perf_counter() - start
    plan_load()
    return 1e3 * spent / STEPS


def measure(module, config) -> dict[str, float]:
    model, their_step, their_settle = theirs(module, config)
    our_step, our_settle = ours(model, config)
    pairs = [(milliseconds(our_step, our_settle), milliseconds(their_step, their_settle)) for _ in range(ROUNDS)]
    return {
        "ours_ms": statistics.median(a for a, _ in pairs),
        "mlx_lm_ms": statistics.median(b for _, b in pairs),
        "ratio": statistics.median(a / b for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    results = {name: measure(*case) for name, case in CASES.items()}
    if parser.parse_args().json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'graph of one decode step':28}{'ours':>10}{'mlx-lm':>10}{'ratio':>8}")
    for name, r in results.items():
        print(f"{name:28}{r['ours_ms']:>7.2f} ms{r['mlx_lm_ms']:>7.2f} ms{r['ratio']:>8.2f}")


if __name__ == "__main__":
    main()
