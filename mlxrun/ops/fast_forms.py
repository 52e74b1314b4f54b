"""What each fast form understands of a spec, as data. A field that is not named must have its plain value, its default.

Asked once, when a model is built. So a field that somebody adds to `spec` is refused by every form until it is named
here, and never ignored in silence. Knows no weights: whoever builds a form asks what these are stored as.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..metal_kernels.experts import ACTIVATIONS
from ..spec import (
    Attention,
    ChannelDelta,
    Decoder,
    Dense,
    DenseAndExperts,
    GatedDelta,
    GatedLinear,
    LatentAttention,
    Layer,
    Mamba1,
    Mamba2,
    MoE,
    Norm,
    Rope,
    Router,
    ScaledDense,
    ShortConv,
    SideBySide,
    Temperature,
)


@dataclass(frozen=True, slots=True)
class Field:
    """Which values of a field a form honours."""

    allowed: Callable[[Any], bool] = lambda _: True
    inside: bool = True  # a spec that is the value must be understood too


ANY = Field()
GIVEN = Field(lambda value: value is not None)
ELSEWHERE = Field(inside=False)  # done by others, before or after the form


def one_of(*values: Any) -> Field:
    return Field(lambda value: value in values)


def each(field: Field, names: str) -> dict[str, Field]:
    return dict.fromkeys(names.split(), field)


Understood = Mapping[type, Mapping[str, Field]]  # spec class -> field -> which of its values


@dataclass(frozen=True, slots=True)
class FastForm:
    name: str
    understands: Understood

    def serves(self, spec: object) -> bool:
        return self.refuses(spec) is None

    def refuses(self, spec: object) -> str | None:
        """The first thing in a spec that is not understood, as "Attention.clip"; None: all of it is."""
        known = next((self.understands[kind] for kind in type(spec).__mro__ if kind in self.understands), None)
        if known is None or not is_dataclass(spec):
            return type(spec).__name__
        for field in fields(spec):
            value, rule = getattr(spec, field.name), known.get(field.name)
            if value != field.default if rule is None else not rule.allowed(value):
                return f"{type(spec).__name__}.{field.name}"
            if rule is None or not rule.inside:
                continue
            for part in value if isinstance(value, tuple) else (value,):
                if is_dataclass(part) and (refused := self.refuses(part)) is not None:
                    return refused
        return None


RMS: Understood = {Norm: each(ANY, "eps offset")}  # with a weight, to which the offset was added
TURNS: Understood = {Rope: each(ANY, "dims freqs interleaved scale base scaling long_freqs long_scale original axes")}
MIXER = {**each(GIVEN, "mixer mixer_norm"), **each(ELSEWHERE, "ffn ffn_norm ffn_post per_layer_input out_scale")}
FFN = {**each(GIVEN, "ffn ffn_norm"), **each(ELSEWHERE, "mixer mixer_norm mixer_post per_layer_input out_scale")}
HEADS = each(ANY, "heads kv_heads head_dim scale rope qk_norm qkv_bias out_bias sinks")
SIGHT = each(ELSEWHERE, "causal window chunk slopes softcap pictures")  # the block itself looks at its keys

# x -> x + attention(norm(x))
ATTENTION = FastForm("attention branch", {Layer: MIXER, Attention: HEADS | SIGHT, **RMS, **TURNS})
# what a branch makes is normed or scaled once more by launches of their own
METAL_MIXER = MIXER | each(ANY, "mixer_post residual")
METAL_ATTENTION = FastForm("attention branch in Metal", {Layer: METAL_MIXER, Attention: HEADS | SIGHT, **RMS, **TURNS})

# x -> x + feed_forward(norm(x)); `METAL_DENSE` is asked for a mixture's shared network too, without a layer around it
DENSE = FastForm("dense branch", {Layer: FFN, Dense: each(ANY, "hidden act gated"), **RMS})
METAL_ACT = one_of(*ACTIVATIONS)
METAL_FFN = FFN | each(ANY, "ffn_post residual")
METAL_DENSE = FastForm("dense branch in Metal", {Layer: METAL_FFN, Dense: {"hidden": ANY, "act": METAL_ACT}, **RMS})

# x -> x + experts(norm(x))
METAL_EXPERTS = FastForm(
    "experts branch in Metal",
    {
        Layer: FFN,
        MoE: {**each(ANY, "experts hidden router bias shared_gate"), "act": METAL_ACT, "shared": ELSEWHERE},
        Router: {
            **each(ANY, "top_k renorm scale bias select_bias groups top_groups"),
            "score": one_of("softmax", "softmax_topk", "sigmoid"),
        },
        **RMS,
    },
)

# layers in a row as one node: what keys are seen must lie in pages, and no indexer picks among them
WHOLE_LAYER = "mixer ffn mixer_norm mixer_post ffn_norm ffn_post residual per_layer_input out_scale"
LOOKS = "window chunk softcap slopes gate clip temperature qk_norm_scope qk_norm_after_rope v_norm k_is_v lends borrows"
ROUTES = "top_k score renorm renorm_eps scale bias select_bias groups top_groups jitter norm expert_scale"
TAPS = {"conv": Field(lambda taps: taps > 1)}
SCANS: Understood = {
    Mamba1: each(ANY, "inner state dt_rank norm bias conv_bias") | TAPS,
    Mamba2: each(
        ANY, "heads head_dim groups state norm norm_groups dt_min dt_max bias conv_bias out_bias norm_first scales"
    )
    | TAPS,
    GatedDelta: each(ANY, "k_heads v_heads k_dim v_dim norm apart strength") | TAPS,
    ChannelDelta: each(ANY, "heads dim rank norm floor") | TAPS,
    ShortConv: each(ANY, "channels bias") | TAPS,
    GatedLinear: each(ANY, "width heads act") | TAPS,
}
STACK = FastForm(
    "stack",
    {
        Layer: {**each(ANY, WHOLE_LAYER), "wiring": one_of("serial", "parallel", "post")},
        Attention: {**HEADS, **each(ANY, f"{LOOKS} pictures k_bias")},
        LatentAttention: each(ANY, "heads q_rank kv_rank nope_dim rope_dim v_dim scale rope norm bias temperature"),
        Temperature: each(ANY, "beta floor shift"),
        **SCANS,
        SideBySide: each(ANY, "attention mamba attention_in attention_out mamba_in mamba_out"),
        Dense: each(ANY, "hidden act gated bias"),
        MoE: each(ANY, "experts hidden router act gated bias shared shared_gate scale_input latent"),
        ScaledDense: each(ANY, "dense gate out"),
        DenseAndExperts: each(ANY, "dense moe norm"),
        Router: each(ANY, ROUTES),
        Norm: {**each(ANY, "eps weight bias offset"), "kind": one_of("rms", "layer")},
        **TURNS,
    },
)

# the token of the largest logit. Scales and caps keep their order, but rounding makes equals of logits that differ
BEST = FastForm(
    "best token",
    {
        Decoder: each(
            ELSEWHERE,
            "family dim vocab layers norm tied context embed_scale embed_norm positions token_types per_layer joined "
            "deep",
        )
    },
)
FORMS = (ATTENTION, METAL_ATTENTION, DENSE, METAL_DENSE, METAL_EXPERTS, STACK, BEST)
