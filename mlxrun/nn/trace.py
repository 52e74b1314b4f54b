"""What goes on inside a model while one sequence is read: layer by layer, operation by operation, from an empty memory.

The plain meaning of each layer, whatever faster forms the same weights are computed in elsewhere. Not seen: streams
(AltUp), attention that is no softmax over keys of its own layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import mlx.core as mx

from ..contracts import SequenceMemory
from ..ops.attention import alibi
from ..ops.masks import boolean
from ..spec import Attention, DenseAndExperts, Layer, ModelError, MoE
from .attention import AttentionBlock
from .batch import Pass
from .decoder import DecoderModel
from .layer import LayerBlock
from .moe import DenseAndExpertsBlock, MoEBlock, RouterBlock

KINDS = ("hidden", "attention", "router", "logits")


def shows(spec: Layer, what: str) -> str | None:
    """Why a layer has nothing of that to show; None: it has."""
    if what == "router" and not isinstance(spec.ffn, MoE | DenseAndExperts):
        return "has no experts"
    if what == "attention":
        if not isinstance(spec.mixer, Attention):
            return f"has no softmax attention over keys, but {type(spec.mixer).__name__}"
        if spec.mixer.borrows is not None:
            return "looks at another layer's keys"
    return None


def trace(
    model: DecoderModel,
    ids: mx.array,
    memories: tuple[SequenceMemory, SequenceMemory],
    layers: Sequence[int],
    what: str,
) -> Iterator[tuple[int, mx.array | None]]:
    """ids (T,) -> (number, what it shows or None) of each layer in turn. `memories`: two that are empty and no pages,
    one to read with and one to look ahead with."""
    if model.streams is not None:
        raise ModelError(f"{model.spec.family} keeps several streams between its layers, which cannot be traced.")
    memory, ahead = memories
    p = model.begin([(memory, ids.size)])
    x = model._embed(ids, p, None)
    extra = None if model.per_layer is None else model.per_layer(ids, x)
    for number, run in enumerate(model.single):
        wanted, block = number in layers, model.layers[number]
        shown = None
        if wanted and what == "attention":
            shown = looks(block, x, p)
        if wanted and what == "router":
            shown = chosen(block, network_input(block, x, p, ahead, number))
        x = run(x, p, [memory], extra)
        if wanted and what == "hidden":
            shown = x
        if wanted and what == "logits":
            shown = model.logits(x if model.norm is None else model.norm(x))
        yield number, None if shown is None else shown.astype(mx.float32)


def looks(block: LayerBlock, x: mx.array, p: Pass) -> mx.array:
    """(H, T, T): of each head, how much a token looks at each; where there are sinks, a row adds up to less than 1."""
    mixer = block.mixer
    assert isinstance(mixer, AttentionBlock)
    h = x if block.mixer_norm is None or block.wiring == "post" else block.mixer_norm(x)
    q, _ = mixer._query(h, p)  # (1, H, T, D)
    k, _ = mixer._keys(h, p)  # (1, G, T, D)
    s, tokens = mixer.spec, p.segments[0].positions
    groups = s.heads // s.kv_heads
    keys = mx.repeat(k[0].astype(mx.float32), groups, axis=0)
    scores = (q[0].astype(mx.float32) * s.scale) @ keys.swapaxes(-1, -2)
    if s.softcap is not None:
        scores = s.softcap * mx.tanh(scores / s.softcap)
    if mixer.slopes is not None:
        scores = scores + alibi(mixer.slopes, mixer.sight, tokens, tokens)
    scores = mx.where(boolean(mixer.sight, tokens, tokens), scores, -mx.inf)
    if mixer.sinks is None:
        return mx.softmax(scores, axis=-1)
    sinks = mx.broadcast_to(mixer.sinks.astype(mx.float32)[:, None, None], (*scores.shape[:2], 1))
    return mx.softmax(mx.concatenate([scores, sinks], axis=-1), axis=-1)[..., :-1]


def network_input(block: LayerBlock, x: mx.array, p: Pass, ahead: SequenceMemory, number: int) -> mx.array:
    """What the network of a layer reads, before its norm where a pair of networks norms it itself."""
    if block.wiring == "parallel":
        h = x if block.mixer_norm is None else block.mixer_norm(x)
        return h if block.ffn_norm is None else block.ffn_norm(x)
    y = x if block.mixer is None else block._mix(x, p, [ahead.layers[number]])
    return y if block.ffn_norm is None else block.ffn_norm(y)


def chosen(block: LayerBlock, h: mx.array) -> mx.array:
    """(T, E): the weight of each expert; of those that are not asked 0."""
    network = block.ffn
    if isinstance(network, DenseAndExpertsBlock):
        network = network.moe
    assert isinstance(network, MoEBlock)
    router: RouterBlock = network.router
    ids, weights = router(h)
    empty = mx.zeros((h.shape[0], network.spec.experts), mx.float32)
    return mx.put_along_axis(empty, ids, weights.astype(mx.float32), axis=-1)
