"""Fast forms serve what they name and nothing else: a field that is new to a spec is refused by every one of them."""

from __future__ import annotations

from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass, replace
from typing import Any

import mlx.core as mx
import pytest

from mlxrun.nn import layer, whole, whole_metal
from mlxrun.nn.layer import LayerBlock
from mlxrun.nn.params import Params
from mlxrun.ops.device import this_device
from mlxrun.ops.fast_forms import BEST, FORMS, METAL_DENSE, METAL_EXPERTS, STACK, FastForm
from mlxrun.spec import (
    AltUp,
    Attention,
    ChannelDelta,
    Decoder,
    Dense,
    DenseAndExperts,
    GatedDelta,
    GatedLinear,
    Indexer,
    Joined,
    LatentAttention,
    Layer,
    LearnedPositions,
    Mamba1,
    Mamba2,
    MoE,
    Norm,
    PerLayerInput,
    RankingHead,
    Rope,
    Router,
    ScaledDense,
    ShortConv,
    SideBySide,
    Temperature,
    XieluDense,
)

NORM = Norm(1e-5)
MIXER = Attention(4, 2, 16, 0.25, rope=Rope(16, (1.0,) * 8), qk_norm=NORM)
PLAIN = Layer(MIXER, Dense(96), NORM, ffn_norm=NORM)
MIXTURE = replace(PLAIN, ffn=MoE(8, 32, Router(2), shared=Dense(32)))
WARMED = replace(MIXTURE, mixer=replace(MIXER, temperature=Temperature(0.1, 8)))
LATENT = replace(MIXTURE, mixer=LatentAttention(4, 32, 32, 16, 16, 16, 0.25, Rope(16, (1.0,) * 8), NORM))
BOTH = replace(MIXTURE, ffn=DenseAndExperts(Dense(96), MIXTURE.ffn, NORM))  # type: ignore[arg-type]  # it is a MoE
SPACE = Mamba2(4, 16, 2, 16, 4, NORM)
SCANNING: dict[type, Any] = {
    Mamba1: Mamba1(128, 16, 8, 4),
    Mamba2: SPACE,
    GatedDelta: GatedDelta(2, 4, 16, 24, 4, NORM),
    ChannelDelta: ChannelDelta(4, 16, 4, 8, NORM),
    ShortConv: ShortConv(64, 3),
    GatedLinear: GatedLinear(64, 4, 4),
    SideBySide: SideBySide(MIXER, SPACE),
}
SCALED = replace(PLAIN, ffn=ScaledDense(Dense(96), 0.5, 2.0))
DECODER = Decoder("made", 64, 48, (PLAIN, PLAIN), NORM, False, 512)

