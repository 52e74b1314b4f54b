"""Gemma 4's towers: one row for a patch's column and one for its line, sandwich norms, blocks of patches become means.

The 12B has none: its patches are rows of the decoder once they are normed and multiplied.
"""

from __future__ import annotations

from ...spec import Attention, Dense, Layer, ModelError, Norm, Rope
from ...spec_towers import (
    Grid,
    MeanBlock,
    MostRows,
    Patch,
    PictureSpec,
    PictureWords,
    Project,
    Standardize,
    Step,
    Tower,
    Towers,
)
from ..common import activation
from ..rules import Flatten, Join, Rename, Rule, Shuffle, Unflatten, Unzip
from . import Parts, TowerRecipe
from .pixtral import theta_of
from .processor import colours, three

CLAMPED = ("input_min", "input_max", "output_min", "output_max")


def gemma4(p: Parts) -> TowerRecipe:
    """E2B, E4B, 26B and 31B. Where its decoder sees pictures both ways, it does so in its layers with windows."""
    v, side = p.vision, p.vision.count("pooling_kernel_size", 3, high=16)
    dim, heads = v.count("hidden_size", 768), v.count("num_attention_heads", 12, high=1 << 10)
    size, places = v.count("head_dim", 64, high=1 << 12), v.count("position_embedding_size", 10240, high=1 << 20)
    kv_heads, bias, bounded = (
        v.count("num_key_value_heads", heads),
        v.flag("attention_bias"),
        v.flag("use_clipped_linears"),
    )
    if size % 4 or heads % kv_heads:
        raise ModelError(f"{v.file}: a head must be a multiple of 4 wide, and kv_heads a part of {heads} heads.")
    v.ignore("max_position_embeddings", "default_output_length")
    norm = Norm(v.eps(1e-6))
    freqs, quarter = [theta_of(v, 100.0) ** (4 * i / size) for i in range(size // 4)], size // 4
    mixer = Attention(
        heads,
        kv_heads,
        size,
        1.0,
        Rope(size, (*freqs, *freqs), axes=(1,) * quarter + (0,) * quarter),  # columns first
        causal=False,
        qk_norm=norm,
        v_norm=Norm(norm.eps, weight=False),
        qkv_bias=bias,
        out_bias=bias,
        bounded=bounded,
    )
    act = activation(v, "gelu_pytorch_tanh")
    dense = Dense(v.count("intermediate_size", 3072), act, bounded=bounded)
    layer = Layer(mixer, dense, mixer_norm=norm, mixer_post=norm, ffn_norm=norm, ffn_post=norm)
    standard: tuple[Step, ...] = (Standardize(),) if v.flag("standardize") else ()
    steps = (MeanBlock(side, dim**0.5), *standard, Norm(norm.eps, weight=False), Project(p.dim))
    patch, layers = Patch(v.count("patch_size", 16), dim, bias=False), (layer,) * v.count("num_hidden_layers", 16)
    tower = Tower(v.family, patch, Grid(places, places, "sum"), layers, side, steps)
    rules = (*_names(size, heads, kv_heads), *_grid(2 * places), _projection(len(steps) - 1))
    return TowerRecipe(Towers(tower, _picture(p, patch.side * side)), rules, sliding=True)


def gemma4_unified(p: Parts) -> TowerRecipe:
    """The 12B."""
    v, side = p.vision, p.vision.count("patch_size", 16) * p.vision.count("pooling_kernel_size", 3, high=16)
    dim, places, norm = v.count("mm_embed_dim", 3840), v.count("mm_posemb_size", 1120), Norm(1e-5, "layer", bias=True)
    if v.count("output_proj_dims", dim) != dim or v.count("model_patch_size", side) != side:
        raise ModelError(f"{v.file}: output_proj_dims must be mm_embed_dim, and a patch {side} pixels.")
    steps = (norm, Norm(v.eps(1e-6), weight=False), Project(p.dim))
    patch = Patch(side, dim, before=norm, after=norm)
    tower = Tower(v.family, patch, Grid(places, places, "sum"), (), 1, steps)
    rules = (
        Rename(r"^(?:model\.)?(?:vision_embedder|embed_vision)\.(?:multimodal_embedder\.)?", "vision."),
        Rename(r"^vision\.embedding_projection\.", "vision.steps.2."),
        Rename(r"^vision\.patch_ln1\.", "vision.patch_before."),
        Rename(r"^vision\.patch_dense\.", "vision.patch."),
        Rename(r"^vision\.patch_ln2\.", "vision.patch_norm."),
        Rename(r"^vision\.pos_norm\.", "vision.steps.0."),
        Flatten(r"^vision\.pos_embedding$", "vision.places"),
        Unflatten(r"^vision\.places$", "vision.places", 2 * places),  # column and line in turns
        Unzip(r"^vision\.places$", ("vision.grid.columns", "vision.grid.lines")),
        Join(r"^vision\.grid\.(?P<part>columns|lines)$", "vision.grid.weight", ("columns", "lines")),
    )
    return TowerRecipe(Towers(tower, _picture(p, side)), rules, sliding=True)


def _picture(p: Parts, side: int) -> PictureSpec:
    c, rows = p.picture, p.picture.count("max_soft_tokens", 280, high=1120)
    for key in ("patch_size", "pooling_kernel_size"):
        if key in c and c.count(key) != p.vision.count(key, c.count(key)):
            raise ModelError(f"{c.file}: {key} must be that of vision_config.")
    plain = three(c, "image_mean", (0.0, 0.0, 0.0)), three(c, "image_std", (1.0, 1.0, 1.0))
    if c.flag("do_normalize") and plain != ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)):
        raise ModelError(f"{c.file}: do_normalize must be false: the tower does that itself.")
    c.ignore("image_seq_length", "size")
    words = PictureWords("<|image|>", "<|image|>", before="<|image>", after="<image|>")
    text = p.whole.get("text_config") or {}
    both = isinstance(text, dict) and text.get("use_bidirectional_attention") == "vision"
    token, own = p.whole.count("image_token_id", 258880, low=0), colours(c, filter=3, own=True)
    if p.whole.family == "gemma4_unified":
        own |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    return PictureSpec(MostRows(side, rows), written=words, soft=token, whole=both, **own)


