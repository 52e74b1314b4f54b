"""What gpt-oss may answer where tools may be called: messages on channels, some of them calls (see `harmony`).

The prompt ends with the first message's <|start|>assistant; what ends a call or the last message ends the answer, so
it is no part of a grammar. Knows no other format.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..turns import Calling, Tool, ToolChoice
from .lark import ANY, LarkText, Literal
from .tool_formats import RecipientHead

NEXT = "<|end|><|start|>assistant"
MESSAGE = "<|message|>"
CHANNELS = ("analysis", "commentary", "final")


def messages(
    lark: LarkText, head: RecipientHead, tools: Sequence[tuple[Tool, str]], choice: ToolChoice, shape: str | None
) -> str:
    """`tools`: each with the rule of its arguments."""
    text = lark.rule(f"/{ANY}/", "free", terminal=True)
    thought = lark.rule(lark.joined([Literal(f"<|channel|>analysis{MESSAGE}"), text]), "thought")
    said = lark.one_of([lark.joined([Literal(f"<|channel|>{name}{MESSAGE}"), text]) for name in CHANNELS], "said")
    call = lark.one_of([_call(lark, head.to.replace("{name}", tool.name), given) for tool, given in tools], "call")
    if choice.calling is Calling.REQUIRED:
        before, last = thought, call
    elif shape is not None:
        before, last = thought, lark.one_of([call, lark.joined([Literal(f"<|channel|>final{MESSAGE}"), shape])])
    elif choice.calling is Calling.NONE:
        before, last = said, said
    else:
        before, last = said, lark.one_of([call, said])
    return f"({lark.joined([before, Literal(NEXT)])})* {last}"


def _call(lark: LarkText, to: str, given: str) -> str:
    """Its recipient stands before the channel or behind it."""
    channel = lark.one_of([lark.literal("<|channel|>commentary"), lark.literal("<|channel|>analysis")], "channel")
    first = lark.joined([Literal(f" to={to}"), channel])
    header = lark.one_of([first, lark.joined([channel, Literal(f" to={to}")])], "header")
    kind = f"({lark.literal(' ')})? ({lark.literal('<|constrain|>json')})?"
    return lark.rule(lark.joined([header, kind, Literal(MESSAGE), given]), "call")
