"""Which of mlx-lm's classes agree with transformers: `python -m tests.golden.try_fallback [CASE ...]`, as make.py.

Makes the references of `fallback_cases.py`, runs each through mlx-lm's class as our loader would, in both config
spellings and as a checkpoint of mlx-lm's own, and keeps the references of those that agree.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from . import make
from .checkpoint import FALLBACK_FOLDER, reference
from .fallback_cases import FALLBACK
from .test_fallback_cases import differences
from .test_golden import TOLERANCE


def agrees(name: str) -> bool:
    print(f"{name}: {make.make(name)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        found = differences(reference(name), Path(folder), unchecked=True)
    print(f"{name}:", ", ".join(f"{what} {by:.1e}" for what, by in found.items()))
    return max(found.values()) <= TOLERANCE


def main(names: list[str]) -> int:
    for name in names or FALLBACK:
        try:
            yes = agrees(name)
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            ImportError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            yes = False
            print(f"{name}: {type(error).__name__}: {error}")
        if not yes:
            for path in FALLBACK_FOLDER.glob(f"{name}.*"):
                path.unlink()
        print(f"{name}: {'agrees' if yes else 'does not agree, so it is not kept'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
