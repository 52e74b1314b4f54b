"""What sees beside a decoder: what transformers makes of a conversation with two pictures, kept in towers/.

`python -m tests.golden.towers [CASE ...]` makes the files, with torch and transformers installed: the prompt's tokens
by its processor, the pixels by its PIL class, the rows of the tower and the logits by its model, all of whose tensors
are drawn anew. Nothing of mlxrun but the drawing is imported here.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer

from tests.server.tiny import byte_tokenizer

from .checkpoint import Checkpoint, write
from .draw import draw, kind_of

FOLDER = Path(__file__).parent / "towers"
FIRST = 257  # id of the first word that is added to the bytes and the one special token before
BESIDE = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "num_crops")  # the pixels
ASKED = "What is this?"
TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 0.01,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}:{% for part in m.content %}{% if part.type == 'image' %}PICTURE"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}assistant:"
)
TILES = tuple(f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5))


@dataclass(frozen=True)
class TowerCase:
    model_type: str
    config: dict[str, Any]  # of the wrapper; vocab_size and ids of words are filled in
    processor: dict[str, Any]
    kind: str  # of transformers' PIL class
    words: tuple[str, ...]  # that are added to the tokenizer
    soft: str
    soft_key: str = "image_token_id"
    template: str = CHATML
    sizes: tuple[tuple[int, int], ...] = ((37, 61), (50, 29))  # height and width of the pictures
    idle: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)  # what transformers' tokenizer calls some of the words
    seen: dict[str, Any] = field(default_factory=dict)  # what transformers' processor takes beside


SIGLIP = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": 24,
    "patch_size": 4,
    "layer_norm_eps": 0.01,
}
CASES: dict[str, TowerCase] = {
    "idefics3": TowerCase(
        "idefics3",
        {
            "text_config": {"model_type": "llama", **TEXT},
            "vision_config": {**SIGLIP, "model_type": "idefics3_vision"},
            "scale_factor": 2,
        },
        {"size": {"longest_edge": 40}, "max_image_size": {"longest_edge": 24}},
        "Idefics3ImageProcessor",
        ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|im_start|>", *TILES),
        "<image>",
        template=CHATML.replace("PICTURE", "<image>"),
        seen={"image_seq_len": 9},
    ),
}
PIXTRAL = {
    "model_type": "pixtral",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "head_dim": 16,
    "image_size": 64,
    "patch_size": 4,
    "hidden_act": "silu",
    "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
}
CASES["mistral3"] = TowerCase(
    "mistral3",
    {
        "text_config": {"model_type": "mistral", **TEXT, "sliding_window": None, "tie_word_embeddings": False},
        "vision_config": PIXTRAL,
        "spatial_merge_size": 2,
        "multimodal_projector_bias": True,
        "tie_word_embeddings": False,
    },
    {"size": {"longest_edge": 48}, "patch_size": {"height": 4, "width": 4}},
    "PixtralImageProcessor",
    ("[IMG]", "[IMG_BREAK]", "[IMG_END]", "<|im_start|>", "<end_of_utterance>"),
    "[IMG]",
    "image_token_index",
    template=CHATML.replace("PICTURE", "[IMG]"),
    seen={"patch_size": 4, "spatial_merge_size": 2},
)
CASES["pixtral"] = TowerCase(
    "llava",
    {
        "text_config": {"model_type": "mistral", **TEXT, "sliding_window": None, "tie_word_embeddings": False},
        "vision_config": {**PIXTRAL, "hidden_act": "gelu"},
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": False,
    },
    {"size": {"longest_edge": 30}, "patch_size": {"height": 4, "width": 4}},
    "PixtralImageProcessor",
    CASES["mistral3"].words,
    "[IMG]",
    "image_token_index",
    template=CASES["mistral3"].template,
    seen={"patch_size": 4, "spatial_merge_size": 1},
)
CASES["gemma3"] = TowerCase(
    "gemma3",
    {
        "text_config": {
            **TEXT,
            "model_type": "gemma3_text",
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 7,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "vision_config": {**SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False},
        "mm_tokens_per_image": 9,
    },
    {"size": {"height": 24, "width": 24}, "resample": 2},
    "Gemma3ImageProcessor",
    ("<start_of_image>", "<image_soft_token>", "<end_of_image>", "<|im_start|>", "<end_of_utterance>"),
    "<image_soft_token>",
    "image_token_index",
    template=CHATML.replace("PICTURE", "<start_of_image>"),
    seen={"image_seq_length": 9},
    named={"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"},
)
INTERN = {
    **SIGLIP,
    "model_type": "internvl_vision",
    "hidden_act": "gelu",
    "image_size": [16, 16],
    "layer_scale_init_value": 1.0,
    "patch_size": [4, 4],
}
CASES["internvl"] = TowerCase(
    "internvl",
    {
        "text_config": {"model_type": "qwen2", **TEXT, "tie_word_embeddings": False},
        "vision_config": INTERN,
        "tie_word_embeddings": False,
    },
    {"size": {"height": 16, "width": 16}, "max_patches": 5},
    "GotOcr2ImageProcessor",
    ("<img>", "</img>", "<IMG_CONTEXT>", "<video>", "<|im_start|>", "<end_of_utterance>"),
    "<IMG_CONTEXT>",
    template=CHATML.replace("PICTURE", "<IMG_CONTEXT>"),
    seen={"image_seq_length": 4},
    named={
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    },
)
CASES["internvl_rms"] = replace(
    CASES["internvl"],
    config={
        **CASES["internvl"].config,
        "vision_config": {**INTERN, "norm_type": "rms_norm", "use_qk_norm": True, "attention_bias": True},
    },
)
CASES["smolvlm"] = TowerCase(
    "smolvlm",
    {**CASES["idefics3"].config, "scale_factor": 3, "vision_config": {**SIGLIP, "model_type": "smolvlm_vision"}},
    {"size": {"longest_edge": 20}, "max_image_size": {"longest_edge": 36}, "resample": 2, "image_std": [0.5, 0.4, 0.3]},
    "SmolVLMImageProcessor",
    CASES["idefics3"].words,
    "<image>",
    template=CASES["idefics3"].template,
    seen={"image_seq_len": 9},
)
QWEN = {
    "model_type": "qwen3_vl_vision",
    "hidden_size": 48,
    "intermediate_size": 80,
    "depth": 4,
    "num_heads": 3,
    "patch_size": 4,
    "out_hidden_size": 64,
    "num_position_embeddings": 25,
    "deepstack_visual_indexes": [0, 2],
    "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
}
TURNING = {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [3, 3, 2], "mrope_interleaved": True}
CASES["qwen3_vl"] = TowerCase(
    "qwen3_vl",
    {
        "text_config": {"model_type": "qwen3_vl_text", **TEXT, "head_dim": 16, "rope_parameters": TURNING},
        "vision_config": QWEN,
        "tie_word_embeddings": False,
    },
    {"size": {"shortest_edge": 256, "longest_edge": 2048}, "patch_size": 4, "image_mean": [0.5, 0.4, 0.3]},
    "Qwen2VLImageProcessor",
    ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>", "<|im_start|>", "<end_of_utterance>"),
    "<|image_pad|>",
    template=CHATML.replace("PICTURE", "<|vision_start|><|image_pad|><|vision_end|>"),
)
CASES["qwen3_vl_moe"] = replace(
    CASES["qwen3_vl"],
    model_type="qwen3_vl_moe",
    config={
        "text_config": {
            **CASES["qwen3_vl"].config["text_config"],
            "model_type": "qwen3_vl_moe_text",
            "moe_intermediate_size": 40,
            "num_experts": 6,
            "num_experts_per_tok": 2,
            "mlp_only_layers": [1],
        },
        "vision_config": {**QWEN, "model_type": "qwen3_vl_moe_vision"},
        "tie_word_embeddings": False,
    },
)
CASES["qwen3_5"] = replace(
    CASES["qwen3_vl"],
    model_type="qwen3_5",
    config={
        "text_config": {
            **CASES["qwen3_vl"].config["text_config"],
            "model_type": "qwen3_5_text",
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention", "full_attention"],
            "rope_parameters": {**TURNING, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5},
        },
        "vision_config": {
            **{key: value for key, value in QWEN.items() if key != "deepstack_visual_indexes"},
            "model_type": "qwen3_5_vision",
        },
        "tie_word_embeddings": False,
    },
)
CASES["qwen2_5_vl"] = replace(
    CASES["qwen3_vl"],
    model_type="qwen2_5_vl",
    config={
        "text_config": {
            "model_type": "qwen2_5_vl_text",
            **TEXT,
            "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]},
        },
        "vision_config": {
            **{key: value for key, value in QWEN.items() if "_position_" not in key and "deepstack" not in key},
            "model_type": "qwen2_5_vl_vision",
            "window_size": 16,
            "fullatt_block_indexes": [1, 3],
            "hidden_act": "silu",
        },
        "tie_word_embeddings": False,
    },
    processor={"min_pixels": 1600, "max_pixels": 4096, "patch_size": 4},
)
GEMMA4 = {
    "model_type": "gemma4_vision",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "patch_size": 2,
    "pooling_kernel_size": 3,
    "position_embedding_size": 250,
    "rope_parameters": {"rope_type": "axial", "rope_theta": 10.0},
    "rms_norm_eps": 0.01,
}
GEMMA4_TEXT = {
    **TEXT,
    "model_type": "gemma4_text",
    "head_dim": 16,
    "global_head_dim": 16,
    "sliding_window": 9,
    "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    "pad_token_id": 3,
    "hidden_size_per_layer_input": 0,
    "tie_word_embeddings": True,
}
CASES["gemma4_ple"] = TowerCase(  # as E2B: an embedding for every layer, clamped matrices, pictures read as words are
    "gemma4",
    {
        "text_config": {**GEMMA4_TEXT, "hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 300},
        "vision_config": {**GEMMA4, "use_clipped_linears": True},
        "audio_config": None,
    },
    {"max_soft_tokens": 70, "patch_size": 2},
    "Gemma4ImageProcessor",
    ("<|image>", "<|image|>", "<image|>", "<|audio|>", "<|video|>", "<|im_start|>", "<end_of_utterance>"),
    "<|image|>",
    template=CHATML.replace("PICTURE", "<|image|>"),
    named={"boi_token": "<|image>", "image_token": "<|image|>", "eoi_token": "<image|>"}
    | {"audio_token": "<|audio|>", "boa_token": "<|audio|>", "eoa_token": "<|audio|>"},
    seen={"feature_extractor": None, "video_processor": None},
)
CASES["gemma4_seen"] = replace(  # as 31B
    CASES["gemma4_ple"],
    config={
        "text_config": {**GEMMA4_TEXT, "use_bidirectional_attention": "vision"},
        "vision_config": {**GEMMA4, "standardize": True},
        "audio_config": None,
    },
)
CASES["gemma4_unified"] = replace(
    CASES["gemma4_ple"],
    model_type="gemma4_unified",
    config={
        "text_config": {**GEMMA4_TEXT, "model_type": "gemma4_unified_text", "use_bidirectional_attention": "vision"},
        "vision_config": {
            "model_type": "gemma4_unified_vision",
            "patch_size": 2,
            "pooling_kernel_size": 3,
            "mm_embed_dim": 64,
            "mm_posemb_size": 70,
            "output_proj_dims": 64,
            "rms_norm_eps": 0.01,
        },
        "audio_config": None,
    },
)
CASES["glm4v"] = replace(
    CASES["qwen3_vl"],
    model_type="glm4v",
    config={
        "text_config": {
            **TEXT,
            "model_type": "glm4v_text",
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 100.0,
                "mrope_section": [1, 1, 2],
                "partial_rotary_factor": 0.5,
            },
        },
        "vision_config": {
            "model_type": "glm4v_vision",
            "hidden_size": 48,
            "intermediate_size": 72,
            "out_hidden_size": 64,
            "depth": 3,
            "num_heads": 3,
            "patch_size": 4,
            "image_size": 20,
            "attention_bias": True,
            "rms_norm_eps": 0.01,
            "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        },
        "tie_word_embeddings": False,
    },
    processor={"size": {"shortest_edge": 512, "longest_edge": 4096}, "patch_size": 4},
    kind="Glm4vImageProcessor",
    words=("<|begin_of_image|>", "<|image|>", "<|end_of_image|>", "<|video|>", "<|im_start|>", "<end_of_utterance>"),
    soft="<|image|>",
    template=CHATML.replace("PICTURE", "<|begin_of_image|><|image|><|end_of_image|>"),
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
)


FAMILIES = {  # by the wrapper's type
    "gemma3": "Gemma 3 (SigLIP)",
    "gemma4": "Gemma 4 E2B, E4B, 26B-A4B, 31B",
    "gemma4_unified": "Gemma 4 12B, which has no tower: patches are rows once they are multiplied",
    "glm4v": "GLM-4.1V",
    "idefics3": "Idefics 3, SmolVLM 1 (SigLIP)",
    "smolvlm": "SmolVLM 2 (SigLIP)",
    "internvl": "InternVL 3, InternVL 3.5",
    "mistral3": "Mistral Small 3.1 and 3.2, Ministral 3 (Pixtral)",
    "llava": "Pixtral 12B, where its tower is of the type `pixtral`",
    "qwen2_5_vl": "Qwen 2.5 VL",
    "qwen3_5": "Qwen 3.5, Qwen 3.6",
    "qwen3_vl": "Qwen 3 VL",
    "qwen3_vl_moe": "Qwen 3 VL with experts",
}


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Edges, a slope and noise: whatever is done otherwise shows."""
    random = np.random.RandomState(height * 1000 + width)
    y, x = np.mgrid[0:height, 0:width]
    slope = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (height + width)], axis=-1)
    edges = ((x // 7 + y // 5) % 2 * 90)[..., None]
    return np.clip(slope * 0.6 + edges + random.randint(0, 40, (height, width, 3)), 0, 255).astype(np.uint8)


def png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def tokenizer_of(case: TowerCase) -> Tokenizer:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in case.words])
    return tokenizer


