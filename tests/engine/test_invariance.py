"""What a request gets never depends on who else is there: the same bits alone, in any batch, however its prompt is cut,
and from what others have read. With the loader's own forms on a processor, where keys lie in pages.

Attention over keys that an indexer picks sums in another order for other numbers of rows: that is compared up to ties.
`make invariance` asks every case of the golden tests.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.cache.kinds import PAGE
from mlxrun.core import Event, Finish, Request, Sampling
from mlxrun.loading import load_model
from mlxrun.loading.model import Model
from mlxrun.ops.device import this_device
from mlxrun.spec import Decoder, LatentAttention
from tests.golden import checkpoint
from tests.golden.cases import CASES

from .simulated import Simulated
from .test_real_models import assert_same_up_to_a_tie, tokens

pytestmark = pytest.mark.skipif(
    not this_device().native, reason="keys lie in pages where the native CPU kernels compute"
)

SHOWN = (
    *("llama", "qwen3", "gemma2", "gemma3", "gemma4_small", "gpt_oss", "llama4_scout", "bloom", "phi3_longrope_long"),
    *("deepseek_v3", "mixtral", "qwen3_moe", "olmo2", "opt", "cohere2"),
    *("qwen3_next", "jamba", "nemotron_h", "falcon_h1", "lfm2", "kimi_linear", "recurrent_gemma"),
)
ASKED = sorted(CASES) if os.environ.get("MLXRUN_TEST_ALL") else SHOWN
ENGINES = (
    "llama",
    "gemma3",
    "gpt_oss",
    "llama4_scout",
    "gemma4_small",
    "deepseek_v3",
    "qwen3_next",
    "jamba",
    "falcon_h1",
    "lfm2",
    "kimi_linear",
)


def is_exact(spec: Decoder) -> bool:
    mixers = [layer.mixer for layer in spec.layers]
    return not any(isinstance(mixer, LatentAttention) and mixer.indexer is not None for mixer in mixers)


def rows_of(model: Model, texts: list[list[int]], cuts: Iterator[int]) -> list[np.ndarray]:
    """Logits after each token, where so many of each text go through at a time, all texts together."""
    memories, at = [model.new_sequence() for _ in texts], [0] * len(texts)
    found: list[list[np.ndarray]] = [[] for _ in texts]
    while any(start < len(text) for start, text in zip(at, texts, strict=True)):
        parts = [(i, min(next(cuts), len(text) - at[i])) for i, text in enumerate(texts) if at[i] < len(text)]
        ids = [token for i, count in parts for token in texts[i][at[i] : at[i] + count]]
        hidden = model(mx.array(ids, mx.int32), [(memories[i], count) for i, count in parts])
        logits = np.array(model.logits(hidden).astype(mx.float32))
        start = 0
        for i, count in parts:
            found[i].append(logits[start : start + count])
            start, at[i] = start + count, at[i] + count
    return [np.concatenate(rows) for rows in found]


def always(count: int) -> Iterator[int]:
    while True:
        yield count


def at_random(seed: int) -> Iterator[int]:
    draw = random.Random(seed)
    while True:
        yield draw.choice((1, 1, 2, 7, 40))


@pytest.mark.parametrize("name", ASKED)
def test_a_row_has_the_same_bits_however_its_pass_is_made(name: str, tmp_path: Path) -> None:
    reference = checkpoint.reference(name)
    if reference.encoder:
        pytest.skip("an encoder reads a text as a whole")
    model = load_model(checkpoint.write(reference.checkpoint(), tmp_path))
    assert isinstance(model, Model)
    draw, most = random.Random(1), min(model.context - 2, 150)
    texts = [[draw.randrange(model.vocab) for _ in range(count)] for count in (most, most // 2, 5)]
    alone = [rows_of(model, [text], always(1))[0] for text in texts]
    ways: dict[str, Callable[[], list[np.ndarray]]] = {
        "whole": lambda: [rows_of(model, [text], always(most))[0] for text in texts],
        "seven at a time": lambda: [rows_of(model, [text], always(7))[0] for text in texts],
        "together": lambda: rows_of(model, texts, at_random(3)),
    }
    for way, found in ways.items():
        for one, other in zip(alone, found(), strict=True):
            if is_exact(model.spec):
                assert np.array_equal(one.view(np.uint32), other.view(np.uint32)), way
            else:
                np.testing.assert_allclose(one, other, atol=5e-3 * float(np.abs(one).max()), err_msg=way)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0, logprobs=4), Sampling(temperature=0.8, top_p=0.9, seed=5, logprobs=4)]
)
def test_an_answer_is_the_same_alone_beside_others_and_from_what_was_read(
    name: str, sampling: Sampling, tmp_path: Path
) -> None:
    folder = checkpoint.write(checkpoint.reference(name).checkpoint(), tmp_path)
    model = load_model(folder)
    draw, most = random.Random(2), min(model.context, 300)
    shared = [draw.randrange(model.vocab) for _ in range(most // 2)]
    prompts = [
        tuple(shared[:cut] + [draw.randrange(model.vocab) for _ in range(9)])
        for cut in (0, 3, most // 4, most // 2, most // 2)
    ]
    requests = [Request(prompt, 8, sampling) for prompt in prompts]

    def asked(simulated: Simulated, *requests: Request) -> list[list[Event]]:
        handles = [simulated.submit(r.tokens, max_tokens=r.max_tokens, sampling=r.sampling) for r in requests]
        simulated.finish()
        return [simulated.events(handle) for handle in handles]

    def cold(request: Request) -> list[Event]:
        return asked(Simulated(model=model), request)[0]

    def compare(alone: list[Event], found: list[Event]) -> None:
        if is_exact(model.spec):
            assert tokens(alone) == tokens(found)
            assert [event.logprobs for event in alone] == [event.logprobs for event in found]
        else:
            assert_same_up_to_a_tie(alone, found)

    alone = [cold(request) for request in requests]
    simulated = Simulated(model=model)
    together = asked(simulated, *requests)
    again = [asked(simulated, request)[0] for request in requests]
    for one, *found in zip(alone, together, again, strict=True):
        assert one[-1].finish is Finish.LENGTH
        for other in found:
            compare(one, other)
    usage = again[-1][-1].usage
    assert usage is not None
    assert usage.cached_tokens >= most // 2 // PAGE * PAGE, "the second time it was there"
    further = Request((*prompts[-1], *tokens(alone[-1]), 1, 2), 8, sampling)
    compare(cold(further), asked(simulated, further)[0])


def test_a_pass_that_broke_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """Passes over the same pages are computed in turn; after one that never will be, the next begins."""
    model = load_model(checkpoint.write(checkpoint.reference("llama").checkpoint(), tmp_path))
    assert isinstance(model, Model)
    assert model.pages is not None
    said = []
    for breaks in (False, True):
        simulated = Simulated(model=model)
        greedy = Sampling(temperature=0)
        handles = [simulated.submit((1, 2, 3, 4 + i), max_tokens=6, sampling=greedy) for i in range(2)]
        for _ in range(3):
            simulated.step()
        if breaks:
            assert model.pages.after is not None
            simulated.scheduler.broke(simulated.plans[-1], RuntimeError("The device is gone."))
            assert model.pages.after is None
        simulated.finish()
        said.append([tokens(simulated.events(handle)) for handle in handles])
    assert said[0] == said[1]
