"""Nemotron-H and Nemotron 3: one block a layer, which is Mamba 2, attention, a plain network or experts.

Attention has no positions; networks square their ReLU and have no gate.
"""

from __future__ import annotations

from ..spec import Attention, Dense, Layer, Mamba2, ModelError, MoE, Norm
from .common import (
    Recipe,
    Sizes,
    activation,
    decoder,
    head_rules,
    rename_in_layer,
    rms,
    tied,
    vocab_of,
)
from .config import Config
from .moe import WIDEST, moe, refuse, sigmoid_router
from .recurrent import kinds_of, mamba_rules, time_steps
from .rules import Drop, Rename, Rule, Stack

_MAMBA, _FULL, _DENSE, _EXPERTS = "linear_attention", "full_attention", "mlp", "moe"
_PATTERN = {"M": _MAMBA, "*": _FULL, "-": _DENSE, "E": _EXPERTS}
_BLOCK = r"^(?:model|backbone)\.layers\.(\d+)\."


def nemotron_h(c: Config) -> Recipe:
    _unused(c)
    kinds = _kinds(c)
    norm, tied_head = rms(c, 1e-5, "layer_norm_epsilon"), tied(c)
    s = _sizes(c, len(kinds))
    layers = [_layer(c, s, kind, norm) for kind in kinds]
    whole = decoder(c, s, layers, norm, tied_head, context=c.count("max_position_embeddings", 4096))
    return Recipe(whole, (*_rules(c, kinds), *head_rules(tied_head)))


def _sizes(c: Config, layers: int) -> Sizes:
    heads = c.count("num_attention_heads", 32, high=1 << 14)
    kv_heads = c.count("num_key_value_heads", heads, high=1 << 14)
    head_dim = c.count("attention_head_dim" if "attention_head_dim" in c else "head_dim", 128, high=1 << 14)
    c.ignore("head_dim")
    if heads % kv_heads:
        raise ModelError(f"{c.file}: {heads} attention heads cannot share {kv_heads} key/value heads evenly.")
    return Sizes(c.count("hidden_size", high=1 << 20), vocab_of(c), layers, heads, kv_heads, head_dim)


def _unused(c: Config) -> None:
    refuse(c, "mamba_hidden_act", "silu")
    c.ignore("rope_theta", "rope_scaling", "rope_parameters", "partial_rotary_factor", "sliding_window")  # no positions
    c.ignore("expand", "chunk_size", "mamba_ssm_cache_dtype", "use_mamba_kernels", "mamba_proj_bias")
    c.ignore("time_step_max", "time_step_floor", "rescale_prenorm_residual", "residual_in_fp32")  # training, precision
    c.ignore("num_logits_to_keep", "moe_shared_expert_overlap", "num_nextn_predict_layers", "num_hidden_layers")
    c.ignore("mtp_layers_block_type", "mtp_hybrid_override_pattern", "n_shared_experts")


def _kinds(c: Config) -> tuple[str, ...]:
    pattern = c.get("hybrid_override_pattern")
    if pattern is None or "layers_block_type" in c or "layer_types" in c:
        return kinds_of(c, None, None, _PATTERN.values())
    if (
        not isinstance(pattern, str | list)
        or not pattern
        or not all(isinstance(x, str) and x in _PATTERN for x in pattern)
    ):
        raise ModelError(f"{c.file}: hybrid_override_pattern must be made of {' '.join(_PATTERN)}, not {pattern!r}.")
    return tuple(_PATTERN[x] for x in pattern)


def _layer(c: Config, s: Sizes, kind: str, norm: Norm) -> Layer:
    if kind == _MAMBA:
        return Layer(_mamba(c, norm), None, mixer_norm=norm)
    if kind == _FULL:
        bias = c.flag("attention_bias")
        mixer = Attention(s.heads, s.kv_heads, s.head_dim, s.head_dim**-0.5, qkv_bias=bias, out_bias=bias)
        return Layer(mixer, None, mixer_norm=norm)
    return Layer(None, _dense(c, "intermediate_size") if kind == _DENSE else _experts(c), ffn_norm=norm)


