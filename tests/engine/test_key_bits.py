"""Keys and values that are remembered in 8 bits: half the memory, counted as such, nearly the same answers, and a row's
bits its own as with 16; refused in a sentence where they cannot be.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.core import KeyBits
from mlxrun.loading import LoadOptions, load_model, open_model
from mlxrun.loading.load import prefix_folder
from mlxrun.loading.model import Model
from mlxrun.ops.device import this_device
from mlxrun.spec import ModelError, SideBySide
from tests.golden import checkpoint

from .test_invariance import always, at_random, rows_of

native_only = pytest.mark.skipif(
    not this_device().native, reason="keys lie in pages where the native CPU kernels compute"
)
TEXTS = [[(7 * i + k) % 90 + 3 for i in range(n)] for k, n in enumerate((140, 60, 5))]


def loaded(name: str, folder: Path, bits: KeyBits) -> Model:
    made = checkpoint.write(checkpoint.reference(name).checkpoint(), folder / f"{name} {bits}")
    model = load_model(made, options=LoadOptions(kv_bits=bits))
    assert isinstance(model, Model)
    return model


@native_only
@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt_oss", "llama4_scout", "gemma4_small"])
def test_a_row_has_the_same_bits_however_its_pass_is_made(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path, 8)
    texts = [[token % model.vocab for token in text] for text in TEXTS]
    alone = [rows_of(model, [text], always(1))[0] for text in texts]
    for found in (rows_of(model, texts, at_random(3)), [rows_of(model, [text], always(37))[0] for text in texts]):
        for one, other in zip(alone, found, strict=True):
            assert np.array_equal(one.view(np.uint32), other.view(np.uint32))


@native_only
@pytest.mark.parametrize("name", ["llama", "falcon_h1"])
def test_half_the_bytes_as_planned_and_nearly_the_same_answers(name: str, tmp_path: Path) -> None:
    wide, narrow = loaded(name, tmp_path, 16), loaded(name, tmp_path, 8)
    assert wide.pages is not None
    assert narrow.pages is not None
    pages = [sum(ids.page_bytes for _, ids in model.pages.groups) for model in (wide, narrow) if model.pages]
    mixer = wide.spec.layers[0].mixer
    head = (mixer.attention if isinstance(mixer, SideBySide) else mixer).head_dim  # type: ignore[union-attr]  # it has
    assert pages[1] / pages[0] == pytest.approx((head + 2 * -(-head // 64)) / (2 * head), rel=0.05)
    planned = [model.planned_bytes(6400, 64) - model.planned_bytes(3200, 64) for model in (wide, narrow)]
    assert planned == [50 * one for one in pages]
    assert (wide.holdings.used.key_bits, narrow.holdings.used.key_bits) == (16, 8)
    assert "Keys and values are remembered in 8 bits." in narrow.holdings.used.sentences
    text = [token % wide.vocab for token in TEXTS[0]]
    one, other = (mx.array(rows_of(model, [text], always(64))[0]) for model in (wide, narrow))
    ours, theirs = (mx.softmax(logits, axis=-1, precise=True) for logits in (one, other))
    assert 0 < mx.mean(mx.sum(ours * (mx.log(ours) - mx.log(theirs)), axis=-1)).item() < 1e-3


@native_only
def test_what_was_read_with_other_bits_is_not_found_on_disk(tmp_path: Path) -> None:
    opened = open_model(checkpoint.write(checkpoint.reference("llama").checkpoint(), tmp_path / "model"))
    options = LoadOptions(prefixes=tmp_path, prefix_bytes=1000)
    folders = [prefix_folder(opened, replace(options, kv_bits=bits)) for bits in (16, 8)]
    assert folders[0] != folders[1]


@native_only
def test_latents_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"8 bits .*remembers latents in their place; take 16"):
        loaded("deepseek_v3", tmp_path, 8)


def test_without_the_native_kernels_they_are_refused(tmp_path: Path) -> None:
    folder = checkpoint.write(checkpoint.reference("llama").checkpoint(), tmp_path)
    options = LoadOptions(kv_bits=8, device=this_device(native=False))
    with pytest.raises(ModelError, match=r"8 bits .*only where the native kernels run the model on a processor"):
        load_model(folder, options=options)
