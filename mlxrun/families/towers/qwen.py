"""Qwen's towers: stills are films of two frames, a head's pairs turn by row and then by column, blocks are joined last.

What they make stands in a decoder whose pairs turn by line and column too, and feeds its first layers on the way.
"""

from __future__ import annotations

import math

from ...spec import Attention, Dense, Layer, ModelError, Norm, Rope, shown
from ...spec_towers import (
    Act,
    Grid,
    JoinPatches,
    Multiple,
    Patch,
    PictureSpec,
    PictureWords,
    Project,
    Step,
    Tower,
    Towers,
)
from ..common import activation
from ..config import Config
from ..rope import coordinate_of
from ..rules import FlattenFilters, Rename, Rule, Split
from . import Parts, TowerRecipe
from .pixtral import MEAN, STD, theta_of
from .processor import colours

ROWS = 4096  # of a picture at most, whatever its authors allow: attention over more takes minutes
WORDS = PictureWords("<|image_pad|>", "<|image_pad|>")


def qwen3_vl(p: Parts) -> TowerRecipe:
    """Qwen 3 VL, dense and with experts: some layers' rows are added to those of the decoder's first ones."""
    layers = p.vision.get("deepstack_visual_indexes", [8, 16, 24])
    if not isinstance(layers, list) or not all(isinstance(i, int) for i in layers) or sorted({*layers}) != layers:
        raise ModelError(f"{p.vision.file}: deepstack_visual_indexes must be numbers of layers in their order.")
    return _third(p, layers, soft=151655, sections=(24, 20, 20))


def qwen3_5(p: Parts) -> TowerRecipe:
    """Qwen 3.5 and 3.6: the same without that."""
    return _third(p, [], soft=248056, sections=(11, 11, 10))


def _third(p: Parts, layers: list[int], soft: int, sections: tuple[int, int, int]) -> TowerRecipe:
    v, side, norm = p.vision, p.vision.count("spatial_merge_size", 2, high=16), Norm(1e-6, "layer", bias=True)
    dim, places = v.count("hidden_size", 1152), v.count("num_position_embeddings", 2304, high=1 << 20)
    tail = (Project(dim * side**2, True), Act("gelu"), Project(p.dim, True))
    mixer = _attention(v, dim, v.count("num_heads", 16, high=1 << 10))
    dense = Dense(v.count("intermediate_size", 4304), activation(v, "gelu_pytorch_tanh"), gated=False, bias=True)
    blocks = (Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm),) * v.count("depth", 27, high=10_000)
    across = math.isqrt(places)
    if across**2 != places or any(not 0 <= i < len(blocks) for i in layers):
        raise ModelError(f"{v.file}: {places} places are no square, or there are no layers {shown(layers)}.")
    patch = Patch(v.count("patch_size", 16), dim, frames=v.count("temporal_patch_size", 2, high=16))
    deep = tuple((i, (JoinPatches(side), norm, *tail)) for i in layers)
    steps: tuple[Step, ...] = (norm, JoinPatches(side), *tail)
    tower = Tower(v.family, patch, Grid(across, across, "bilinear"), blocks, side, steps, deep=deep)
    names = (
        *layer_names(v),
        Rename(r"^vision\.pos_embed\.", "vision.grid."),
        Rename(r"^vision\.merger\.norm\.", "vision.steps.0."),
        Rename(r"^vision\.merger\.linear_fc1\.", "vision.steps.2."),
        Rename(r"^vision\.merger\.linear_fc2\.", "vision.steps.4."),
        Rename(r"^vision\.deepstack_merger_list\.", "vision.deep."),
        Rename(r"^(vision\.deep\.\d+)\.norm\.", r"\1.1."),
        Rename(r"^(vision\.deep\.\d+)\.linear_fc1\.", r"\1.2."),
        Rename(r"^(vision\.deep\.\d+)\.linear_fc2\.", r"\1.4."),
        Rename(r"^(vision\.layers\.\d+)\.mlp\.linear_fc1\.", r"\1.ffn.up."),
        Rename(r"^(vision\.layers\.\d+)\.mlp\.linear_fc2\.", r"\1.ffn.down."),
    )
    axes = coordinate_of(text_of(p), p.pairs, sections, interleaved=True)
    return TowerRecipe(Towers(tower, picture_of(p, tower, soft)), names, axes)