# a value of every field of a spec that is not its plain one; needed fields are given above
ODD: dict[type, dict[str, Any]] = {
    Norm: {"kind": "layer", "weight": False, "bias": True, "offset": 1.0},
    Rope: {
        "interleaved": True,
        "scale": 1.2,
        "base": 5e5,
        "scaling": "yarn",
        "long_freqs": (2.0,) * 8,
        "long_scale": 1.3,
        "original": 64,
        "axes": (0,) * 8,
    },
    Attention: {
        "rope": None,
        "causal": False,
        "pictures": True,
        "window": 8,
        "chunk": 8,
        "qk_norm": None,
        "qk_norm_scope": "all",
        "qk_norm_after_rope": True,
        "v_norm": NORM,
        "qkv_bias": True,
        "out_bias": True,
        "sinks": True,
        "gate": "packed",
        "clip": 0.8,
        "slopes": (0.5,) * 4,
        "softcap": 5.0,
        "temperature": Temperature(0.1, 8),
        "k_is_v": True,
        "lends": 1,
        "borrows": 1,
        "out_norm": NORM,
        "bounded": True,
        "k_bias": False,
        "hears": 0,
    },
    LatentAttention: {
        "bias": True,
        "indexer": Indexer(2, 16, 8, Rope(16, (1.0,) * 8), NORM),
        "borrows": 1,
        "temperature": Temperature(0.1, 8),
        "gate": True,
    },
    Temperature: {"shift": 1},
    Mamba1: {"norm": NORM, "bias": True, "conv_bias": False},
    Mamba2: {
        "norm_groups": 2,
        "dt_min": 0.1,
        "dt_max": 2.0,
        "bias": True,
        "conv_bias": False,
        "out_bias": True,
        "norm_first": True,
        "scales": (0.5, 1.0, 1.0, 1.0, 2.0),
    },
    GatedDelta: {"apart": True, "strength": 2.0},
    ChannelDelta: {"floor": -5.0},
    ShortConv: {"bias": True},
    GatedLinear: {"act": "silu"},
    SideBySide: {"attention_in": 0.5, "attention_out": 0.5, "mamba_in": 0.5, "mamba_out": 0.5},
    ScaledDense: {},
    DenseAndExperts: {},
    Dense: {
        "act": "relu2",
        "gated": False,
        "bias": True,
        "out_bias": False,
        "sparsity": 0.9,
        "down_norm": NORM,
        "bounded": True,
    },
    Router: {
        "score": "sparsemixer",
        "renorm": True,
        "renorm_eps": 1e-6,
        "scale": 2.5,
        "bias": True,
        "select_bias": True,
        "groups": 4,
        "top_groups": 2,
        "jitter": 0.1,
        "norm": NORM,
        "expert_scale": True,
    },
    MoE: {
        "act": "relu2",
        "gated": False,
        "bias": True,
        "shared": None,
        "shared_gate": True,
        "scale_input": True,
        "latent": 24,
    },
    Layer: {
        "mixer_norm": None,
        "mixer_post": NORM,
        "ffn_norm": None,
        "ffn_post": NORM,
        "wiring": "parallel",
        "residual": 0.5,
        "per_layer_input": True,
        "out_scale": True,
        "cross": Attention(4, 2, 16, 0.25),
        "cross_norm": NORM,
    },
    Decoder: {
        "kind": "encoder",
        "embed_dim": 32,
        "embed_scale": 8.0,
        "embed_norm": NORM,
        "positions": LearnedPositions(64),
        "token_types": 2,
        "ranking": RankingHead("first", "tanh"),
        "altup": AltUp(4, 0, 16, NORM),
        "per_layer": PerLayerInput(16, 48, "gelu", NORM),
        "head_bias": True,
        "logit_scale": 0.5,
        "logit_softcap": 30.0,
        "joined": Joined(NORM, NORM),
        "deep": 2,
        "distances": (32, 128, 4),
        "middle": True,
    },
}
NORMS, DENSE_ONLY = (
    {"Norm.kind", "Norm.weight", "Norm.bias"},
    {"Dense.bias", "Dense.out_bias", "Dense.sparsity", "Dense.down_norm", "Dense.bounded"},
)
MIXED = {f"Attention.{name}" for name in ("qk_norm_scope", "qk_norm_after_rope", "v_norm", "gate", "clip")}
MIXED |= {
    f"Attention.{name}"
    for name in ("temperature", "k_is_v", "lends", "borrows", "out_norm", "bounded", "hears", "k_bias")
}
WIRED = {"Layer.wiring", "Layer.residual", "Layer.cross", "Layer.cross_norm"}
BEFORE_MIXER = {*NORMS, *MIXED, *WIRED, "Layer.mixer_norm", "Layer.mixer_post"}
BEFORE_FFN = {*NORMS, *WIRED, "Layer.ffn_norm", "Layer.ffn_post"}
REFUSED = {
    "attention branch": BEFORE_MIXER,
    "attention branch in Metal": BEFORE_MIXER - {"Layer.mixer_post", "Layer.residual"},
    "dense branch": BEFORE_FFN | DENSE_ONLY,
    "dense branch in Metal": BEFORE_FFN - {"Layer.ffn_post", "Layer.residual"}
    | DENSE_ONLY
    | {"Dense.act", "Dense.gated"},
    "experts branch in Metal": BEFORE_FFN
    | {"MoE.act", "MoE.gated", "MoE.scale_input", "MoE.latent"}
    | {"Router.score", "Router.renorm_eps", "Router.jitter", "Router.norm", "Router.expert_scale"},
    "stack": {
        "Layer.cross",
        "Layer.cross_norm",
        "Attention.causal",
        "LatentAttention.indexer",
        "LatentAttention.borrows",
        "LatentAttention.gate",
    }
    | {
        "Attention.hears",
        "Attention.out_norm",
        "Attention.bounded",
        "Dense.out_bias",
        "Dense.sparsity",
        "Dense.down_norm",
        "Dense.bounded",
    },
    "best token": {"Decoder.kind", "Decoder.embed_dim", "Decoder.head_bias", "Decoder.logit_scale"}
    | {"Decoder.logit_softcap", "Decoder.ranking", "Decoder.altup", "Decoder.distances", "Decoder.middle"},
}


def served_by(form: FastForm, kind: type) -> Any:
    """A spec that this form serves, with something of that kind in it."""
    if form == STACK:
        if kind in SCANNING:
            return replace(PLAIN, mixer=SCANNING[kind])
        return {LatentAttention: LATENT, DenseAndExperts: BOTH, ScaledDense: SCALED}.get(kind, WARMED)
    return DECODER if form == BEST else MIXTURE if form == METAL_EXPERTS else PLAIN


def changed(spec: Any, kind: type, change: Any) -> Any:
    """The spec with `change` made to everything of that kind in it."""
    if isinstance(spec, tuple):
        return tuple(changed(part, kind, change) for part in spec)
    if not is_dataclass(spec):
        return spec
    parts = {f.name: changed(getattr(spec, f.name), kind, change) for f in fields(spec)}
    made = type(spec)(**parts)
    return change(made) if type(spec) is kind else made


