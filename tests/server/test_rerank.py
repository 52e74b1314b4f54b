"""/rerank over real models: a cross-encoder beside BERT in NumPy, and a model that would rather write yes or no."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mlxrun.assistant import Assistant
from mlxrun.loading.open import open_model
from mlxrun.loading.ranking import ranking_form

from .bert_reference import Reference
from .process import SECONDS, Serving, serving
from .scripted import ask, error_of, server
from .tiny import write_tiny
from .tiny_bert import CONTEXT, write_tiny_ranker

QUERY, TEXTS = "which animal?", ["a cat sat.", "no idea", "no [SEP] marker", "dogs and cats and dogs", "x"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_ranker(tmp_path_factory.mktemp("models") / "ranker")


@pytest.fixture(scope="module")
def own(folder: Path) -> Iterator[Serving]:
    with serving(str(folder)) as found:
        yield found


def wanted(folder: Path, query: str, text: str) -> float:
    """Its letters as BERT's authors read a pair, the head as transformers has it, in float64."""
    reference = Reference(folder)
    encoded = reference.tokenizer.encode(query, text)
    first = reference.rows(encoded.ids, encoded.type_ids)[0]
    pooled = np.tanh(reference.linear(first, "pooler.dense"))
    return 1 / (1 + math.exp(-float(reference.linear(pooled, "classifier")[0])))


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])  # llama.cpp's test_rerank, test_rerank_usage
def test_scores_are_those_of_another_implementation(path: str, own: Serving, folder: Path) -> None:
    texts = [text for text in TEXTS if "[" not in text]
    told = own.post(path, {"model": "ranker", "query": QUERY, "documents": texts}).json()
    scores = {one["index"]: one["relevance_score"] for one in told["results"]}
    assert [scores[index] for index in range(len(texts))] == pytest.approx(
        [wanted(folder, QUERY, text) for text in texts], abs=1e-3
    )
    assert [*scores.values()] == sorted(scores.values(), reverse=True)
    assert max(scores.values()) - min(scores.values()) > 0.01
    tokens = sum(len(Reference(folder).tokenizer.encode(QUERY, text).ids) for text in texts)
    assert told["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert (told["object"], told["model"]) == ("list", "ranker")


def test_the_best_of_objects_with_their_texts(own: Serving) -> None:
    """llama.cpp's test_rerank_top_n."""
    fields = {"query": QUERY, "documents": [{"text": text} for text in TEXTS], "top_n": 2, "return_documents": True}
    told = own.post("/v1/rerank", fields).json()["results"]
    assert [TEXTS[one["index"]] for one in told] == [one["document"]["text"] for one in told]
    assert len(told) == 2
    many = own.post("/v1/rerank", fields | {"top_n": 99, "return_documents": False}).json()["results"]
    assert ([one["index"] for one in many[:2]], len(many)) == ([one["index"] for one in told], len(TEXTS))


def test_in_hugging_faces_words(own: Serving) -> None:
    """llama.cpp's test_rerank_tei_format."""
    theirs = own.post("/rerank", {"query": QUERY, "texts": TEXTS, "return_text": True}).json()
    ours = own.post("/rerank", {"query": QUERY, "documents": TEXTS}).json()["results"]
    assert [(one["index"], one["score"]) for one in theirs] == [(one["index"], one["relevance_score"]) for one in ours]
    assert [one["text"] for one in theirs] == [TEXTS[one["index"]] for one in theirs]


def test_control_tokens_stay_text(own: Serving) -> None:
    """Letter by letter: more tokens than the marker is."""
    used = [
        own.post("/rerank", {"query": QUERY, "documents": [text]}).json()["usage"]["total_tokens"]
        for text in ("a b", "a [SEP] b")
    ]
    assert used[1] > used[0] + 1


def test_too_long_is_cut_only_where_that_is_asked_for(own: Serving) -> None:
    long = {"query": QUERY, "documents": ["x", "a b " * CONTEXT]}
    refused = own.post("/rerank", long)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "context_length_exceeded")
    cut = own.post("/rerank", long | {"max_tokens_per_doc": 4}).json()["results"]
    short = own.post("/rerank", {"query": QUERY, "documents": ["x", "a b a b"]}).json()["results"]
    assert [one["relevance_score"] for one in cut] == pytest.approx([one["relevance_score"] for one in short])


