"""What `show` says of a model's files: which of them this machine maps, and what becomes of them in a load. Nothing is
read; a file is mapped, looked at and let go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..loading import OpenedModel

INDENT = "  "


def files(opened: OpenedModel) -> list[dict[str, Any]]:
    """For programs."""
    found = []
    for mapped, total in opened.checkpoint.map_files():
        size = sum(view.nbytes for view in mapped.views.values())
        found.append({"name": mapped.file.name, "mapped": size, "read": total - size, "reason": mapped.reason})
    return found


def lines(opened: OpenedModel, found: list[dict[str, Any]], ready: Path) -> list[str]:
    from ..loading.used import amount

    told = ["", f"files on this machine: {becomes_of(opened, ready)}"]
    width = max(len(file["name"]) for file in found)
    for file in found:
        sizes = [f"{word} {amount(file[word])}" for word in ("mapped", "read") if file[word]]
        reason = f", because {file['reason']}" if file["reason"] else ""
        told.append(f"{INDENT}{file['name']:{width}}  {', '.join(sizes) or 'empty'}{reason}")
    return told


def becomes_of(opened: OpenedModel, ready: Path) -> str:
    from ..families import UnknownFamily
    from ..loading.forms import packs
    from ..loading.pack import is_kept, source_of
    from ..loading.ready import file_of

    if isinstance(opened.found, UnknownFamily):
        return "mlx-lm reads them"
    if not packs(opened.device, opened.dtype):
        return "used as they lie, wherever a GPU computes with that" if opened.device.gpu else "widened to float32"
    if not is_kept(opened.checkpoint.bytes):
        return "packed for this processor at every start, which is as quick as mapping"
    there = file_of(ready, source_of(opened)).exists()
    return f"packed for this processor; that file is {'there, and mapped' if there else 'made at the first start'}"
