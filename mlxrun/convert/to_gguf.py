"""Any checkpoint that we have a recipe for -> one GGUF file, where llama.cpp's architecture has words for the model.

The way goes through the canonical weights, so whatever layout the source has, quantized or not, is read as it is read
to be run; names and metadata are what reading has, the other way round. Weights that GGUF has in another form are
turned row by row: queries and keys interleaved, offsets of norms added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlx.core as mx

from ..families.gguf.written import Written, check, metadata_of, place_of
from ..families.wrappers import unwrap
from ..loading.open import recipe_of
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import Attention, Decoder, ModelError
from ..text.gguf_written import tokenizer_metadata
from ..weights import Checkpoint, read_weights
from .aside import refuse_taken
from .gguf_file import FILE_TYPES, Tensor, encode_metadata, write_file, write_gguf
from .stream import Progress


def to_gguf(checkpoint: Checkpoint, target: Path, kind: str, progress: Progress | None = None) -> None:
    refuse_taken(target, folder=False)
    if checkpoint.dialect == "gguf":
        write_gguf(checkpoint, target, kind, progress)
    else:
        _from_recipe(checkpoint, target, kind, progress)


def _from_recipe(checkpoint: Checkpoint, target: Path, kind: str, progress: Progress | None) -> None:
    recipe = recipe_of(replace(checkpoint, processor=None))  # what sees has a file of its own there
    config, _, _ = unwrap(checkpoint.config, checkpoint.dialect, "config.json")
    written = metadata_of(recipe.decoder, config)
    weights = read_weights(checkpoint, recipe)
    tensors = gguf_tensors(weights, recipe.decoder, written, folded=recipe.folded)
    weights.clear()  # so that each can be freed once it is written
    check(written, recipe.decoder, {name: _shape(parts) for name, parts in tensors.items()})
    metadata = {
        **written.metadata,
        "general.type": "model",
        "general.file_type": FILE_TYPES[kind],
        "general.quantization_version": 2,
        **tokenizer_metadata(checkpoint.path, recipe.decoder.vocab, written.name),
    }
    write_file(target, encode_metadata(metadata), tensors, kind, progress)


def gguf_tensors(
    weights: Mapping[str, Weight], decoder: Decoder, written: Written, *, folded: bool
) -> dict[str, Tensor]:
    """Lazy, by their names in the file."""
    parts: dict[str, dict[int, Weight]] = {}
    for name, weight in weights.items():
        place, index = place_of(name, written.arch)
        parts.setdefault(place, {})[index] = _as_stored(name, weight, decoder, written, folded)
    tables = {name: (mx.array(values, mx.float32),) for name, values in written.factors.items()}
    return {**tables, **{name: [found[i] for i in sorted(found)] for name, found in parts.items()}}


def _shape(parts: Tensor) -> tuple[int, ...]:
    return (sum(part.shape[0] for part in parts), *parts[0].shape[1:])


def _as_stored(name: str, weight: Weight, decoder: Decoder, written: Written, folded: bool) -> Weight:
    arch, module = written.arch, name.rpartition(".")[0]
    if arch.interleaved and module.endswith((".mixer.q", ".mixer.k")):
        mixer = decoder.layers[0].mixer
        assert isinstance(mixer, Attention)
        if mixer.rope is not None and mixer.rope.dims != mixer.head_dim:
            raise ModelError(f"In a GGUF file of the architecture {written.name} whole heads turn; here parts of them.")
        heads = mixer.heads if module.endswith("q") else mixer.kv_heads
        if weight.shape[0] != heads * mixer.head_dim:
            wanted = f"{heads} heads of {mixer.head_dim}"
            raise ModelError(f"The weight {name} has {weight.shape[0]} rows; this model needs {wanted}.")
        turn = partial(_interleaved, heads=heads)
        return weight.rows(turn) if isinstance(weight, QuantizedWeight) else turn(weight)
    if arch.folded and not folded and weight.ndim == 1 and name.endswith(".weight") and decoder.norm is not None:
        assert not isinstance(weight, QuantizedWeight)
        return weight.astype(mx.float32) + decoder.norm.offset
    return weight


def _interleaved(rows: mx.array, heads: int) -> mx.array:
    """Of each head 0, d/2, 1, d/2 + 1, ...: neighbours turn together."""
    apart = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return mx.contiguous(apart.swapaxes(1, 2)).reshape(rows.shape)
