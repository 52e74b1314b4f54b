"""A body of Anthropic's Messages to an `Ask`: its blocks in turns, its tools, how much may be thought."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ...turns import Ask, Call, Calling, Content, Role, Thinking, Tool, ToolChoice, Turn
from ..check import shown
from ..dialect import Body
from ..errors import ApiError
from ..pictures import from_base64
from ..tools import checked, chosen
from .anthropic_events import thoughts_in
from .anthropic_fields import BILLING

Block = Body
CALLING = {"auto": Calling.AUTO, "any": Calling.REQUIRED, "tool": Calling.REQUIRED, "none": Calling.NONE}
OF_A_USER = ("text", "image", "document", "search_result", "tool_result")
OF_AN_ASSISTANT = ("text", "thinking", "redacted_thinking", "tool_use")
ALLOWED = {"user": OF_A_USER, "assistant": OF_AN_ASSISTANT, "system": ("text",)}


def ask_of(body: Body) -> Ask:
    names: dict[str, str] = {}  # of the tools that were called, by the call's id
    turns = list(system_turns(body.get("system")))
    for index, message in enumerate(body["messages"]):
        turns += turns_of(message, f"messages[{index}]", names)
    continues = body["messages"][-1]["role"] == "assistant"
    if continues and turns and turns[-1].calls:
        raise ApiError(400, "messages ends with a tool_use; its tool_result must follow it.", param="messages")
    tools = tools_of(body)
    return Ask(tuple(turns), tools, choice_of(body, tools), thinking_of(body), continues)


def system_turns(system: str | Sequence[Block] | None) -> Iterator[Turn]:
    texts = [system] if isinstance(system, str) else [block["text"] for block in system or ()]
    if texts and texts[0].startswith(BILLING):
        del texts[0]
    if texts:
        yield Turn(Role.SYSTEM, tuple(texts))


def turns_of(message: Body, path: str, names: dict[str, str]) -> Iterator[Turn]:
    role, content = message["role"], message["content"]
    if isinstance(content, str):
        yield Turn(Role(role), (content,))
        return
    for index, block in enumerate(content):
        if block["type"] not in ALLOWED[role]:
            at = f"{path}.content[{index}]"
            raise ApiError(400, f"{at} is a {block['type']} block, which {role} messages do not have.", param=at)
    if role == "assistant":
        yield assistant_turn(content, names)
    else:
        yield from user_turns(Role(role), content, f"{path}.content", names)


def assistant_turn(blocks: Sequence[Block], names: dict[str, str]) -> Turn:
    thoughts = [thought for block in blocks if block["type"] == "thinking" if (thought := thought_of(block))]
    calls = tuple(
        Call(block["id"], block["name"], json.dumps(block["input"], ensure_ascii=False))
        for block in blocks
        if block["type"] == "tool_use"
    )
    names |= {call.id: call.name for call in calls}
    said = tuple(block["text"] for block in blocks if block["type"] == "text")
    return Turn(Role.ASSISTANT, said, thoughts="\n\n".join(thoughts) if thoughts else None, calls=calls)


def thought_of(block: Block) -> str:
    return str(block["thinking"]) or thoughts_in(block.get("signature") or "")


def user_turns(role: Role, blocks: Sequence[Block], path: str, names: dict[str, str]) -> Iterator[Turn]:
    """What is said between results of tools stays where it was said."""
    said: list[Content] = []
    for index, block in enumerate(blocks):
        at = f"{path}[{index}]"
        if block["type"] != "tool_result":
            said += content_of(block, at)
            continue
        if said:
            yield Turn(role, tuple(said))
            said = []
        yield result_turn(block, at, names)
    if said:
        yield Turn(role, tuple(said))


def result_turn(block: Block, path: str, names: dict[str, str]) -> Turn:
    told, call = block.get("content"), block["tool_use_id"]
    if isinstance(told, str):
        content: tuple[Content, ...] = (told,)
    else:
        content = tuple(
            part for i, inner in enumerate(told or ()) for part in content_of(inner, f"{path}.content[{i}]")
        )
    return Turn(Role.TOOL, content, answers=call, failed=bool(block.get("is_error")), name=names.get(call))


def content_of(block: Block, path: str) -> Iterator[Content]:
    match block["type"]:
        case "text":
            yield block["text"]
        case "image":
            yield from_base64(block["source"]["media_type"], block["source"]["data"], f"{path}.source.data")
        case "document":
            yield from document_of(block, path)
        case "search_result":
            yield "\n".join((block["title"], block["source"], *(inner["text"] for inner in block["content"])))
        case "tool_reference":
            yield block["tool_name"]


def document_of(block: Block, path: str) -> Iterator[Content]:
    about = [block[key] for key in ("title", "context") if block.get(key)]
    if about:
        yield "\n".join(about)
    source = block["source"]
    told = source["data"] if source["type"] == "text" else source["content"]
    if isinstance(told, str):
        yield told
        return
    for index, inner in enumerate(told):
        yield from content_of(inner, f"{path}.source.content[{index}]")


def is_ours(tool: Body) -> bool:
    """Whether whoever asks runs it: any other would run on Anthropic's machines."""
    return tool.get("type") in (None, "custom")


def tools_of(body: Body) -> tuple[Tool, ...]:
    given = body.get("tools") or ()
    for index, tool in enumerate(given):
        if is_ours(tool) and tool.get("input_schema") is None:
            at = f"tools[{index}].input_schema"
            raise ApiError(400, f"{at} is missing.", param=at)
    ours = tuple(filter(is_ours, given))
    if given and not ours:
        names = ", ".join(shown(tool["name"]) for tool in given)
        raise ApiError(400, f"tools holds nothing that can be called here: {names} would run on Anthropic's machines.")
    places = [f"tools[{index}].name" for index, tool in enumerate(given) if is_ours(tool)]
    return checked([_tool(tool) for tool in ours], places)


def _tool(tool: Body) -> Tool:
    schema: dict[str, Any] = {"type": "object", "properties": {}, **tool["input_schema"]}
    return Tool(tool["name"], tool.get("description") or "", schema, strict=bool(tool.get("strict")))


def left_out_of(body: Body) -> tuple[str, ...]:
    given = enumerate(body.get("tools") or ())
    return tuple(f"tools[{index}]: {tool['name']}" for index, tool in given if not is_ours(tool))


def choice_of(body: Body, tools: Sequence[Tool]) -> ToolChoice:
    choice = body.get("tool_choice") or {"type": "auto"}
    calling, name = CALLING[choice["type"]], choice.get("name")
    parallel = not choice.get("disable_parallel_tool_use")
    return chosen(ToolChoice(calling, () if name is None else (name,), parallel), tools)


def thinking_of(body: Body) -> Thinking:
    """Who does not ask for thoughts gets none where the model can be told so; an effort alone is no word on that."""
    thinking = body.get("thinking") or {"type": "unsaid"}
    effort = (body.get("output_config") or {}).get("effort")
    match thinking["type"]:
        case "enabled":
            budget, limit = thinking["budget_tokens"], body.get("max_tokens")
            if limit is not None and budget >= limit:
                at = "thinking.budget_tokens"
                raise ApiError(400, f"{at} must be below max_tokens, which is {limit}, not {budget}.", param=at)
            return Thinking(True, effort, budget, demanded=True)
        case "disabled":
            return Thinking(on=False)
        case "unsaid" if effort is None:
            return Thinking(on=False)
    return Thinking(effort=effort)
