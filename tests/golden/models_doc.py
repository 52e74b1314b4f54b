"""docs/models.md from the tests' own record: `python -m tests.golden.models_doc` runs them and writes both.

`python -m tests.golden.models_doc --new` runs the cases that the record lacks and adds them, and
`python -m tests.golden.models_doc --only-page` writes the page again from the record that is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlxrun.families.gguf.architectures import ARCHITECTURES
from tests.unit.families.test_gguf_models import ARCHITECTURES as READ_GGUF

from .cases import CASES
from .families import FAMILIES, cases_of
from .mlx_dialect import reason_against
from .record import write as write_record
from .towers import CASES as TOWER_CASES
from .towers import FAMILIES as TOWER_FAMILIES
from .unchecked import UNCHECKED

ROOT = Path(__file__).resolve().parents[2]
RECORD, PAGE = ROOT / "docs" / "golden.json", ROOT / "docs" / "models.md"
WAYS = {"whole": "whole pass", "chunked": "chunks, then steps", "ragged": "ragged batch", "rewound": "rewound"}

DEFAULT = {"default exact": "default, exact", "default fast": "default, fast"}

HEAD = """# Models

Every family below is run against transformers, or against mlx-lm's class where transformers has none: tiny checkpoints
with all weights drawn anew, written to disk and read by the same loader that reads real ones. A number is the largest
absolute difference of float32 outputs (logits of size 2 to 6; hidden states for encoders); the tests allow 1e-4, and
on the default path 1e-5 of the largest output (exact) or 4e-3 of it (fast).

- **whole pass**: the prompt at once, against transformers.
- **chunks, then steps**: the prompt in uneven pieces and then token by token, against transformers.
- **ragged batch**: four sequences of different lengths in one batch, some in prefill and some decoding,
  against each alone.
- **rewound**: back to an earlier length, then other tokens, against a fresh run.
- **default, exact** and **default, fast**: all of these and steps of several sequences at once, as a person loads
  the model: weights packed for the native CPU kernels, branches of a layer fused, steps as one node; the others load
  plain float32 weights. `fast`, which is what runs unless asked otherwise, keeps keys in float16. Where that makes
  two experts that stand within 2e-3 of each other change places, as in one row of Phi 3.5 MoE, the row is measured
  with the exact pass's choice.
- **files**: the same for every other layout and config spelling that the family's files come in.
- **mlx**: the same for checkpoints as mlx-lm writes them.

