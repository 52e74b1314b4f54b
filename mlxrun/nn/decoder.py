"""The model: embed, layers, norm, head. It reads a spec and weights and knows no family.

`model(ids, sequences)` runs the new rows of several sequences at once and moves their memories on;
`model.logits` turns chosen hidden rows into logits, so prefill pays for one row and not for all; `model.best` into
tokens without them, where a kernel for that is the quicker way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from itertools import accumulate, pairwise

import mlx.core as mx

from ..contracts import HeardWindow, SequenceMemory, SoftRows, Turns
from ..ops import metal
from ..ops.device import Device
from ..ops.fast_forms import BEST
from ..ops.masks import Pictures
from ..ops.packed import by_distance
from ..ops.quantized import QuantizedWeight, Weight
from ..spec import Decoder, Layer, ModelError
from ..spec_sound import Listener
from ..spec_towers import Towers
from .altup import AltUpLayerBlock, Streams
from .batch import Pass
from .join import EntranceBlock
from .layer import LayerBlock
from .linear import Adaptable, Linear
from .listener import ListenerModel
from .params import AS_STORED, Forms, Params
from .per_layer import PerLayerEmbedding
from .ranking import RankingBlock
from .stack import NOBODY, Run, Watch, one_by_one, runs_of
from .tower import TowerModel


class DecoderModel:
    def __init__(
        self,
        spec: Decoder,
        weights: MutableMapping[str, Weight],
        device: Device,
        *,
        fold_offsets: bool = True,
        forms: Forms = AS_STORED,
        towers: Towers | Listener | None = None,
        adaptable: bool = False,
    ) -> None:
        """`towers`: what sees or hears beside it. `adaptable`: sequences may have adapters; what these could
        change is not joined to other work."""
        self.spec, self.device = spec, device
        self.adapted = Adaptable() if adaptable else None
        params = Params(weights, device, fold_offsets=fold_offsets, forms=forms, adapted=self.adapted)
        width = spec.embed_dim or spec.dim
        self.embed = None if spec.middle else params.embedding("embed", spec.vocab, width)
        self.further: Callable[[mx.array], mx.array] | None = None  # layers behind these, on other machines
        self.embed_norm = params.norm("embed_norm", spec.embed_norm, width) if spec.embed_norm else None
        self.embed_in = params.linear("embed_in", spec.dim, width) if spec.embed_dim else None
        self.positions = None
        if spec.positions is not None:
            self.positions = params.embedding("positions", spec.positions.count + spec.positions.offset, spec.dim)
        self.token_types = params.embedding("token_types", spec.token_types, width) if spec.token_types else None
        self.apart = None  # (H, distances) what distance adds to scores
        if spec.distances is not None:
            buckets, furthest, heads = spec.distances
            table = params.array("distances.weight", buckets, heads)
            self.apart = by_distance(table.astype(mx.float32), furthest)
        self.per_layer = None
        if spec.per_layer is not None:
            self.per_layer = PerLayerEmbedding(spec.per_layer, spec.dim, len(spec.layers), params.scope("per_layer"))
        self.streams = Streams(spec.altup, spec.dim, params.scope("altup")) if spec.altup is not None else None
        self.join = EntranceBlock(spec.joined, spec.dim, params.scope("join")) if spec.joined is not None else None
        self.layers = [self._layer(layer, params.scope(f"layers.{i}")) for i, layer in enumerate(spec.layers)]
        self.single, self.fed_single = one_by_one(self.layers), one_by_one(self.layers, spec.deep)
        self.watch(NOBODY)
        self.norm = params.norm("norm", spec.norm, spec.dim) if spec.norm else None
        self.embed_out = params.linear("embed_out", width, spec.dim) if spec.embed_dim else None
        self.head = self._head(params, width) if spec.kind == "decoder" and not spec.middle else None
        head = self.head.weight if self.head is not None and BEST.serves(spec) else None
        self.best_of = head if isinstance(head, QuantizedWeight) else None
        self.ranking = None
        if spec.ranking is not None:
            self.ranking = RankingBlock(spec.ranking, spec.dim, params.scope("rank"))
        self.tower = TowerModel(towers, params.scope("vision")) if isinstance(towers, Towers) else None
        self.listener = ListenerModel(towers, params.scope("audio")) if isinstance(towers, Listener) else None
        self._refuse_leftovers(params)

    def _layer(self, layer: Layer, params: Params) -> LayerBlock:
        s = self.spec
        if s.altup is not None:
            return AltUpLayerBlock(layer, s.altup, s.dim, s.per_layer, params)
        return LayerBlock(layer, s.dim, s.per_layer, params)

    def watch(self, before: Mapping[int, Watch]) -> None:
        """Who hears of the rows of a pass before the network of a layer reads them, by the layer's number."""
        self.runs = runs_of(self.spec, self.layers, self.device, before)  # where keys lie in pages
        deep = self.spec.deep
        self.fed_runs = runs_of(self.spec, self.layers, self.device, before, deep) if deep else self.runs

    def _head(self, params: Params, width: int) -> Linear:
        if self.spec.tied and self.embed is not None:
            head = self.embed.as_linear()
            bias = params.array("head.bias", self.spec.vocab) if self.spec.head_bias else None
            return Linear(head.weight, self.device, bias)
        return params.linear("head", self.spec.vocab, width, bias=self.spec.head_bias)

    def _refuse_leftovers(self, params: Params) -> None:
        extra = params.leftovers()
        if extra:
            names = ", ".join(extra[:5])
            raise ModelError(f"The checkpoint holds {len(extra)} weights that this model has no place for: {names}.")

    def __call__(
        self,
        ids: mx.array,
        sequences: Sequence[tuple[SequenceMemory, int]],
        types: mx.array | None = None,
        soft: SoftRows | None = None,
        thought: mx.array | None = None,
        turns: Turns | None = None,
        seen: Sequence[int] = (),
    ) -> mx.array:
        """ids (T,), or where it embeds nothing rows (T, dim) -> hidden (T, dim), of a head before its norm, for the
        next token that it guesses. `sequences`: each memory and how many of the rows are its own. `types`: of each
        token, which of the texts of a pair it stands in; None: all in the first. `soft`: rows that no token has.
        `thought` (T, dim): what a head is given of the token before each. `turns`: None: rope turns every row by its
        place. `seen`: of an encoder's texts how many rows anybody looks at; empty: all."""
        p = self.begin(sequences, soft.pictures if soft is not None else (), turns)
        p.seen = seen
        x = self._embed(ids, p, types)
        if soft is not None:
            p.soft = soft
            x[soft.rows] = soft.values[:, : self.spec.dim].astype(x.dtype)
        if self.join is not None:
            x = self.join(x, thought)
        if p.pages is not None:
            x = p.pages.in_turn(x)
        extra = None if self.per_layer is None else self.per_layer(ids, x, soft)  # (T, layers, per-layer dim)
        if self.streams is not None:
            x = self.streams.spread(x)
        memories = [memory for memory, _ in sequences]
        for run in self._runs(p):
            x = run(x, p, memories, extra)
        if self.further is not None:
            x = self.further(x)
        if self.streams is not None:
            x = self.streams.merge(x)
        for memory, count in sequences:
            memory.length += count
        if p.pages is not None:
            p.pages.built(x)
        return x if self.norm is None or self.join is not None else self.norm(x)

    @property
    def one_token(self) -> mx.array:
        """For who asks of which types its arrays are, and evaluates nothing."""
        if self.embed is not None:
            return mx.zeros((1,), mx.int32)
        norms = [
            norm.weight for block in self.layers for norm in (block.mixer_norm, block.ffn_norm) if norm is not None
        ]
        dtype = next((weight.dtype for weight in norms if weight is not None), mx.float32)
        return mx.zeros((1, self.spec.dim), dtype)

    def _runs(self, p: Pass) -> Sequence[Run]:
        fed = p.soft is not None and self.spec.deep > 0
        if p.pages is None:
            return self.fed_single if fed else self.single
        return self.fed_runs if fed else self.runs

    def begin(
        self,
        sequences: Sequence[tuple[SequenceMemory, int]],
        pictures: Sequence[Pictures] = (),
        turns: Turns | None = None,
    ) -> Pass:
        """A pass of these; matrices that adapters change are told whose rows are which."""
        p = Pass.of(sequences, pictures, turns)
        p.apart = self.apart
        if self.adapted is not None:
            self.adapted.rows.spans = p.adapted
        return p

    def _embed(self, ids: mx.array, p: Pass, types: mx.array | None) -> mx.array:
        if self.embed is None:
            return ids
        x = self.embed(ids)
        if self.spec.embed_scale != 1.0:
            x = x * self.spec.embed_scale
        if self.embed_in is not None:
            x = self.embed_in(x)
        if self.positions is not None and self.spec.positions is not None:
            x = x + self.positions(p.positions + self.spec.positions.offset)
        if self.token_types is not None:
            if types is None or self.spec.token_types < 2:
                types = mx.zeros_like(ids)
            x = x + self.token_types(types)
        return x if self.embed_norm is None else self.embed_norm(x)

    def logits(self, hidden: mx.array) -> mx.array:
        """(R, dim) chosen rows -> (R, vocab)."""
        if self.head is None:
            raise ModelError(f"{self.spec.family} is an encoder: it has hidden states and no logits.")
        hidden = self._leaving(hidden)
        if self.embed_out is not None:
            hidden = self.embed_out(hidden)
        y = self.head(hidden)
        if self.spec.logit_scale != 1.0:
            y = y * self.spec.logit_scale
        cap = self.spec.logit_softcap
        return y if cap is None else mx.tanh(y / cap) * cap

    def rank(self, ids: mx.array, sequences: Sequence[tuple[SequenceMemory, int]], types: mx.array) -> mx.array:
        """(T,) -> (sequences,): how well the two texts of each fit."""
        if self.ranking is None:
            raise ModelError(f"{self.spec.family} has no head that ranks texts here.")
        hidden = self(ids, sequences, types)
        ends = list(accumulate(count for _, count in sequences))
        return self.ranking([hidden[start:end] for start, end in pairwise([0, *ends])])

    def heard(self, rows: mx.array) -> HeardWindow:
        """(R, dim) of a listener -> what the layers of this decoder look at of them."""
        return HeardWindow(tuple(block.cross.keys(rows) for block in self.layers if block.cross is not None))

    def best(self, hidden: mx.array) -> mx.array | None:
        """(R, dim) chosen rows -> (R,) int32 the token of the largest logit, -1 where one is not a number.

        None: take them from `logits`.
        """
        if self.best_of is None:
            return None
        return metal.best_token(self._leaving(hidden), None, self.best_of, self.device.chooser)

    def _leaving(self, hidden: mx.array) -> mx.array:
        return hidden if self.join is None or self.norm is None else self.norm(hidden)
