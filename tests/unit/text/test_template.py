"""Chat templates: where they are found, and that they render as Hugging Face renders them."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from text_files import write

from mlxrun.core import RequestError
from mlxrun.spec import ModelError
from mlxrun.text.template import ChatTemplate

USER = [{"role": "user", "content": "Hi <b> & 'you'"}]
TALK = [
    {"role": "system", "content": "Be nice."},
    {"role": "user", "content": "  Hello \n"},
    {"role": "assistant", "content": "<think>hm</think>\n\nHi!", "tool_calls": None},
    {"role": "user", "content": [{"type": "text", "text": "Zürich?"}, {"type": "image"}]},
]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"city": ["Zürich", "北京"], "n": 1.5}}}]

IDIOMS = dict(
    part.split("\n", 1) for part in (Path(__file__).parent / "idioms.txt").read_text(encoding="utf-8").split("=== ")[1:]
)


def ours(source: str, messages: Any, tools: Any = None, **extra: Any) -> str:
    template = ChatTemplate({"default": source}, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(messages, tools=tools, **extra)


@pytest.mark.parametrize("name", IDIOMS)
def test_renders_as_hugging_face(name: str) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    for messages, tools in ((USER, None), (TALK, TOOLS), ([], None)):
        extra = {"bos_token": "<s>", "eos_token": "</s>", "thinking": True}
        (want,), _ = render_jinja_template(
            [messages], tools=tools, chat_template=IDIOMS[name], add_generation_prompt=True, **extra
        )
        assert ours(IDIOMS[name], messages, tools, thinking=True) == want


def test_smollm2(smollm2_metadata: dict[str, Any]) -> None:
    template = ChatTemplate.from_gguf(smollm2_metadata)
    assert template.has_chat
    assert template.render([{"role": "user", "content": "Hi"}]) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not template.render(USER, add_generation_prompt=False).endswith("assistant\n")


def test_the_clock_can_be_set() -> None:
    template = ChatTemplate({"default": "{{ strftime_now('%d %b %Y') }}"}, {}, clock=lambda: datetime(2026, 1, 2))
    assert template.render([]) == "02 Jan 2026"


# where templates are


def test_places_and_their_order(tmp_path: Path) -> None:
    def found() -> str:
        return ChatTemplate.from_folder(tmp_path).render([])

    write(tmp_path, "chat_template.json", {"chat_template": "json"})
    assert found() == "json"
    write(
        tmp_path, "tokenizer_config.json", {"chat_template": "config {{ bos_token }}", "bos_token": {"content": "<s>"}}
    )
    assert found() == "config <s>"
    write(tmp_path, "chat_template.jinja", "jinja {{ bos_token }}{{ nothing }}")
    assert found() == "jinja <s>"


@pytest.mark.parametrize("as_list", [True, False])
def test_named_templates(tmp_path: Path, as_list: bool) -> None:
    named: Any = {"default": "plain", "tool_use": "with tools", "rag": "rag"}
    named = [{"name": k, "template": v} for k, v in named.items()] if as_list else named
    write(tmp_path, "tokenizer_config.json", {"chat_template": named})
    template = ChatTemplate.from_folder(tmp_path)
    assert template.render(USER) == template.source() == "plain"
    assert template.render(USER, tools=TOOLS) == template.source(tools=True) == "with tools"
    assert template.render(USER, tools=[]) == "plain"


def test_additional_templates(tmp_path: Path) -> None:
    (tmp_path / "additional_chat_templates").mkdir()
    write(tmp_path, "chat_template.jinja", "plain")
    write(tmp_path / "additional_chat_templates", "tool_use.jinja", "with tools")
    assert ChatTemplate.from_folder(tmp_path).render(USER, tools=TOOLS) == "with tools"


def test_templates_in_gguf() -> None:
    metadata = {
        "tokenizer.chat_template": "{{ bos_token }}{{ eos_token }}",
        "tokenizer.chat_template.tool_use": "tools",
        "tokenizer.chat_templates": ["tool_use"],
        "tokenizer.ggml.tokens": ["<s>", "</s>"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 7,
    }
    template = ChatTemplate.from_gguf(metadata)
    assert template.render(USER) == "<s>"
    assert template.render(USER, tools=TOOLS) == "tools"


def test_a_base_model_refuses_to_chat(tmp_path: Path) -> None:
    for template in (ChatTemplate.from_folder(tmp_path), ChatTemplate.from_gguf({"general.name": "Base"})):
        assert not template.has_chat
        with pytest.raises(RequestError, match="is a base model without a chat template; ask it to complete a text"):
            template.render(USER)


@pytest.mark.parametrize("bad", [5, ["x"], [{"name": "default"}], {"default": 1}, [{"name": 1, "template": "x"}]])
def test_bad_templates(tmp_path: Path, bad: Any) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": bad})
    with pytest.raises(ModelError, match="chat_template must be text or a list of named templates"):
        ChatTemplate.from_folder(tmp_path)
    with pytest.raises(ModelError, match="must be text"):
        ChatTemplate.from_gguf({"tokenizer.chat_template": bad})


def test_no_default_among_named_ones(tmp_path: Path) -> None:
    write(tmp_path, "tokenizer_config.json", {"chat_template": {"rag": "x", "other": "y"}})
    with pytest.raises(ModelError, match="has chat templates named rag, other, but no default one"):
        ChatTemplate.from_folder(tmp_path).render(USER)


def test_files_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match=r"chat_template\.jinja is not UTF-8 text"):
        ChatTemplate.from_folder(tmp_path)


# what a conversation may be


def test_the_template_refuses() -> None:
    source = "{{ raise_exception('Roles must alternate\\nuser/assistant') }}"
    with pytest.raises(RequestError, match=r"refuses this conversation: Roles must alternate user/assistant$"):
        ours(source, USER)


@pytest.mark.parametrize("bad", [object(), {1, 2}, b"bytes", lambda: 1, open])
def test_only_plain_data_goes_in(bad: Any) -> None:
    with pytest.raises(RequestError, match="must be plain JSON data, but hold a"):
        ours("{{ messages }}", [{"role": "user", "content": [bad]}])
    with pytest.raises(RequestError, match="must be plain JSON data"):
        ours("x", USER, thinking=bad)


def test_deep_nesting_is_refused() -> None:
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    with pytest.raises(RequestError, match="nested more than 100 deep"):
        ours("x", [{"role": "user", "content": deep}])


def test_a_template_cannot_change_the_conversation() -> None:
    messages = [{"role": "user", "content": ["a"]}]
    with pytest.raises(ModelError, match="unsafe"):
        ours("{{ messages[0].content.append('b') }}", messages)
    assert messages == [{"role": "user", "content": ["a"]}]


def test_long_conversations_fit_the_budget() -> None:
    """A template that compares every message with every other one, and one that gathers all text piece by piece."""
    messages = [{"role": "user", "content": f"message {i} " * 20} for i in range(300)]
    pairs = (
        "{% for m in messages %}{% for o in messages[loop.index:] %}{% if o.role == m.role and o.content %}{% endif %}"
    )
    assert ours(pairs + "{% endfor %}{% endfor %}done", messages) == "done"
    gather = (
        "{% set ns = namespace(t='') %}{% for m in messages %}{% set ns.t = ns.t + m.content %}{% endfor %}{{ ns.t }}"
    )
    assert ours(gather, messages) == "".join(m["content"] for m in messages)
    assert ours("{{ messages[0].content }}", [{"content": "x" * 5_000_000}]) == "x" * 5_000_000


def test_threads_do_not_share_a_budget() -> None:
    template = ChatTemplate({"default": "{% for m in messages %}{{ m.content }}{% endfor %}"}, {})
    results: list[str] = []
    work = [
        threading.Thread(target=lambda i=i: results.append(template.render([{"content": str(i)}] * 50)))
        for i in range(8)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert sorted(results) == sorted(str(i) * 50 for i in range(8))
