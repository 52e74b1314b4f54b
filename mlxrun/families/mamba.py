"""Mamba, Falcon-Mamba and Mamba 2: nothing but recurrent layers, so no positions and no longest context."""

from __future__ import annotations

from ..spec import Decoder, Layer, Mamba1, Mamba2, ModelError, Norm
from .common import LAYER, Recipe, head_rules, layers_of, rename_in_layer, rms, tied, vocab_of
from .config import Config
from .moe import WIDEST, refuse
from .recurrent import ENDLESS, mamba1, mamba_rules, time_steps
from .rules import Rename

_BLOCK = LAYER.replace("model", "(?:model|backbone)")


def mamba(c: Config) -> Recipe:
    _training_keys(c)
    return _recurrent(c, mamba1(c, _inner(c), "", None), tied(c, True))


def falcon_mamba(c: Config) -> Recipe:
    """Step, B and C are normed without a weight."""
    _training_keys(c)
    norm = Norm(c.number("mixer_rms_eps", 1e-6), weight=False)
    return _recurrent(c, mamba1(c, _inner(c), "", norm), tied(c, True))


def mamba2(c: Config) -> Recipe:
    """The gated norm works group by group."""
    _training_keys(c)
    c.ignore("time_step_rank", "norm_before_gate")  # a scalar a head; written and never read by the reference
    inner, heads, head_dim = _inner(c), c.count("num_heads", 128, high=1 << 14), c.count("head_dim", 64, high=1 << 14)
    if heads * head_dim != inner:
        raise ModelError(f"{c.file}: {heads} num_heads of head_dim {head_dim} do not make the inner width {inner}.")
    groups = c.count("n_groups", 8, high=1 << 14)
    low, high = time_steps(c)
    mixer = Mamba2(
        heads,
        head_dim,
        groups,
        c.count("state_size", 128, high=1 << 16),
        c.count("conv_kernel", 4, high=64),
        rms(c, 1e-5, "layer_norm_epsilon"),
        norm_groups=groups,
        dt_min=low,
        dt_max=high,
        bias=c.flag("use_bias"),
        conv_bias=c.flag("use_conv_bias", True),
    )
    return _recurrent(c, mixer, tied(c))


def _training_keys(c: Config) -> None:
    refuse(c, "hidden_act", "silu")
    refuse(c, "rms_norm", True)
    c.ignore("time_step_min", "time_step_max", "time_step_floor", "time_step_scale", "time_step_init_scheme")
    c.ignore("rescale_prenorm_residual", "residual_in_fp32", "fused_add_norm", "chunk_size", "ssm_cfg", "d_inner")
    c.ignore("use_mambapy", "use_falcon_mambapy", "use_associative_scan", "pad_vocab_size_multiple", "use_bcdt_rms")


def _inner(c: Config) -> int:
    width = int(c.number("expand", 2.0, above=0) * c.count("hidden_size", high=1 << 20))
    return c.count("intermediate_size", width, high=WIDEST)


def _recurrent(c: Config, mixer: Mamba1 | Mamba2, tied_head: bool) -> Recipe:
    norm, dim, layers = rms(c, 1e-5, "layer_norm_epsilon"), c.count("hidden_size", high=1 << 20), layers_of(c)
    context = c.count("max_position_embeddings", ENDLESS)
    rules = (
        Rename(r"^(?:(?:model|backbone)\.)?embeddings?\.", "embed."),
        Rename(r"^(?:(?:model|backbone)\.)?norm_f\.", "norm."),
        rename_in_layer("norm", "mixer_norm", _BLOCK),
        *mamba_rules("mixer", _BLOCK),
        *head_rules(tied_head),
    )
    layer = Layer(mixer, None, mixer_norm=norm)
    return Recipe(Decoder(c.family, dim, vocab_of(c), (layer,) * layers, norm, tied_head, context), rules)
