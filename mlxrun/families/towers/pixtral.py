"""Pixtral towers: RMS norms, no biases, a gated network; rows and columns of patches turn a head's pairs by halves."""

from __future__ import annotations

from ...spec import Attention, Dense, Layer, ModelError, Norm, Rope
from ...spec_towers import Act, JoinPatches, Longest, Patch, PictureSpec, PictureWords, Project, Step, Tower, Towers
from ..common import ACTIVATIONS, activation
from ..config import Config
from ..rules import FlattenFilters, Rename, Rule
from . import Parts, TowerRecipe
from .processor import colours, square_of

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's pictures


def mistral3(p: Parts) -> TowerRecipe:
    """Mistral 3 and Ministral 3: normed, blocks of patches joined, two layers."""
    side, width = p.whole.count("spatial_merge_size", 2, high=16), p.vision.count("hidden_size", 1024)
    text = Config(p.whole.get("text_config") or {}, p.whole.dialect)
    steps = (Norm(text.number("rms_norm_eps", 1e-5)), JoinPatches(side), Project(width))
    joined = r"^(?:model\.)?multi_modal_projector\.patch_merger\.merging_layer\.weight$"
    names = (
        Rename(r"^(?:model\.)?multi_modal_projector\.norm\.", "vision.steps.0."),
        FlattenFilters(joined, "vision.steps.2.weight", side=side),
    )
    return _pixtral(p, side, steps, names, soft=p.whole.count("image_token_index", 10, low=0))


def pixtral(p: Parts) -> TowerRecipe:
    """Pixtral 12B: each patch is a row."""
    return _pixtral(p, 1, (), (), soft=p.whole.count("image_token_index", 32000, low=0))


def _pixtral(p: Parts, side: int, before: tuple[Step, ...], names: tuple[Rule, ...], soft: int) -> TowerRecipe:
    v, c = p.vision, p.picture
    if v.family != "pixtral":
        raise ModelError(f"{v.file}: model_type must be pixtral, not {v.family}.")
    if p.whole.get("vision_feature_layer", -1) != -1:
        raise ModelError(f"{p.whole.file}: vision_feature_layer must be -1.")
    bias, act = (
        p.whole.flag("multimodal_projector_bias", not before),
        p.whole.choice("projector_hidden_act", ACTIVATIONS, "gelu"),
    )
    steps = (*before, Project(p.dim, bias), Act(act), Project(p.dim, bias))
    tower, first = _tower(v, side, steps), len(before)
    c.ignore("patch_size", "do_pad")
    fit = Longest(square_of(c, "size", 1024), tower.patch.side * side)
    words = PictureWords(placeholder="[IMG]", soft="[IMG]", row="[IMG_BREAK]", after="[IMG_END]")
    picture = PictureSpec(fit, written=words, soft=soft, **colours(c, mean=MEAN, std=STD, filter=3))
    layer = r"^vision\.transformer\.layers\.(\d+)\."
    names = (
        *names,
        Rename(r"^(?:model\.)?multi_modal_projector\.linear_1\.", f"vision.steps.{first}."),
        Rename(r"^(?:model\.)?multi_modal_projector\.linear_2\.", f"vision.steps.{first + 2}."),
        Rename(r"^(?:model\.)?vision_tower\.", "vision."),
        FlattenFilters(r"^vision\.patch_conv\.weight$", "vision.patch.weight", last=v.dialect == "mlx"),
        Rename(r"^vision\.ln_pre\.", "vision.patch_norm."),
        Rename(layer + r"attention\.([qkvo])_proj\.", r"vision.layers.\1.mixer.\2."),
        Rename(layer + r"feed_forward\.(gate|up|down)_proj\.", r"vision.layers.\1.ffn.\2."),
        Rename(layer + r"attention_norm\.", r"vision.layers.\1.mixer_norm."),
        Rename(layer + r"ffn_norm\.", r"vision.layers.\1.ffn_norm."),
    )
    return TowerRecipe(Towers(tower, picture), names)


def _tower(v: Config, side: int, steps: tuple[Step, ...]) -> Tower:
    dim, heads = v.count("hidden_size", 1024), v.count("num_attention_heads", 16)
    if dim % heads or (size := v.count("head_dim", dim // heads)) % 4:
        raise ModelError(f"{v.file}: a head must be a multiple of 4 wide; hidden_size is {dim} for {heads} heads.")
    v.ignore("image_size", "num_channels")
    norm = Norm(1e-5)
    mixer = Attention(heads, heads, size, size**-0.5, axial(size, theta_of(v)), causal=False)
    dense = Dense(v.count("intermediate_size", 4096), activation(v, "gelu"))
    layers = (Layer(mixer, dense, mixer_norm=norm, ffn_norm=norm),) * v.count("num_hidden_layers", 24, high=10_000)
    patch = Patch(v.count("patch_size", 16), dim, bias=False, after=norm)
    return Tower(v.family, patch, None, layers, side, steps)


def theta_of(v: Config, base: float = 10000.0) -> float:
    told = v.get("rope_parameters") or {}
    if not isinstance(told, dict) or told.get("rope_type", "axial") not in ("axial", "default"):
        raise ModelError(f"{v.file}: rope_parameters must be those of an axial rope.")
    return float(told.get("rope_theta") or v.number("rope_theta", base, above=0))


def axial(size: int, theta: float) -> Rope:
    """Even frequencies turn by row, odd ones by column."""
    freqs = [theta ** (2 * i / size) for i in range(size // 2)]
    return Rope(size, (*freqs[0::2], *freqs[1::2]), axes=(0,) * (size // 4) + (1,) * (size // 4))