def config_of(case: TowerCase) -> dict[str, Any]:
    tokenizer = tokenizer_of(case)
    text = {**case.config["text_config"], "vocab_size": tokenizer.get_vocab_size()}
    return {**case.config, "text_config": text, case.soft_key: tokenizer.token_to_id(case.soft)}


@dataclass(frozen=True)
class TowerReference:
    name: str
    config: dict[str, Any]
    tensors: dict[str, tuple[list[int], str]]  # name: (shape, kind)
    tokens: list[int]
    pixels: list[str]  # digests of the tiles
    features: NDArray[np.float32]
    logits: NDArray[np.float32]

    @property
    def case(self) -> TowerCase:
        return CASES[self.name]

    @property
    def pictures(self) -> list[bytes]:
        return [png(picture(*size)) for size in self.case.sizes]

    def write(self, folder: Path) -> Path:
        weights = {name: drawn(self.name, name, tuple(shape), kind) for name, (shape, kind) in self.tensors.items()}
        write(Checkpoint(dict(self.config), weights), folder)
        tokenizer_of(self.case).save(str(folder / "tokenizer.json"))
        said = {"tokenizer_config.json": {"chat_template": self.case.template}}
        said["preprocessor_config.json"] = {**self.case.processor, "image_processor_type": self.case.kind}
        for file, content in said.items():
            (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return folder


def drawn(case: str, name: str, shape: tuple[int, ...], kind: str) -> NDArray[np.float32]:
    """Filters get the gain of the matrix that they are; bounds lie where they clamp some of what they meet."""
    if kind in ("least", "most"):
        return draw(case, name, shape, "scalar") * np.float32(-1.5 if kind == "least" else 1.5)
    if kind == "filters":
        return draw(case, name, (shape[0], int(np.prod(shape[1:]))), "matrix").reshape(shape)
    return draw(case, name, shape, kind)


def tower_reference(name: str) -> TowerReference:
    said = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    arrays = np.load(FOLDER / f"{name}.npz")
    return TowerReference(name, said["config"], said["tensors"], said["tokens"], said["pixels"], **arrays)


def tiles_of(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    return pixels.reshape(-1, *pixels.shape[-3:])


def digest(tile: NDArray[np.float32]) -> str:
    """Of (3, height, width)"""
    return hashlib.sha256(np.ascontiguousarray(tile, np.float32)).hexdigest()[:32]


def make(name: str) -> str:
    import torch
    import transformers
    from safetensors.numpy import load_file

    case = CASES[name]
    inputs = processed(case)
    config = transformers.CONFIG_MAPPING[case.model_type](**config_of(case))
    torch.manual_seed(0)
    first = transformers.AutoModelForImageTextToText.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        first.save_pretrained(folder)
        written = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        initial = load_file(f"{folder}/model.safetensors")
        tensors = {key: (list(value.shape), kind_in(key, value)) for key, value in sorted(initial.items())}
        write(
            Checkpoint(written, {k: drawn(name, k, tuple(s), kind) for k, (s, kind) in tensors.items()}), Path(folder)
        )
        model = type(first).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        seen = {key: value for key, value in inputs.items() if key not in BESIDE}
        found = model.model.get_image_features(**seen)
        rows = getattr(found, "pooler_output", found)
        features = joined(torch, rows)
        if deep := getattr(found, "deepstack_features", None):
            features = torch.cat([features, *(joined(torch, one) for one in deep)], dim=-1)
        if case.model_type == "gemma4_unified":  # as `generate` sees; `forward` alone masks all layers alike
            embeds = model.get_input_embeddings()(inputs["input_ids"])
            places = torch.arange(embeds.shape[1])[None]
            told = {"past_key_values": None, "position_ids": places, "mm_token_type_ids": inputs["mm_token_type_ids"]}
            masks = model.create_masks_for_generate(model.config, embeds, inputs["attention_mask"], **told)
            inputs["attention_mask"] = masks
        logits = model(**inputs, use_cache=False).logits[0]
    shown = list(shown_tiles(inputs, case))
    if "image_sizes" in inputs:  # and small pictures
        shown = [tile[:, :h, :w] for tile, (h, w) in zip(shown, inputs["image_sizes"].tolist(), strict=True)]
    FOLDER.mkdir(exist_ok=True)
    head = {"made_with": {"torch": torch.__version__, "transformers": transformers.__version__}, "config": written}
    head |= {"tokens": inputs["input_ids"][0].tolist(), "pixels": [digest(tile) for tile in shown], "tensors": tensors}
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in head.items())
    (FOLDER / f"{name}.json").write_text(f"{{{lines}}}\n", encoding="utf-8")
    arrays = {"features": features, "logits": logits}
    np.savez_compressed(FOLDER / f"{name}.npz", **{k: v.float().numpy() for k, v in arrays.items()})
    most = f"to {features.abs().max():.1f}, logits to {logits.abs().max():.1f}"
    return f"{len(tensors)} tensors, {len(features)} rows {most}"


def kind_in(key: str, initial: NDArray[np.float32]) -> str:
    experts = ".experts." in key  # of Qwen 3 VL, stored inputs first
    if key.endswith(("put_min", "put_max")):
        return "least" if key.endswith("min") else "most"
    if key.endswith(("std_bias", "std_scale", "position_embedding_table", "vision_embedder.pos_embedding")):
        return "norm" if key.endswith("scale") else "bias"
    return "filters" if initial.ndim > 2 and not experts else kind_of(key, initial, experts, "mixed")


def joined(torch: Any, rows: Any) -> Any:
    return (torch.cat(list(rows)) if isinstance(rows, list | tuple) else rows).reshape(-1, rows[0].shape[-1])


def shown_tiles(inputs: Any, case: TowerCase) -> Iterator[NDArray[np.float32]]:
    pixels = inputs["pixel_values"].numpy()
    if "image_position_ids" in inputs:  # patches line by line, filled up; the tower itself makes them -1 to 1
        unified = case.model_type == "gemma4_unified"
        side = case.processor["patch_size"] * (3 if unified else 1)
        for patches, places in zip(pixels, inputs["image_position_ids"].numpy(), strict=True):
            cols, rows = places.max(axis=0) + 1
            parts = patches[: rows * cols].reshape(rows, cols, side, side, 3).transpose(4, 0, 2, 1, 3)
            parts = parts if unified else 2 * (parts - np.float32(0.5))
            yield parts.reshape(3, rows * side, cols * side)
        return
    if "image_grid_thw" not in inputs:
        yield from (tile for tile in tiles_of(pixels) if tile.any())  # short lists are filled up
        return
    side, start = case.processor["patch_size"], 0
    for _, rows, cols in inputs["image_grid_thw"].tolist():  # patches in blocks of 2 x 2, each twice
        parts = pixels[start : start + rows * cols].reshape(rows // 2, cols // 2, 2, 2, 3, 2, side, side)
        assert (parts[:, :, :, :, :, 0] == parts[:, :, :, :, :, 1]).all()
        yield parts[:, :, :, :, :, 0].transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, rows * side, cols * side)
        start += rows * cols


def processed(case: TowerCase) -> Any:
    """By transformers' own processor: ids, pixels and whatever its model takes beside them."""
    import transformers
    from PIL import Image

    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer_of(case), extra_special_tokens=case.named
    )
    name = case.kind.removesuffix("ImageProcessor")
    kind = MODULES.get(name, case.model_type)
    module = import_module(f"transformers.models.{kind}.image_processing_pil_{kind}")
    pictures = [Image.fromarray(picture(*size)) for size in case.sizes]
    reader = getattr(module, f"{case.kind}Pil")(**case.processor)
    named = PROCESSORS.get(case.model_type, f"{name}Processor")
    where = MODULES.get(named, named.removesuffix("Processor").lower())
    processor = getattr(import_module(f"transformers.models.{where}.processing_{where}"), named)
    content = [part for _ in pictures for part in ({"type": "image"}, {"type": "text", "text": ASKED})]
    messages = [{"role": "user", "content": content}]
    text = tokenizer.apply_chat_template(messages, chat_template=case.template, tokenize=False)
    own = type(named, (processor,), {"check_argument_for_proper_class": lambda *_: None})  # there is no video
    made = own(image_processor=reader, tokenizer=tokenizer, **case.seen)
    inputs = made(text=[text], images=[pictures], return_tensors="pt", padding=False)
    return merged(inputs, case.processor["patch_size"]) if case.model_type == "gemma4_unified" else inputs


