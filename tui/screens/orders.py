"""What the commands do that are typed into the prompt."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlxrun.core import RequestError

from ..attach import tokens_in
from ..backend import ModelChoice
from ..commands import FORMATS, Command, CommandError
from ..editor import EditorError, edited, editor
from ..imports import conversations
from ..sessions import ChatTurn
from ..talk import Message, Talk, tokens_of
from ..transcript import exported
from ..wishes import EFFORTS, Wishes
from .acts import chosen_of, write_new
from .told import ToldScreen
from .tools import reach_tools

if TYPE_CHECKING:
    from .chat import ChatScreen

SUMMARY_TOKENS = 800
SUMMED_SHARE = 0.7  # of the context, that is read to be summed up
KEPT_SHARE = 0.5  # of the context, that /drop leaves


async def run_order(screen: ChatScreen, command: Command) -> None:
    """A CommandError, or a RequestError, tells what cannot be done."""
    try:
        if (done := ORDERS[command.name](screen, command.rest)) is not None:
            await done
    except RequestError as error:
        raise CommandError(str(error)) from error


def talk_of(screen: ChatScreen, *, said: bool = False) -> Talk:
    if screen.talk is None or (said and not screen.talk.turns):
        raise CommandError("Nothing is said in this session yet.")
    if said and screen.busy:
        raise CommandError("One answer at a time: Esc stops this one.")
    return screen.talk


def model(screen: ChatScreen, rest: str) -> None:
    screen.host.change_model(ModelChoice(rest) if rest else None)


def unload(screen: ChatScreen, rest: str) -> None:
    if not rest:
        screen.host.unload()
        return
    try:
        minutes = None if rest in ("never", "off") else float(rest)
    except ValueError:
        minutes = 0.0
    if minutes is not None and not 0 < minutes < math.inf:
        raise CommandError(f"/unload takes minutes, or never, not {rest!r}; without either the model goes now.")
    screen.host.unload_later(minutes)
    when = "stays until you quit" if minutes is None else f"goes after {minutes:g} minutes without a message"
    screen.host.tell_once(f"A model {when}.")


async def system(screen: ChatScreen, rest: str) -> None:
    talk = talk_of(screen)
    text = rest or screen.host.edit_text(talk.wishes.system)
    if text is not None:
        wish(screen, replace(talk.wishes, system="" if text in ("none", "off") else text.strip()))


def set_number(screen: ChatScreen, rest: str) -> None:
    talk = talk_of(screen)
    name, _, value = rest.replace("=", " ", 1).partition(" ")
    if not name:
        screen.host.tell(f"This session: {talk.wishes.told}. /set temperature 0.2, /set temperature auto.")
        return
    if not value.strip():
        raise CommandError(f"/set {name} wants a value, or auto: as the model's authors recommend.")
    wish(screen, talk.wishes.with_number(name, value.strip()))


def think(screen: ChatScreen, rest: str) -> None:
    if rest not in (*EFFORTS, "auto"):
        raise CommandError(f"/think takes {', '.join(EFFORTS)} or auto, not {rest!r}.")
    wish(screen, replace(talk_of(screen).wishes, effort="" if rest == "auto" else rest))


def wish(screen: ChatScreen, wishes: Wishes) -> None:
    talk_of(screen).wish(wishes)
    screen.show_title()
    screen.host.tell_once(f"This session: {wishes.told}.")


def preset(screen: ChatScreen, rest: str) -> None:
    talk, (word, _, name) = talk_of(screen), rest.partition(" ")
    known = screen.host.presets()
    if word in ("save", "delete") and name.strip():
        if word == "delete" and name not in known:
            raise CommandError(f"There is no preset {name!r}; there are {', '.join(known) or 'none yet'}.")
        screen.host.keep_preset(name.strip(), talk.wishes.written() if word == "save" else None)
        screen.host.tell_once(f"The preset {name.strip()} is {'saved' if word == 'save' else 'deleted'}.")
    elif not rest:
        screen.host.tell(f"Presets: {', '.join(known) or 'none yet; /preset save NAME keeps what is set here'}.")
    elif rest not in known:
        raise CommandError(f"There is no preset {rest!r}; there are {', '.join(known) or 'none yet'}.")
    else:
        wish(screen, Wishes.read(known[rest]))


def tools(screen: ChatScreen, rest: str) -> None:
    """Whose tools this session has; without a name, what there is."""
    talk = talk_of(screen)
    if rest in ("off", "none"):
        wish(screen, replace(talk.wishes, tools=()))
        return
    names = tuple(dict.fromkeys(rest.split()))
    screen.host.tell_once(f"Asking {', '.join(names) or 'all MCP servers'} …")

    async def then() -> None:
        told, good = await reach_tools(screen.host, names)
        if names and good:
            talk.wish(replace(talk.wishes, tools=names))
        if names and good:
            screen.host.tell_once(f"This session: {talk.wishes.told}.")
        else:
            screen.app.push_screen(ToldScreen("Tools", told))

    screen.run_worker(then(), exclusive=True, group="tools")


def compact(screen: ChatScreen, rest: str) -> None:
    from .compact import ASKED, CompactScreen

    talk, client = talk_of(screen, said=True), screen.host.client
    if client is None:
        raise CommandError("There is no model yet to sum it up.")
    room = int((client.context or 8192) * SUMMED_SHARE) - SUMMARY_TOKENS
    messages = [*fitting(talk.messages(client.sees is not False), room), {"role": "user", "content": ASKED}]
    keeps = keepable(talk, int((client.context or 8192) * 0.2), most=2)

    async def then(summary: str | None) -> None:
        if summary is not None:
            talk.note(summary, keeps)
            await screen.show_again()

    screen.app.push_screen(CompactScreen(lambda: client.stream(messages, max_tokens=SUMMARY_TOKENS)), then)


async def drop(screen: ChatScreen, rest: str) -> None:
    talk, client = talk_of(screen, said=True), screen.host.client
    if rest and not rest.isdecimal():
        raise CommandError(f"/drop takes the number of messages that are kept, not {rest!r}.")
    context = (client.context if client is not None else None) or 8192
    keeps = int(rest) if rest else keepable(talk, int(context * KEPT_SHARE))
    talk.note("", keeps)
    await screen.show_again()


def keepable(talk: Talk, tokens: int, most: int = 10**6) -> int:
    """How many of the latest turns have so many tokens at most."""
    kept = 0
    for turn in reversed(talk.turns):
        tokens -= tokens_in(turn.content)
        if tokens < 0 or kept == most or turn.role == "note":
            break
        kept += 1
    return kept


def fitting(messages: list[Message], tokens: int) -> list[Message]:
    """The latest of them that have so many tokens, beginning with a person's; at least one."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    kept: list[Message] = []
    for message in reversed(messages[len(system) :]):
        tokens -= tokens_of(message)
        if tokens < 0 and kept:
            break
        kept.insert(0, message)
    while len(kept) > 1 and kept[0]["role"] != "user":
        kept.pop(0)
    return [*system, *kept]