def _grid(rows: int) -> tuple[Rule, ...]:
    return (
        Flatten(r"^vision\.patch_embedder\.position_embedding_table$", "vision.places"),
        Unflatten(r"^vision\.places$", "vision.grid.weight", rows),
    )


def _projection(step: int) -> Rule:
    return Rename(r"^(?:model\.)?embed_vision\.embedding_projection\.", f"vision.steps.{step}.")


def _names(size: int, heads: int, kv_heads: int) -> tuple[Rule, ...]:
    layer = r"^vision\.encoder\.layers\.(\d+)\."
    return (
        Rename(r"^(?:model\.)?vision_tower\.", "vision."),
        Rename(r"^vision\.std_bias$", "vision.steps.1.bias"),
        Rename(r"^vision\.std_scale$", "vision.steps.1.weight"),
        Rename(r"^vision\.patch_embedder\.input_proj\.", "vision.patch."),
        Rename(layer + r"self_attn\.([qkvo])_proj\.(?:linear\.)?", r"vision.layers.\1.mixer.\2."),
        Rename(layer + r"self_attn\.([qk])_norm\.", r"vision.layers.\1.mixer.\2_norm."),
        Rename(layer + r"mlp\.(gate|up|down)_proj\.(?:linear\.)?", r"vision.layers.\1.ffn.\2."),
        Flatten(rf"^(vision\.layers\.\d+\.\w+\.\w+\.(?:{'|'.join(CLAMPED)}))$", r"\1"),
        Join(rf"^(vision\.layers\.\d+\.\w+\.\w+)\.(?P<part>{'|'.join(CLAMPED)})$", r"\1.bounds", CLAMPED),
        *(_halves(name, size, count) for name, count in (("q", heads), ("k", kv_heads), ("q_norm", 1), ("k_norm", 1))),
        Rename(layer + r"input_layernorm\.", r"vision.layers.\1.mixer_norm."),
        Rename(layer + r"post_attention_layernorm\.", r"vision.layers.\1.mixer_post."),
        Rename(layer + r"pre_feedforward_layernorm\.", r"vision.layers.\1.ffn_norm."),
        Rename(layer + r"post_feedforward_layernorm\.", r"vision.layers.\1.ffn_post."),
    )


def _halves(name: str, size: int, heads: int) -> Shuffle:
    """A head's first half turns by column, its second by line, and each by halves: ours turns by halves all of it."""
    order = tuple(4 * head + part for head in range(heads) for part in (0, 2, 1, 3))
    where = rf"^(vision\.layers\.\d+\.mixer\.{name}\.(?:weight|bias))$"
    return Shuffle(where, r"\1", (size // 4,) * 4 * heads, order)
