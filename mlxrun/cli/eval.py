"""mlxrun eval MODEL [--against OTHER]: how well a model predicts a text, and how far it is from another model."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import options
from .steps import bar

if TYPE_CHECKING:
    from ..convert.compare import Agreement

HELP = "measure a model on a text: perplexity, and KL divergence and agreement with another model"


def configure(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("--against", metavar="OTHER", help="the reference, usually the same model less quantized")
    parser.add_argument("--text", type=Path, metavar="FILE", help="a text of your own instead of the one carried here")
    parser.add_argument("--tokens", type=int, metavar="N", help="only the first N tokens of it")
    parser.add_argument("--window", type=int, default=512, metavar="N", help="tokens read together; 512 if not said")
    parser.add_argument("--json", action="store_true", help="for programs")
    options.add_loading(parser)


def main(flags: argparse.Namespace) -> int:
    from ..assistant import tokenizer_of
    from ..convert.compare import compare, count_predicted, perplexity
    from ..convert.text import calibration, read_text
    from ..loading import LoadOptions, load_opened, open_model
    from ..ops.device import this_device
    from ..store.resolve import resolve
    from ..weights.mapped import believed

    text = calibration() if flags.text is None else read_text(flags.text)
    how = LoadOptions(unchecked=flags.unchecked)
    device, waive = this_device("exact"), frozenset(flags.waive)
    opened = open_model(resolve(flags.model), dialect=flags.dialect, waive=waive, device=device)
    ids = first(tokenizer_of(opened.checkpoint).encode(text, special=False), flags.tokens)
    if flags.against is None:
        with bar("predicting") as progress, believed():
            model = load_opened(opened, how)
            found = perplexity(model, ids, window=flags.window, progress=progress)
        count = count_predicted(len(ids), flags.window)
        report = {"model": flags.model, "tokens": count, "perplexity": found}
        lines = [f"perplexity {found:.4g} on {count:,} tokens"]
    else:
        other = open_model(resolve(flags.against), waive=waive, device=device)
        same_ids(tokenizer_of(other.checkpoint).encode(text, special=False), ids, flags)
        with bar("predicting with both") as progress, believed():
            models = load_opened(opened, how), load_opened(other, how)
            agreement = compare(*models, ids, window=flags.window, progress=progress)
        report = {"model": flags.model, "against": flags.against, **asdict(agreement)}
        lines = words(agreement)
    print(json.dumps(report, indent=2) if flags.json else "\n".join(lines))
    return 0


def first(ids: Sequence[int], count: int | None) -> list[int]:
    from ..core import RequestError

    if count is not None and count < 2:
        raise RequestError(f"--tokens must be at least 2, not {count}.")
    return list(ids[:count])


def same_ids(theirs: Sequence[int], ours: Sequence[int], flags: Any) -> None:
    from ..core import RequestError

    if list(theirs[: len(ours)]) != list(ours):
        raise RequestError(f"{flags.model} and {flags.against} cut the text into different tokens: not comparable.")


def words(found: Agreement) -> list[str]:
    return [
        f"perplexity {found.perplexity:.4g}, of the reference {found.reference_perplexity:.4g}",
        f"KL divergence {found.kl:.3g} nats a token (99 of 100 tokens have less than {found.kl_99:.3g})",
        f"the same favourite for {found.top1:.2%} of {found.tokens:,} tokens",
    ]
