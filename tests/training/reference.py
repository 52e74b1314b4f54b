"""What torch makes of the same training: gradients, and five steps of AdamW. Recorded in `goldens/`.

    python -m tests.training.reference        with torch and transformers installed (make golden)

LoRA is written out here in three lines: y + scale * (x @ A.T) @ B.T beside every matrix that is named. Two texts of
other lengths, of which some tokens are learnt; losses are summed and divided by their number. Nothing of mlxrun is
imported but how weights are drawn.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "goldens"
CASES = ("llama", "qwen3", "qwen3_moe", "gemma2")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = {"qwen3_moe": ATTENTION}  # its experts are not trained here
DENSE = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
RANK, ALPHA, RATE, DECAY, STEPS = 2, 3.0, 1e-2, 0.05, 5

Floats = NDArray[np.float32]


def targets(name: str) -> tuple[str, ...]:
    return TARGETS.get(name, DENSE)


def drawn(module: str, out: int, inputs: int) -> tuple[Floats, Floats]:
    """A and B; neither is nothing, or the other would have no gradient."""
    random = np.random.default_rng(list(module.encode()))
    a = random.standard_normal((RANK, inputs)) / inputs**0.5
    return a.astype(np.float32), (0.1 * random.standard_normal((out, RANK))).astype(np.float32)


def texts(prompt: tuple[int, ...]) -> list[tuple[list[int], list[bool]]]:
    """Ids, and which of them are learnt."""
    first, second = list(prompt), list(prompt[5:16])[::-1]
    return [
        (first, [8 <= at < 14 or at >= 20 for at in range(len(first))]),
        (second, [at >= 1 for at in range(len(second))]),
    ]


def make(name: str) -> dict[str, Floats]:
    import torch

    from tests.golden.cases import CASES as GOLDEN
    from tests.golden.checkpoint import reference, write
    from tests.golden.make import build, read_back

    known = reference(name)
    with tempfile.TemporaryDirectory() as folder:
        model = read_back(type(build(GOLDEN[name])), write(known.checkpoint(), Path(folder)))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trained: dict[str, Any] = {}
    for module, linear in model.named_modules():
        if isinstance(linear, torch.nn.Linear) and module.rpartition(".")[2] in targets(name):
            a, b = (torch.nn.Parameter(torch.tensor(part)) for part in drawn(module, *linear.weight.shape))
            trained |= {f"{module}/A": a, f"{module}/B": b}
            linear.register_forward_hook(lambda own, given, y, a=a, b=b: y + ALPHA / RANK * (given[0] @ a.T) @ b.T)

    def loss() -> Any:
        total, count = 0.0, 0
        for ids, learnt in texts(known.prompt):
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].float()
            rows = [at - 1 for at, wanted in enumerate(learnt) if wanted]
            wanted = torch.tensor([ids[row + 1] for row in rows])
            total = total + torch.nn.functional.cross_entropy(logits[rows], wanted, reduction="sum")
            count += len(rows)
        return total / count

    found: dict[str, Floats] = {}
    optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=DECAY)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        losses.append(value.item())
        if step == 0:
            found |= {f"gradient/{name}": one.grad.numpy().copy() for name, one in trained.items()}
        optimizer.step()
    found |= {f"after/{name}": one.detach().numpy() for name, one in trained.items()}
    return found | {"losses": np.array([*losses, loss().item()], np.float32)}


def main() -> None:
    import torch

    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        found = make(name)
        np.savez_compressed(FOLDER / f"{name}.npz", **found)
        print(f"{name}: {len(found)} arrays, losses {found['losses'].round(4)}", flush=True)


if __name__ == "__main__":
    main()
