"""Cross-encoders against transformers: the same weights through our loader, the same scores of the same pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mlxrun.loading import LoadOptions, load_model
from mlxrun.loading.model import Model
from mlxrun.spec import ModelError

from .exact import EXACT
from .rankers import CASES, pairs, ranker

TOLERANCE = 1e-4


def scores(model: Model, asked: list[tuple[list[int], list[int]]]) -> Any:
    ids = mx.array([token for ids, _ in asked for token in ids], mx.int32)
    types = mx.array([one for _, types in asked for one in types], mx.int32)
    return np.array(model.rank(ids, [(model.new_sequence(len(ids)), len(ids)) for ids, _ in asked], types))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("options", [EXACT, LoadOptions()], ids=["exact", "as a person loads it"])
def test_scores_alone_and_together(name: str, options: LoadOptions, tmp_path: Path) -> None:
    known = ranker(name)
    model = load_model(known.write(tmp_path), options=options)
    assert isinstance(model, Model)
    alone = [scores(model, [pair])[0] for pair in pairs()]
    allowed = TOLERANCE if options is EXACT else 0.02
    np.testing.assert_allclose(alone, known.scores, atol=allowed)
    np.testing.assert_allclose(scores(model, pairs()), alone, atol=1e-6)


def test_which_text_a_token_stands_in_counts(tmp_path: Path) -> None:
    model = load_model(ranker("bert").write(tmp_path), options=EXACT)
    assert isinstance(model, Model)
    (ids, types), *_ = pairs()
    assert abs(scores(model, [(ids, types)])[0] - scores(model, [(ids, [0] * len(ids))])[0]) > 100 * TOLERANCE


@pytest.mark.parametrize("labels", [None, {"0": "no", "1": "yes"}])
def test_a_head_of_several_labels_is_left_out(labels: Any, tmp_path: Path) -> None:
    known = ranker("bert")
    known.config["id2label"] = labels
    model = load_model(known.write(tmp_path))
    assert isinstance(model, Model)
    assert model.spec.ranking is None
    with pytest.raises(ModelError, match="no head that ranks"):
        scores(model, pairs()[:1])
