"""The starter model's greedy answers as the self-test ships them: python -m tests.golden.said

In float32, with MLX's own operations: no fast form of ours takes part.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlxrun.assistant import template_of, tokenizer_of
from mlxrun.loading import load_model
from mlxrun.selftest import starter as part
from mlxrun.store import starter
from mlxrun.weights import open_checkpoint

FILE = Path(part.__file__).with_name(part.DATA)
ASKED = ("What is the capital of France?", "Why is the sky blue?", "Write a haiku about the sea.")
TOKENS = 32


def record(count: int = TOKENS) -> list[dict[str, Any]]:
    path = starter.fetch()
    opened = open_checkpoint(path)
    tokenizer, template = tokenizer_of(opened), template_of(opened)
    model = load_model(path, dtype=mx.float32)
    found = []
    for asked in ASKED:
        ids = tokenizer.encode(template.render([{"role": "user", "content": asked}]), special=True)
        memory, tokens, margins = model.new_sequence(256), list[int](), list[float]()
        while len(tokens) < count:
            hidden = model(mx.array(ids, mx.int32), [(memory, len(ids))])
            logits = model.logits(hidden[-1:])[0]
            first, second = mx.sort(logits)[-2:][::-1].tolist()
            ids = [int(mx.argmax(logits).item())]
            if ids[0] in tokenizer.eos_ids:
                break
            tokens += ids
            margins.append(round(first - second, 3))
        found.append({"asked": asked, "tokens": tokens, "margins": margins, "text": tokenizer.decode(tokens)})
    return found


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
