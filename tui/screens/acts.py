"""What the keys of a chosen message do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..sessions import ChatTurn
from ..transcript import code_blocks, file_for, quoted

if TYPE_CHECKING:
    from ..widgets.conversation import Conversation
    from .chat import ChatScreen

NO_BLOCK = "There is no block of code in this message."
SAFE_NAME = re.compile(r"[^\w.-]+")


async def act_on(screen: ChatScreen, turn: ChatTurn, action: str) -> None:
    talk = screen.talk
    if talk is None:
        return
    if screen.busy and action not in ("copy", "block", "quote"):
        screen.host.tell_once("One answer at a time: Esc stops this one.")
        return
    if action != "delete":
        screen.to_delete = 0
    match action:
        case "copy":
            await screen.host.copy(turn.content, "The message")
        case "block":
            await copy_block(screen, turn)
        case "save":
            save_block(screen, turn)
        case "quote":
            prompt = screen.prompt
            prompt.load(f"{quoted(turn.content)}\n\n{prompt.text}".rstrip() + "\n\n", prompt.files_written)
            prompt.focus()
        case "edit" if turn.role != "note":
            screen.edit(turn)
        case "retry":
            await retry(screen, turn)
        case "before" | "after":
            if talk.walk(turn, -1 if action == "before" else 1):
                place = next((at for at, one in enumerate(talk.turns) if one.parent == turn.parent), 0)
                await screen.show_again(talk.turns[place].id)
        case "fork":
            await screen.host.open_session(talk.branch(turn))
            screen.host.tell_once("A new session, with all up to that message.")
        case "delete":
            await delete(screen, turn)


async def retry(screen: ChatScreen, turn: ChatTurn) -> None:
    """Another answer to that message, or in place of that answer."""
    talk = screen.talk
    assert talk is not None
    if turn.role == "note":
        return
    last = turn.id if turn.role == "user" else turn.parent
    talk.turns = [one for one in talk.turns if last is not None and one.id <= last]
    await screen.show_again()
    if talk.turns:
        await screen.answer()


async def delete(screen: ChatScreen, turn: ChatTurn) -> None:
    assert screen.talk is not None
    if screen.to_delete != turn.id:
        screen.to_delete = turn.id
        screen.host.tell_once("d once more deletes this message and all that follows it.")
        return
    screen.to_delete = 0
    screen.talk.remove(turn)
    await screen.show_again(screen.talk.turns[-1].id if screen.talk.turns else None)


async def copy_block(screen: ChatScreen, turn: ChatTurn) -> None:
    """The last one; pressed again, the one before it."""
    blocks = code_blocks(turn.content)
    if not blocks:
        screen.host.tell_once(NO_BLOCK)
        return
    before = screen.copied_block if screen.copied_block[0] == turn.id else (turn.id, 0)
    nth = before[1] % len(blocks)
    screen.copied_block = (turn.id, nth + 1)
    which = f"Block {len(blocks) - nth} of {len(blocks)}" if len(blocks) > 1 else "The block"
    await screen.host.copy(blocks[-1 - nth].code, which)


def save_block(screen: ChatScreen, turn: ChatTurn) -> None:
    from .ask import AskScreen

    blocks = code_blocks(turn.content)
    if not blocks:
        screen.host.tell_once(NO_BLOCK)
        return
    block = blocks[-1]

    def then(name: str | None) -> None:
        if name:
            screen.host.tell(write_new(Path(name).expanduser(), block.code))

    screen.app.push_screen(AskScreen("Save the block as", file_for(block)), then)


def write_new(place: Path, text: str) -> str:
    """What became of it, in one sentence. A file that is there stays as it is."""
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return f"There already, and left as it is: {place}. Give another name."
    except (OSError, ValueError) as error:
        return f"{place} could not be written: {getattr(error, 'strerror', None) or error}."
    return f"Written: {place.absolute()}."


def chosen_of(conversation: Conversation) -> ChatTurn | None:
    from ..widgets.message import Choosable

    found = [one for one in conversation.query(Choosable) if one.has_focus]
    return found[0].turn if found else None
