"""/v1/models as the programs of several makers read it, with their SDKs' own types."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import ModelInfo
from openai.types import Model

from mlxrun.loading.facts import ModelFacts
from mlxrun.server.app import Server
from mlxrun.server.capabilities import ModelCard, calls_tools
from mlxrun.text.template import ChatTemplate

from .scripted import TEMPLATE, ask, server

TOOLS = TEMPLATE + "<think></think>"
UNREADABLE = "{% if tools %}{{ tools }}{% endif %}{{ messages }}"  # shows tools, and calls in no form that is known
FACTS = ModelFacts("gguf", "llama", 1_000_000, 5_000, "Q4_K", 8192, 0.0, "abc")


@pytest.fixture
def own() -> Server:
    """One model that is loaded, one of whom only its files are known, one encoder, one of whom nothing is known."""
    found, _ = server()
    template = ChatTemplate({"default": TOOLS}, {}, model="Other")
    encoder = ModelFacts("safetensors", "bert", 1, 2, "float32", 512, 0.0, "d", writes=False)
    cards = {
        "scripted": ModelCard(FACTS, ChatTemplate({}, {}, model="Scripted")),
        "other": ModelCard(FACTS, template),
        "bert": ModelCard(encoder, ChatTemplate({}, {}, model="Bert")),
    }
    found.models.card = cards.get
    found.models._names = lambda: ("scripted", "other", "bert", "odd")
    return found


def data(own: Server, path: str = "/v1/models", **more: Any) -> dict[str, dict[str, Any]]:
    return {one["id"]: one for one in ask(own, path, **more).json()["data"]}


def test_what_local_programs_look_for(own: Server) -> None:
    told = data(own)
    for one in told.values():
        Model.model_validate(one)
    loaded, other, bert, odd = (told[name] for name in ("scripted", "other", "bert", "odd"))
    assert (loaded["state"], loaded["context_length"], loaded["loaded_context_length"]) == ("loaded", 1000, 1000)
    assert (other["state"], other["context_length"], other["max_model_len"]) == ("unloaded", 8192, 8192)
    assert "loaded_context_length" not in other
    assert (other["type"], other["arch"], other["quantization"]) == ("llm", "llama", "Q4_K")
    assert other["meta"] == {"n_ctx": 8192, "n_ctx_train": 8192, "n_params": 1_000_000, "size": 5_000}
    assert other["capabilities"] == ["completion", "tools", "thinking"]
    assert {"tools", "reasoning_effort", "top_k"} <= {*other["supported_parameters"]}
    assert "tools" not in loaded["supported_parameters"]
    assert (bert["type"], bert["capabilities"]) == ("embeddings", ["embedding"])
    assert "meta" not in odd
    assert ask(own, "/v1/models/other").json() == other
    assert ask(own, "/v1/models/none").json()["error"]["code"] == "model_not_found"


def test_codex_asks_with_its_version(own: Server) -> None:
    assert "models" not in ask(own, "/v1/models").json()
    told = ask(own, "/v1/models?client_version=0.171.0").json()
    assert [one["slug"] for one in told["models"]] == ["scripted", "other", "odd"]  # no encoder
    other = told["models"][1]
    assert (other["context_window"], other["visibility"], other["priority"]) == (8192, "list", 1)
    assert [level["effort"] for level in other["supported_reasoning_levels"]] == ["low", "medium", "high"]
    assert told["models"][0]["supported_reasoning_levels"] == []
    assert len(told["data"]) == 4


def test_anthropic_s_programs_say_so(own: Server) -> None:
    header = {"anthropic-version": "2023-06-01"}
    told = ask(own, "/v1/models", headers=header).json()
    infos = [ModelInfo.model_validate(one) for one in told["data"]]
    assert [(one.id, one.max_input_tokens) for one in infos] == [("scripted", 1000), ("other", 8192), ("odd", None)]
    assert (told["has_more"], told["first_id"], told["last_id"]) == (False, "scripted", "odd")
    assert ask(own, "/v1/models/other", headers=header).json()["type"] == "model"
    missed = ask(own, "/v1/models/none", headers=header)
    assert (missed.status_code, missed.json()["error"]["type"]) == (404, "not_found_error")


def test_lm_studio_s_list(own: Server) -> None:
    told = data(own, "/api/v0/models")
    assert (told["other"]["state"], told["scripted"]["state"]) == ("not-loaded", "loaded")
    assert (told["other"]["compatibility_type"], told["other"]["max_context_length"]) == ("gguf", 8192)
    assert told["other"]["capabilities"] == ["tool_use"]
    assert ask(own, "/api/v0/models/bert").json()["type"] == "embeddings"


def test_who_shows_tools_but_calls_them_in_no_known_form_is_not_said_to_call_them() -> None:
    for source, calls in ((TOOLS, True), (UNREADABLE, False)):
        assert calls_tools(ChatTemplate({"default": source}, {})) is calls
