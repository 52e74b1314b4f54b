"""The tokenizer of a model, from whichever files it came with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..spec import ModelError
from . import gguf, hub, sentence
from .folder import Folder, is_there
from .tokenizer import Tokenizer

LOOKED_FOR = "tokenizer.json, tokenizer.model, or vocab.json with merges.txt"


def folder_tokenizer(path: Path | str) -> Tokenizer:
    """Of a model folder, from the files that Hugging Face and MLX checkpoints carry."""
    folder = Path(path)
    if is_there(folder / "tokenizer.json"):
        return hub.from_tokenizer_json(Folder.read(folder))
    for pattern in ("tokenizer.model", "tokenizer.model.v*"):
        for found in filter(is_there, sorted(folder.glob(pattern))):
            return sentence.from_model_file(found, Folder.read(folder))
    if is_there(folder / "vocab.json") and is_there(folder / "merges.txt"):
        return hub.from_vocab_and_merges(Folder.read(folder))
    if (folder / "tekken.json").is_file():
        raise ModelError(f"{folder} has only tekken.json, which is not read; get the model's tokenizer.json.")
    raise ModelError(f"{folder} has no tokenizer: looked for {LOOKED_FOR}.")


def gguf_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """The one inside a GGUF file: its `tokenizer.ggml.*` metadata as plain Python values."""
    return gguf.build(metadata)