def lens(screen: ChatScreen, rest: str) -> None:
    """The chosen answer, or the last one; where it told of no likelihood, the next ones will."""
    from .lens import LensScreen

    talk = talk_of(screen)
    if rest == "off":
        screen.lens = False
        screen.host.tell_once("The lens is off.")
        return
    turn = chosen_of(screen.conversation) or talk.last_answer
    tokens = screen.tokens.get(turn.id) if turn is not None else None
    if turn is None or not tokens:
        screen.lens = True
        screen.host.tell_once("The lens is on for the answers that come; ctrl+r answers the last message under it.")
        return

    async def then(begins: str | None) -> None:
        if begins is not None and not screen.busy and turn in talk.turns:
            talk.turns = talk.turns[: talk.turns.index(turn)]
            await screen.show_again()
            await screen.answer(begins)

    screen.app.push_screen(LensScreen(tokens, turn.content), then)


def compare(screen: ChatScreen, rest: str) -> None:
    from .compare import CompareScreen, contestants

    talk, client = talk_of(screen, said=True), screen.host.client
    if client is None:
        raise CommandError("There is no model yet to compare with.")
    who = contestants(rest.split(), talk.wishes)
    messages = talk.messages(client.sees is not False)
    if messages and messages[-1]["role"] == "assistant":
        messages = messages[:-1]

    async def then(taken: ChatTurn | None) -> None:
        if taken is not None:
            made = talk.answer(taken.model, taken.content)
            talk.save(replace(taken, id=made.id, parent=made.parent))
            await screen.show_again()

    screen.app.push_screen(CompareScreen(who, messages, client, screen.host.backend, screen.host.loading), then)


def export(screen: ChatScreen, rest: str) -> None:
    talk = talk_of(screen, said=True)
    words = "-".join("".join(c if c.isalnum() else " " for c in talk.title.lower()).split()[:6]) or "session"
    place = Path(rest or f"{words}.md").expanduser()
    form = place.suffix.lstrip(".").lower()
    if form not in FORMATS:
        raise CommandError(f"{place.name} must end with {', '.join('.' + one for one in FORMATS)}.")
    screen.host.tell(write_new(place, exported(talk.title, talk.turns, talk.wishes.system, form)))


async def import_file(screen: ChatScreen, rest: str) -> None:
    if not rest:
        raise CommandError("/import wants a file: conversations.json of ChatGPT or Claude, or what was exported here.")
    found = conversations(Path(rest).expanduser())
    screen.host.take_in(found)
    screen.host.tell(f"{len(found)} conversation{'s' * (len(found) != 1)} came in; ctrl+o lists them.")


def tag(screen: ChatScreen, rest: str) -> None:
    talk = talk_of(screen, said=True)
    assert talk.session is not None
    screen.host.sessions.tag(talk.session, rest)
    screen.host.tell_once(f"Tags: {rest or 'none'}.")


def write(screen: ChatScreen, rest: str) -> None:
    text = screen.host.edit_text(screen.prompt.text)
    if text is not None:
        screen.prompt.load(text, screen.prompt.files_written)


def edit_here(text: str) -> str:
    """In the person's editor; the terminal is theirs."""
    try:
        return edited(text, editor(os.environ))
    except EditorError as error:
        raise CommandError(str(error)) from error


def theme(screen: ChatScreen, rest: str) -> None:
    screen.host.change_theme(rest)


def of_app(action: str) -> Callable[[ChatScreen, str], Awaitable[None]]:
    async def run(screen: ChatScreen, rest: str) -> None:
        await screen.run_action(action)

    return run


ORDERS: dict[str, Callable[[ChatScreen, str], Awaitable[None] | None]] = {
    "model": model,
    "unload": unload,
    "system": system,
    "set": set_number,
    "think": think,
    "preset": preset,
    "tools": tools,
    "compact": compact,
    "drop": drop,
    "compare": compare,
    "lens": lens,
    "engine": of_app("app.engine"),
    "export": export,
    "import": import_file,
    "tag": tag,
    "editor": write,
    "theme": theme,
    "copy": of_app("screen.copy"),
    "retry": of_app("screen.retry"),
    "new": of_app("screen.new"),
    "sessions": of_app("app.sessions"),
    "help": of_app("app.help"),
    "quit": of_app("app.quit"),
}