def _mamba(c: Config, norm: Norm) -> Mamba2:
    """Steps are at least time_step_min, as in transformers 5.23; the file's own limit may be narrower."""
    groups = c.count("n_groups", 8, high=1 << 14)
    low, high = time_steps(c)
    return Mamba2(
        c.count("mamba_num_heads", 128, high=1 << 14),
        c.count("mamba_head_dim", 64, high=1 << 14),
        groups,
        c.count("ssm_state_size", 128, high=1 << 16),
        c.count("conv_kernel", 4, high=64),
        norm,
        norm_groups=groups,
        dt_min=max(low, c.number("time_step_min", 0.001)),
        dt_max=high,
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", True),
    )


def _dense(c: Config, hidden: str) -> Dense:
    return Dense(c.count(hidden, high=WIDEST), activation(c, "relu2"), gated=False, bias=c.flag("mlp_bias"))


def _experts(c: Config) -> MoE:
    latent = c.count("moe_latent_size", high=1 << 20) if "moe_latent_size" in c else None
    if latent is not None and c.flag("mlp_bias"):
        raise ModelError(f"{c.file}: mlp_bias beside moe_latent_size is not supported.")
    shared = _dense(c, "moe_shared_expert_intermediate_size")
    return moe(c, sigmoid_router(c), act=activation(c, "relu2"), gated=False, shared=shared, latent=latent)


# ---- rules --------------------------------------------------------------------------------------


def _rules(c: Config, kinds: tuple[str, ...]) -> tuple[Rule, ...]:
    networks = "|".join(str(i) for i, kind in enumerate(kinds) if kind in (_DENSE, _EXPERTS)) or "none"
    return (
        Drop(r"^mtp\.", "multi-token prediction"),
        Rename(r"^(?:model|backbone)\.embeddings\.", "embed."),
        Rename(r"^(?:model|backbone)\.norm_f\.", "norm."),
        Rename(rf"^(?:model|backbone)\.layers\.({networks})\.norm\.", r"layers.\1.ffn_norm."),
        rename_in_layer("norm", "mixer_norm", _BLOCK),
        rename_in_layer(r"mixer\.([qkvo])_proj", r"mixer.\2", _BLOCK),
        *mamba_rules("mixer", _BLOCK),
        rename_in_layer(r"mixer\.(up|down)_proj", r"ffn.\2", _BLOCK),
        Rename(_BLOCK + r"mixer\.gate\.weight$", r"layers.\1.ffn.router.weight"),
        Rename(_BLOCK + r"mixer\.gate\.e_score_correction_bias$", r"layers.\1.ffn.select_bias"),
        rename_in_layer(r"mixer\.shared_experts\.(up|down)_proj", r"ffn.shared.\2", _BLOCK),
        rename_in_layer(r"mixer\.fc1_latent_proj", "ffn.latent_in", _BLOCK),
        rename_in_layer(r"mixer\.fc2_latent_proj", "ffn.latent_out", _BLOCK),
        *_expert_rules(c),
    )


def _expert_rules(c: Config) -> tuple[Rule, ...]:
    ours = r"layers.\1.ffn.experts."
    if c.dialect == "mlx":
        return (
            rename_in_layer(r"mixer\.switch_mlp\.fc1", "ffn.experts.up", _BLOCK),
            rename_in_layer(r"mixer\.switch_mlp\.fc2", "ffn.experts.down", _BLOCK),
        )
    return (
        Stack(_BLOCK + r"mixer\.experts\.(?P<e>\d+)\.(?P<part>up|down)_proj\.weight$", ours + r"\g<part>.weight"),
        Rename(_BLOCK + r"mixer\.experts\.(up|down)_proj$", ours + r"\2.weight"),
    )
