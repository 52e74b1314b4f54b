"""A model in full precision whose answers are asked again with some of its matrices changed.

Where native kernels serve a family of ours, they compute, which is many times faster than MLX on a CPU; else mlx-lm's
class does. Modules are named as mlx-lm names them, whoever computes. All weights must fit in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Protocol

import mlx.core as mx

from ..families import Recipe, resolve
from ..loading.forms import widen_weight
from ..loading.model import Model
from ..nn.decoder import DecoderModel
from ..nn.params import Forms
from ..ops.device import Device, this_device
from ..ops.native import pack
from ..ops.quantized import Packed, Weight
from ..spec import ModelError
from ..weights import apply_rules
from .compare import run
from .names import Named


class Trial(Protocol):
    def logp(self, ids: Sequence[int], changed: Mapping[str, mx.array] | None = None) -> mx.array:
        """(T, vocab) with these weights (module -> matrix) instead of its own, this once."""


def trial_of(names: Named) -> Trial:
    device = this_device("exact")
    if device.native:
        try:
            return Ours(names, device)
        except ModelError:  # a family of mlx-lm's only
            pass
    return Theirs(names)


class Ours:
    def __init__(self, names: Named, device: Device) -> None:
        self._device = device
        self._recipe: Recipe = resolve(names.config, "mlx")
        self._own = apply_rules(self._recipe.rules, names.tensors)
        self._packed: dict[int, Packed] = {}  # by the identity of what they were made from, which is kept
        self._model(dict(self._own), {})

    def _model(self, weights: MutableMapping[str, Weight], changed: Mapping[str, Weight]) -> Model:
        fresh = {id(weight) for weight in changed.values()}

        def matrix(weight: Weight) -> Packed:
            if id(weight) in fresh:
                return pack(weight)
            if id(weight) not in self._packed:
                self._packed[id(weight)] = pack(weight)
            return self._packed[id(weight)]

        forms = Forms(matrix=matrix, other=widen_weight)
        decoder, folded = self._recipe.decoder, self._recipe.folded
        return Model(DecoderModel(decoder, weights, self._device, fold_offsets=not folded, forms=forms))

    def logp(self, ids: Sequence[int], changed: Mapping[str, mx.array] | None = None) -> mx.array:
        new = apply_rules(self._recipe.rules, {f"{name}.weight": weight for name, weight in (changed or {}).items()})
        model, tokens = self._model({**self._own, **new}, new), mx.array(list(ids), mx.int32)
        return log_softmax(model.logits(run(model, tokens)))


class Theirs:
    def __init__(self, names: Named) -> None:
        self._model: Any = names.model
        self._wide = {name: array.astype(mx.float32) for name, array in names.tensors.items()}
        self._model.eval()
        self._model.load_weights(list(self._wide.items()), strict=True)

    def logp(self, ids: Sequence[int], changed: Mapping[str, mx.array] | None = None) -> mx.array:
        new = {f"{name}.weight": weight.astype(mx.float32) for name, weight in (changed or {}).items()}
        self._model.load_weights(list(new.items()), strict=False)
        try:
            return log_softmax(self._model(mx.array([list(ids)]))[0])
        finally:
            self._model.load_weights([(name, self._wide[name]) for name in new], strict=False)


def log_softmax(logits: mx.array) -> mx.array:
    wide = logits.astype(mx.float32)
    found = wide - mx.logsumexp(wide, axis=-1, keepdims=True)
    mx.eval(found)
    return found