def test_what_it_says_of_itself(own: Serving) -> None:
    (listed,) = httpx.get(f"{own.url}/v1/models", timeout=SECONDS).json()["data"]
    assert (listed["type"], listed["capabilities"]) == ("rerank", ["rerank"])
    refused = own.post("/v1/embeddings", {"input": "a"})
    assert (refused.status_code, "ranks texts" in error_of(refused)["message"]) == (400, True)
    refused = own.post("/v1/completions", {"prompt": "a"})
    assert (refused.status_code, "gives scores of texts" in error_of(refused)["message"]) == (400, True)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "query"),
        ({"query": "a"}, "documents"),
        ({"query": "a", "documents": ["b"], "texts": ["b"]}, "documents"),
        ({"query": "a", "documents": ["b"], "top_n": 0}, "top_n"),
        ({"query": "a", "documents": ["b"]}, "model"),
    ],
)
def test_bad_bodies_and_a_model_without_a_head(fields: Any, param: str) -> None:
    scripted, _ = server()
    refused = ask(scripted, "/rerank", fields)
    assert (refused.status_code, error_of(refused)["param"]) == (400, param)


TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}answer:{% endif %}"
)
KIND = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"


def write_judge(folder: Path, no: int | None, *, opens: bool = True) -> Path:
    write_tiny(folder, 256)
    modules = [{"path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}]
    modules.append({"path": "1_LogitScore", "type": KIND})
    asked = {"processing_kwargs": {"chat_template": {"add_generation_prompt": opens}}}
    first = {"prompts": {"judge": "Judge."}, "default_prompt_name": "judge"}
    (folder / "1_LogitScore").mkdir()
    files = {"modules.json": modules, "sentence_bert_config.json": asked, "config_sentence_transformers.json": first}
    files["1_LogitScore/config.json"] = {"true_token_id": 70, "false_token_id": no}
    for name, told in files.items():
        (folder / name).write_text(json.dumps(told), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return folder


@pytest.mark.parametrize("no", [80, None])
def test_whether_a_model_would_rather_write_a_yes(no: int | None, tmp_path: Path) -> None:
    import mlx.core as mx

    assistant = Assistant.open(write_judge(tmp_path / "judge", no))
    try:
        told = assistant.rank(QUERY, TEXTS[:2]).done.result(60)
        model = assistant.engine.model
        for text, score in zip(TEXTS, told, strict=False):
            prompt = f"system: Judge.\nquery: {QUERY}\ndocument: {text}\nanswer:"
            ids = assistant.tokenizer.encode(prompt, special=True)
            hidden = model(mx.array(ids), [(model.new_sequence(len(ids)), len(ids))])
            logits = np.array(model.logits(hidden[-1:]))[0]
            assert score == pytest.approx(float(logits[70] - (0 if no is None else logits[80])), abs=1e-4)
    finally:
        assistant.close()


def test_a_model_that_is_not_asked_so_ranks_nothing(tmp_path: Path) -> None:
    folder = write_judge(tmp_path / "judge", 80)
    form = ranking_form(open_model(folder))
    assert form is not None
    assert (form.words, form.system, form.opens) == ((70, 80), "Judge.", True)
    (folder / "1_LogitScore" / "config.json").write_text('{"true_token_id": 9999999}', encoding="utf-8")
    assert ranking_form(open_model(folder)) is None
    (folder / "modules.json").unlink()
    assert ranking_form(open_model(folder)) is None
