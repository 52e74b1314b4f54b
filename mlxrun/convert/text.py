"""The calibration text that the package carries, and where its parts come from.

Public domain: Lincoln's address at Gettysburg (1863); Carroll, Alice's Adventures in Wonderland (1865); Austen,
Pride and Prejudice (1813); Melville, Moby-Dick (1851); Darwin, On the Origin of Species (1859); the Declaration of
Independence (1776). Between them short pieces of code, JSON, SQL and arithmetic, written for this project.
"""

from __future__ import annotations

from pathlib import Path

from ..spec import ModelError

FILE = Path(__file__).with_name("calibration.txt")
MAX_BYTES = 16 << 20


def calibration() -> str:
    return FILE.read_text(encoding="utf-8")


def read_text(path: Path) -> str:
    """A person's own text instead."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES >> 20} MiB; a part of it will do.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text.") from error
