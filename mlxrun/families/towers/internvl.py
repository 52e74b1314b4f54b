"""InternVL towers: a row of its own before the patches, and what each branch makes multiplied by a learned row."""

from __future__ import annotations

from ...spec import Attention, Dense, Layer, ModelError, Norm
from ...spec_towers import (
    Act,
    Closest,
    Grid,
    JoinPatches,
    Patch,
    PictureSpec,
    PictureWords,
    Project,
    Step,
    Tower,
    Towers,
)
from ..common import ACTIVATIONS, activation
from ..config import Config
from ..rules import Drop, Flatten, FlattenFilters, Rename, Rule, Unflatten
from . import Parts, TowerRecipe
from .pixtral import MEAN, STD
from .processor import colours


def internvl(p: Parts) -> TowerRecipe:
    """InternVL 3 and 3.5, as transformers has them: tiles in the shape that comes closest, and the whole picture."""
    v, c, ratio = p.vision, p.picture, p.whole.number("downsample_ratio", 0.5, above=0)
    side = round(1 / ratio)
    if p.whole.get("vision_feature_layer", -1) != -1 or p.whole.get("vision_feature_select_strategy") == "full":
        raise ModelError(f"{p.whole.file}: vision_feature_layer must be -1, and its strategy default.")
    if not v.flag("use_mean_pooling", True):
        raise ModelError(f"{v.file}: use_mean_pooling must be true.")
    act = p.whole.choice("projector_hidden_act", ACTIVATIONS, "gelu")
    steps: tuple[Step, ...] = (JoinPatches(side), Norm(1e-5, "layer", bias=True), Project(p.dim, True))
    tower = _tower(v, side, (*steps, Act(act), Project(p.dim, True)))
    size = pair(c.get("size", {"height": 384, "width": 384}), c, "size")
    if size != tower.patch.side * grid_of(v):
        raise ModelError(f"{c.file}: size must be that of vision_config, {tower.patch.side * grid_of(v)}.")
    c.ignore("crop_to_patches")  # its processor has it cut whatever that says
    fit = Closest(size, c.count("min_patches", 1), c.count("max_patches", 12, high=64))
    words = PictureWords("<IMG_CONTEXT>", "<IMG_CONTEXT>", before="<img>", after="</img>")
    soft = p.whole.count("image_token_id", 151667, low=0)
    picture = PictureSpec(fit, written=words, soft=soft, **colours(c, mean=MEAN, std=STD, filter=3))
    return TowerRecipe(Towers(tower, picture), _names(v, grid_of(v) ** 2 + 1))


def _tower(v: Config, side: int, steps: tuple[Step, ...]) -> Tower:
    dim, heads, across = v.count("hidden_size", 1024), v.count("num_attention_heads", 16), grid_of(v)
    if dim % heads or across % side:
        raise ModelError(f"{v.file}: {dim} over {heads} heads, or {across} patches in blocks of {side}, do not divide.")
    if not v.flag("use_absolute_position_embeddings", True):
        raise ModelError(f"{v.file}: use_absolute_position_embeddings must be true.")
    v.ignore("num_channels", "layer_scale_init_value", "use_mask_token", "projection_dropout")
    kind = v.choice("norm_type", {"layer_norm": "layer", "rms_norm": "rms"}, "layer_norm")
    norm, scale = Norm(v.eps(1e-6, "layer_norm_eps"), kind, bias=kind == "layer"), Norm(0.0, "scale")
    mixer = Attention(
        heads,
        heads,
        dim // heads,
        (dim // heads) ** -0.5,
        causal=False,
        qk_norm=Norm(1e-6) if v.flag("use_qk_norm") else None,
        qk_norm_scope="all",
        qkv_bias=v.flag("attention_bias"),
        out_bias=True,
    )
    dense = Dense(v.count("intermediate_size", 4096), activation(v, "gelu"), gated=False, bias=True)
    layer = Layer(mixer, dense, mixer_norm=norm, mixer_post=scale, ffn_norm=norm, ffn_post=scale)
    layers = (layer,) * v.count("num_hidden_layers", 24, high=10_000)
    patch = Patch(pair(v.get("patch_size", 14), v, "patch_size"), dim)
    return Tower(v.family, patch, Grid(across, across, before=1), layers, side, steps, class_row=True)


def _names(v: Config, places: int) -> tuple[Rule, ...]:
    layer, top = r"^vision\.encoder\.layer\.(\d+)\.", r"^vision\.embeddings\."
    return (
        Rename(r"^(?:model\.)?multi_modal_projector\.layer_norm\.", "vision.steps.1."),
        Rename(r"^(?:model\.)?multi_modal_projector\.linear_1\.", "vision.steps.2."),
        Rename(r"^(?:model\.)?multi_modal_projector\.linear_2\.", "vision.steps.4."),
        Rename(r"^(?:model\.)?vision_tower\.", "vision."),
        Drop(top + r"mask_token$"),
        Flatten(top + r"cls_token$", "vision.class_row"),
        Flatten(top + r"position_embeddings$", "vision.grid.weight"),
        Unflatten(r"^vision\.grid\.weight$", "vision.grid.weight", places),
        FlattenFilters(top + r"patch_embeddings\.projection\.weight$", "vision.patch.weight", last=v.dialect == "mlx"),
        Rename(top + r"patch_embeddings\.projection\.bias$", "vision.patch.bias"),
        Rename(layer + r"attention\.([qkv])_(proj|norm)\.", r"vision.layers.\1.mixer.\2_\3."),
        Rename(r"^(vision\.layers\.\d+\.mixer\.[qkv])_proj\.", r"\1."),
        Rename(layer + r"attention\.projection_layer\.", r"vision.layers.\1.mixer.o."),
        Rename(layer + r"lambda_1$", r"vision.layers.\1.mixer_post.weight"),
        Rename(layer + r"lambda_2$", r"vision.layers.\1.ffn_post.weight"),
        Rename(layer + r"layernorm_before\.", r"vision.layers.\1.mixer_norm."),
        Rename(layer + r"layernorm_after\.", r"vision.layers.\1.ffn_norm."),
        Rename(layer + r"mlp\.fc1\.", r"vision.layers.\1.ffn.up."),
        Rename(layer + r"mlp\.fc2\.", r"vision.layers.\1.ffn.down."),
    )


def grid_of(v: Config) -> int:
    """Patches of a side."""
    return pair(v.get("image_size", 448), v, "image_size") // pair(v.get("patch_size", 14), v, "patch_size")


def pair(found: object, c: Config, key: str) -> int:
    """A side of a square, however it is written."""
    sides = list(found.values()) if isinstance(found, dict) else found if isinstance(found, list) else [found]
    if len({*map(str, sides)}) != 1 or not isinstance(sides[0], int) or not 0 < sides[0] <= 1 << 14:
        raise ModelError(f"{c.file}: {key} must be a square of 1 to {1 << 14} pixels a side.")
    return sides[0]
