"""Which models `mlxrun serve` offers, by the names that clients call them, and how one of them is loaded."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import RequestError
from ..spec import ModelError
from . import options, quantize
from .terminal import aside

if TYPE_CHECKING:
    from ..engine.registry import Beside, RegistryLimits
    from ..loading import LoadOptions, OpenedModel
    from ..loading.model import Runnable
    from ..server.adapters import AdapterNames
    from ..server.capabilities import ModelCard
    from ..server.dialect import Voice
    from ..settings import Settings
    from .together import Together

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h|)", re.ASCII)
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
FOR_EVER = "-1"
ANY = "*"
KEEP = 300.0  # seconds that one of several models stays after its last use
WORTH_HAVING = 8192  # tokens; idle models go before one is loaded with a shorter context than it could have


def add_models(parser: argparse.ArgumentParser, default: str) -> None:
    usual = f"as for run, one or several; without it {default}. The first is loaded at once, others when asked for"
    parser.add_argument("model", metavar="MODEL", nargs="*", help=usual)
    parser.add_argument("--name", help="what clients call the model, where it is one")
    options.add_adapters(parser, "of the first model, which requests name as if it were a model (repeatable)")
    parser.add_argument(
        "--adapter-dir",
        type=Path,
        metavar="DIR",
        help="let clients load and unload adapters of this folder (POST /v1/load_lora_adapter)",
    )
    parser.add_argument(
        "--max-adapters",
        type=int,
        metavar="N",
        help="loaded at once, the longest unused goes for the next; as many as fit where it is not given",
    )
    parser.add_argument("--models-dir", type=Path, metavar="DIR", help="offer the models of this folder too")
    parser.add_argument(
        "--installed",
        action="store_true",
        help="offer what mlxrun list shows too, and what LM Studio and Ollama have here",
    )
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME=MODEL",
        help="answer to this name too (repeatable); '*' for every name, with the first model or *=MODEL",
    )
    parser.add_argument(
        "--keep-alive",
        metavar="TIME",
        help="30s, 5m or 1h without requests after which a model is unloaded; -1: never. "
        "Usual are 5m, and never for one model alone",
    )
    parser.add_argument(
        "--check-answers",
        action="store_true",
        help="compute each answer once more, alone, while nobody asks, and count in /metrics what differs",
    )
    parser.add_argument(
        "--max-models", type=int, metavar="N", help="loaded at once; as many as fit where it is not given"
    )
    parser.add_argument(
        "--pin", action="append", default=[], metavar="MODEL", help="once it is loaded, keep it (repeatable)"
    )


@dataclass(frozen=True)
class Offered:
    flags: argparse.Namespace
    settings: Settings
    named: Mapping[str, Path]
    together: Together | None = None  # where several machines run the model
    _fetched: dict[str, Path] = field(default_factory=dict)  # for clients, since the start
    _seen: dict[str, Path] = field(default_factory=dict)  # when it was last looked for them
    _cards: dict[Path, tuple[int, ModelCard]] = field(default_factory=dict)  # and when what they tell was changed

    @property
    def first(self) -> str | None:
        return next(iter(self.named), None)

    @property
    def alone(self) -> bool:
        more = self.flags.models_dir is not None or self.flags.installed or self.flags.allow_pull
        return len(self.named) == 1 and not more

    def add(self, name: str, place: Path) -> None:
        """One that was fetched meanwhile."""
        self._fetched[name] = place

    def names(self) -> list[str]:
        return list(self.places())

    def places(self) -> dict[str, Path]:
        """As they are now: folders come and go."""
        found = {**dict(self._found()), **self._fetched, **self.named}
        self._seen.update(found)
        return found

    def _found(self) -> Iterator[tuple[str, Path]]:
        from ..store.folder import models_in
        from ..store.others import models_of_others
        from ..store.resolve import list_installed

        if self.flags.installed:
            yield from models_of_others()
            yield from ((name, place) for name, place in list_installed(self.settings) if place is not None)
        if self.flags.models_dir is not None:
            yield from models_in(self.flags.models_dir).items()

    def aliases(self) -> dict[str, str]:
        places, found = self.places(), dict[str, str]()
        for alias in self.flags.alias:
            name, equals, model = alias.partition("=")
            model = model if equals else self.first or ""
            if not name or (not equals and name != ANY):
                raise RequestError(f"--alias wants NAME=MODEL, or '{ANY}' alone for every name, not {alias!r}.")
            if model not in places:
                raise RequestError(f"--alias {name} names {model!r}, which is none of the models that are offered.")
            found[name] = model
        return found

    def adapters(self) -> AdapterNames:
        from ..server.adapters import AdapterNames

        given, folder = dict(options.adapters(self.flags)), self.flags.adapter_dir
        if (given or folder is not None) and self.first is None:
            flag = "--adapter" if given else "--adapter-dir"
            raise RequestError(f"{flag} goes with a MODEL that is named; here none is.")
        if taken := given.keys() & self.places().keys():
            raise RequestError(f"--adapter names {sorted(taken)[0]!r}, and a model has that name.")
        if folder is not None and not os.path.isdir(options.at_home(folder)):
            raise RequestError(f"--adapter-dir names {folder}, which is no folder.")
        if (most := self.flags.max_adapters) is not None and most < 1:
            raise RequestError(f"--max-adapters must be a whole number from 1 on, not {most}.")
        return AdapterNames(self.first or "", given, folder and options.at_home(folder).absolute())

    def limits(self) -> RegistryLimits:
        from ..engine.registry import RegistryLimits

        usual = None if self.alone else KEEP
        keep = usual if self.flags.keep_alive is None else seconds_of(self.flags.keep_alive)
        most = self.flags.max_models
        if most is not None and most < 1:
            raise RequestError(f"--max-models must be a whole number from 1 on, not {most}.")
        pins = set(self.flags.pin)
        if unknown := pins - self.places().keys():
            raise RequestError(f"--pin names {sorted(unknown)[0]!r}, which is none of the models that are offered.")
        stays = self.named if self.alone and keep is None else ()
        return RegistryLimits(most=most, keep=keep, pinned=frozenset({*pins, *stays}))

    def _with_adapters(self, how: LoadOptions) -> LoadOptions:
        more, most = self.flags.adapter_dir is not None, self.flags.max_adapters
        return replace(how, adapters=options.adapters(self.flags), more_adapters=more, most_adapters=most)

    def card(self, name: str) -> ModelCard | None:
        """Of one that is here; None: its files cannot be read."""
        place = self._seen.get(name) or self.places().get(name)
        if place is None:
            return None
        try:
            found = self._cards.get(place)
            modified = place.stat().st_mtime_ns
            if found is None or found[0] != modified:
                found = self._cards[place] = (modified, card_of(place))
            return found[1]
        except (ModelError, OSError):
            return None

    def load(self, name: str, beside: Beside) -> Voice:
        from ..assistant import QUEUE_LIMIT, Assistant, recommended
        from ..loading import load_opened
        from ..server.dialect import Voice
        from ..store.resolve import resolve
        from ..tune import begin

        place = self.named.get(name) or self.places().get(name)
        if place is None:
            raise ModelError("It is not there any more.")
        tuning = begin(self.settings)
        opened = options.open_flagged(resolve(str(place), self.settings), self.flags, tuning.device)
        sampling = options.sampling(self.flags, recommended(opened.checkpoint))
        opened = quantize.copy_of(opened, self.flags, self.settings)
        how = options.load_options(self.flags, self.settings)
        how = self._with_adapters(how) if name == self.first else how
        how = options.beside_others(how, beside, WORTH_HAVING)
        queue = self.settings.queue or QUEUE_LIMIT
        check = self.flags.check_answers
        load: Callable[[OpenedModel, LoadOptions], Runnable] = load_opened
        if self.together is not None:
            how, load = self.together.gathered(opened, how)
        assistant = Assistant.load(
            opened, how, name=name, idle=tuning.idle, queue_limit=queue, check_answers=check, load=load
        )
        if self.together is not None:
            self.together.serves(assistant.engine)
        _ = assistant.tokenizer.longest  # found now, or the first giant would wait for it
        for note in assistant.engine.notes:
            aside(note if self.alone else f"{name}: {note}")
        return Voice(assistant, name, sampling)


def offered(flags: argparse.Namespace, settings: Settings, default: str, together: Together | None = None) -> Offered:
    """Fetches what is named and not here yet."""
    from ..store.resolve import resolve

    folder = flags.models_dir
    if folder is not None and not folder.expanduser().is_dir():
        raise RequestError(f"--models-dir names {folder}, which is no folder.")
    flags.models_dir = folder and folder.expanduser()
    asked = flags.model or ([default] if folder is None and not flags.installed else [])
    if flags.name is not None and len(asked) != 1:
        raise RequestError(f"--name is for one model, and {len(asked)} are named.")
    named: dict[str, Path] = {}
    for one in asked:
        place = resolve(one, settings)
        name = flags.name or (place.stem if os.path.exists(os.path.expanduser(one)) else one)
        if name in named:
            raise RequestError(f"Two of the models would be called {name!r}: serve them apart, or rename a folder.")
        named[name] = place
    return Offered(flags, settings, named, together)


def card_of(place: Path) -> ModelCard:
    from ..assistant import template_of
    from ..loading import open_model
    from ..loading.facts import facts_of
    from ..loading.pooling import embedding_form
    from ..server.capabilities import ModelCard

    opened = open_model(place)
    return ModelCard(facts_of(opened), template_of(opened.checkpoint), not embedding_form(opened).both_ways)


def seconds_of(text: str) -> float | None:
    """None: for ever."""
    found = DURATION.fullmatch(text.strip())
    if text.strip() == FOR_EVER:
        return None
    if found is None:
        raise RequestError(f"--keep-alive must be a time such as 30s, 5m or 1h, or -1 for ever, not {text!r}.")
    return float(found[1]) * SECONDS[found[2]]
