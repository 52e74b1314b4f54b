"""Sizes, tiles and pixels are those of transformers' PIL classes, to the bit, for pictures of every shape."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlxrun.families.config import Config
from mlxrun.families.towers.processor import colours
from mlxrun.media.fit import cut, nearest, within
from mlxrun.spec_towers import Closest, Fit, Longest, MostRows, Multiple, Square, Tiles
from tests.golden.towers import picture

SIZES = [(37, 61), (200, 33), (96, 96), (1, 7), (301, 450)]
FITS: dict[str, tuple[str, dict[str, Any], Fit]] = {
    "tiles": (
        "idefics3.Idefics3",
        {"size": {"longest_edge": 80}, "max_image_size": {"longest_edge": 32}},
        Tiles(32, 80),
    ),
    "unsplit": (
        "smolvlm.SmolVLM",
        {"size": {"longest_edge": 80}, "max_image_size": {"longest_edge": 40}, "do_image_splitting": False},
        Tiles(40, 80, split=False),
    ),
    "closest": (
        "got_ocr2.GotOcr2",
        {"size": {"height": 30, "width": 30}, "crop_to_patches": True, "max_patches": 7},
        Closest(30, 1, 7),
    ),
    "square": ("gemma3.Gemma3", {"size": {"height": 28, "width": 28}}, Square(28, 28)),
    "longest": (
        "pixtral.Pixtral",
        {"size": {"longest_edge": 90}, "patch_size": {"height": 14, "width": 14}},
        Longest(90, 14),
    ),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", FITS)
def test_as_transformers(name: str, size: tuple[int, int]) -> None:
    where, settings, fit = FITS[name]
    module, kind = where.split(".")
    reader = getattr(import_module(f"transformers.models.{module}"), f"{kind}ImageProcessorPil")(**settings)
    shown = Image.fromarray(picture(*size))
    wanted = reader(shown, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"]
    spec = colours(Config(json.loads(reader.to_json_string())), filter=1)
    found = [np.asarray(tile).transpose(2, 0, 1) for tile in cut(shown, fit, spec["filter"]).tiles]
    assert np.array_equal(np.stack(found), np.asarray(wanted).reshape(-1, *found[0].shape))


@pytest.mark.parametrize("size", [*SIZES, (14, 42), (70, 98), (28, 2800), (3, 599)])
@pytest.mark.parametrize(("least", "most"), [(3136, 20000), (28 * 28, 3136), (50000, 60000)])
def test_multiples_as_transformers(size: tuple[int, int], least: int, most: int) -> None:
    """Halves go to even numbers; what is too large or too small keeps its shape."""
    resize = import_module("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize
    height, width = size
    assert nearest(width, height, Multiple(28, least, most))[::-1] == resize(height, width, 28, least, most)


@pytest.mark.parametrize("size", [*SIZES, (14, 42), (70, 98), (8, 1600), (1500, 8)])
@pytest.mark.parametrize("rows", [70, 280, 1120])
def test_budgets_as_transformers(size: tuple[int, int], rows: int) -> None:
    module = import_module("transformers.models.gemma4.image_processing_pil_gemma4")
    height, width = size
    wanted = module.get_aspect_ratio_preserving_size(height, width, 16, 9 * rows, 3)
    assert within(width, height, MostRows(48, rows))[::-1] == wanted


@pytest.mark.parametrize("size", [*SIZES, (14, 42), (70, 98), (8, 1600), (600, 400)])
@pytest.mark.parametrize(("least", "most"), [(12544, 60000), (28 * 28, 6272)])
def test_multiples_that_count_frames_as_transformers(size: tuple[int, int], least: int, most: int) -> None:
    resize = import_module("transformers.models.glm4v.image_processing_pil_glm4v").smart_resize
    height, width = size
    wanted = resize(2, height, width, 2, 28, least, most)
    assert nearest(width, height, Multiple(28, least, most, 2))[::-1] == wanted
