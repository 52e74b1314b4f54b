"""Token ids to ordered parts: markers count as their tokens, and nothing that was written is lost."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from letters import Letters

from mlxrun.parts import AnswerPart, Said, Thought, merged
from mlxrun.text.items import Hidden, Item
from mlxrun.text.reasoning_formats import FORMATS, THINK, ReasoningFormat, format_of
from mlxrun.text.router import PartRouter

PLAIN = ("<think>", "</think>")  # added tokens that are no control tokens, as Qwen has them
CONTROLS = ("<|im_end|>", "[THINK]", "[/THINK]", "<|channel>", "<channel|>")
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|constrain|>", "<|call|>", "<|return|>")


OWN = Letters(PLAIN, (*CONTROLS, *HARMONY))


def form(name: str) -> ReasoningFormat:
    return next(form for form in FORMATS if form.name == name)


def routed(ids: list[int], form: ReasoningFormat | None, prompt: str = "", size: int = 1) -> list[Item]:
    router = PartRouter(OWN, form, prompt)
    return [i for at in range(0, len(ids), size) for i in router.push(ids[at : at + size])] + router.finish()


def parts(items: list[Item]) -> tuple[AnswerPart, ...]:
    return merged(item for item in items if not isinstance(item, Hidden))


def read(text: str, form: ReasoningFormat | None, prompt: str = "") -> tuple[AnswerPart, ...]:
    """Markers in `text` are their tokens; the same however many tokens come at once."""
    ids = OWN.encode(text, special=True)
    found = [parts(routed(ids, form, prompt, size)) for size in (1, 3, len(ids) or 1)]
    assert found[0] == found[1] == found[2]
    return found[0]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[THINK]Hm[/THINK]Yes", (Thought("Hm"), Said("Yes"))),
        ("a[THINK]b[/THINK]c[THINK]d", (Said("a"), Thought("b"), Said("c"), Thought("d"))),  # again, and unclosed
        (" \n[THINK]b", (Thought(" \nb"),)),
        ("a[/THINK]b[THINK]c[THINK]d", (Said("ab"), Thought("cd"))),  # a control token out of place is no text
        ("Hé<|im_end|>", (Said("Hé"),)),
        ("", ()),
    ],
)
def test_control_tokens(text: str, wanted: tuple[AnswerPart, ...]) -> None:
    assert read(text, form("mistral")) == wanted


def test_letters_of_a_marker_that_is_a_token_stay_text() -> None:
    spelled = OWN.encode("[THINK]no[/THINK]", special=False)
    assert parts(routed(spelled, form("mistral"))) == (Said("[THINK]no[/THINK]"),)
    thinking = [*OWN.encode("[THINK]", special=True), *OWN.encode("say [/THINK]", special=False)]
    assert parts(routed(thinking, form("mistral"))) == (Thought("say [/THINK]"),)
    assert parts(routed(OWN.encode("<think>a</think>", special=False), THINK)) == (Said("<think>a</think>"),)


def test_added_tokens_that_are_text_open_only_at_the_start() -> None:
    assert read("\n<think>a</think>b", THINK) == (Thought("\na"), Said("b"))
    assert read("Write <think> and </think>.", THINK) == (Said("Write <think> and </think>."),)
    assert read("a</think>b", THINK, "<think>\n") == (Thought("a"), Said("b"))
    assert read("</think>b", THINK) == (Said("</think>b"),)


def test_a_label_is_a_part_of_the_opener() -> None:
    gemma = form("gemma")
    assert read("<|channel>thought\nHm<channel|>Yes", gemma) == (Thought("Hm"), Said("Yes"))
    assert read("<|channel>thought\n<channel|>Yes", gemma) == (Said("Yes"),)
    assert read("<|channel>thought<channel|>Yes", gemma) == (Said("Yes"),)
    assert read("<|channel>other\nHm<channel|>Yes", gemma) == (Said("other\nHmYes"),)
    assert read("<|channel>thou", gemma) == (Thought("thou"),)


PROMPT = "<|start|>user<|message|>Hi to=all<|end|><|start|>assistant"
ANALYSIS = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
CALL = "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}"


@pytest.mark.parametrize(
    ("text", "prompt", "wanted"),
    [
        (f"{ANALYSIS}<|channel|>final<|message|>Yes.", PROMPT, (Thought("Hm."), Said("Yes."))),
        ("<|channel|>commentary<|message|>First,", PROMPT, (Said("First,"),)),
        ("<|channel|>final<|constrain|>json<|message|>{}", PROMPT, (Said("{}"),)),
        (f"{ANALYSIS}{CALL}", PROMPT, (Thought("Hm."), Said(f"<|start|>assistant{CALL}"))),
        (f" to=functions.f{CALL}", PROMPT, (Said(f" to=functions.f{CALL}"),)),
        ("to be or not", PROMPT, (Said("to be or not"),)),
        ("Yes", PROMPT, (Said("Yes"),)),
        ("a<|end|>b", f"{PROMPT}<|channel|>analysis<|message|>", (Thought("a"), Said("b"))),
        ("a", f"{PROMPT}<|channel|>final<|message|>", (Said("a"),)),
        ("<|channel|>analy", PROMPT, (Said("<|channel|>analy"),)),  # cut: as it was
        ("a<|constrain|>b", "", (Said("a<|constrain|>b"),)),
        ("<|channel|>analysis<|message|>a<|channel|>final<|message|>b", PROMPT, (Thought("a"), Said("b"))),
    ],
)
def test_channels(text: str, prompt: str, wanted: tuple[AnswerPart, ...]) -> None:
    assert read(text, form("harmony"), prompt) == wanted


def test_without_a_format_nothing_is_a_marker() -> None:
    assert read("<think>a</think>[THINK]b", None) == (Said("<think>a</think>b"),)


def test_a_marker_ends_a_character_that_is_not_whole() -> None:
    think, end = OWN.encode("[THINK][/THINK]", special=True)
    assert parts(routed([think, 0xC3, end, 0xA9], form("mistral"))) == (Thought("\ufffd"), Said("\ufffd"))


SOME = [ord("a"), ord(" "), ord("<"), 0xC3, *range(256, OWN.vocab_size)]


@given(
    ids=st.lists(st.sampled_from(SOME), max_size=30),
    name=st.sampled_from([form.name for form in FORMATS]),
    size=st.integers(1, 8),
    prompt=st.sampled_from(["", "<think>", PROMPT]),
)
@example(ids=[ord(" "), 256 + 9], name="harmony", size=1, prompt="")  # a header of nothing but a space
def test_any_tokens_in_groups_of_any_size(ids: list[int], name: str, size: int, prompt: str) -> None:
    whole = routed(ids, form(name), prompt, len(ids) or 1)
    assert parts(whole) == parts(routed(ids, form(name), prompt, size))
    told = "".join(item.text for item in whole if isinstance(item, Said | Thought | Hidden))
    assert all(told.count(chr(letter)) >= ids.count(letter) for letter in (ord("a"), ord(" "), ord("<")))


@pytest.mark.parametrize(
    ("controls", "template", "wanted"),
    [
        (HARMONY, "{{ '<|channel|>' }}analysis{{ '<|message|>' }}", "harmony"),
        (HARMONY, "no word of it", "harmony"),
        ((), "<|channel|><|message|>", "think"),  # they are always tokens
        (("[THINK]", "[/THINK]"), "no word of it", "mistral"),
        (("[THINK]", "[/THINK]"), "<think> was said", "think"),
        (("<|channel>", "<channel|>"), "{{ '<|channel>thought' }}", "gemma"),
        (("<|START_THINKING|>", "<|END_THINKING|>"), "", "command"),
        ((), "write between <seed:think> and </seed:think>", "seed"),
        ((), "between <think></think> and <response></response>", "granite"),
        ((), "", "think"),
    ],
)
def test_which_format_a_model_has(controls: tuple[str, ...], template: str, wanted: str) -> None:
    assert format_of(Letters((), controls), [template]).name == wanted
