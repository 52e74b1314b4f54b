"""What adapters cost a decode step: one sequence with one, eight with four different ones, against the model without.

All in one process and in turns, so that a busy machine is busy for everybody; the ratio is of medians. Adapters are
random, of one rank, on every matrix that may change, in float16. Beside it one layer's pairs alone: as they are
computed here, by MLX's gather_mm, and as vllm-metal does it (each token gathers its own pair), as a plain MLX form.

    python bench/adapters.py [MODEL] [--rank 16] [--rounds 40] [--json]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx

from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.model import Model
from mlxrun.ops.adapters import Adapter, AdapterPart, adapted
from mlxrun.ops.native import pack
from mlxrun.settings import from_environment
from mlxrun.store.resolve import resolve

PROMPT, CONTEXT, ADAPTERS, ROWS = 64, 2048, 4, 8
Step = Callable[[], object]


def random_adapter(model: Model, name: str, rank: int) -> Adapter:
    assert model.decoder.adapted is not None
    parts = {}
    for place, linear in model.decoder.adapted.places.items():
        out, inputs = linear.weight.shape
        a = (mx.random.normal((rank, inputs)) * inputs**-0.5).astype(mx.float16)
        b = (mx.random.normal((out, rank)) * 0.01).astype(mx.float16)
        mx.eval(a, b)
        native = model.device.native
        parts[place] = AdapterPart(pack(a), pack(b), 1.0) if native else AdapterPart(a, b, 1.0)
    return Adapter(name, name, parts)


def stepping(model: Model, adapters: list[Adapter | None]) -> Step:
    """A token for each of so many sequences."""
    memories = []
    for adapter in adapters:
        memory = model.new_sequence(CONTEXT)
        memory.adapter = adapter
        mx.eval(model(mx.zeros((PROMPT,), mx.int32), [(memory, PROMPT)]))
        memories.append(memory)
    ids = mx.full((len(memories),), 3, mx.int32)
    return lambda: mx.eval(model.logits(model(ids, [(memory, 1) for memory in memories])))


def medians(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Seconds, measured in turns."""
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 2):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            if turn > 1:  # the first ones are not warm
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in taken.items()}


def pairs_alone(model: Model, adapters: list[Adapter], rank: int) -> dict[str, Step]:
    """Of the first layer's matrices, for eight rows with four adapters in turns of two."""
    assert model.decoder.adapted is not None
    places = {name: p for name, p in model.decoder.adapted.places.items() if name.startswith("layers.0.")}
    inputs = {name: mx.random.normal((ROWS, linear.weight.shape[1])) for name, linear in places.items()}
    plain = {name: mx.zeros((ROWS, linear.weight.shape[0])) for name, linear in places.items()}
    downs = {name: mx.random.normal((ADAPTERS, rank, x.shape[1])) for name, x in inputs.items()}
    ups = {name: mx.random.normal((ADAPTERS, y.shape[1], rank)) for name, y in plain.items()}
    ids = mx.array([row * ADAPTERS // ROWS for row in range(ROWS)])
    mx.eval(inputs, plain, downs, ups, ids)
    each = ROWS // ADAPTERS

    def ours() -> None:
        made = []
        for name, x in inputs.items():
            spans = [(place * each, each, adapter.parts[name]) for place, adapter in enumerate(adapters)]
            made.append(adapted(x, plain[name], None, spans, model.device))
        mx.eval(made)

    def gather_mm() -> None:
        made = []
        for name, x in inputs.items():
            low = mx.gather_mm(x[:, None], downs[name].swapaxes(-1, -2), rhs_indices=ids)
            made.append(plain[name] + mx.gather_mm(low, ups[name].swapaxes(-1, -2), rhs_indices=ids)[:, 0])
        mx.eval(made)

    def a_token() -> None:
        made = []
        for name, x in inputs.items():
            low = mx.take(downs[name], ids, axis=0) @ x[..., None]
            made.append(plain[name] + (mx.take(ups[name], ids, axis=0) @ low)[..., 0])
        mx.eval(made)

    return {"spans, as here": ours, "gather_mm": gather_mm, "gathered by each token": a_token}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    settings = from_environment()
    place = Path(resolve(flags.model, settings))
    options = LoadOptions(context=CONTEXT, ready=settings.ready)
    without = load_model(place, options=options)
    having = load_model(place, options=LoadOptions(context=CONTEXT, ready=settings.ready, more_adapters=True))
    if not isinstance(without, Model) or not isinstance(having, Model):
        raise SystemExit("A model without a recipe here has no adapters.")
    adapters = [random_adapter(having, str(number), flags.rank) for number in range(ADAPTERS)]
    several = [adapters[row * ADAPTERS // ROWS] for row in range(ROWS)]
    steps = {
        "1 row, model without adapters": stepping(without, [None]),
        "1 row, none has one": stepping(having, [None]),
        "1 row, one adapter": stepping(having, [adapters[0]]),
        f"{ROWS} rows, model without adapters": stepping(without, [None] * ROWS),
        f"{ROWS} rows, {ADAPTERS} adapters": stepping(having, list(several)),
    }
    found = medians(steps, flags.rounds)
    alone = medians(pairs_alone(having, adapters, flags.rank), flags.rounds)
    if flags.json:
        print(json.dumps({"model": flags.model, "rank": flags.rank, "seconds": found, "one_layer": alone}, indent=2))
        return
    plain = {name.split(",")[0]: found[name] for name in found if name.endswith("without adapters")}
    for name, seconds in found.items():
        share = plain[name.split(",")[0]] / seconds
        print(f"{name:34} {1e3 * seconds:8.2f} ms a step  {share:5.2f} of the speed without")
    for name, seconds in alone.items():
        print(f"one layer's pairs, {name:23} {1e6 * seconds:8.0f} us")


if __name__ == "__main__":
    main()
