"""Conversations that other programs exported: ChatGPT, Claude, Open WebUI, LM Studio; and our own. Knows no widgets.

Of a tree the branch that its owner read last is taken. What is no text in it is named in brackets.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .commands import CommandError
from .sessions import ChatTurn
from .transcript import KIND

KNOWN = "ChatGPT, Claude, Open WebUI, LM Studio or mlxrun"
LARGEST = 1 << 30  # bytes
ROLES = {"user": "user", "human": "user", "assistant": "assistant", "note": "note"}


@dataclass(frozen=True, slots=True)
class Imported:
    title: str
    turns: tuple[ChatTurn, ...]
    system: str = ""


def conversations(place: Path) -> list[Imported]:
    try:
        if place.stat().st_size > LARGEST:
            raise CommandError(f"{place} has more than {LARGEST >> 20} MiB.")
        raw = zipped(place) if zipfile.is_zipfile(place) else place.read_bytes()
        told = json.loads(raw)
    except (OSError, zipfile.BadZipFile) as error:
        raise CommandError(f"{place} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    except (ValueError, RecursionError) as error:
        raise CommandError(f"{place} is no JSON: {error}.") from error
    try:
        found = [made for one in (told if isinstance(told, list) else [told]) if (made := read_one(one)) is not None]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CommandError(
            f"{place} is no export of ChatGPT, Claude, Open WebUI, LM Studio or mlxrun: {error!r}."
        ) from error
    if not found:
        raise CommandError(f"{place} holds no conversation of {KNOWN}.")
    return found


def zipped(place: Path) -> bytes:
    """Both ChatGPT and Claude give a .zip with this file in it."""
    with zipfile.ZipFile(place) as archive:
        names = [name for name in archive.namelist() if name.rpartition("/")[2] == "conversations.json"]
        if not names:
            raise CommandError(f"{place} holds no conversations.json.")
        if archive.getinfo(names[0]).file_size > LARGEST:
            raise CommandError(f"{names[0]} in {place} has more than {LARGEST >> 20} MiB.")
        return archive.read(names[0])


def read_one(told: Mapping[str, Any]) -> Imported | None:
    """None: nothing is said in it, or it is something else."""
    if told.get("kind") == KIND:
        turns, title = ours(told), told.get("title")
    elif "mapping" in told:
        turns, title = of_chatgpt(told), told.get("title")
    elif "chat_messages" in told:
        turns, title = of_claude(told), told.get("name")
    elif "systemPrompt" in told and isinstance(told.get("messages"), list):
        kept = tuple(turn for turn in of_lm_studio(told) if turn.content.strip() or turn.reasoning)
        return Imported(str(told.get("name") or "Imported"), kept, str(told["systemPrompt"] or "")) if kept else None
    elif isinstance(told.get("chat"), Mapping):
        turns, title = of_open_webui(told["chat"]), told.get("title") or told["chat"].get("title")
    else:
        return None
    kept = tuple(turn for turn in turns if turn.content.strip() or turn.reasoning)
    return Imported(str(title or "Imported"), kept, str(told.get("system") or "")) if kept else None


def turn_of(role: str, content: str, model: str = "", **more: Any) -> ChatTurn | None:
    kind = ROLES.get(role)
    return None if kind is None else ChatTurn(0, kind, content, model=model, finish="stop", **more)


def present(turns: Iterable[ChatTurn | None]) -> list[ChatTurn]:
    return [turn for turn in turns if turn is not None]


def ours(told: Mapping[str, Any]) -> list[ChatTurn]:
    return present(
        turn_of(
            str(one["role"]), str(one["content"]), str(one.get("model", "")), reasoning=str(one.get("reasoning", "")),
            tokens=int(one.get("tokens", 0)), keeps=int(one.get("keeps", 0)), files=str(one.get("files", "")),
        )
        for one in told["messages"]
    )  # fmt: skip


def of_chatgpt(told: Mapping[str, Any]) -> list[ChatTurn]:
    nodes, at = told["mapping"], told.get("current_node")
    path: list[Mapping[str, Any]] = []
    while at in nodes and len(path) <= len(nodes):  # a ring ends too
        path.insert(0, nodes[at])
        at = nodes[at].get("parent")
    found = []
    for node in path:
        message = node.get("message") or {}
        parts = (message.get("content") or {}).get("parts") or []
        text = "\n\n".join(part if isinstance(part, str) else "[a file]" for part in parts)
        model = str((message.get("metadata") or {}).get("model_slug") or "")
        found.append(turn_of(str((message.get("author") or {}).get("role")), text, model))
    return present(found)


def of_claude(told: Mapping[str, Any]) -> list[ChatTurn]:
    found = []
    for message in told["chat_messages"]:
        parts = [part for part in message.get("content") or [] if isinstance(part, Mapping)]
        text = "\n\n".join(str(part["text"]) for part in parts if part.get("type") == "text" and part.get("text"))
        files = [f"[{file.get('file_name', 'a file')}]" for file in message.get("attachments") or []]
        found.append(turn_of(str(message.get("sender")), "\n\n".join([text or str(message.get("text") or ""), *files])))
    return present(found)


def of_lm_studio(told: Mapping[str, Any]) -> list[ChatTurn]:
    """One file a conversation, NUMBER.conversation.json; of each message the version that was chosen. An answer has
    steps, those of thoughts are styled so."""
    found = []
    for message in told["messages"]:
        versions, at = message.get("versions") or [message], message.get("currentlySelected") or 0
        version = versions[at]
        steps = version.get("steps") if version.get("type") == "multiStep" else [version]
        said, thought = list[str](), list[str]()
        for step in steps or []:
            thinks = (step.get("style") or {}).get("type") == "thinking"
            (thought if thinks else said).extend(map(lm_studio_part, step.get("content") or []))
        model = str((version.get("senderInfo") or {}).get("senderName") or "")
        reasoning = "".join(thought).strip()
        found.append(turn_of(str(version.get("role")), "\n\n".join(filter(None, said)), model, reasoning=reasoning))
    return present(found)


def lm_studio_part(part: Mapping[str, Any]) -> str:
    if part.get("type") == "text":
        return "" if part.get("isStructural") else str(part.get("text") or "")
    return f"[{part.get('name') or part.get('type') or 'a file'}]"


def of_open_webui(chat: Mapping[str, Any]) -> list[ChatTurn]:
    history = chat.get("history") or {}
    nodes, at = history.get("messages") or {}, history.get("currentId")
    path: list[Mapping[str, Any]] = []
    while at in nodes and len(path) <= len(nodes):
        path.insert(0, nodes[at])
        at = nodes[at].get("parentId")
    messages = path or list(chat.get("messages") or [])
    return present(
        turn_of(str(one.get("role")), str(one.get("content") or ""), str(one.get("model") or "")) for one in messages
    )