def extended(kind: type, value: int) -> Any:
    """From a spec to the same one of a class with one more field."""
    more = make_dataclass(kind.__name__, [("novel", int, field(default=0))], bases=(kind,), frozen=True, slots=True)
    return lambda spec: more(**{f.name: getattr(spec, f.name) for f in fields(spec)}, novel=value)


KINDS = [(form, kind) for form in FORMS for kind in form.understands]


@pytest.mark.parametrize(("form", "kind"), KINDS, ids=lambda x: getattr(x, "name", getattr(x, "__name__", "")))
def test_a_new_field_is_refused_unless_it_is_plain(form: FastForm, kind: type) -> None:
    spec = served_by(form, kind)
    assert form.refuses(spec) is None
    assert form.refuses(changed(spec, kind, extended(kind, 0))) is None
    assert form.refuses(changed(spec, kind, extended(kind, 1))) == f"{kind.__name__}.novel"


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_what_each_form_refuses_of_the_fields_that_there_are(form: FastForm) -> None:
    refused = {
        f"{kind.__name__}.{name}"
        for kind in form.understands
        for name, value in ODD[kind].items()
        if not form.serves(changed(served_by(form, kind), kind, lambda spec, n=name, v=value: replace(spec, **{n: v})))
    }
    assert refused == REFUSED[form.name]


def test_every_field_with_a_plain_value_has_an_odd_one_here() -> None:
    for kind, odd in ODD.items():
        assert set(odd) == {f.name for f in fields(kind) if f.default is not MISSING}, kind


def test_another_kind_of_mixer_or_network_is_refused() -> None:
    assert STACK.refuses(replace(PLAIN, ffn=XieluDense(96))) == "XieluDense"
    assert STACK.refuses(replace(PLAIN, mixer=ShortConv(64, conv=1))) == "ShortConv.conv"
    assert METAL_EXPERTS.refuses(PLAIN) == "Dense"
    assert METAL_DENSE.refuses(replace(PLAIN, ffn=None)) == "Layer.ffn"


# ---- where they are built ------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The makers of branches that a layer turned to; none of them makes one."""
    heard: list[str] = []
    makers = [(whole, "attention_parts"), (whole, "dense_branch"), (whole_metal, "attention_branch")]
    makers += [(whole_metal, "dense_branch"), (whole_metal, "experts_branch")]
    for module, name in makers:
        told = f"{module.__name__.rsplit('.', 1)[1]}.{name}"
        monkeypatch.setattr(module, name, lambda *_, told=told: heard.append(told))
    return heard


def built(spec: Layer) -> LayerBlock:
    return LayerBlock(spec, 64, None, Params(weights_of(spec), this_device()))


def weights_of(spec: Layer) -> dict[str, mx.array]:
    three = {"gate": (96, 64), "up": (96, 64), "down": (64, 96)}
    shapes: dict[str, tuple[int, ...]] = {"mixer_norm": (64,), "ffn_norm": (64,)}
    shapes |= {f"mixer.{name}": (rows, 64) for name, rows in {"q": 64, "k": 32, "v": 32, "o": 64}.items()}
    shapes |= {"mixer.q_norm": (16,), "mixer.k_norm": (16,)}
    if isinstance(spec.ffn, MoE):
        shapes |= {"ffn.router": (8, 64)}
        shapes |= {f"ffn.experts.{name}": (8, *(32 if n == 96 else n for n in shape)) for name, shape in three.items()}
        shapes |= {f"ffn.shared.{name}": tuple(32 if n == 96 else n for n in shape) for name, shape in three.items()}
    else:
        shapes |= {f"ffn.{name}": shape for name, shape in three.items()}
    return {f"{name}.weight": mx.zeros(shape) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("spec", "kind", "turned_to"),
    [
        (PLAIN, Attention, ["whole.attention_parts", "whole_metal.attention_branch"]),
        (PLAIN, Dense, ["whole.dense_branch", "whole_metal.dense_branch"]),
        (MIXTURE, MoE, ["whole_metal.experts_branch"]),
    ],
)
def test_a_layer_builds_no_fast_form_of_what_is_new(
    spec: Layer, kind: type, turned_to: list[str], asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (0, 1):
        odd = changed(spec, kind, extended(kind, value))
        for known in (layer.MIXERS, layer.FEED_FORWARDS):
            for part in (odd.mixer, odd.ffn):
                if kind in known and isinstance(part, kind):
                    monkeypatch.setitem(known, type(part), known[kind])
        asked.clear()
        built(odd)
        assert [name for name in turned_to if name in asked] == ([] if value else turned_to)


@pytest.mark.parametrize("wiring", ["serial", "parallel"])
def test_layers_wired_otherwise_build_none(wiring: str, asked: list[str]) -> None:
    built(replace(PLAIN, wiring=wiring))
    assert bool(asked) is (wiring == "serial")
