"""Makes the references: `python -m tests.golden.make [CASE ...]`, with torch and transformers installed.

For every case: build the transformers model, let it save itself to learn the names and shapes on
disk, draw every tensor, write the file, read it back through transformers' own loader, and store the
config as transformers wrote it, the manifest, and the float32 output for a fixed prompt. Every weight
is then changed in turn to see that the output depends on it, and the other layouts that the tests write
are read by transformers too.
Running it twice gives the same files. Nothing of mlxrun but the drawing is imported here, and nothing of MLX.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from .case import Case, prompt
from .cases import CASES
from .checkpoint import Checkpoint, write
from .draw import draw, kind_of
from .keep import FELT, STEADY, store
from .layouts import layouts

MADE_WITH = {"torch": torch.__version__, "transformers": transformers.__version__}
INPUTS_FIRST = {  # tensors stored (..., inputs, outputs)
    "llama4_text": r"\.experts\.",
    "gpt_oss": r"\.experts\.(gate_up|down)_proj$",
    "recurrent_gemma": r"_gate_weight$",
    "gpt2": r"\.c_(attn|proj|fc)\.weight$",
}
ZERO_CENTRED = {"nemotron"}  # initialised to 1 there, near 0 in real checkpoints
IDLE = {  # by case: weights that cannot move the output
    # a bias on keys adds the same to every score unless RoPE turns it
    **dict.fromkeys(("bert", "roberta", "xlm_roberta"), r"^pooler\.|key\.bias$"),
    "mpnet_long": r"^pooler\.|attn\.k\.bias$",
    "jina_embeddings_v3": r"^pooler\.",
    "gemma3n_second": r"altup\.correct_output_scale$",
    "opt": r"k_proj\.bias$",
    "opt_350m": r"k_proj\.bias$",
    "glm_moe_dsa_dense": r"\.indexer\.",  # asks for more keys than there are
}


def build(case: Case) -> Any:
    config = transformers.CONFIG_MAPPING[case.model_type](**case.config)
    if case.encoder:
        return transformers.AutoModel.from_config(config)
    if type(config) in transformers.AutoModelForCausalLM._model_mapping:
        return transformers.AutoModelForCausalLM.from_config(config)
    return getattr(transformers, type(config).__name__.replace("Config", "ForCausalLM"))(config)


def manifest(case: Case, initial: dict[str, np.ndarray]) -> dict[str, tuple[list[int], str]]:
    inputs_first = re.compile(INPUTS_FIRST.get(case.model_type, "(?!)"))
    found = {}
    for tensor, value in sorted(initial.items()):
        kind = kind_of(tensor, value, bool(inputs_first.search(tensor)), case.select_bias)
        if kind == "norm" and case.model_type in ZERO_CENTRED:
            kind = "norm0"
        found[tensor] = (list(value.shape), kind)
    return found


def output(model: Any, case: Case) -> np.ndarray:
    """(tokens, vocabulary) logits, or (tokens, hidden) states of an encoder."""
    ids = torch.tensor([prompt(case.tokens)])
    with torch.no_grad():
        result = model(input_ids=ids) if case.encoder else model(input_ids=ids, use_cache=False)
    return (result.last_hidden_state if case.encoder else result.logits)[0].float().numpy()


def disturb(tensor: torch.Tensor, random: torch.Generator, size: float) -> None:
    with torch.no_grad():
        tensor.mul_(1 + size * torch.randn(tensor.shape, generator=random))


def idle_weights(model: Any, case: Case, reference: np.ndarray) -> list[str]:
    """Parameters and selection biases whose change nobody feels."""
    random = torch.Generator().manual_seed(0)
    weights = dict(model.named_parameters())
    weights |= {name: b for name, b in model.named_buffers() if name.endswith(("correction_bias", "expert_bias"))}
    idle = []
    for name, tensor in weights.items():
        kept = tensor.detach().clone()
        disturb(tensor, random, 0.5)
        if np.abs(output(model, case) - reference).max() < FELT:
            idle.append(name)
        with torch.no_grad():
            tensor.copy_(kept)
    return idle


def rounding(model: Any, case: Case, reference: np.ndarray) -> float:
    """How far the output moves when every weight is off by half a unit in its last place; spoils the weights."""
    random = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        disturb(parameter, random, 6e-8)
    return float(np.abs(output(model, case) - reference).max())


def read_back(kind: type, folder: Path, more: bool = False) -> Any:
    """The folder through transformers' own loader: nothing missing, and nothing left over unless `more`."""
    model, told = kind.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        experts_implementation="eager",
        output_loading_info=True,
    )
    keys = ("missing_keys", "mismatched_keys") if more else ("missing_keys", "mismatched_keys", "unexpected_keys")
    wrong = {key: told[key] for key in keys if told.get(key)}
    if wrong:
        raise ValueError(f"transformers did not read the file back whole: {wrong}")
    return model.eval()


def check_layouts(kind: type, name: str, base: Checkpoint, reference: np.ndarray) -> None:
    """Our other spellings and layouts must mean the same to transformers, so that the tests may rely on them."""
    case = CASES[name]
    for layout, change in layouts(name, case.model_type).items():
        if layout.startswith(("wrapped", "authors'")):
            continue  # needs the other half of a multimodal model, or is none that transformers reads
        other = change(base)
        other.config["model_type"] = case.model_type  # Kimi K2 has a name of its own that transformers has not
        with tempfile.TemporaryDirectory() as folder:
            model = read_back(kind, write(other, Path(folder)), more=True)
        if np.abs(output(model, case) - reference).max() > FELT / 100:
            raise ValueError(f"the layout {layout!r} means something else to transformers")


def make(name: str) -> str:
    case = CASES[name]
    torch.manual_seed(0)
    first = build(case)
    with tempfile.TemporaryDirectory() as folder:
        first.save_pretrained(folder)
        config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
        tensors = manifest(case, load_file(f"{folder}/model.safetensors"))
    values = {tensor: draw(name, tensor, tuple(shape), kind, case.seed) for tensor, (shape, kind) in tensors.items()}
    base = Checkpoint(config, values)
    with tempfile.TemporaryDirectory() as folder:
        model = read_back(type(first), write(base, Path(folder)))
    reference = output(model, case)
    check_layouts(type(first), name, base, reference)
    idle = idle_weights(model, case, reference)
    surprising = [weight for weight in idle if not re.search(IDLE.get(name, "(?!)"), weight)]
    if surprising:
        raise ValueError(f"the output does not depend on {surprising}")
    noise = rounding(model, case, reference)
    if noise > STEADY:
        raise ValueError(f"rounding alone moves the output by {noise:.1e}; give the case another seed")
    store(name, case, MADE_WITH, config, tensors, reference)
    return f"{len(tensors)} tensors, outputs to {np.abs(reference).max():.1f}, rounding {noise:.1e}"


def main(names: list[str]) -> int:
    ours = [name for name, case in CASES.items() if case.of == "transformers"]
    unknown = [name for name in names if name not in ours]
    if unknown:
        print(f"No such case: {', '.join(unknown)}. Known are {', '.join(ours)}.", file=sys.stderr)
        return 2
    torch.set_num_threads(1)  # the sums must not depend on the machine's cores
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in names or ours:
        try:
            print(f"{name}: {make(name)}", flush=True)
        except ValueError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
