"""ColBERT over a tiny BERT: a vector for each token, in PyLate's layout and in sentence-transformers', beside NumPy."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mlxrun.assistant import Assistant
from mlxrun.core import ContextError, RequestError
from mlxrun.loading.open import open_model
from mlxrun.loading.pooling import embedding_form
from tests.golden.checkpoint import Checkpoint, write

from .bert_reference import Reference
from .process import SECONDS, Serving, serving
from .scripted import error_of
from .test_embedder_files import write_dense
from .tiny_bert import CONFIG, DIM, tokenizer, weights, write_tiny_bert

MARKS = ["[Q] ", "[D] ", "[MASK]"]
QUESTION, DOCUMENT, SIZE = 20, 30, 12
QUERY, TEXTS = "which cat?", ["a cat sat.", "no idea, no!", "x"]
NARROW = np.random.RandomState(3).normal(0, 0.4, (SIZE, DIM)).astype(np.float32)
FLAT = {
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": QUESTION,
    "document_length": DOCUMENT,
    "attend_to_expansion_tokens": False,
    "skiplist_words": [".", "!"],
    "do_query_expansion": True,
}


def write_colbert(folder: Path, layout: str = "pylate", *, attends: bool = False, fills: bool = True) -> Path:
    own = tokenizer()
    own.add_special_tokens(MARKS)
    told = {**CONFIG, "vocab_size": own.get_vocab_size()}
    write(Checkpoint(told, weights(told["vocab_size"])), folder)
    own.save(str(folder / "tokenizer.json"))
    kinds = [("sentence_transformers.models.Transformer", ""), ("pylate.models.Dense.Dense", "1_Dense")]
    settings: dict[str, Any] = {**FLAT, "attend_to_expansion_tokens": attends, "do_query_expansion": fills}
    if layout != "pylate":
        kinds += [(f"sentence_transformers.multi_vector_encoder.modules.{layout}", f"2_{layout}")]
        kinds += [("sentence_transformers.models.Normalize", "3_Normalize")]
        (folder / f"2_{layout}").mkdir()
        mask = {"skiplist_words": FLAT["skiplist_words"], "skiplist_tasks": ["document"], "keep_only_token_ids": None}
        (folder / f"2_{layout}" / "config.json").write_text(json.dumps(mask))
        expansion = {"strategy": "fixed", "attend": attends, "token": None, "length": QUESTION} if fills else None
        transformer = {"query_expansion": expansion, "query_length": QUESTION, "document_length": DOCUMENT}
        (folder / "sentence_bert_config.json").write_text(json.dumps(transformer))
        settings = {"prompts": {"query": "[Q] ", "document": "[D] "}, "similarity_fn_name": "maxsim"}
    modules = [{"type": kind, "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    write_dense(folder / "1_Dense", NARROW, activation_function="torch.nn.modules.linear.Identity")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colbert(tmp_path_factory.mktemp("models") / "colbert")


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[Assistant]:
    found = Assistant.open(folder)
    yield found
    found.close()


def wanted(folder: Path, text: str, *, question: bool, attends: bool = False, fills: bool = True) -> Any:
    """As PyLate's words have it."""
    reference = Reference(folder)
    mark, mask = (reference.tokenizer.token_to_id(one) for one in ("[Q] " if question else "[D] ", "[MASK]"))
    ids = reference.ids(text)
    ids = [ids[0], mark, *ids[1:]]
    seen = len(ids)
    if question and fills:
        ids += [mask] * (QUESTION - seen)
    rows = reference.rows(ids, seen=None if attends else seen) @ NARROW.T.astype(np.float64)
    never = [] if question else [reference.tokenizer.token_to_id(one) for one in FLAT["skiplist_words"]]
    rows = rows[[token not in never for token in ids]]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def near(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("layout", ["pylate", "MultiVectorMask"])
@pytest.mark.parametrize(("attends", "fills"), [(False, True), (True, True), (False, False)])
def test_rows_of_questions_and_texts(layout: str, attends: bool, fills: bool, tmp_path: Path) -> None:
    folder = write_colbert(tmp_path / "m", layout, attends=attends, fills=fills)
    own = Assistant.open(folder)
    try:
        (asked,) = own.embed_tokens([QUERY], question=True).done.result(SECONDS)
        near(asked, wanted(folder, QUERY, question=True, attends=attends, fills=fills))
        for text, found in zip(TEXTS, own.embed_tokens(TEXTS).done.result(SECONDS), strict=True):
            near(found, wanted(folder, text, question=False))
    finally:
        own.close()


def test_what_is_too_long(own: Assistant, folder: Path) -> None:
    long = "ab " * 40
    for question, length in ((True, QUESTION), (False, DOCUMENT)):
        with pytest.raises(ContextError, match=f"reads at most {length} of one of its kind"):
            own.embed_tokens([long], question=question)
        (found,) = own.embed_tokens([long], question=question, truncate=True).done.result(SECONDS)
        assert found.shape == (length, SIZE)


def test_over_http(folder: Path) -> None:
    with serving(str(folder)) as served:
        check_http(served, folder)


def check_http(served: Serving, folder: Path) -> None:
    body = {"input": [QUERY, "a"], "multi_vector": True, "prompt_name": "query"}
    for found, text in zip(served.post("/v1/embeddings", body).json()["data"], body["input"], strict=True):
        near(np.array(found["embedding"]), wanted(folder, text, question=True))
    told = served.post("/v1/embeddings", {"input": TEXTS[0], "multi_vector": True, "encoding_format": "base64"}).json()
    rows = [np.frombuffer(base64.b64decode(row), "<f4") for row in told["data"][0]["embedding"]]
    near(np.stack(rows), wanted(folder, TEXTS[0], question=False))
    asked = wanted(folder, QUERY, question=True)
    scores = [(asked @ wanted(folder, text, question=False).T).max(axis=1).mean() for text in TEXTS]
    ranked = served.post("/v1/rerank", {"query": QUERY, "documents": TEXTS}).json()["results"]
    assert [one["index"] for one in ranked] == list(np.argsort(scores)[::-1])
    np.testing.assert_allclose([one["relevance_score"] for one in ranked], sorted(scores, reverse=True), atol=1e-5)
    for wrong, said in (
        ({"input": "a"}, "gives a vector for each token, and none for a text: ask with multi_vector true"),
        ({"input": [[5]], "multi_vector": True}, "each input must be a text"),
        ({"input": "a", "multi_vector": True, "prompt_name": "other"}, "prompt_name must be query or document"),
    ):
        refused = served.post("/v1/embeddings", wrong)
        assert refused.status_code == 400
        assert said in error_of(refused)["message"]


def test_a_model_of_one_vector_has_none_for_tokens(tmp_path: Path) -> None:
    own = Assistant.open(write_tiny_bert(tmp_path / "m"))
    try:
        with pytest.raises(RequestError, match="gives one vector for a text: ask with multi_vector false"):
            own.embed_tokens(["a"])
    finally:
        own.close()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("sentence_bert_config.json", {"query_expansion": {"strategy": "min", "length": 9}}, "strategy 'min'"),
        ("sentence_bert_config.json", {"document_length": "long"}, "document_length is no number of tokens"),
        ("2_MultiVectorMask/config.json", {"keep_only_token_ids": [5]}, "its MultiVectorMask asks for more"),
    ],
)
def test_what_is_not_there_yet_is_said(file: str, change: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = write_colbert(tmp_path / "m", "MultiVectorMask")
    told = json.loads((folder / file).read_text()) | change
    (folder / file).write_text(json.dumps(told))
    assert said in (embedding_form(open_model(folder)).why_not or "")


def test_a_token_that_is_not_there_is_named(tmp_path: Path) -> None:
    folder = write_colbert(tmp_path / "m")
    tokens = Tokenizer.from_file(str(folder / "tokenizer.json"))
    settings = json.loads((folder / "config_sentence_transformers.json").read_text()) | {"query_prefix": "[QUERY]"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert tokens.token_to_id("[QUERY]") is None
    own = Assistant.open(folder)
    try:
        with pytest.raises(RequestError, match=r"has no token '\[QUERY\]', which its texts begin with"):
            own.embed_tokens(["a"], question=True)
    finally:
        own.close()
