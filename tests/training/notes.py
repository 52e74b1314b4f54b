"""Notes to JSON: a small real task, drawn from lists. Notebook 10 trains it.

python -m tests.training.notes FOLDER      writes train.jsonl (200 rows) and held.jsonl (50 others)
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TRAINED, HELD, SEED = 200, 50, 11
NAMES = (
    *("Ana", "Ben", "Chen", "Dora", "Emil", "Fatima", "Greta"),
    *("Hugo", "Ines", "Jonas", "Kemal", "Lena", "Mara", "Nils"),
)
THINGS = ("paper", "milk", "lamps", "cables", "chairs", "ink", "seeds", "bread", "tiles", "paint", "stamps", "nails")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
FORMS = (
    "{who} wants {much} {what} by {day}.",
    "By {day}: {much} {what} for {who}",
    "{day}, bring {who} {much} {what}",
    "need {much} {what} on {day}, says {who}",
    "{who} called. {much} {what}, {day} at the latest.",
    "don't forget {who}'s {what} ({much}) this {day}!",
)


def drawn() -> Iterator[dict[str, Any]]:
    """Rows that never come twice."""
    dice, seen = random.Random(SEED), set[str]()
    while True:
        count = dice.randrange(2, 13)
        told = {"who": dice.choice(NAMES), "what": dice.choice(THINGS), "count": count, "day": dice.choice(DAYS)}
        much = dice.choice((str(count), NUMBERS[count - 2]))
        note = dice.choice(FORMS).format(who=told["who"], much=much, what=told["what"], day=told["day"])
        if note not in seen:
            seen.add(note)
            yield {"prompt": note, "completion": json.dumps(told)}


def write_notes(folder: Path) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = drawn()
    files = folder / "train.jsonl", folder / "held.jsonl"
    for file, count in zip(files, (TRAINED, HELD), strict=True):
        file.write_text("".join(json.dumps(next(rows)) + "\n" for _ in range(count)), encoding="utf-8")
    return files


def exact(held: Path, answer: Callable[[str], str]) -> tuple[int, int]:
    """Of how many notes the answer is the JSON object that is meant, whatever spaces are in it."""
    rows = [json.loads(line) for line in held.read_text(encoding="utf-8").splitlines()]
    return sum(_read(answer(row["prompt"])) == json.loads(row["completion"]) for row in rows), len(rows)


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


if __name__ == "__main__":
    write_notes(Path(sys.argv[1]))
