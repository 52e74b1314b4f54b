"""Cross-encoders: what transformers makes of pairs of texts, kept in rankers.json.

`python -m tests.golden.rankers` makes that file, with torch and transformers installed: every tensor is drawn anew, so
none has its first value. Nothing of mlxrun but the drawing is imported here.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import Checkpoint, write
from .draw import draw, kind_of

FILE = Path(__file__).parent / "rankers.json"
VOCAB = 48
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 40,
    "intermediate_size": 72,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "max_position_embeddings": 45,
    "num_labels": 1,
    "pad_token_id": 3,
}
BERT = {**SIZES, "layer_norm_eps": 0.01}
MODERN = {
    **SIZES,
    "norm_eps": 0.01,
    "local_attention": 8,
    "norm_bias": True,
    "classifier_bias": True,
    "cls_token_id": 1,
    "sep_token_id": 2,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("bert", BERT),
    "roberta": ("roberta", {**BERT, "type_vocab_size": 1}),
    "xlm-roberta": ("xlm-roberta", {**BERT, "type_vocab_size": 1, "pad_token_id": 1, "hidden_act": "gelu_new"}),
    "modernbert": ("modernbert", {**MODERN, "classifier_pooling": "cls"}),
    "modernbert_mean": ("modernbert", {**MODERN, "classifier_pooling": "mean", "norm_bias": False}),
}
LENGTHS = ((3, 9), (17, 1), (1, 24))  # tokens of a pair's two texts


@dataclass(frozen=True)
class Ranker:
    name: str
    config: dict[str, Any]
    tensors: dict[str, tuple[list[int], str]]  # name: (shape, kind)
    scores: list[float]

    def write(self, folder: Path) -> Path:
        drawn = {name: draw(self.name, name, tuple(shape), kind, 0) for name, (shape, kind) in self.tensors.items()}
        return write(Checkpoint(self.config, drawn), folder)


def pairs() -> list[tuple[list[int], list[int]]]:
    """(ids, which of the two texts each stands in)"""
    random = np.random.RandomState(7)
    return [
        ([int(one) for one in random.randint(5, VOCAB, first + second)], [0] * first + [1] * second)
        for first, second in LENGTHS
    ]


def ranker(name: str) -> Ranker:
    return Ranker(name, **json.loads(FILE.read_text(encoding="utf-8"))[name])


def made(name: str) -> Ranker:
    import torch
    import transformers
    from safetensors.numpy import load_file

    kind, told = CASES[name]
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        config = transformers.CONFIG_MAPPING[kind](**told)
        transformers.AutoModelForSequenceClassification.from_config(config).save_pretrained(first)
        stored = load_file(f"{first}/model.safetensors")
        tensors = {
            tensor: (list(value.shape), kind_of(tensor, value, False, "mixed"))
            for tensor, value in sorted(stored.items())
        }
        found = Ranker(name, json.loads(Path(first, "config.json").read_text(encoding="utf-8")), tensors, [])
        model, told = transformers.AutoModelForSequenceClassification.from_pretrained(
            found.write(Path(second)), dtype=torch.float32, attn_implementation="eager", output_loading_info=True
        )
        if told["missing_keys"] or told["unexpected_keys"]:
            raise ValueError(f"{name}: transformers did not read the file back whole: {told}")
        for ids, types in pairs():
            given = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
            if kind != "modernbert":
                given["token_type_ids"] = torch.tensor([types if kind == "bert" else [0] * len(types)])
            with torch.no_grad():
                found.scores.append(float(model.eval()(**given).logits[0, 0]))
    return found


def main() -> int:
    kept = {name: made(name) for name in CASES}
    rows = [
        f"{json.dumps(name)}: "
        + json.dumps({"config": one.config, "tensors": one.tensors, "scores": one.scores}, separators=(",", ":"))
        for name, one in kept.items()
    ]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    for name, one in kept.items():
        print(name, [round(score, 4) for score in one.scores])
    return 0


if __name__ == "__main__":
    sys.exit(main())
