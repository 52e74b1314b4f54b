"""What chat templates of real models are found to do, and conversations told as each of them wants."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from letters import Letters

from mlxrun.core import RequestError
from mlxrun.text.prompting import Prompter
from mlxrun.text.template import ChatTemplate
from mlxrun.text.tool_formats import Ids
from mlxrun.turns import Ask, Call, Role, Thinking, Tool, Turn

TEMPLATES = Path(__file__).parents[2] / "data" / "templates"
NEMO, KIMI, QWEN3, GPT_OSS = (
    *("mistralai-Mistral-Nemo-Instruct-2407", "moonshotai-Kimi-K2", "Qwen-Qwen3-0.6B", "openai-gpt-oss-120b"),
)
FOUND = {
    "Apertus-8B-Instruct": "apertus",
    "ByteDance-Seed-OSS": "seed",
    "GLM-4.6": "glm4.5",
    "GLM-4.7-Flash": "glm4.7",
    "MiniMax-M2": "minimax2",
    "Mistral-Small-3.2-24B-Instruct-2506": "mistral11",
    "Qwen2.5-Coder": "hermes",
    "Qwen3-Coder": "qwen3-coder",
    "Qwen3.5-4B": "qwen3-coder",
    "deepseek-ai-DeepSeek-V3.2": "deepseek3.2",
    "google-gemma-4-31B-it": "gemma4",
    "ibm-granite-granite-4.0": "hermes",
    "meetkai-functionary-medium-v3.1": "functionary3.1",
    "mistralai-Ministral-3-14B-Reasoning-2512": "mistral13",
    "unsloth-Apriel-1.5": "jamba",
    NEMO: "mistral3",
    KIMI: "kimi2",
    GPT_OSS: "harmony",
    QWEN3: "hermes",
}
WEATHER = Tool("weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})
BERN, ROME = (Call(f"call_{city}", "weather", f'{{"city": "{city}"}}') for city in ("bern", "rome"))


@cache
def model(name: str) -> Prompter:
    source = (TEMPLATES / f"{name}.jinja").read_text()
    return made(source, name)


def made(source: str, name: str = "Own") -> Prompter:
    return Prompter(
        Letters((), ()), ChatTemplate({"default": source}, {"bos_token": "<s>", "eos_token": "</s>"}, model=name)
    )


def user(text: str) -> Turn:
    return Turn(Role.USER, (text,))


def said(text: str, thoughts: str | None = None, calls: tuple[Call, ...] = ()) -> Turn:
    return Turn(Role.ASSISTANT, (text,) if text else (), thoughts, calls)


def result(call: Call, text: str) -> Turn:
    return Turn(Role.TOOL, (text,), answers=call.id)


def system(text: str) -> Turn:
    return Turn(Role.SYSTEM, (text,))


def told(prompter: Prompter, *turns: Turn, tools: tuple[Tool, ...] = (), thinking: Thinking | None = None) -> str:
    return prompter.prompt(Ask(turns, tools, thinking=thinking or Thinking())).text


@pytest.mark.parametrize("name", FOUND)
def test_a_format_is_found_by_what_the_template_writes(name: str) -> None:
    found = model(name).tool_format
    assert (None if found is None else found.id) == FOUND[name]


def test_who_writes_no_tools_has_none() -> None:
    assert made("{% for m in messages %}{{ m.content }}{% endfor %} {# <tool_call> #}").tool_format is None


def test_arguments_are_text_where_a_template_joins_them_as_text() -> None:
    source = (TEMPLATES / "Qwen2.5-Coder.jinja").read_text()
    assert not model("Qwen2.5-Coder").probe.text_arguments
    joining = made(source.replace("tool_call.arguments | tojson", "tool_call.arguments"))
    assert joining.probe.text_arguments
    assert '"arguments": {"city": "bern"}}' in told(joining, user("Hi"), said("", None, (BERN,)), result(BERN, "wet"))


def test_ids_take_the_form_that_a_template_insists_on() -> None:
    assert model(NEMO).probe.ids is Ids.NINE
    text = told(model(NEMO), user("Hi"), said("", None, (BERN, ROME)), result(BERN, "wet"), result(ROME, "dry"))
    assert "call_bern" not in text
    wet = text.index("wet")
    first, second = (text.index('"id": "', at) for at in (0, text.index("rome")))
    assert text[first + 7 : first + 16] in text[wet:]
    assert text[first + 7 : first + 16] != text[second + 7 : second + 16]
    counted = told(model(KIMI), user("Hi"), said("", None, (BERN, ROME)), result(BERN, "wet"), result(ROME, "dry"))
    assert "functions.weather:0" in counted
    assert "functions.weather:1" in counted


def test_a_system_turn_in_the_middle_goes_to_the_next_user_where_it_must() -> None:
    turns = system("First."), user("Hi"), said("Ho"), system("Be brief."), user("Why?")
    assert "<|im_start|>system\nBe brief.<|im_end|>" in told(model("Qwen2.5-Coder"), *turns)
    assert not model("Qwen3.5-4B").probe.inline_system
    assert "<|im_start|>user\nBe brief.\n\nWhy?<|im_end|>" in told(model("Qwen3.5-4B"), *turns)


def test_neighbours_become_one_where_turns_alternate() -> None:
    assert "[INST]One\n\nTwo[/INST]" in told(model(NEMO), user("One"), user("Two"))
    assert "user\nOne<|im_end|>\n<|im_start|>user\nTwo" in told(model("Qwen2.5-Coder"), user("One"), user("Two"))


def test_what_is_said_between_a_call_and_its_result_is_of_the_calls_turn() -> None:
    text = told(model("Qwen2.5-Coder"), user("Hi"), said("", None, (BERN,)), said("I look."), result(BERN, "wet"))
    assert "assistant\nI look.\n<tool_call>" in text


@pytest.mark.parametrize(
    ("name", "field"), [(QWEN3, "reasoning_content"), (GPT_OSS, "thinking"), ("Qwen3-Coder", None)]
)
def test_thoughts_have_the_name_that_the_template_reads(name: str, field: str | None) -> None:
    assert model(name).probe.thoughts_field == field


def test_thoughts_stay_within_a_loop_of_tools() -> None:
    text = told(model(QWEN3), user("Hi"), said("", "I wonder.", (BERN,)), result(BERN, "wet"))
    assert "<think>\nI wonder.\n</think>" in text


def test_thoughts_may_be_a_part_of_the_content() -> None:
    name = "mistralai-Ministral-3-14B-Reasoning-2512"
    assert "[THINK]I wonder.[/THINK]Yes" in told(model(name), user("Hi"), said("Yes", "I wonder."), user("So?"))


def test_an_assistants_turn_goes_on() -> None:
    turns = user("Hi"), said("The answer is ")
    text = model("Qwen2.5-Coder").prompt(Ask(turns, continues=True)).text
    assert text.endswith("<|im_start|>assistant\nThe answer is ")
    assert told(model("Qwen2.5-Coder"), *turns).endswith("The answer is <|im_end|>\n<|im_start|>assistant\n")
    with pytest.raises(RequestError, match=r"^Only an assistant's turn can go on"):
        model("Qwen2.5-Coder").prompt(Ask((user("Hi"),), continues=True))
    with pytest.raises(RequestError, match=r"^The last turn calls a tool: its result must follow"):
        told(model("Qwen2.5-Coder"), user("Hi"), said("", None, (BERN,)))


def test_thoughts_are_switched_by_the_templates_own_variable() -> None:
    off = told(model(QWEN3), user("Hi"), thinking=Thinking(on=False))
    assert off.endswith("<think>\n\n</think>\n\n")
    assert told(model(QWEN3), user("Hi"), thinking=Thinking(effort="none")) == off
    assert not told(model(QWEN3), user("Hi"), thinking=Thinking(effort="low")).endswith("</think>\n\n")


@pytest.mark.parametrize(
    ("effort", "level"), [("none", "low"), ("minimal", "low"), ("medium", "medium"), ("max", "high")]
)
def test_an_effort_is_the_nearest_that_the_model_has(effort: str, level: str) -> None:
    assert f"Reasoning: {level}\n" in told(model(GPT_OSS), user("Hi"), thinking=Thinking(effort=effort))


def test_a_clients_own_variable_comes_first() -> None:
    ask = Ask((user("Hi"),), thinking=Thinking(effort="high"), template={"reasoning_effort": "low"})
    assert "Reasoning: low" in model(GPT_OSS).prompt(ask).text


def test_a_budget_is_told_or_follows_from_an_effort_without_levels() -> None:
    def budget(name: str, thinking: Thinking) -> int | None:
        closing = model(name).prompt(Ask((user("Hi"),), thinking=thinking)).closing
        return None if closing is None else closing.budget

    assert budget(QWEN3, Thinking(budget=77)) == 77
    assert budget(QWEN3, Thinking(effort="low")) == 1024
    assert budget(QWEN3, Thinking()) is None
    assert budget(GPT_OSS, Thinking(effort="low")) is None
    assert budget("Qwen2.5-Coder", Thinking(effort="low")) is None  # it cannot think


def test_only_a_demand_is_refused_where_no_model_thinks() -> None:
    coder = model("Qwen2.5-Coder")
    assert told(coder, user("Hi"), thinking=Thinking(on=True, effort="high")) == told(coder, user("Hi"))
    with pytest.raises(RequestError, match=r"^Qwen2.5-Coder does not support thinking"):
        told(coder, user("Hi"), thinking=Thinking(on=True, demanded=True))
    assert told(model(QWEN3), user("Hi"), thinking=Thinking(on=True, demanded=True))
