"""All that the web page does, in a browser: `make page`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mlxrun.core import Finish
from tests.server.scripted import ScriptedEngine

from .browser import Talk, make_page_only, say, served, stream_of

Visit = Callable[..., Talk]
pytestmark = make_page_only
PHONE = {"viewport": {"width": 360, "height": 720}, "has_touch": True, "is_mobile": True}
CHAT = "**/v1/chat/completions"
STREAM = {"content_type": "text/event-stream"}


def prompts(engine: ScriptedEngine) -> list[str]:
    return [bytes(request.tokens).decode() for request in engine.asked]


def test_a_question_is_edited_and_sent_again(visit: Visit) -> None:
    with served(engine := ScriptedEngine(text="Yes.")) as url:
        talk = visit(url)
        for count, text in enumerate(("First", "Second"), 1):
            talk.ask(text)
            talk.answered(count)
        talk.page.hover(".user >> nth=0")
        talk.page.click(".user >> nth=0 >> [aria-label^=Edit]")
        talk.page.keyboard.press("Escape")
        assert talk.texts(".user .bubble") == ["First", "Second"]
        talk.page.click(".user >> nth=0 >> [aria-label^=Edit]")
        talk.page.keyboard.type("!")
        talk.page.keyboard.press("Enter")
        talk.answered(1)
        assert talk.texts(".user .bubble") == ["First!"]
        assert prompts(engine)[-1] == "user:First!\n"


def test_an_answer_is_asked_for_again(visit: Visit) -> None:
    with served(engine := ScriptedEngine(text="Old.")) as url:
        talk = visit(url)
        talk.ask("First")
        talk.answered()
        engine.text = "New."
        talk.page.click("[aria-label='Answer again']")
        talk.page.wait_for_selector(".assistant .prose >> text=New.")
        talk.answered()
        assert talk.texts(".assistant .prose") == ["New."]
        assert prompts(engine) == ["user:First\n"] * 2


def test_a_question_is_deleted_with_its_answer(visit: Visit) -> None:
    with served(engine := ScriptedEngine(text="Yes.")) as url:
        talk = visit(url)
        for count, text in enumerate(("First", "Second"), 1):
            talk.ask(text)
            talk.answered(count)
        talk.page.click(".assistant >> nth=0 >> [aria-label^=Delete]")
        assert talk.texts(".user .bubble") == ["Second"]
        talk.ask("Third")
        talk.answered(2)
        assert prompts(engine)[-1] == "user:Second\nassistant:Yes.\nuser:Third\n"


def test_several_conversations_are_kept_and_cleared(visit: Visit) -> None:
    with served(ScriptedEngine(text="Yes.")) as url:
        talk = visit(url)
        for text in ("Apples", "Pears"):
            talk.page.click("#new")
            talk.ask(text)
            talk.answered()
        assert talk.texts("#chats .open") == ["Pears", "Apples"]
        talk.page.click("#chats .open >> text=Apples")
        assert talk.texts(".user .bubble") == ["Apples"]
        talk.page.hover("#chats li >> nth=0")
        talk.page.click("#chats li >> nth=0 >> [aria-label^=Delete]")
        talk.page.click("#sure .danger")
        talk.page.wait_for_function("() => document.querySelectorAll('#chats li').length === 1")
        assert talk.texts("#chats .open") == ["Apples"]
        talk.page.click("#clear")
        talk.page.click("#sure .cancel")
        talk.page.click("#clear")
        assert talk.texts("#chats .open") == ["Apples"]
        talk.page.click("#sure .danger")
        talk.page.wait_for_selector(".empty")
        assert talk.texts("#chats .open") == []
        assert "Apples" not in talk.facts("JSON.stringify(localStorage)")


def test_an_answer_goes_on_in_its_conversation_while_another_is_looked_at(visit: Visit) -> None:
    engine = ScriptedEngine(held=True)
    with served(engine) as url:
        talk = visit(url)
        talk.ask("Apples")
        talk.page.wait_for_selector(".waiting")
        while not engine.handles:
            talk.page.wait_for_timeout(10)
        talk.page.click("#new")
        say(engine, "Red.", end=True)
        talk.page.wait_for_selector("#send:not([hidden])")
        assert talk.texts(".prose") == []
        talk.page.click("#chats .open")
        assert talk.texts(".prose") == ["Red."]


def test_settings_are_sent_and_kept(visit: Visit) -> None:
    with served(engine := ScriptedEngine(text="A long answer.")) as url:
        talk = visit(url)
        talk.page.click("#open-settings")
        talk.page.fill("#system", "Be brief.")
        talk.page.fill("#temperature", "0")
        talk.page.fill("#longest", "6")
        talk.page.fill("#tools", "[{")
        assert "no JSON yet" in talk.texts("#tools-told")[0]
        talk.page.keyboard.press("Escape")
        talk.ask("Hi")
        talk.answered()
        assert prompts(engine) == ["system:Be brief.\nuser:Hi\n"]
        assert (engine.asked[0].sampling.temperature, engine.asked[0].max_tokens) == (0, 6)
        assert talk.texts(".note") == ["Cut off at the longest length that was allowed."]
        talk.page.reload()
        assert talk.page.input_value("#system") == "Be brief."


def test_keys_alone_are_enough(visit: Visit) -> None:
    with served(ScriptedEngine(text="Yes.")) as url:
        talk = visit(url)
        press, keyboard = talk.page.keyboard.press, talk.page.keyboard
        assert talk.facts("document.activeElement.id") == "prompt"
        keyboard.type("one")
        press("Shift+Enter")
        keyboard.type("two")
        assert talk.page.input_value("#prompt") == "one\ntwo"
        press("Enter")
        talk.answered()
        assert talk.facts("document.querySelector('.bubble').textContent") == "one\ntwo"
        assert "Yes." in talk.texts("#live")
        press("ArrowUp")
        assert talk.facts("document.activeElement.closest('.edit') !== null")
        press("Escape")
        talk.facts("document.activeElement.blur()")
        press("/")
        assert talk.facts("document.activeElement.id") == "prompt"
        press("Alt+n")
        assert talk.page.is_visible(".empty")
        seen = set()
        for _ in range(20):
            press("Tab")
            outline = "getComputedStyle(document.activeElement).outlineStyle"
            name = talk.facts("(e => e === document.body ? '' : e.id || e.className)(document.activeElement)")
            if name and name != "prompt":
                assert talk.facts(outline) != "none", f"{name} does not show that it has the focus"
            seen.add(name)
        assert {"new", "clear", "menu", "model", "theme", "open-settings", "prompt"} <= seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_by_system_and_by_choice(visit: Visit, scheme: str) -> None:
    with served(ScriptedEngine()) as url:
        talk = visit(url, color_scheme=scheme)

        def ground() -> str:
            red = int(talk.facts("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
            return "light" if red > 128 else "dark"

        assert ground() == scheme
        shown = [ground() for _ in range(3) if talk.page.click("#theme") is None]
        assert shown == ["light", "dark", scheme]
        talk.page.click("#theme")
        talk.page.reload()
        assert ground() == "light"


def test_a_phone(visit: Visit) -> None:
    text = "```python\n" + "x" * 300 + "\n```\n\n" + "|a" * 30 + "|\n" + "|-" * 30 + "|\n\n" + "w" * 300
    with served(ScriptedEngine(text=text, context=4000)) as url:
        talk = visit(url, **PHONE)
        wide = "[document.documentElement, document.body, byWide].map(e => e.scrollWidth - e.clientWidth)"
        assert not talk.page.is_visible("#new")
        talk.ask("Hi " + "w" * 200)
        talk.answered()
        assert talk.facts(wide.replace("byWide", "document.querySelector('#log')")) == [0, 0, 0]
        talk.page.click("#menu")
        talk.page.wait_for_selector("#new")
        assert talk.facts("document.activeElement.id") == "new"
        talk.page.keyboard.press("Escape")
        talk.page.wait_for_selector("#new", state="hidden")
        small = talk.facts(
            "[...document.querySelectorAll('button, select')].filter(e => e.checkVisibility())"
            ".map(e => e.getBoundingClientRect()).filter(r => r.height && r.height < 28).length"
        )
        assert small == 0
        assert talk.complaints == []


def test_a_server_with_a_key(visit: Visit) -> None:
    with served(ScriptedEngine(text="Yes."), key="secret") as url:
        talk = Talk(visit(url, wait=False).page)
        talk.page.wait_for_selector("#ask-key[open]")
        talk.page.fill("#key", "wrong")
        talk.page.keyboard.press("Enter")
        talk.page.wait_for_selector("#ask-key[open] >> text=not the key")
        talk.page.fill("#key", "secret")
        talk.page.keyboard.press("Enter")
        talk.page.wait_for_selector("#model option", state="attached")
        talk.ask("Hi")
        talk.answered()
        assert talk.texts(".assistant .prose") == ["Yes."]
        assert "secret" not in talk.facts("JSON.stringify(localStorage)")


def test_an_error_is_a_sentence_and_can_be_tried_again(visit: Visit) -> None:
    engine = ScriptedEngine(text="", finish=Finish.FAILED, reason="The model broke down.")
    with served(engine) as url:
        talk = visit(url)
        talk.ask("Hello")
        talk.answered()
        assert talk.texts(".error span") == ["The model broke down."]
        engine.text, engine.finish, engine.reason = "Yes.", Finish.STOP, None
        talk.page.click(".error button")
        talk.page.wait_for_selector(".assistant .prose >> text=Yes.")
        assert talk.texts(".error") == []


def test_an_error_within_a_stream_keeps_what_was_said(visit: Visit) -> None:
    with served(ScriptedEngine()) as url:
        talk = visit(url)
        frames = stream_of({"content": "Half of"}).split("\n\n")[0]
        ends = [("", "broke off"), ('data: {"error":{"message":"The server is stopping."}}\n\n', "stopping")]
        left = iter(ends)
        talk.page.route(CHAT, lambda route: route.fulfill(body=f"{frames}\n\n{next(left)[0]}", **STREAM))
        for _, told in ends:
            talk.page.click("#new")
            talk.ask("Hi")
            talk.answered()
            assert talk.texts(".assistant .prose") == ["Half of"]
            assert told in talk.texts(".error span")[0]


def test_a_connection_that_is_lost_and_found_again(visit: Visit) -> None:
    with served(ScriptedEngine(text="Yes.")) as url:
        talk = visit(url)
    talk.ask("Hi")
    talk.page.wait_for_selector("#banner.ill")
    assert "does not answer" in talk.texts(".error span")[0]
    with served(ScriptedEngine(text="Yes."), port=int(url.rpartition(":")[2])):
        talk.page.wait_for_selector("#banner.well")
        talk.page.click(".error button")
        talk.page.wait_for_selector(".assistant .prose >> text=Yes.")


CALL: dict[str, Any] = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": ""},
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def test_calls_are_cards_and_their_results_go_back(visit: Visit) -> None:
    called = stream_of(
        {"role": "assistant", "content": ""},
        {"reasoning_content": "I need the weather."},
        {"tool_calls": [CALL]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"city":'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '"Oslo <b>"}'}}]},
        finish="tool_calls",
    )
    bodies, answers = [], [called, stream_of({"content": "It is **cold**."})]
    with served(ScriptedEngine()) as url:
        talk = visit(url)

        def answer(route: Any) -> None:
            bodies.append(json.loads(route.request.post_data))
            route.fulfill(body=answers[len(bodies) - 1], **STREAM)

        talk.page.route(CHAT, answer)
        talk.page.click("#open-settings")
        talk.page.fill("#tools", json.dumps([TOOL]))
        talk.page.keyboard.press("Escape")
        talk.ask("Weather in Oslo?")
        talk.answered()
        assert talk.texts(".call b, .call-state") == ["weather", "waits for its result"]
        assert talk.texts(".call pre") == ['{\n  "city": "Oslo <b>"\n}']
        talk.page.fill(".result textarea", '{"degrees":-3}')
        talk.page.click(".result button")
        talk.page.wait_for_selector(".prose strong >> text=cold")
        talk.answered()
        assert talk.texts(".call-state, .call-short") == ['{"city":"Oslo <b>"}', "done"]
        assert not talk.page.is_visible(".call pre >> nth=1")
        talk.page.click(".call summary")
        assert talk.texts(".call pre")[1] == '{\n  "degrees": -3\n}'
    assert bodies[0]["tools"] == [TOOL]
    assert bodies[1]["messages"] == [
        {"role": "user", "content": "Weather in Oslo?"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "I need the weather.",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Oslo <b>"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees":-3}'},
    ]


def test_tools_that_the_server_lends(visit: Visit) -> None:
    lent = [
        {"server": "box", "tools": [{"name": "add", "description": "The sum.\nMore."}], "error": None},
        {"server": "gone", "tools": [], "error": "The MCP server gone cannot be reached: no."},
    ]
    first = {"index": 0, "id": "call_1", "name": "box__add", "arguments": ""}
    deltas: list[dict[str, Any]] = [
        {"mcp_calls": [first]},
        {"mcp_calls": [{"index": 0, "arguments": '{"a":2}'}]},
        {"mcp_calls": [{"index": 0, "result": "5", "is_error": False}]},
        {"mcp_calls": [{**first, "index": 1, "id": "call_2"}]},
        {"mcp_calls": [{"index": 1, "result": "It broke.", "is_error": True}]},
        {"content": "It is 5."},
    ]
    bodies = []

    def answer(route: Any) -> None:
        bodies.append(json.loads(route.request.post_data))
        route.fulfill(body=stream_of(*deltas), **STREAM)

    with served(ScriptedEngine()) as url:
        routes = {"**/v1/mcp": lambda route: route.fulfill(json={"data": lent}), CHAT: answer}
        talk = visit(url, routes=routes)
        talk.page.click("#open-settings")
        talk.page.wait_for_selector("#lent")
        assert talk.texts("#lent b, #lent label small") == ["box.add", "The sum.", "gone", lent[1]["error"]]
        assert talk.page.is_disabled("#lent input >> nth=1")
        talk.page.check("#lent input >> nth=0")
        talk.page.keyboard.press("Escape")
        for count in (1, 2):
            talk.ask("2 and 3?")
            talk.answered(count)
        assert talk.texts(".call-state") == ["done", "failed"] * 2
        assert talk.texts(".result") == []
        assert talk.texts(".parts > .prose") == ["It is 5."] * 2
    assert [body["mlxrun_mcp"] for body in bodies] == [["box.add"]] * 2
    sent = bodies[1]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "assistant", "user"]
    assert [message["content"] for message in sent[2:5]] == ["5", "It broke.", "It is 5."]


PIXEL = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89"
    b"\0\0\0\nIDATx\x9cc\0\x01\0\0\x05\0\x01\r\n-\xb4\0\0\0\0IEND\xaeB`\x82"
)


def test_pictures_only_where_the_model_sees_them(visit: Visit) -> None:
    with served(ScriptedEngine()) as url:
        assert not visit(url).page.is_visible("#attach")
        models = {"data": [{"id": "seer", "state": "loaded", "architecture": {"input_modalities": ["text", "image"]}}]}
        bodies = []

        def answer(route: Any) -> None:
            bodies.append(json.loads(route.request.post_data))
            route.fulfill(body=stream_of({"content": "A dot."}), **STREAM)

        talk = visit(url, routes={"**/v1/models": lambda route: route.fulfill(json=models), CHAT: answer})
        talk.page.set_input_files("#file", {"name": "dot.png", "mimeType": "image/png", "buffer": PIXEL})
        talk.page.wait_for_selector("#pictures img")
        talk.ask("What is this?")
        talk.answered()
        picture, text = bodies[0]["messages"][0]["content"]
        assert picture["image_url"]["url"].startswith("data:image/png;base64,")
        assert text == {"type": "text", "text": "What is this?"}
        assert talk.page.locator(".user > img").evaluate("image => image.naturalWidth") == 1
        assert talk.complaints == []
