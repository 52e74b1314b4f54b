"""GLM-4.1V's tower: Qwen's patches and ropes, a grid taken by the sixteen places around, blocks joined by a network."""

from __future__ import annotations

from ...spec import Attention, Dense, Layer, ModelError, Norm
from ...spec_towers import Act, Grid, JoinPatches, Patch, PictureWords, Project, Tower, Towers
from ..common import activation
from ..rope import coordinate_of
from ..rules import FlattenFilters, Rename
from . import Parts, TowerRecipe
from .internvl import grid_of
from .qwen import layer_names, picture_of, text_of, turning


def glm4v(p: Parts) -> TowerRecipe:
    v, side, norm = p.vision, p.vision.count("spatial_merge_size", 2, high=16), Norm(p.vision.eps(1e-5))
    dim, out, heads = v.count("hidden_size", 1536), v.count("out_hidden_size", 4096), v.count("num_heads", 12)
    act, across = activation(v, "silu"), grid_of(v)
    if dim % heads or dim // heads % 4 or out != p.dim or v.count("in_channels", 3) != 3:
        raise ModelError(f"{v.file}: {dim} over {heads} heads, {out} for a decoder of {p.dim}, or colours do not fit.")
    size = dim // heads
    bias = v.flag("attention_bias")
    mixer = Attention(heads, heads, size, size**-0.5, turning(v, size), causal=False, qkv_bias=bias)
    layer = Layer(mixer, Dense(out, act), mixer_norm=norm, ffn_norm=norm)
    network = Dense(v.count("intermediate_size", 13696), act)
    last = (Project(out), Norm(1e-5, "layer", bias=True), Act("gelu"), network)
    patch = Patch(v.count("patch_size", 14), dim, after=norm, frames=v.count("temporal_patch_size", 2, high=16))
    grid, layers = Grid(across, across, "bicubic"), (layer,) * v.count("depth", 24, high=10_000)
    tower = Tower(v.family, patch, grid, layers, side, (norm, JoinPatches(side), Project(out, True), *last))
    names = (
        *layer_names(v),
        Rename(r"^vision\.embeddings\.position_embedding\.", "vision.grid."),
        Rename(r"^vision\.post_conv_layernorm\.", "vision.patch_norm."),
        Rename(r"^vision\.post_layernorm\.", "vision.steps.0."),
        FlattenFilters(r"^vision\.downsample\.weight$", "vision.steps.2.weight", last=v.dialect == "mlx"),
        Rename(r"^vision\.downsample\.", "vision.steps.2."),
        Rename(r"^vision\.merger\.proj\.", "vision.steps.3."),
        Rename(r"^vision\.merger\.post_projection_norm\.", "vision.steps.4."),
        Rename(r"^vision\.merger\.(gate|up|down)_proj\.", r"vision.steps.6.\1."),
        Rename(r"^(vision\.layers\.\d+)\.mlp\.(gate|up|down)_proj\.", r"\1.ffn.\2."),
    )
    axes = coordinate_of(text_of(p), p.pairs, (8, 12, 12), interleaved=False)
    words = PictureWords("<|image|>", "<|image|>")
    frames = patch.frames  # its bounds count the frames of a film
    picture = picture_of(p, tower, 151343, words, (112 * 112, 28 * 28 * 15000), frames)
    return TowerRecipe(Towers(tower, picture), names, axes)