"""


SEES = """These see, from a folder of safetensors: of a conversation with two pictures of unlike shapes, the prompt's
tokens and the pixels are those of transformers' processor and PIL class to the bit, the tower's rows and
the logits within 1e-4 of its model (float32; within 4e-3 and 8e-3 of the largest as a person loads the
model): the prompt at once, in chunks that cut pictures, two sequences in one batch, and rewound into a
picture. **No vision tower with trained weights could be had where this was made: all of that is shown with
weights that were drawn, so that arithmetic, pixels and prompts are proven, and no answer of a trained model
was seen.** Speeds were not compared with other programs. Every other tower is left out: such a model loads
as one of text, and its load says so. A picture becomes at most 4,096 rows of a Qwen or GLM, whatever its
authors allow: a larger one is shrunk to that. Gemma 4 sees a picture both ways in its layers with windows
alone, as transformers' `generate` has it. There are no `mmproj` files and no videos yet. The paths of a GPU
have seen no picture.""".splitlines()


def worst(numbers: Iterable[float]) -> str:
    found = list(numbers)
    return (f"{max(found):.1e}" if max(found) else "0") if found else "–"


def by_prefix(kept: list[dict[str, float]], prefix: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in kept:
        for key, value in record.items():
            if key.startswith(prefix):
                name = key.removeprefix(prefix)
                found[name] = max(value, found.get(name, 0.0))
    return found


def row(family: str, record: dict[str, dict[str, float]]) -> str:
    names = cases_of(family)
    kept = [record[name] for name in names]
    cells = [family, f"`{FAMILIES[family][0]}`", str(len(names))]
    cells += [worst(k[way] for k in kept if way in k) for way in (*WAYS, *DEFAULT)]
    cells += [worst(by_prefix(kept, "layout ").values()), worst(by_prefix(kept, "dialect ").values())]
    return f"| {' | '.join(cells)} |"


def references() -> Iterable[str]:
    """What each family was proven against, and whether as a GGUF file too."""
    yield from ("", "## References", "")
    yield "Whose class computed the outputs, and the architecture of llama.cpp in whose files the same models are read."
    yield from ("", "| family | reference | GGUF |", "|---|---|---|")
    for family in FAMILIES:
        names = cases_of(family)
        read = ", ".join(sorted({READ_GGUF[name] for name in names if name in READ_GGUF})) or "–"
        yield f"| {family} | {' and '.join(sorted({CASES[name].of for name in names}))} | {read} |"


def formats(record: dict[str, dict[str, float]]) -> Iterable[str]:
    quantized = {name: by_prefix([kept], "quantized ") for name, kept in record.items()}
    names = [name for name, found in quantized.items() if found]
    kinds = sorted({kind for found in quantized.values() for kind in found})
    yield f"| format | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for kind in kinds:
        cells = [worst([quantized[name][kind]] if kind in quantized[name] else []) for name in names]
        yield f"| {kind} | {' | '.join(cells)} |"


def others() -> Iterable[str]:
    """Types without a recipe."""
    yield from ("", "## Model types without a recipe", "")
    yield "mlx-lm has classes for these, and nobody has checked them here. They are refused until a person says"
    yield "`--unchecked`; then they run one sequence at a time:"
    yield ""
    for reason in dict.fromkeys(UNCHECKED.values()):
        yield f"- {', '.join(f'`{name}`' for name, why in UNCHECKED.items() if why == reason)}: {reason}"


def towers() -> Iterable[str]:
    """What sees beside a decoder."""
    yield from ("", "## Pictures", "", *SEES, "", "| family | model_type | cases |", "|---|---|---|")
    for kind, family in TOWER_FAMILIES.items():
        names = [name for name, case in TOWER_CASES.items() if case.model_type == kind]
        yield f"| {family} | `{kind}` | {', '.join(names)} |"


def page(stored: dict[str, Any]) -> str:
    record, made = stored["cases"], stored["made_with"]
    lines = [HEAD + f"Measured with {', '.join(f'{name} {version}' for name, version in made.items())}.", ""]
    columns = ["family", "model_type", "cases", *WAYS.values(), *DEFAULT.values(), "files", "mlx"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += [row(family, record) for family in FAMILIES]
    lines += references()
    lines += ["", "## Files that each family was read from", ""]
    for family in FAMILIES:
        read = by_prefix([record[name] for name in cases_of(family)], "layout ")
        if set(read) - {"older"}:
            lines.append(f"- {family}: {', '.join(sorted(read))}")
    lines += ["", "`older` is the config spelling before transformers 5 (every family that has one); `in memory` what"]
    lines += ["transformers 5 saves with its module names; `wrapped` the text half of a multimodal checkpoint;"]
    lines += ["`prediction` with layers for predicting further tokens, which are left out; `head as well` a tied"]
    lines += ["head that is stored all the same.", ""]
    lines += ["No mlx checkpoint to read:", ""]
    for family, (model_type, _) in FAMILIES.items():
        reasons = {reason_against(name, model_type) for name in cases_of(family)} - {None}
        if len(reasons) and all(reason_against(name, model_type) for name in cases_of(family)):
            lines.append(f"- {family}: {reasons.pop()}")
    lines += ["", "## Quantized weights", "", "Against the same weights dequantized in NumPy and run in float32.", ""]
    lines += formats(record)
    lines += towers()
    lines += others()
    lines += [
        "",
        "## GGUF",
        "",
        "Architectures of GGUF files that are read, and the model types that are written as them",
    ]
    lines += ["(`mlxrun convert MODEL -o FILE.gguf`, [formats.md](formats.md)).", ""]
    lines += ["| architecture | model_type |", "|---|---|"]
    lines += [
        f"| {name} | {', '.join(f'`{kind}`' for kind in arch.writes) or '–'} |" for name, arch in ARCHITECTURES.items()
    ]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    if "--only-page" not in arguments:
        before = json.loads(RECORD.read_text(encoding="utf-8"))
        kept = before["cases"] if "--new" in arguments else {}
        cases = [name for name in CASES if name not in kept]
        tests = [sys.executable, "-m", "pytest", "tests/golden", "--ignore", "tests/golden/test_models_doc.py"]
        asked = {"GOLDEN_RECORD": str(RECORD), "GOLDEN_CASES": " ".join(cases) if kept else ""}
        done = subprocess.run(tests, cwd=ROOT, env={**os.environ, **asked}, check=False)
        if done.returncode:
            return done.returncode
        write_record(RECORD, {**kept, **json.loads(RECORD.read_text(encoding="utf-8"))["cases"]})
    PAGE.write_text(page(json.loads(RECORD.read_text(encoding="utf-8"))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
