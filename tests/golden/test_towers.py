"""Towers against transformers: tokens, pixels to the bit, rows and logits; whole, in chunks, ragged, rewound, and as a
person loads the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from mlxrun.assistant import template_of, tokenizer_of
from mlxrun.contracts import SoftRows, Turns
from mlxrun.core import ShownTile
from mlxrun.engine.pictures import laid_out
from mlxrun.engine.places import coordinates_of
from mlxrun.loading import load_model, open_model
from mlxrun.loading.options import LoadOptions
from mlxrun.media.reader import PictureReader
from mlxrun.nn.tower import values_of
from mlxrun.ops.device import this_device
from mlxrun.text.prompting import ChatPrompt, Prompter
from mlxrun.turns import Ask, Picture, Role, Turn

from .towers import ASKED, CASES, TowerReference, digest, tower_reference

TOLERANCE = 1e-4
FAST = 4e-3  # of the largest


class Sees:
    """One model and the prompt that its reference was asked."""

    def __init__(self, folder: Path, reference: TowerReference, **device: Any) -> None:
        opened = open_model(folder, device=this_device(**device))
        assert opened.towers is not None
        self.model = load_model(folder, options=LoadOptions(device=this_device(**device)))
        self.reader = PictureReader(opened.towers)
        self.prompt = prompt_of(
            Prompter(tokenizer_of(opened.checkpoint), template_of(opened.checkpoint), self.reader), reference
        )
        tower = self.model.tower
        assert tower is not None
        tiles = [one.tile for one in self.prompt.media]
        *_, rows = tower.encode(laid_out(tower.spec, tiles))
        self.features = np.array(rows.astype(mx.float32))

    def run(self, parts: Sequence[tuple[Any, range]]) -> list[np.ndarray]:
        """(memory, which of the prompt's tokens) a sequence -> the logits of each."""
        ids = mx.array([self.prompt.tokens[at] for _, places in parts for at in places], mx.int32)
        pictures = [shown(self.prompt.media, run.start, run.stop) for _, run in parts]
        given, soft = None, list(self._soft(parts))
        if soft:
            given = SoftRows(
                mx.array([row for row, _ in soft], mx.int32), mx.array(np.stack([x for _, x in soft])), pictures
            )
        turns = turns_of(self.prompt.media, [places for _, places in parts])
        hidden = self.model(ids, [(memory, len(places)) for memory, places in parts], given, turns)
        logits = np.array(self.model.logits(hidden).astype(mx.float32))
        return np.split(logits, np.cumsum([len(places) for _, places in parts])[:-1])

    def _soft(self, parts: Sequence[tuple[Any, range]]) -> Iterator[tuple[int, np.ndarray]]:
        by_place = dict(zip(soft_places(self.prompt.media), self.features, strict=True))
        row = 0
        for _, places in parts:
            for place in places:
                if place in by_place:
                    yield row, by_place[place]
                row += 1


def shown(media: Sequence[ShownTile], first: int, end: int) -> tuple[tuple[int, int], ...]:
    return tuple((one.first, one.end) for one in media if one.whole and one.first < end and one.end > first)


def turns_of(media: Sequence[ShownTile], runs: Sequence[range]) -> Turns | None:
    if not any(one.tile.shape for one in media):
        return None
    found = [coordinates_of(media, run) for run in runs]
    every = [[at for (axes, _, _) in found for at in axes[axis]] for axis in range(3)]
    return Turns(every, [shift for _, shift, _ in found], any(apart for _, _, apart in found))


def soft_places(media: Sequence[ShownTile]) -> list[int]:
    return [at for one in media for first, count in one.spans for at in range(first, first + count)]


def prompt_of(prompter: Prompter, reference: TowerReference) -> ChatPrompt:
    content = [part for data in reference.pictures for part in (Picture("image/png", data), ASKED)]
    prompt = prompter.prompt(Ask((Turn(Role.USER, tuple(content)),)))
    end = len(reference.tokens)  # where our answer begins the reference's conversation ends
    return ChatPrompt(prompt.text, prompt.tokens[:end], media=prompt.media)


@pytest.fixture(scope="module", params=sorted(CASES))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[TowerReference, Path]:
    reference = tower_reference(request.param)
    return reference, reference.write(tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def exact(case: tuple[TowerReference, Path]) -> Sees:
    return Sees(case[1], case[0], precision="exact")


def apart(got: np.ndarray, wanted: np.ndarray) -> float:
    assert got.shape == wanted.shape
    return float(np.abs(got.astype(np.float64) - wanted).max())


def test_the_prompt_is_that_of_transformers(case: tuple[TowerReference, Path], exact: Sees) -> None:
    assert exact.prompt.tokens == case[0].tokens


def test_the_pixels_are_those_of_transformers_to_the_bit(case: tuple[TowerReference, Path], exact: Sees) -> None:
    towers = open_model(case[1]).towers
    assert towers is not None
    tower, values = towers.vision, np.array(values_of(towers.picture)).reshape(3, 256)
    found = []
    for one in exact.prompt.media:
        patches = np.frombuffer(one.tile.data, np.uint8)
        found.append(as_pixels(patches, one.tile.grid, tower.patch.side, tower.block, values))
    assert [digest(tile) for tile in found] == case[0].pixels


def as_pixels(data: np.ndarray, grid: tuple[int, int], side: int, block: int, values: np.ndarray) -> np.ndarray:
    """(3, height, width)"""
    down, across = grid[0] // block, grid[1] // block
    parts = data.reshape(down, across, block, block, side, side, 3).transpose(6, 0, 2, 4, 1, 3, 5)
    whole = parts.reshape(3, grid[0] * side, grid[1] * side)
    return np.stack([values[colour][whole[colour]] for colour in range(3)])


def test_rows_and_logits(case: tuple[TowerReference, Path], exact: Sees) -> None:
    reference, whole = case[0], range(len(exact.prompt.tokens))
    assert apart(exact.features, reference.features) < TOLERANCE
    assert apart(exact.run([(exact.model.new_sequence(), whole)])[0], reference.logits) < TOLERANCE


def test_in_chunks_that_cut_pictures_and_rewound(case: tuple[TowerReference, Path], exact: Sees) -> None:
    memory, out, at, count = exact.model.new_sequence(), [], 0, len(exact.prompt.tokens)
    while at < count:
        end = min(at + 11, count)
        end = next((one.end for one in exact.prompt.media if one.whole and one.first < end < one.end), end)
        out += exact.run([(memory, range(at, end))])
        at = end
    assert apart(np.concatenate(out), case[0].logits) < TOLERANCE
    middle = exact.prompt.media[0].spans[-1][0] + 2  # among the rows of a picture
    if not memory.rewind(middle):  # a scan goes on from where it was left, and cannot go back
        memory = exact.model.new_sequence()
        exact.run([(memory, range(middle))])
    again = exact.run([(memory, range(middle, count))])[0]
    assert apart(again, case[0].logits[middle:]) < TOLERANCE


def test_ragged(case: tuple[TowerReference, Path], exact: Sees) -> None:
    count = len(exact.prompt.tokens)
    last = exact.prompt.media[-1]
    cut = last.end if last.whole else last.first + 1
    one, other = exact.model.new_sequence(), exact.model.new_sequence()
    exact.run([(other, range(cut))])
    first, second = exact.run([(one, range(cut)), (other, range(cut, count))])
    assert apart(first, case[0].logits[:cut]) < TOLERANCE
    assert apart(second, case[0].logits[cut:]) < TOLERANCE


def test_the_default_path(case: tuple[TowerReference, Path]) -> None:
    sees = Sees(case[1], case[0])
    reference = case[0]
    assert apart(sees.features, reference.features) < FAST * np.abs(reference.features).max()
    logits = sees.run([(sees.model.new_sequence(), range(len(sees.prompt.tokens)))])[0]
    assert apart(logits, reference.logits) < 2 * FAST * np.abs(reference.logits).max()


@pytest.mark.parametrize("native", [None, False], ids=["best", "plain"])
@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_5", "qwen2_5_vl", "gemma4_seen", "gemma4_ple"])
def test_a_text_has_no_more_nodes_than_without_a_tower(name: str, native: bool | None, tmp_path: Path) -> None:
    folder = tower_reference(name).write(tmp_path)
    seeing = graph_of_text(folder, native, tmp_path / "seeing.dot")
    (folder / "preprocessor_config.json").unlink()
    assert sum(seeing.values()) > 4
    assert graph_of_text(folder, native, tmp_path / "blind.dot") == seeing


def graph_of_text(folder: Path, native: bool | None, path: Path) -> Counter[str]:
    """The kinds of nodes of a prompt and a word after it."""
    model = load_model(folder, options=LoadOptions(device=this_device(native=native)))
    memory = model.new_sequence()
    mx.eval(model(mx.array([1, 2, 3, 4, 5]), [(memory, 5)]), memory.arrays())
    mx.export_to_dot(str(path), model.logits(model(mx.array([6]), [(memory, 1)])))
    return Counter(re.findall(r'label ="([^"]+)", shape=rectangle', path.read_text()))


@pytest.mark.parametrize("name", ["qwen3_5", "idefics3", "internvl"])
def test_a_text_half_that_was_written_alone(name: str, tmp_path: Path) -> None:
    """As mlx-lm writes it: config.json goes on telling of a tower."""
    whole = tower_reference(name)
    parts = ("visual", "vision", "connector", "projector")
    kept = {key: told for key, told in whole.tensors.items() if not any(part in key for part in parts)}
    opened = open_model(replace(whole, tensors=kept).write(tmp_path))
    assert opened.towers is None
    assert opened.recipe.left_out == "the vision tower (its weights are not there)"
    assert load_model(tmp_path).tower is None


def test_experts_as_published_lie_input_first(tmp_path: Path) -> None:
    reference = tower_reference("qwen3_vl_moe")
    folder = reference.write(tmp_path)
    weights = load_file(folder / "model.safetensors")
    for name in [name for name in weights if ".experts." in name]:
        weights[name] = np.ascontiguousarray(weights[name].swapaxes(1, 2))
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    sees = Sees(folder, reference, precision="exact")
    logits = sees.run([(sees.model.new_sequence(), range(len(sees.prompt.tokens)))])[0]
    assert apart(logits, reference.logits) < TOLERANCE


def test_with_the_forms_of_mlx(case: tuple[TowerReference, Path]) -> None:
    """Where no native kernels compute: keys of each sequence by themselves, and masks in the place of ends."""
    sees = Sees(case[1], case[0], native=False)
    count, cut = len(sees.prompt.tokens), sees.prompt.media[0].end
    assert apart(sees.features, case[0].features) < TOLERANCE
    memory = sees.model.new_sequence()
    logits = [sees.run([(memory, run)])[0] for run in (range(cut), range(cut, count))]
    assert apart(np.concatenate(logits), case[0].logits) < TOLERANCE
