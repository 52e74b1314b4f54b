"""Makes `peft/`: `python -m tests.adapters.make_peft [CASE ...]`, with torch, transformers and peft installed.

PEFT saves an adapter of the golden model, so that its names and shapes are its own; every tensor of that is drawn, the
file is read back by PEFT's own loader, and what the model then says is kept, in float32.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import load_file

from tests.golden.checkpoint import reference, write
from tests.golden.make import read_back

from .peft_cases import FOLDER, PEFT_CASES, PeftCase, write_adapter


def model_of(folder: Path) -> Any:
    return read_back(transformers.AutoModelForCausalLM, folder)


def saved(case: PeftCase, base: Path, folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """adapter_config.json, and the shapes of the tensors beside it."""
    model = peft.get_peft_model(model_of(base), peft.LoraConfig(task_type="CAUSAL_LM", **case.config))
    model.save_pretrained(str(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    shapes = {name: list(value.shape) for name, value in load_file(folder / "adapter_model.safetensors").items()}
    return {**config, "base_model_name_or_path": "base"}, dict(sorted(shapes.items()))


def make(name: str, case: PeftCase) -> None:
    known = reference(case.base)
    with tempfile.TemporaryDirectory() as scratch:
        base = write(known.checkpoint(), Path(scratch, "base"))
        config, shapes = saved(case, base, Path(scratch, "saved"))
        adapter = write_adapter(name, config, shapes, Path(scratch, "drawn"))
        model = peft.PeftModel.from_pretrained(model_of(base), str(adapter)).eval()
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([list(known.prompt)]), use_cache=False).logits[0].float().numpy()
    moved = np.abs(logits - known.expected).max()
    print(f"{name}: {len(shapes)} tensors move the output by {moved:.3g} of {np.abs(known.expected).max():.3g}")
    FOLDER.mkdir(exist_ok=True)
    told = {"config": config, "tensors": shapes, "made_with": {"peft": peft.__version__, "torch": torch.__version__}}
    (FOLDER / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    np.save(FOLDER / f"{name}.npy", logits.astype(np.float32))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PEFT_CASES:
        make(wanted, PEFT_CASES[wanted])
