"""What is asked of a model before it is used: its family, how large it is, how it is stored. Reads headers only."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..families import UnknownFamily
from ..ops.quantized import QuantizedWeight, Weight
from ..weights import Checkpoint, outline_weights
from ..weights.gguf import Place
from .open import OpenedModel


@dataclass(frozen=True)
class ModelFacts:
    format: str  # of its files: gguf, safetensors
    family: str
    parameters: int  # 0: nobody knows
    bytes: int  # on disk
    quantization: str  # what most of its bytes are
    context: int  # tokens that its authors promise; 0: nobody knows
    modified: float  # seconds since 1970
    digest: str  # of its files' names, sizes and times: another one is another model
    writes: bool = True  # text; False: an encoder, which only gives vectors
    ranks: bool = False  # it tells which texts answer a question, and gives no vectors


def facts_of(opened: OpenedModel) -> ModelFacts:
    checkpoint, files = opened.checkpoint, [(file, file.stat()) for file in opened.checkpoint.files]
    told = "".join(f"{file.name}\0{seen.st_size}\0{seen.st_mtime_ns}\0" for file, seen in files)
    gguf = checkpoint.dialect == "gguf"
    known = None if isinstance(opened.found, UnknownFamily) else opened.found
    weights = {} if known is None else outline_weights(checkpoint, known)
    return ModelFacts(
        format="gguf" if gguf else "safetensors",
        family=str(checkpoint.config.get("model_type", "")) if known is None else known.decoder.family,
        parameters=sum(math.prod(weight.shape) for weight in weights.values()),
        bytes=sum(seen.st_size for _, seen in files),
        quantization=most_stored(checkpoint) if gguf or not weights else most_held(weights.values()),
        context=0 if known is None else known.decoder.context,
        modified=max((seen.st_mtime for _, seen in files), default=0.0),
        digest=hashlib.sha256(told.encode()).hexdigest(),
        writes=known is None or known.decoder.kind == "decoder",
        ranks=known is not None and known.decoder.ranking is not None,
    )


def most_stored(checkpoint: Checkpoint) -> str:
    """As a GGUF file has it."""
    return _most(
        (place.kind if isinstance(place, Place) else place.dtype, place.nbytes)
        for _, place in checkpoint.stored.values()
    )


def most_held(weights: Iterable[Weight]) -> str:
    return _most((_held(weight), weight.nbytes) for weight in weights)


def _held(weight: Weight) -> str:
    return f"{weight.bits}-bit" if isinstance(weight, QuantizedWeight) else str(weight.dtype).removeprefix("mlx.core.")


def _most(kinds: Iterable[tuple[str, int]]) -> str:
    sizes: Counter[str] = Counter()
    for kind, size in kinds:
        sizes[kind] += size
    return next((kind for kind, _ in sizes.most_common(1)), "")
