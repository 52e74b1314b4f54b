"""SigLIP towers: layer norms, biases everywhere, a learned row for each patch."""

from __future__ import annotations

import math
from dataclasses import replace

from ...spec import Attention, Dense, Layer, ModelError, Norm
from ...spec_towers import (
    Grid,
    JoinPatches,
    MeanBlock,
    Patch,
    PictureSpec,
    PictureWords,
    Project,
    Square,
    Step,
    Tiles,
    Tower,
    Towers,
)
from ..common import activation, layer_norm
from ..config import Config
from ..rules import FlattenFilters, Rename, Rule, Transpose
from . import Parts, TowerRecipe
from .processor import colours, square_of

FAKE, OVERVIEW = "<fake_token_around_image>", "<global-img>"


def idefics3(p: Parts) -> TowerRecipe:
    """Idefics 3 and SmolVLM: tiles of one size and the whole picture, blocks of patches joined."""
    v, c, side = p.vision, p.picture, p.whole.count("scale_factor", 2, high=16)
    tower = siglip(v, block=side, steps=(JoinPatches(side), Project(p.dim)))
    tile = square_of(c, "max_image_size", 364)
    if tile % (tower.patch.side * side):
        raise ModelError(f"{c.file}: tiles of {tile} pixels are not whole blocks of {side} x {side} patches.")
    written = PictureWords(
        placeholder="<image>",
        soft="<image>",
        alone=FAKE + OVERVIEW,
        tile=FAKE + "<row_{row}_col_{col}>",
        line="\n",
        overview="\n" + FAKE + OVERVIEW,
        after=FAKE,
    )
    c.ignore("do_pad", "return_row_col_info", "video_sampling")
    fit = Tiles(tile, square_of(c, "size", 4 * 364), c.flag("do_image_splitting", True))
    soft = p.whole.count("image_token_id", 128257, low=0)
    picture = PictureSpec(fit, written=written, soft=soft, **colours(c, filter=1))
    names = (
        *names_of(r"^(?:model\.)?vision_model\.", v),
        Rename(r"^(?:model\.)?connector\.modality_projection\.(?:proj\.)?", "vision.steps.2."),
        Rename(r"^model\.text_model\.", "model."),
    )
    return TowerRecipe(Towers(tower, picture), names)


def gemma3(p: Parts) -> TowerRecipe:
    """Every picture one square of 256 rows, which see each other in the decoder too."""
    v, c, rows = p.vision, p.picture, p.whole.count("mm_tokens_per_image", 256, high=1 << 16)
    across = v.count("image_size", 224) // v.count("patch_size", 16)
    side = across // math.isqrt(rows)
    if side < 1 or (across // side) ** 2 != rows or across % side:
        raise ModelError(f"{v.file}: {across} x {across} patches do not make {rows} rows.")
    norm = replace(layer_norm(v, 1e-6), kind="rms", bias=False, offset=1.0)
    tower = siglip(v, side, (MeanBlock(side), norm, Project(p.dim)))
    if c.flag("do_pan_and_scan"):
        raise ModelError(f"{c.file}: do_pan_and_scan must be false.")
    c.ignore("pan_and_scan_max_num_crops", "pan_and_scan_min_crop_size", "pan_and_scan_min_ratio_to_activate")
    c.ignore("image_seq_length")
    size = c.get("size", {"height": 224, "width": 224})
    if not isinstance(size, dict) or {size.get("height"), size.get("width")} != {across * tower.patch.side}:
        raise ModelError(f"{c.file}: size must be that of vision_config, {across * tower.patch.side}.")
    fit = Square(across * tower.patch.side, across * tower.patch.side)
    first = "\n\n<start_of_image>"
    words = PictureWords("<start_of_image>", "<image_soft_token>", alone=first, after="<end_of_image>\n\n")
    soft = p.whole.count("image_token_index", 262144, low=0)
    names = (
        *names_of(r"^(?:model\.)?vision_tower\.", v),
        Rename(r"^(?:model\.)?multi_modal_projector\.mm_soft_emb_norm\.", "vision.steps.2."),
        Transpose(r"^(?:model\.)?multi_modal_projector\.mm_input_projection_weight$", "vision.steps.3.weight"),
    )
    picture = PictureSpec(fit, written=words, soft=soft, whole=True, **colours(c, filter=2))
    return TowerRecipe(Towers(tower, picture), names)


def siglip(v: Config, block: int, steps: tuple[Step, ...]) -> Tower:
    """The norm of its last rows is the first of the steps."""
    dim, heads = v.count("hidden_size", 1152), v.count("num_attention_heads", 16)
    if dim % heads:
        raise ModelError(f"{v.file}: hidden_size {dim} is not a multiple of num_attention_heads {heads}.")
    if v.count("num_channels", 3) != 3:
        raise ModelError(f"{v.file}: num_channels must be 3.")
    v.ignore("use_base_siglip", "size", "max_image_size", "vision_use_head")
    patch, size = v.count("patch_size", 32), dim // heads
    norm: Norm = layer_norm(v, 1e-6)
    mixer = Attention(heads, heads, size, size**-0.5, causal=False, qkv_bias=True, out_bias=True)
    dense = Dense(v.count("intermediate_size", 3072), activation(v, "gelu_pytorch_tanh"), gated=False, bias=True)
    layers = (Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm),) * v.count("num_hidden_layers", 12, high=10_000)
    across = v.count("image_size", 224) // patch
    return Tower(v.family, Patch(patch, dim), Grid(across, across), layers, block, (norm, *steps))


def names_of(prefix: str, v: Config) -> tuple[Rule, ...]:
    layer = r"^vision\.layers\.(\d+)\."
    return (
        Rename(prefix + r"(?:vision_model\.)?(?:encoder\.|embeddings\.)?", "vision."),
        FlattenFilters(r"^vision\.patch_embedding\.weight$", "vision.patch.weight", last=v.dialect == "mlx"),
        Rename(r"^vision\.patch_embedding\.bias$", "vision.patch.bias"),
        Rename(r"^vision\.position_embedding\.", "vision.grid."),
        Rename(r"^vision\.post_layernorm\.", "vision.steps.0."),
        Rename(layer + r"self_attn\.([qkv])_proj\.", r"vision.layers.\1.mixer.\2."),
        Rename(layer + r"self_attn\.out_proj\.", r"vision.layers.\1.mixer.o."),
        Rename(layer + r"layer_norm1\.", r"vision.layers.\1.mixer_norm."),
        Rename(layer + r"layer_norm2\.", r"vision.layers.\1.ffn_norm."),
        Rename(layer + r"mlp\.fc1\.", r"vision.layers.\1.ffn.up."),
        Rename(layer + r"mlp\.fc2\.", r"vision.layers.\1.ffn.down."),
    )
