"""What layers do, told to the native stack step by step: over rows that have names, "x" the residual.

Blocks are read, never called. Who asks has made sure that `ops.fast_forms.STACK` understands the layer.
"""

from __future__ import annotations

from typing import Any

from ..ops.native import native
from ..spec import Attention, Decoder, LatentAttention, Layer
from . import recurrent_steps
from .attention import AttentionBlock
from .delta import ChannelDeltaBlock, GatedDeltaBlock
from .dense import DenseBlock, ScaledDenseBlock
from .gated_linear import GatedLinearBlock
from .latent import LatentAttentionBlock
from .layer import LayerBlock
from .linear import AdaptedLinear, Linear
from .mamba1 import Mamba1Block
from .mamba2 import Mamba2Block
from .moe import DenseAndExpertsBlock, MoEBlock, RouterBlock
from .native_parts import Unpacked, bias_of, is_rms, norm_of, packed, packed_heads, routing_of, temperature_of
from .norm import NormBlock
from .per_layer import PerLayerBlock
from .rope import Rotary
from .short_conv import ShortConvBlock
from .side_by_side import SideBySideBlock


class LayerSteps:
    """The steps of layers, one after the other."""

    def __init__(self, spec: Decoder, out: str = "x") -> None:
        self.per_layer = spec.per_layer.dim if spec.per_layer is not None and out == "x" else 0
        self.stack = native.Stack(spec.dim, self.per_layer * len(spec.layers), out)
        self.ropes: list[Rotary] = []
        self.slots: list[str] = []  # the weights that adapters may change, as the stack counts them

    def add(self, block: LayerBlock, spec: Layer, number: int) -> None:
        """What the spec has of that layer."""
        mixer = None if spec.mixer is None else block.mixer
        ffn = None if spec.ffn is None else block.ffn
        {"serial": self._serial, "parallel": self._parallel, "post": self._post}[spec.wiring](block, mixer, ffn)
        if block.extra is not None and spec.per_layer_input:
            self._fed(block.extra, number * self.per_layer)
        if block.out_scale is not None and spec.out_scale:
            self.stack.combine("x", "x", scale=block.out_scale)

    def choose(self, block: LayerBlock) -> None:
        """choices = the experts that its network would send rows to."""
        mixture = block.ffn.moe if isinstance(block.ffn, DenseAndExpertsBlock) else block.ffn
        assert isinstance(mixture, MoEBlock)
        self._route(mixture.router, self._normed(self._before_ffn(block), "h"))
        self.stack.route("logits", routing_of(mixture.router), "choices")

    @staticmethod
    def _before_ffn(block: LayerBlock) -> NormBlock | None:
        if block.wiring == "post":
            return None
        return block.mixer_norm if block.wiring == "parallel" and block.ffn_norm is None else block.ffn_norm

    # ---- how branches are wired ----------------------------------------------------------------

    def _serial(self, block: LayerBlock, mixer: Any, ffn: Any) -> None:
        for part, before, after in (
            (mixer, block.mixer_norm, block.after_mixer),
            (ffn, block.ffn_norm, block.after_ffn),
        ):
            if part is None:
                continue
            norm = before if isinstance(part, NORM_ON_THE_WAY) and is_rms(before) else None  # on the way
            source = "x" if norm is not None else self._normed(before, "h")
            if after.post is None and after.residual == 1.0 and before is not None:
                self._branch(part, source, "x", "x", norm)
            else:
                self._branch(part, source, "branch", None, norm)
                self.stack.combine("branch", "x", norm_of(after.post), "x", after.residual)

    def _parallel(self, block: LayerBlock, mixer: Any, ffn: Any) -> None:
        mixer_source = self._normed(block.mixer_norm, "h")
        ffn_source = mixer_source if block.ffn_norm is None else self._normed(block.ffn_norm, "f")
        self._branch(mixer, mixer_source, "branch", None)
        self._branch(ffn, ffn_source, "branch", "branch")
        self.stack.combine("branch", "x", None, "x", block.after_both.residual)

    def _post(self, block: LayerBlock, mixer: Any, ffn: Any) -> None:
        for part, norm in ((mixer, block.mixer_norm), (ffn, block.ffn_norm)):
            if part is None:
                continue
            self._branch(part, "x", "branch", "x")
            self.stack.combine("branch", "x", norm_of(norm))

    def _normed(self, norm: NormBlock | None, to: str) -> str:
        if norm is None:
            return "x"
        self.stack.combine("x", to, norm_of(norm))
        return to

    def _branch(self, part: Any, source: str, to: str, onto: str | None, norm: NormBlock | None = None) -> None:
        """to = (onto +) part(norm(source))."""
        own = {} if norm is None else {"norm": norm_of(norm)}
        KINDS[type(part)](self, part, source, to, onto, **own)

    def _fed(self, extra: PerLayerBlock, at: int) -> None:
        self.product(extra.gate, "x", "fed")
        self.stack.activate("fed", extra.spec.act, "extra", at, "fed")
        self.product(extra.out, "fed", "branch")
        self.stack.combine("branch", "x", norm_of(extra.norm), "x")

    # ---- what branches do ----------------------------------------------------------------------

    def product(self, linear: Linear, source: str, to: str, onto: str | None = None) -> None:
        if onto is not None and isinstance(linear, AdaptedLinear):
            self.products(source, {"product": linear})
            self.stack.combine("product", to, None, onto)
        else:
            self.products(source, {to: linear}, onto=onto)

    def products(self, source: str, into: dict[str, Linear | None], norm: Any = None, onto: str | None = None) -> None:
        linears = {to: linear for to, linear in into.items() if linear is not None}
        weights, biases = [packed(one.weight) for one in linears.values()], [one.bias for one in linears.values()]
        self.stack.project(source, weights, biases, list(linears), onto, norm)
        adapted = {to: linear for to, linear in linears.items() if isinstance(linear, AdaptedLinear)}
        if adapted:
            self.stack.adapt(source, list(adapted), [one.bias for one in adapted.values()], norm)
            self.slots += [one.name for one in adapted.values()]

    def _rope(self, rotary: Rotary | None) -> int:
        """Its number in the stack; -1: none."""
        if rotary is None:
            return -1
        specs = [known.table.spec for known in self.ropes]
        if rotary.table.spec in specs:
            return specs.index(rotary.table.spec)
        self.ropes.append(rotary)
        return int(self.stack.rope(rotary.table.all, rotary.table.spec.interleaved, rotary.table.spec.axes))

    def attention(self, block: AttentionBlock, source: str, to: str, onto: str | None, norm: Any = None) -> None:
        s: Attention = block.spec
        if s.gate == "packed" and s.qk_norm is not None and s.qk_norm_scope == "all":
            raise Unpacked
        self.products(source, {"q": block.q, "k": block.k, "v": block.v, "gate": block.gate}, norm)
        step = s.head_dim * (2 if s.gate == "packed" else 1)
        heads = native.HeadWork(
            s.head_dim,
            step=step,
            q_norm=norm_of(block.q_norm),
            k_norm=norm_of(block.k_norm),
            v_norm=norm_of(block.v_norm),
            scope=s.qk_norm_scope,
            after_rope=s.qk_norm_after_rope,
            clip=s.clip or 0.0,
            rope=self._rope(block.rotary),
            temperature=temperature_of(s.temperature),
        )
        k = None if block.k is None else "k"
        v = k if block.v is None else "v"
        rule = block.rule
        self.stack.attend(
            "q", k, v, heads, rule.scale, rule.softcap, rule.window, rule.chunk, rule.sinks, rule.slopes, 0, "seen"
        )
        if s.gate == "packed":
            self.stack.gate("seen", "q", s.head_dim, s.head_dim, step, "sigmoid")
        elif s.gate == "elementwise":
            self.stack.gate("seen", "gate", s.head_dim, 0, s.head_dim, "sigmoid")
        elif s.gate == "head_softplus":
            self.stack.gate("seen", "gate", s.head_dim, 0, 1, "head_softplus")
        self.product(block.o, "seen", to, onto)

    def latent(self, block: LatentAttentionBlock, source: str, to: str, onto: str | None) -> None:
        """All rows absorbed; a head's key and value matrices are packed beside those that its block holds."""
        s: LatentAttention = block.spec
        if block.q_a is None:
            self.products(source, {"q": block.q, "k": block.kv_a})
        else:
            self.products(source, {"low": block.q_a, "k": block.kv_a})
            self.stack.combine("low", "low", norm_of(block.q_a_norm))
            self.product(block.q, "low", "q")
        self.stack.per_head("q", packed_heads(block.k_b, turned=not block.turned), s.rope_dim, "absorbed")
        size = s.kv_rank + s.rope_dim
        heads = native.HeadWork(
            size,
            step=size,
            k_norm=norm_of(block.kv_a_norm),
            k_norm_size=s.kv_rank,
            rope=self._rope(block.rotary),
            rope_at=s.kv_rank,
            temperature=temperature_of(s.temperature),
        )
        self.stack.attend("absorbed", "k", None, heads, s.scale, 0.0, 0, 0, None, None, s.kv_rank, "seen")
        self.stack.per_head("seen", packed_heads(block.v_b, turned=False), 0, "values")
        self.product(block.o, "values", to, onto)

    def side_by_side(self, block: SideBySideBlock, source: str, to: str, onto: str | None) -> None:
        s = block.spec
        self.stack.combine(source, "side", factor=s.attention_in)
        self.attention(block.attention, "side", "attended", None)
        self.stack.combine("attended", to, None, onto, s.attention_out)
        self.stack.combine(source, "side", factor=s.mamba_in)
        recurrent_steps.mamba2(self, block.mamba, "side", "attended", None)
        self.stack.combine("attended", to, None, to, s.mamba_out)

    def dense(self, block: DenseBlock, source: str, to: str, onto: str | None, norm: Any = None) -> None:
        gate, up, down = block.gate, block.up, block.down
        if isinstance(up, AdaptedLinear):
            self.products(source, {"gate_rows": gate, "up_rows": up}, norm)
            first, second = ("up_rows", None) if gate is None else ("gate_rows", "up_rows")
            self.stack.activate(first, block.spec.act, second, 0, "up_rows")
            self.product(down, "up_rows", to, onto)
            return
        network = native.Network(
            None if gate is None else packed(gate.weight),
            packed(up.weight),
            packed(down.weight),
            block.spec.act,
            None if gate is None else gate.bias,
            up.bias,
            down.bias,
        )
        self.stack.feed(source, network, to, onto, norm)

    def scaled(self, block: ScaledDenseBlock, source: str, to: str, onto: str | None, norm: Any = None) -> None:
        dense = block.dense
        self.products(source, {"gate": dense.gate, "up": dense.up}, norm)
        self.stack.combine("gate", "gate", factor=block.spec.gate)
        self.stack.activate("gate", dense.spec.act, "up", 0, "up")
        self.product(dense.down, "up", "made")
        self.stack.combine("made", to, None, onto, block.spec.out)

    def experts(self, block: MoEBlock, source: str, to: str, onto: str | None, routed_by: str | None = None) -> None:
        self._route(block.router, source if routed_by is None else routed_by)
        rows, made = source, to
        if block.latent_in is not None:
            self.product(block.latent_in, source, "narrow")
            rows, made = "narrow", "mixed"
        below = onto
        if block.shared is not None:
            below = "shared" if block.shared_gate is not None else to
            self.dense(block.shared, source, below, None if block.shared_gate is not None else onto)
        if block.shared_gate is not None:
            self.product(block.shared_gate, source, "shared_gate")
            self.stack.gate("shared", "shared_gate", packed(block.shared_gate.weight).shape[1], 0, 0, "head_sigmoid")
            if onto is not None:
                self.stack.combine("shared", "shared", None, onto)
        self._mix(block, rows, made, None if block.latent_in is not None else below)
        if block.latent_out is not None:
            self.product(block.latent_out, made, to, below)

    def _route(self, router: RouterBlock, source: str) -> None:
        """Logits, a row for each expert."""
        if router.scale is not None and router.spec.norm is not None:
            self.stack.combine(source, "routed", native.RowNorm(router.scale, None, router.spec.norm.eps))
            source = "routed"
        self.product(router.linear, source, "logits")

    def _mix(self, block: MoEBlock, source: str, to: str, onto: str | None) -> None:
        s, routing = block.spec, routing_of(block.router)
        gate, up, down = block.gate, block.up, block.down
        network = native.Network(
            None if gate is None else packed(gate.weight),
            packed(up.weight),
            packed(down.weight),
            s.act,
            bias_of(gate),
            bias_of(up),
            bias_of(down),
        )
        self.stack.mix(source, "logits", routing, s.scale_input, network, to, onto)

    def dense_and_experts(self, block: DenseAndExpertsBlock, source: str, to: str, onto: str | None) -> None:
        self.stack.combine(source, "f", norm_of(block.dense_norm))
        self.dense(block.dense, "f", "dense", None)
        self.stack.combine("dense", "dense", norm_of(block.dense_post), onto)
        self.stack.combine(source, "f", norm_of(block.experts_norm))
        self.experts(block.moe, "f", "mixture", None, routed_by=source)
        self.stack.combine("mixture", to, norm_of(block.experts_post), "dense")


RECURRENT: dict[type, Any] = {
    Mamba1Block: recurrent_steps.mamba1,
    Mamba2Block: recurrent_steps.mamba2,
    GatedDeltaBlock: recurrent_steps.gated_delta,
    ChannelDeltaBlock: recurrent_steps.channel_delta,
    ShortConvBlock: recurrent_steps.short_conv,
    GatedLinearBlock: recurrent_steps.gated_linear,
}
NORM_ON_THE_WAY = (
    AttentionBlock,
    DenseBlock,
    *RECURRENT,
)  # the first products take it, and nothing else reads its rows
KINDS: dict[type, Any] = {
    AttentionBlock: LayerSteps.attention,
    LatentAttentionBlock: LayerSteps.latent,
    DenseBlock: LayerSteps.dense,
    ScaledDenseBlock: LayerSteps.scaled,
    MoEBlock: LayerSteps.experts,
    DenseAndExpertsBlock: LayerSteps.dense_and_experts,
    SideBySideBlock: LayerSteps.side_by_side,
    **RECURRENT,
}
