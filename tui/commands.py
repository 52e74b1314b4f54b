"""Commands that are typed into the prompt: their names, what they take, how a beginning goes on. Knows no widgets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .attach import completions
from .wishes import EFFORTS, SETTABLE

FORMATS = ("md", "json", "html")


class CommandError(ValueError):
    """What cannot be obeyed, in one sentence."""


@dataclass(frozen=True, slots=True)
class KnownCommand:
    """One that there is."""

    name: str
    takes: str
    what: str


ORDERS = (
    KnownCommand("model", "[NAME]", "change to another model; without a name: the list"),
    KnownCommand("unload", "[MINUTES | never]", "let the model go now, or when it had nothing to do for so long"),
    KnownCommand("system", "[TEXT]", "the system prompt of this session; without text: in your editor"),
    KnownCommand("set", "[NAME VALUE]", "temperature, top_p, seed and more, for this session; auto: as recommended"),
    KnownCommand("think", "LEVEL", "how much is thought before an answer: none, low, medium, high, auto"),
    KnownCommand("preset", "[NAME | save NAME | delete NAME]", "named settings, for any session"),
    KnownCommand("compact", "", "the model sums the conversation up; you see it before it is used"),
    KnownCommand("drop", "[N]", "leave the oldest messages out of what the model is told; N are kept"),
    KnownCommand("tools", "[SERVER ... | off]", "tools of MCP servers that the model may call; each is asked about"),
    KnownCommand("compare", "[MODEL | temperature=0 ...]", "the last message to other models or settings"),
    KnownCommand("lens", "[off]", "how likely each token of an answer was, and what else could have stood there"),
    KnownCommand("engine", "", "memory and engine, live"),
    KnownCommand("export", "[FILE]", "this session as .md, .json or .html"),
    KnownCommand("import", "FILE", "conversations of ChatGPT, Claude, Open WebUI, LM Studio or mlxrun"),
    KnownCommand("tag", "WORD ...", "tags of this session; the list of sessions finds #word"),
    KnownCommand("editor", "", "write the message in $EDITOR"),
    KnownCommand("copy", "", "the last answer into the clipboard"),
    KnownCommand("retry", "", "another answer, beside the one that is there"),
    KnownCommand("new", "", "a new session"),
    KnownCommand("sessions", "", "all sessions"),
    KnownCommand("theme", "[NAME]", "dark, light, contrast"),
    KnownCommand("help", "", "all commands and keys"),
    KnownCommand("quit", "", "everything is saved"),
)
NAMES = tuple(order.name for order in ORDERS)


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    rest: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """`text` takes the place of all from `start` on."""

    text: str
    what: str
    start: int
    whole: bool = False  # nothing is to be written behind it


def parsed(text: str) -> Command | str:
    """A command, or a message. // begins a message with a slash; /usr/bin is a path and no command."""
    begins = text.lstrip()
    if begins.startswith("//"):
        return begins[1:]
    first, _, rest = begins.partition(" ") if "\n" not in begins.split(" ", 1)[0] else begins.partition("\n")
    name = first[1:].strip()
    if not begins.startswith("/") or "/" in name or not name[:1].isalpha():
        return text
    found = [known for known in NAMES if known == name.lower()] or [
        known for known in NAMES if known.startswith(name.lower())
    ]
    if len(found) != 1:
        others = f"; there are {', '.join('/' + one for one in found)}" if found else "; /help shows all"
        raise CommandError(f"There is no command /{name}{others}. A message that begins so is written //{name}.")
    return Command(found[0], rest.strip())


def complete(
    text: str, at: int, folder: Path, models: Sequence[str] = (), presets: Sequence[str] = ()
) -> list[Completion]:
    """How the word before position `at` can go on."""
    before = text[:at]
    start = max(before.rfind(" "), before.rfind("\n")) + 1
    word = before[start:]
    if word.startswith("@"):
        found = completions(word[1:], folder)
        return [Completion(f"@{quoted(name)}", "", start, not name.endswith("/")) for name in found]
    if not before.startswith("/") or "\n" in before:
        return []
    if start == 0:
        known = [order for order in ORDERS if order.name.startswith(word[1:].lower())]
        return [Completion(f"/{order.name}", told(order), 0, not order.takes) for order in known]
    return [Completion(one, "", start, True) for one in values(before, word, models, presets)]


def told(order: KnownCommand) -> str:
    return f"{order.takes}  {order.what}" if order.takes else order.what


def values(before: str, word: str, models: Sequence[str], presets: Sequence[str]) -> list[str]:
    """What a command takes in that place."""
    name, *given = before[1:].split(" ")
    place = len(given)
    if name in ("model", "compare"):
        return starting(models, word)
    if name == "think":
        return starting((*EFFORTS, "auto"), word)
    if name == "preset":
        return starting(("save", "delete", *presets) if place == 1 else presets, word)
    if name == "set" and place == 1:
        return starting(SETTABLE, word)
    if name == "theme":
        return starting(("dark", "light", "contrast"), word)
    if name == "import":
        return completions(word, Path.cwd())
    return []


def starting(known: Iterable[str], word: str) -> list[str]:
    return [one for one in known if one.lower().startswith(word.lower()) and one != word]


def quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
