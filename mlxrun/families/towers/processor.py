"""What every preprocessor_config.json says in the same words: sizes, colours, the filter. Knows no family."""

from __future__ import annotations

from typing import Any

from ...spec import ModelError, shown
from ..config import Config

Three = tuple[float, float, float]
# what is said of every processor and cannot change a picture, or only where it is asked for otherwise
QUIET = (
    *("image_processor_type", "processor_class", "feature_extractor_type", "data_format", "input_data_format"),
    *("return_tensors", "default_to_square", "device", "disable_grouping", "auto_map", "_valid_processor_keys"),
    *("do_convert_rgb", "rescale_factor", "crop_size", "pad_size", "image_processor", "processor_type"),
)


def colours(
    c: Config, *, mean: Three = (0.5, 0.5, 0.5), std: Three = (0.5, 0.5, 0.5), filter: int, own: bool = False
) -> dict[str, Any]:
    """How colours become numbers, and by which of Pillow's filters sizes change. `own`: their mean and what they are
    divided by are the tower's own, and no file says them."""
    c.ignore(*QUIET)
    for step in ("do_resize", "do_rescale") if own else ("do_resize", "do_rescale", "do_normalize"):
        if not c.flag(step, True):
            raise ModelError(f"{c.file}: {step} must be true.")
    return {
        "filter": c.count("resample", filter, low=0, high=5),
        "mean": mean if own else three(c, "image_mean", mean),
        "std": std if own else three(c, "image_std", std),
        "scale": c.number("rescale_factor", 1 / 255, above=0),
    }


def three(c: Config, key: str, default: Three) -> Three:
    found = c.get(key, [*default])
    if not isinstance(found, list) or len(found) != 3 or not all(isinstance(one, int | float) for one in found):
        raise ModelError(f"{c.file}: {key} must be three numbers, not {shown(found)}.")
    red, green, blue = map(float, found)
    return red, green, blue


def square_of(c: Config, key: str, default: int) -> int:
    """The longest edge, of a square or of what is brought to it."""
    found = c.get(key, {"longest_edge": default})
    edge = found.get("longest_edge") if isinstance(found, dict) else found
    if isinstance(edge, bool) or not isinstance(edge, int) or not 0 < edge <= 1 << 14:
        raise ModelError(f"{c.file}: {key} must have a longest_edge from 1 to {1 << 14}, not {shown(found)}.")
    return edge
