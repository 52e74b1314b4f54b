"""A layer in words, phrase by phrase, so that two layers can be compared phrase by phrase.

Knows the spec's kinds and no family.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import (
    Attention,
    ChannelDelta,
    Decoder,
    Dense,
    DenseAndExperts,
    FeedForward,
    GatedDelta,
    GatedLinear,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    Mixer,
    MoE,
    Norm,
    Rope,
    Router,
    ScaledDense,
    ShortConv,
    SideBySide,
    XieluDense,
)
from ..spec_towers import Closest, Longest, MostRows, Multiple, Square, Tiles, Towers

Phrases = list[str]
ACTIVATIONS = {"relu2": "squared ReLU", "gelu_tanh": "tanh GELU", "clamped_swiglu": "clamped SwiGLU", "silu": "SiLU"}
GATES = {"packed": "gate within q", "elementwise": "elementwise gate", "head_softplus": "softplus gate a head"}
SCORES = {"softmax_topk": "softmax over the chosen", "sparsemixer": "sparsemixer"}


@dataclass(frozen=True)
class Section:
    title: str
    phrases: tuple[str, ...]


def layer(found: Layer) -> list[Section]:
    sections = [*mixers(found.mixer), *feed_forward(found.ffn), Section("around", tuple(around(found)))]
    return [section for section in sections if section.phrases]


def mixers(found: Mixer | None) -> list[Section]:
    if isinstance(found, SideBySide):
        scaled = f"beside attention, times {found.mamba_in:g} in and {found.mamba_out:g} out"
        beside, attended = mixer(found.mamba), mixer(found.attention)
        times = f"times {found.attention_in:g} in and {found.attention_out:g} out"
        return [
            Section(attended.title, (*attended.phrases, times)),
            Section(beside.title, (*beside.phrases, scaled)),
        ]
    return [mixer(found)]


def mixer(found: Mixer | None) -> Section:
    match found:
        case Attention() as a:
            return Section("attention", tuple(attention(a)))
        case LatentAttention() as a:
            return Section("latent attention", tuple(latent(a)))
        case GatedDelta() as d:
            heads = f"{d.v_heads} value heads of {d.v_dim} over {d.k_heads} key heads of {d.k_dim}"
            return Section("gated delta rule", ("recurrent", heads, f"convolution over {d.conv}"))
        case ChannelDelta() as k:
            heads = f"{k.heads} heads of {k.dim}, each channel with a decay of its own"
            return Section("delta rule by channel", ("recurrent", heads, f"convolution over {k.conv}"))
        case GatedLinear() as r:
            wide = f"{r.width} wide, gated by {r.heads} heads"
            return Section("gated linear recurrence", ("recurrent", wide, f"convolution over {r.conv}"))
        case ShortConv() as v:
            return Section("short convolution", (f"{v.channels} wide", f"over {v.conv}", "gated before and after"))
        case Mamba1() as m:
            norms = ["normed dt, B, C"] if m.norm else []
            return Section(
                "Mamba", ("recurrent", f"{m.inner} wide", f"state of {m.state}", f"convolution over {m.conv}", *norms)
            )
        case Mamba2() as m:
            heads = f"{m.heads} heads of {m.head_dim} in {m.groups} group{'s' * (m.groups != 1)}"
            return Section("Mamba 2", ("recurrent", heads, f"state of {m.state}", f"convolution over {m.conv}"))
        case _:
            return Section("no mixer", ())


def attention(a: Attention) -> Phrases:
    found = [reach(a), rope(a.rope) if a.slopes is None else "ALiBi slopes"]
    shared = "" if a.kv_heads == a.heads else f" over {a.kv_heads} key/value head{'s' * (a.kv_heads != 1)}"
    found += [f"{a.heads} heads of {a.head_dim}{shared}", f"scale {a.scale:.4g}"]
    if a.qk_norm is not None:
        scope = "each head" if a.qk_norm_scope == "head" else "all heads together"
        found.append(f"q and k normed over {scope}{', after rope' * a.qk_norm_after_rope}")
    switches = {
        "v normed": a.v_norm is not None,
        "biases on q, k, v": a.qkv_bias,
        "bias on o": a.out_bias,
        "sinks": a.sinks,
        "normed before o": a.out_norm is not None,
        "keys are the values": a.k_is_v,
    }
    found += [phrase for phrase, on in switches.items() if on]
    if a.gate is not None:
        found.append(GATES[a.gate])
    if a.clip is not None:
        found.append(f"q, k, v clamped to {a.clip:g}")
    if a.softcap is not None:
        found.append(f"scores capped at {a.softcap:g}")
    if a.temperature is not None:
        found.append(f"queries grow with position from {a.temperature.floor:g} on")
    if a.borrows is not None:
        found.append("keys and values of an earlier layer")
    return found


def reach(a: Attention) -> str:
    if a.window is not None:
        return f"window of {a.window:,} tokens" if a.causal else f"window of {a.window:,} tokens to each side"
    if a.chunk is not None:
        return f"chunks of {a.chunk:,} tokens"
    return "global: every earlier token" if a.causal else "global: every token"


def latent(a: LatentAttention) -> Phrases:
    found = ["global: every earlier token", rope(a.rope)]
    if a.indexer is not None:
        found[0] = f"the {a.indexer.top_k:,} tokens that an indexer of {a.indexer.heads} heads picks"
    elif a.borrows is not None:
        found[0] = "the tokens that an earlier layer's indexer picked"
    queries = f", queries to {a.q_rank}" if a.q_rank else ""
    queries += ", a gate a head" if a.gate else ""
    found.append(f"{a.heads} heads, keys and values squeezed to {a.kv_rank} + {a.rope_dim}{queries}")
    return [*found, f"scale {a.scale:.4g}"]


def rope(r: Rope | None) -> str:
    if r is None:
        return "no rope"
    scaling = "" if r.scaling == "default" else f", {r.scaling}"
    return f"rope base {r.base:,.12g} on {r.dims} dims{scaling}{', interleaved' * r.interleaved}"


def feed_forward(ffn: FeedForward | None) -> list[Section]:
    match ffn:
        case Dense() as d:
            return [Section("dense", tuple(dense(d)))]
        case ScaledDense(dense=d, gate=gate, out=out):
            return [Section("dense", (*dense(d), f"gate times {gate:g}, output times {out:g}"))]
        case XieluDense(hidden=hidden):
            return [Section("dense", (f"{hidden:,} wide", "xIELU"))]
        case MoE() as m:
            return [Section("experts", tuple(experts(m)))]
        case DenseAndExperts(dense=d, moe=m):
            return [Section("dense", (*dense(d), "beside the experts")), Section("experts", tuple(experts(m)))]
        case None:
            return []


def dense(d: Dense) -> Phrases:
    further = {
        "biases": d.bias,
        f"cut to {1 - d.sparsity:.0%} of the gate": d.sparsity > 0,
        "normed before the last matrix": d.down_norm is not None,
    }
    return [f"{d.hidden:,} wide", activation(d.act, d.gated), *(phrase for phrase, on in further.items() if on)]


def experts(m: MoE) -> Phrases:
    found = [f"{m.router.top_k} of {m.experts}", f"{m.hidden:,} wide", activation(m.act, m.gated), router(m.router)]
    if m.shared is not None:
        found.append(f"a shared one of {m.shared.hidden:,}{', gated' * m.shared_gate}")
    if m.latent is not None:
        found.append(f"in a projection of {m.latent:,}")
    if m.scale_input:
        found.append("weights scale the input")
    return [*found, *(["biases"] if m.bias else [])]


def router(r: Router) -> str:
    words = [SCORES.get(r.score, r.score)]
    words += ["renormed"] if r.renorm else []
    words += [f"times {r.scale:g}"] if r.scale != 1.0 else []
    words += ["chosen with a bias"] if r.select_bias else []
    words += [f"from {r.top_groups} of {r.groups} groups"] if r.groups > 1 else []
    return f"router: {', '.join(words)}"


def activation(act: str, gated: bool) -> str:
    return f"{ACTIVATIONS.get(act, act)}{', gated' * gated}"


def around(found: Layer) -> Phrases:
    phrases = norms(found)
    if found.wiring == "parallel":
        phrases.append("mixer and feed-forward side by side")
    if found.wiring == "post":
        phrases.append("normed after the residual is added")
    if found.residual != 1.0:
        phrases.append(f"residual times {found.residual:g}")
    phrases += ["per-layer input"] if found.per_layer_input else []
    return [*phrases, *(["learned output scale"] if found.out_scale else [])]


def norms(found: Layer) -> Phrases:
    """One phrase a kind of norm: before and after mixer and feed-forward."""
    places = [
        ("before", "mixer", found.mixer_norm),
        ("before", "feed-forward", found.ffn_norm),
        ("after", "mixer", found.mixer_post),
        ("after", "feed-forward", found.ffn_post),
    ]
    kinds: dict[str, dict[str, list[str]]] = {}
    for when, what, norm in places:
        if norm is not None:
            kinds.setdefault(norm_words(norm), {}).setdefault(when, []).append(what)
    phrases = []
    for kind, where in kinds.items():
        if len(where) == 2 and where["before"] == where["after"]:
            where = {"before and after": where["before"]}
        phrases.append(f"{kind} " + ", ".join(f"{when} {' and '.join(what)}" for when, what in where.items()))
    return phrases


def norm_words(norm: Norm) -> str:
    name = "RMS norm" if norm.kind == "rms" else "layer norm"
    return f"{name}{'' if norm.weight else ' without weight'}{f' (+{norm.offset:g})' if norm.offset else ''}"


def tower(found: Towers) -> Phrases:
    """What sees beside it, and how many rows of a prompt a picture takes."""
    seen, patch = found.vision, found.vision.patch.side
    layers, wide = len(seen.layers), f"{seen.patch.dim:,} wide"
    block = patch * seen.block
    match found.picture.fit:
        case Square(height, width):
            takes = f"{height * width // block**2} rows a picture"
        case Tiles(side, longest):
            takes = f"{(side // block) ** 2} rows a tile of {side} pixels, up to {(-(-longest // side)) ** 2 + 1} tiles"
        case Closest(side, _, most):
            takes = f"{(side // block) ** 2} rows a tile of {side} pixels, up to {most + 1} tiles"
        case Longest(edge):
            takes = f"up to {(-(-edge // block)) ** 2} rows a picture"
        case MostRows(_, rows):
            takes = f"up to {rows} rows a picture"
        case Multiple(_, least, most, frames):
            takes = f"{-(-least // frames // block**2)} to {most // frames // block**2} rows a picture"
    return [seen.family, f"{layers} layer{'s' * (layers != 1)}", wide, f"patches of {patch} pixels", takes]


def whole(decoder: Decoder) -> Phrases:
    """What is not of one layer."""
    count = len(decoder.layers)
    found = [f"{count} layer{'s' * (count != 1)}", f"{decoder.dim:,} wide", f"vocabulary {decoder.vocab:,}"]
    found.append(f"context {decoder.context:,}")
    if decoder.kind == "encoder":
        found.append("ends at hidden states")
    else:
        found.append("head tied to the embedding" if decoder.tied else "own head")
    extras = {
        "learned positions": decoder.positions is not None,
        f"embedding of {decoder.embed_dim}": decoder.embed_dim is not None,
        f"embedding times {decoder.embed_scale:.4g}": decoder.embed_scale != 1.0,
        "normed embedding": decoder.embed_norm is not None,
        "embeddings for every layer": decoder.per_layer is not None,
        "several streams, of which a layer computes one": decoder.altup is not None,
        f"logits times {decoder.logit_scale:.4g}": decoder.logit_scale != 1.0,
    }
    found += [phrase for phrase, on in extras.items() if on]
    if decoder.logit_softcap is not None:
        found.append(f"logits capped at {decoder.logit_softcap:g}")
    return found


def kinds(decoder: Decoder) -> list[tuple[list[int], list[Section]]]:
    """The different layers, each with where it stands, in order of appearance. Slots that lend keys do not count."""
    found: dict[tuple[Section, ...], list[int]] = {}
    for index, one in enumerate(decoder.layers):
        found.setdefault(tuple(layer(one)), []).append(index)
    return [(places, list(sections)) for sections, places in found.items()]


def ranges(indices: list[int]) -> str:
    """0-4, 6-10, 12"""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def differences(one: list[Section], other: list[Section]) -> list[tuple[str, str]]:
    """(what only `one` says, what only `other` says) in its place: first which parts there are, then how they are."""
    mine, theirs = ({s.title: s.phrases for s in sections} for sections in (one, other))
    pairs = [([t for t in mine if t not in theirs], [t for t in theirs if t not in mine])]
    for title in mine:
        a, b = mine[title], theirs.get(title, mine[title])
        pairs.append(([p for p in a if p not in b], [p for p in b if p not in a]))
    return [("; ".join(a) or "nothing", "; ".join(b) or "nothing") for a, b in pairs if a or b]