def qwen2_5_vl(p: Parts) -> TowerRecipe:
    """Most layers look within windows."""
    v, side, norm = p.vision, p.vision.count("spatial_merge_size", 2, high=16), Norm(1e-6)
    dim, window = v.count("hidden_size", 3584), v.count("window_size", 112)
    patch = Patch(v.count("patch_size", 14), dim, bias=False, frames=v.count("temporal_patch_size", 2, high=16))
    mixer = _attention(v, dim, v.count("num_heads", 16, high=1 << 10))
    dense = Dense(v.count("intermediate_size", 3420), activation(v, "silu"), bias=True)
    blocks = (Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm),) * v.count("depth", 32, high=10_000)
    full = v.get("fullatt_block_indexes", [7, 15, 23, 31])
    if not isinstance(full, list) or not all(isinstance(i, int) for i in full) or window < patch.side * side:
        raise ModelError(f"{v.file}: fullatt_block_indexes must be numbers of layers, and window_size hold a block.")
    v.ignore("tokens_per_second", "in_chans", "spatial_patch_size")
    steps = (norm, JoinPatches(side), Project(dim * side**2, True), Act("gelu"), Project(p.dim, True))
    wide = window // side // patch.side
    tower = Tower(v.family, patch, None, blocks, side, steps, window=wide, full=tuple(full))
    names = (
        *layer_names(v),
        Rename(r"^vision\.merger\.ln_q\.", "vision.steps.0."),
        Rename(r"^vision\.merger\.mlp\.0\.", "vision.steps.2."),
        Rename(r"^vision\.merger\.mlp\.2\.", "vision.steps.4."),
        Rename(r"^(vision\.layers\.\d+)\.mlp\.(gate|up|down)_proj\.", r"\1.ffn.\2."),
    )
    axes = coordinate_of(text_of(p), p.pairs, (16, 24, 24), interleaved=False)
    return TowerRecipe(Towers(tower, picture_of(p, tower, soft=151655)), names, axes)


def _attention(v: Config, dim: int, heads: int) -> Attention:
    if dim % heads or dim // heads % 4:
        raise ModelError(f"{v.file}: a head must be a multiple of 4 wide; hidden_size is {dim} for {heads} heads.")
    if v.count("out_hidden_size", 3584) < 1 or v.count("in_channels", 3) != 3:
        raise ModelError(f"{v.file}: in_channels must be 3.")
    size = dim // heads
    return Attention(heads, heads, size, size**-0.5, turning(v, size), causal=False, qkv_bias=True, out_bias=True)


def turning(v: Config, size: int) -> Rope:
    """Half of a head's pairs by row, the others by column."""
    freqs = [theta_of(v) ** (4 * i / size) for i in range(size // 4)]
    return Rope(size, (*freqs, *freqs), axes=(0,) * (size // 4) + (1,) * (size // 4))


def text_of(p: Parts) -> Config:
    return Config(p.whole.get("text_config") or p.whole.data, p.whole.dialect)


def picture_of(
    p: Parts,
    tower: Tower,
    soft: int,
    words: PictureWords = WORDS,
    pixels: tuple[int, int] = (56 * 56, 28 * 28 * 1280),
    frames: int = 1,
) -> PictureSpec:
    """`pixels`: least and most where the file is silent, counted `frames` times."""
    c, side = p.picture, tower.patch.side
    for key, told in (("patch_size", side), ("merge_size", tower.block), ("temporal_patch_size", tower.patch.frames)):
        if c.count(key, told) != told:
            raise ModelError(f"{c.file}: {key} must be that of vision_config, {told}.")
    size = c.get("size", {})
    if not isinstance(size, dict):
        raise ModelError(f"{c.file}: size must say how many pixels are least and most, not {shown(size)}.")
    edges = Config(size, file=f"{c.file}: size")
    least = c.count("min_pixels", edges.count("min_pixels", edges.count("shortest_edge", pixels[0])))
    most = c.count("max_pixels", edges.count("max_pixels", edges.count("longest_edge", pixels[1])))
    factor = side * tower.block
    if least > most or most < frames * factor**2:
        raise ModelError(f"{c.file}: no picture has {least} to {most} pixels in blocks of {factor} x {factor}.")
    room = frames * ROWS * factor**2
    fit = Multiple(factor, min(least, room), min(most, room), frames)
    token = p.whole.count("image_token_id", soft, low=0)
    return PictureSpec(fit, written=words, soft=token, apart=True, **colours(c, mean=MEAN, std=STD, filter=3))


def layer_names(v: Config) -> tuple[Rule, ...]:
    layer = r"^vision\.blocks\.(\d+)\."
    qkv = tuple(rf"vision.layers.\1.mixer.{part}.\2" for part in "qkv")
    return (
        Rename(r"^(?:model\.)?(?:visual|vision_tower)\.", "vision."),
        FlattenFilters(r"^vision\.patch_embed\.proj\.weight$", "vision.patch.weight", last=v.dialect == "mlx"),
        Rename(r"^vision\.patch_embed\.proj\.bias$", "vision.patch.bias"),
        Split(layer + r"attn\.qkv\.(weight|bias)$", qkv),
        Rename(layer + r"attn\.proj\.", r"vision.layers.\1.mixer.o."),
        Rename(layer + r"norm1\.", r"vision.layers.\1.mixer_norm."),
        Rename(layer + r"norm2\.", r"vision.layers.\1.ffn_norm."),
        Rename(layer + r"mlp\.", r"vision.layers.\1.mlp."),
    )
