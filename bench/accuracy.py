"""What the kernels' precision costs: KL divergence and top-1 disagreement against a float32 run, beside llama.cpp.

    python bench/accuracy.py [--form Q4_1 | Q4_0 | Q4_K_M] [--tokens N] [--json]

SmolLM2 reads the text that mlxrun carries for such purposes (mlxrun/convert/text.py tells its sources). The reference:
every weight dequantized by the gguf package, mlx-lm's model in float32 on MLX's own CPU code; llama.cpp on the same
float32 file shows how far two float32 engines are apart. Nothing here depends on time or on other processes.

`fast` may be the default only if both its KL and its disagreement are at most half of llama.cpp's on the same file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from peers import place
from peers.workers import Worker

from mlxrun.cli.eval import tokenizer_of
from mlxrun.convert.text import calibration

SLICE = 64  # rows at a time: a row of logits is 200 kB, and they are compared in float64
BAR = 0.5


def logits(folder: Path, ids: list[int], kind: str, file: Path, **options: Any) -> np.ndarray:
    """(len(ids), vocab), from the disk as it is needed."""
    place.say(f"{kind} on {file.name} {options or ''} ...")
    out = folder / f"{len(list(folder.iterdir()))}.npy"
    with Worker(kind, file, **options) as worker:
        worker.ask("logits", ids=ids, file=str(out))
    return np.load(out, mmap_mode="r")


def kept_reference(wide: Path, ids: list[int]) -> np.ndarray:
    """It takes minutes and never changes, so it is kept beside the models."""
    digest = hashlib.sha256(json.dumps([ids, metadata.version("mlx"), metadata.version("mlx-lm")]).encode())

    def make(part: Path) -> None:
        with Worker("mlx_plain", wide, widened=True) as worker:
            worker.ask("logits", ids=ids, file=str(part))

    return np.load(place.made(place.CACHE / f"{wide.stem}-{digest.hexdigest()[:12]}.npy", make), mmap_mode="r")


def log_softmax(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    return wide - np.log(np.exp(wide).sum(axis=-1, keepdims=True))


def slices(count: int) -> Iterator[slice]:
    return (slice(start, min(start + SLICE, count)) for start in range(0, count, SLICE))


def compared(reference: np.ndarray, other: np.ndarray, ids: list[int]) -> dict[str, float]:
    """Over every row that a token follows."""
    count = len(ids) - 1
    divergence, same, lost = np.empty(count), 0, 0.0
    for part in slices(count):
        p, q = log_softmax(reference[part]), log_softmax(other[part])
        divergence[part] = (np.exp(p) * (p - q)).sum(axis=-1)
        same += int((p.argmax(axis=-1) == q.argmax(axis=-1)).sum())
        following = np.array(ids[part.start + 1 : part.stop + 1])
        lost -= float(np.take_along_axis(q, following[:, None], axis=-1).sum())
    return {
        "kl": float(divergence.mean()),
        "kl_error": float(divergence.std() / count**0.5),
        "kl_99": float(np.quantile(divergence, 0.99)),
        "disagreement": 1 - same / count,
        "perplexity": float(np.exp(lost / count)),
    }


def measured(form: str, ids: list[int]) -> dict[str, dict[str, float]]:
    file, python = place.smollm2(form), place.llama_python()
    wide = place.widened(file)
    runs: dict[str, tuple[str, Path, dict[str, Any]]] = {
        "mlxrun, fast": ("ours", file, {"precision": "fast"}),
        "mlxrun, fast, one token at a time": ("ours", file, {"precision": "fast", "chunk": 1}),
        "mlxrun, exact": ("ours", file, {"precision": "exact"}),
        "llama.cpp": ("llama", file, {"python": python, "threads": 2}),
        "llama.cpp, float32 keys": ("llama", file, {"python": python, "threads": 2, "full_keys": True}),
        "llama.cpp, all float32": ("llama", wide, {"python": python, "threads": 2, "full_keys": True}),
    }
    with tempfile.TemporaryDirectory(dir=place.CACHE) as name:
        folder = Path(name)
        reference = kept_reference(wide, ids)
        found = {"reference": compared(reference, reference, ids)}
        for title, (kind, path, options) in runs.items():
            found[title] = compared(reference, logits(folder, ids, kind, path, **options), ids)
    return found


def verdict(found: dict[str, dict[str, float]]) -> tuple[bool, str]:
    ours, theirs = found["mlxrun, fast"], found["llama.cpp"]
    ratios = [ours[key] / theirs[key] if theirs[key] else float("inf") for key in ("kl", "disagreement")]
    told = f"fast has {ratios[0]:.2f} of llama.cpp's KL and {ratios[1]:.2f} of its top-1 disagreement"
    good = all(ratio <= BAR for ratio in ratios)
    return good, f"{told}: {'it may' if good else 'it may not'} be the default (at most {BAR} of each)."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=("Q4_1", "Q4_0", "Q4_K_M"), default="Q4_1")
    parser.add_argument("--tokens", type=int, default=1000, help="that are predicted")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    ids = tokenizer_of(place.smollm2(flags.form)).encode(calibration(), special=False)[: flags.tokens + 1]
    found = measured(flags.form, ids)
    good, told = verdict(found)
    if flags.json:
        numbers = {"form": flags.form, "tokens": len(ids) - 1, "runs": found, "fast_may_be_default": good}
        print(json.dumps(numbers, indent=2))
        return
    print(f"SmolLM2-135M, {flags.form}, {len(ids) - 1} tokens, against the same weights in float32\n")
    print("| | KL (nats a token) | of 100 tokens 99 have less | top-1 differs | perplexity |\n|---|---|---|---|---|")
    for name, r in found.items():
        kl = f"{r['kl']:.2e} ± {r['kl_error']:.0e} | {r['kl_99']:.1e}"
        print(f"| {name} | {kl} | {r['disagreement']:.1%} | {r['perplexity']:.3f} |")
    print(f"\n{told}")


if __name__ == "__main__":
    sys.exit(main())