def merged(inputs: Any, side: int) -> Any:
    """Blocks of 3 x 3 patches as one, as its own processor makes them, which needs torchvision."""
    import torch

    pixels, places = inputs["pixel_values"], inputs["image_position_ids"]
    most = pixels.shape[1] // 9
    wide, where = torch.zeros(len(pixels), most, pixels.shape[2] * 9), torch.full((len(pixels), most, 2), -1)
    for i, (patches, at) in enumerate(zip(pixels, places, strict=True)):
        cols, rows = (int(n) + 1 for n in at.max(dim=0).values)
        parts = patches[: rows * cols].reshape(rows // 3, 3, cols // 3, 3, side, side, 3).permute(0, 2, 1, 4, 3, 5, 6)
        wide[i, : rows * cols // 9] = parts.reshape(rows * cols // 9, -1)
        line, column = torch.meshgrid(torch.arange(rows // 3), torch.arange(cols // 3), indexing="ij")
        where[i, : rows * cols // 9] = torch.stack([column, line], dim=-1).reshape(-1, 2)
    inputs["pixel_values"], inputs["image_position_ids"] = wide, where
    return inputs


MODULES = {  # of a PIL class, where it is not its model's; of a processor, where it is not named as that
    "Pixtral": "pixtral",
    "GotOcr2": "got_ocr2",
    "Gemma4": "gemma4",
    "Qwen2VL": "qwen2_vl",
    "Qwen2_5_VLProcessor": "qwen2_5_vl",
    "Qwen3VLProcessor": "qwen3_vl",
}
PROCESSORS = {
    "smolvlm": "Idefics3Processor",
    "mistral3": "PixtralProcessor",
    "llava": "PixtralProcessor",
    "internvl": "InternVLProcessor",
    "gemma4_unified": "Gemma4Processor",
    "glm4v": "Glm4vProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
    "qwen3_vl_moe": "Qwen3VLProcessor",
    "qwen3_5": "Qwen3VLProcessor",
}  # of a model type, where it is not named after the PIL class


def main(names: list[str]) -> int:
    import torch

    torch.set_num_threads(1)
    for name in names or CASES:
        print(f"{name}: {make(name)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
