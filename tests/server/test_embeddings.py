"""/v1/embeddings over a real model and a real client, beside BERT written out in NumPy."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ollama
import openai
import pytest
from openai.types import embedding_create_params

from mlxrun.assistant import Assistant
from mlxrun.core import Pooling, RequestError
from mlxrun.loading.open import open_model
from mlxrun.loading.pooling import embedding_form
from mlxrun.server.dialects.embeddings import EMBEDDINGS

from .bert_reference import Reference
from .process import SECONDS, Serving, serving
from .scripted import ask, error_of, server
from .sdk_types import without_verdict
from .tiny_bert import CONTEXT, DIM, write_tiny_bert

TEXTS = ["Hello world", "A cat sat on the mat.", "", "1 2 3!", "no [SEP] marker", "word " * 12]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bert(tmp_path_factory.mktemp("models") / "bert", matryoshka_dimensions=[8, DIM])


@pytest.fixture(scope="module")
def bert(folder: Path) -> Iterator[Serving]:
    with serving(str(folder)) as own:
        yield own


@pytest.fixture
def client(bert: Serving) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{bert.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)


def alike(one: Any, other: Any) -> float:
    """The cosine of the angle between them."""
    return float(np.dot(one, other) / np.linalg.norm(one) / np.linalg.norm(other))


def test_ollamas_words_for_the_same_vectors(bert: Serving, client: openai.OpenAI) -> None:
    texts = TEXTS[:2]
    same = [one.embedding for one in client.embeddings.create(model="bert", input=texts, encoding_format="float").data]
    own = ollama.Client(bert.url)
    told = own.embed("bert", texts, keep_alive="5m")
    assert [list(vector) for vector in told.embeddings] == same
    assert (told.prompt_eval_count or 0) > 2
    assert list(own.embeddings("bert", texts[0]).embedding) == same[0]
    assert [len(vector) for vector in own.embed("bert", texts[0], dimensions=8).embeddings] == [8]
    assert own.embed("bert", "").embeddings == []
    assert own.show("bert").capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError, match="dimensions must be"):
        own.embed("bert", texts[0], dimensions=7)
    with pytest.raises(ollama.ResponseError, match="not found"):
        own.embed("other", texts[0])


@pytest.mark.parametrize("fields", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}])
def test_vectors_are_those_of_another_implementation(fields: Any, client: openai.OpenAI, folder: Path) -> None:
    texts, reference = [text for text in TEXTS if text and "[" not in text], Reference(folder)
    told = client.embeddings.create(model="bert", input=texts, **fields)
    assert [one.index for one in told.data] == list(range(len(texts)))
    for text, one in zip(texts, told.data, strict=True):
        vector: Any = one.embedding
        if isinstance(vector, str):  # who asks for base64 gets it
            vector = np.frombuffer(base64.b64decode(vector), "<f4")
        assert alike(vector, reference.mean(text)) > 0.99999
        assert abs(np.linalg.norm(vector) - 1) < 1e-5
    tokens = sum(len(reference.ids(text)) for text in texts)
    assert (told.usage.prompt_tokens, told.usage.total_tokens) == (tokens, tokens)


def test_ids_one_text_and_several_are_the_same(client: openai.OpenAI, folder: Path) -> None:
    ids = Reference(folder).ids("Hello")
    asked: list[Any] = ["Hello", ["Hello"], ids, [ids, ids], [ids, "a"], ["Hello", ids]]
    vectors = [client.embeddings.create(model="bert", input=one).data[0].embedding for one in asked]
    for vector in vectors[1:]:
        np.testing.assert_allclose(vector, vectors[0], atol=1e-6)


def test_lengths_that_were_trained(client: openai.OpenAI) -> None:
    whole = client.embeddings.create(model="bert", input="Hello").data[0].embedding
    short = client.embeddings.create(model="bert", input="Hello", dimensions=8).data[0].embedding
    assert (len(whole), len(short)) == (DIM, 8)
    assert alike(short, whole[:8]) > 0.99999
    assert abs(np.linalg.norm(short) - 1) < 1e-5
    with pytest.raises(openai.BadRequestError, match="dimensions must be 8, 32, which bert was trained for, not 9"):
        client.embeddings.create(model="bert", input="Hello", dimensions=9)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_an_encoder_writes_no_text(path: str, bert: Serving) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "prompt": "Hi"}
    refused = bert.post(path, {key: body[key] for key in ("messages" if "chat" in path else "prompt",)})
    assert refused.status_code == 400
    assert "is an encoder" in error_of(refused)["message"]


@pytest.mark.parametrize(
    ("long", "said"), [("long " * CONTEXT, "tokens"), ([5] * (CONTEXT + 1), "input[1] has 65 tokens")]
)
def test_too_long_has_a_code_that_programs_know(long: Any, said: str, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="bert", input=["short", long])
    assert caught.value.code == "context_length_exceeded"
    assert said in str(caught.value)


def test_who_asks_for_it_has_a_long_text_cut(bert: Serving, folder: Path, client: openai.OpenAI) -> None:
    long, own = "long " * CONTEXT, ollama.Client(bert.url)
    ids = Reference(folder).ids(long)
    whole = {"model": "bert", "input": [*ids[: CONTEXT - 1], ids[-1]], "encoding_format": "float"}
    (first,) = client.embeddings.create(**whole).data
    (cut,) = client.embeddings.create(**whole | {"input": long}, extra_body={"truncate": True}).data
    assert cut.embedding == first.embedding
    assert list(own.embed("bert", long).embeddings[0]) == first.embedding  # as Ollama does where nobody says
    with pytest.raises(ollama.ResponseError, match="tokens"):
        own.embed("bert", long, truncate=False)


def test_a_prompt_that_is_not_there_is_named(bert: Serving) -> None:
    refused = bert.post("/v1/embeddings", {"input": "a", "prompt_name": "query"})
    assert refused.status_code == 400
    assert error_of(refused)["message"] == "This model has no prompt 'query'; it has none."


def test_a_decoder_gives_its_last_row(tiny: Serving) -> None:
    client = openai.OpenAI(base_url=f"{tiny.url}/v1", api_key="none", timeout=SECONDS, max_retries=0)
    one, other, again = client.embeddings.create(model="tiny", input=["abc", "abd", "abc"]).data
    assert abs(np.linalg.norm(one.embedding) - 1) < 1e-5
    assert alike(one.embedding, again.embedding) > 0.99999 > alike(one.embedding, other.embedding)
    assert tiny.answers()


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"input": ""},
        {"input": []},
        {"input": [""]},
        {"input": [[]]},
        {"input": 5},
        {"input": ["a", 5]},
        {"input": ["a"] * 2049},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "dimensions": 0},
    ],
)
def test_bad_bodies(fields: Any) -> None:
    own, _ = server()
    refused = ask(own, "/v1/embeddings", fields)
    assert refused.status_code == 400
    assert error_of(refused)["param"] in ("input", "encoding_format", "dimensions", "input[0]", "input[1]")


def test_every_field_of_the_sdk_has_a_verdict() -> None:
    assert [*without_verdict(embedding_create_params.EmbeddingCreateParams, EMBEDDINGS)] == []


@pytest.mark.parametrize(
    ("mode", "pooling"),
    [
        ("mean_tokens", Pooling.MEAN),
        ("cls_token", Pooling.FIRST),
        ("max_tokens", Pooling.MAX),
        ("lasttoken", Pooling.LAST),
        (None, Pooling.MEAN),
    ],
)
def test_pooling_is_read_from_the_files(mode: str | None, pooling: Pooling, tmp_path: Path) -> None:
    form = embedding_form(open_model(write_tiny_bert(tmp_path / "m", mode)))
    assert (form.pooling, form.both_ways, form.why_not) == (pooling, True, None)


@pytest.mark.parametrize(
    ("mode", "more", "said"), [("mean_sqrt_len_tokens", (), "pooling"), ("cls_token", ("Dense",), "Dense")]
)
def test_what_is_not_there_yet_is_said(mode: str, more: Any, said: str, tmp_path: Path) -> None:
    assistant = Assistant.open(write_tiny_bert(tmp_path / "m", mode, more))
    try:
        with pytest.raises(RequestError, match=f"gives no embeddings here: .*{said}"):
            assistant.embed(["a"])
    finally:
        assistant.close()
