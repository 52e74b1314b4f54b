"""What sentence-transformers writes beside a model: Dense modules, prompts, lengths; beside BERT in NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlxrun.assistant import Assistant
from mlxrun.core import ContextError, RequestError
from mlxrun.loading.dense_step import read_dense

from .bert_reference import Reference, erf
from .process import SECONDS
from .tiny_bert import CONTEXT, DIM, write_tiny_bert

PROMPTS = {"query": "find. ", "document": "text. "}
random = np.random.RandomState(5)
WIDE, BIAS = random.normal(0, 0.3, (48, DIM)).astype(np.float32), random.normal(0, 0.3, 48).astype(np.float32)
NARROW = random.normal(0, 0.3, (20, 48)).astype(np.float32)
TYPE = "sentence_transformers.models."


def write_dense(folder: Path, weight: Any, *, bias: Any = None, **told: Any) -> None:
    folder.mkdir()
    tensors = {"linear.weight": weight} | ({} if bias is None else {"linear.bias": bias})
    save_file(tensors, folder / "model.safetensors")
    config = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": bias is not None, **told}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_embedder(folder: Path, *, include_prompt: bool = True) -> Path:
    """Mean, two Dense modules and Normalize, with prompts."""
    write_tiny_bert(folder, "mean_tokens")
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Dense", "3_Dense")]
    modules.append(("Normalize", "4_Normalize"))
    told = [{"path": path, "type": TYPE + kind} for kind, path in modules]
    (folder / "modules.json").write_text(json.dumps(told), encoding="utf-8")
    pooling = {"pooling_mode": "mean", "embedding_dimension": DIM, "include_prompt": include_prompt}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    write_dense(folder / "2_Dense", WIDE, bias=BIAS, activation_function="torch.nn.modules.activation.Tanh")
    write_dense(folder / "3_Dense", NARROW, activation_function="torch.nn.modules.linear.Identity")
    settings = {"prompts": PROMPTS, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": True}))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_embedder(tmp_path_factory.mktemp("models") / "embedder")


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[Assistant]:
    found = Assistant.open(folder)
    yield found
    found.close()


def vectors(own: Assistant, texts: Any, **how: Any) -> list[Any]:
    return list(own.embed(texts, **how).done.result(SECONDS))


def wanted(folder: Path, ids: list[int], skip: int = 0) -> Any:
    x = np.tanh(Reference(folder).rows(ids)[skip:].mean(axis=0) @ WIDE.T + BIAS) @ NARROW.T
    return x / np.linalg.norm(x)


def test_dense_modules_follow_the_pooling(own: Assistant, folder: Path) -> None:
    texts = ["a cat sat", "no", "HELLO there 12"]
    for text, vector in zip(texts, vectors(own, texts), strict=True):
        assert vector.shape == (20,)
        np.testing.assert_allclose(vector, wanted(folder, Reference(folder).ids(text.lower())), atol=1e-6)
    assert own.embedding.size == 20


@pytest.mark.parametrize("include", [True, False])
def test_prompts_come_before_and_may_not_count(include: bool, folder: Path, tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m", include_prompt=include)
    own, reference = Assistant.open(folder), Reference(folder)
    try:
        for name, prompt in PROMPTS.items():
            ids = reference.ids(prompt + "a cat")
            skip = 0 if include else len(reference.ids(prompt)) - 1
            (vector,) = vectors(own, ["a cat"], prompt=name)
            np.testing.assert_allclose(vector, wanted(folder, ids, skip), atol=1e-6)
        plain, unsaid = vectors(own, ["a cat"], prompt=""), vectors(own, ["a cat"])
        np.testing.assert_array_equal(plain, unsaid)
        with pytest.raises(RequestError, match="no prompt 'passage'; it has document, query"):
            own.embed(["a cat"], prompt="passage")
    finally:
        own.close()


def test_a_prompt_may_be_usual(tmp_path: Path) -> None:
    folder = write_embedder(tmp_path / "m")
    told = json.loads((folder / "config_sentence_transformers.json").read_text())
    (folder / "config_sentence_transformers.json").write_text(json.dumps({**told, "default_prompt_name": "query"}))
    own = Assistant.open(folder)
    try:
        (usual,), (none,) = vectors(own, ["a cat"]), vectors(own, ["a cat"], prompt="")
    finally:
        own.close()
    np.testing.assert_allclose(usual, wanted(folder, Reference(folder).ids("find. a cat")), atol=1e-6)
    np.testing.assert_allclose(none, wanted(folder, Reference(folder).ids("a cat")), atol=1e-6)


def test_what_is_too_long_is_cut_only_where_that_is_asked(own: Assistant, folder: Path) -> None:
    text, ids = "word " * CONTEXT, Reference(folder).ids("word " * CONTEXT)
    with pytest.raises(ContextError):
        own.embed([text])
    with pytest.raises(ContextError):
        own.embed([ids])
    (cut,) = vectors(own, [text], truncate=True)
    np.testing.assert_allclose(cut, wanted(folder, [*ids[:15], ids[-1]]), atol=1e-6)
    (of_ids,) = vectors(own, [ids], truncate=True)
    np.testing.assert_allclose(of_ids, wanted(folder, ids[:16]), atol=1e-6)


# ---- the matrix behind the rows, by itself -------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "function"),
    [
        ("linear.Identity", lambda x: x),
        ("activation.Tanh", np.tanh),
        ("activation.ReLU", lambda x: np.maximum(x, 0)),
        ("activation.GELU", lambda x: 0.5 * x * (1 + erf(x / math.sqrt(2)))),
        ("activation.SiLU", lambda x: x / (1 + np.exp(-x))),
        ("activation.Sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_activations(act: str, function: Any, tmp_path: Path) -> None:
    write_dense(tmp_path / "2_Dense", WIDE, bias=BIAS, activation_function=f"torch.nn.modules.{act}")
    told, x = json.loads((tmp_path / "2_Dense" / "config.json").read_text()), random.normal(0, 2, (3, DIM))
    step = read_dense(tmp_path / "2_Dense", told, DIM)
    found = step(x.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, function(x @ WIDE.T + BIAS), atol=2e-6)


@pytest.mark.parametrize("square", [True, False])
def test_what_is_added_beside_it(square: bool, tmp_path: Path) -> None:
    weight = WIDE[:DIM] if square else WIDE
    write_dense(tmp_path / "d", weight, use_residual=True, activation_function="torch.nn.modules.linear.Identity")
    other = random.normal(size=weight.shape).astype(np.float32)
    if not square:
        save_file({"linear.weight": weight, "residual.weight": other}, tmp_path / "d" / "model.safetensors")
    step = read_dense(tmp_path / "d", json.loads((tmp_path / "d" / "config.json").read_text()), DIM)
    x = random.normal(size=DIM).astype(np.float32)
    np.testing.assert_allclose(step(x), weight @ x + (x if square else other @ x), atol=2e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"in_features": 31}, "d/config.json is for vectors of 31 numbers, which have 32 here"),
        ({"out_features": 1 << 30}, "d/config.json"),
        ({"out_features": 47}, r"linear.weight of d/model.safetensors has the shape \(48, 32\)"),
        ({"bias": True}, "linear.bias of d/model.safetensors is missing"),
        ({"activation_function": "torch.nn.Softsign"}, "'Softsign', which is not there yet"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    write_dense(tmp_path / "d", WIDE)
    told = json.loads((tmp_path / "d" / "config.json").read_text()) | change
    with pytest.raises(ValueError, match=said):
        read_dense(tmp_path / "d", told, DIM)


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        (None, "d has no model.safetensors; of its pytorch_model.bin nothing is read"),
        ({"linear.weight": WIDE.astype(np.int32)}, "linear.weight of d/model.safetensors is I32"),
        ({"linear.weight": WIDE, "other": WIDE}, "holds 'other', which nothing is known about"),
    ],
)
def test_files_that_are_not_understood(tensors: Any, said: str, tmp_path: Path) -> None:
    write_dense(tmp_path / "d", WIDE)
    told = json.loads((tmp_path / "d" / "config.json").read_text())
    if tensors is None:
        (tmp_path / "d" / "model.safetensors").rename(tmp_path / "d" / "pytorch_model.bin")
    else:
        save_file(tensors, tmp_path / "d" / "model.safetensors")
    with pytest.raises(ValueError, match=said):
        read_dense(tmp_path / "d", told, DIM)
