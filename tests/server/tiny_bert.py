"""A BERT of a few thousand random weights that reads letters, as a folder that sentence-transformers could read."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.golden.checkpoint import Checkpoint, write

DIM, HIDDEN, LAYERS, HEADS, CONTEXT = 32, 64, 2, 4, 64
MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
CONFIG: dict[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": DIM,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}


def write_tiny_bert(folder: Path, mode: str | None = "mean_tokens", more: tuple[str, ...] = (), **config: Any) -> Path:
    """`mode`: of its pooling; None: no modules.json. `more`: modules that come after it."""
    own = tokenizer()
    told = {**CONFIG, "vocab_size": own.get_vocab_size(), **config}
    write(Checkpoint(told, weights(told["vocab_size"])), folder)
    own.save(str(folder / "tokenizer.json"))
    if mode is not None:
        kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), *((kind, f"2_{kind}") for kind in more)]
        modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in kinds]
        (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
        (folder / "1_Pooling").mkdir()
        modes = ("cls_token", "mean_tokens", "max_tokens", "lasttoken", "mean_sqrt_len_tokens")
        pooling = {f"pooling_mode_{name}": name == mode for name in modes}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def write_tiny_ranker(folder: Path) -> Path:
    """A cross-encoder: the same with a pooler and a classifier of one label."""
    own = tokenizer()
    told = {**CONFIG, "vocab_size": own.get_vocab_size(), "id2label": {"0": "LABEL_0"}}
    told |= {"architectures": ["BertForSequenceClassification"], "sbert_ce_default_activation_function": "Identity"}
    found = {f"bert.{name}": value for name, value in weights(told["vocab_size"]).items()}
    random = np.random.RandomState(12)
    for name, rows in (("bert.pooler.dense", DIM), ("classifier", 1)):
        found[f"{name}.weight"] = random.normal(0, 0.5, (rows, DIM)).astype(np.float32)
        found[f"{name}.bias"] = random.normal(0, 0.5, rows).astype(np.float32)
    write(Checkpoint(told, found), folder)
    own.save(str(folder / "tokenizer.json"))
    return folder


def tokenizer() -> Tokenizer:
    letters = [*string.ascii_lowercase, *string.digits, *".,!?"]
    pieces = [*MARKS, *letters, *("##" + letter for letter in letters)]
    own = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    own.normalizer, own.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    own.add_special_tokens(MARKS)
    own.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return own


def weights(vocab: int) -> dict[str, Any]:
    random = np.random.RandomState(11)

    def draw(*shape: int) -> Any:
        return random.normal(0, 1 / np.sqrt(shape[-1]), shape).astype(np.float32)

    found: dict[str, Any] = {}

    def both(name: str, rows: int, width: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = draw(rows, width), draw(rows) * 0.1

    def norm(name: str) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = 1 + draw(DIM) * 0.1, draw(DIM) * 0.1

    for name, rows in (("word", vocab), ("position", CONTEXT), ("token_type", 2)):
        found[f"embeddings.{name}_embeddings.weight"] = draw(rows, DIM) * 3
    norm("embeddings.LayerNorm")
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        for name in ("query", "key", "value"):
            both(f"{at}.attention.self.{name}", DIM, DIM)
        both(f"{at}.attention.output.dense", DIM, DIM)
        both(f"{at}.intermediate.dense", HIDDEN, DIM)
        both(f"{at}.output.dense", DIM, HIDDEN)
        norm(f"{at}.attention.output.LayerNorm")
        norm(f"{at}.output.LayerNorm")
    return found
