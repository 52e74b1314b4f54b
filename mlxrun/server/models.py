"""Which models a server has, which of them a request means, and what is told of them; the registry loads them.

A name is looked up in what can be served and nowhere else: no request makes a path of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack

from ..core import Memory, RequestError, Sampling
from ..engine.adapters import lend_adapter
from ..engine.engine import memory_of
from ..engine.registry import Keep, Lease, Load, NoRoom, NotLoaded, Registry, RegistryLimits, State
from ..engine.statistics import Statistics, together
from ..loading.loaded_adapters import AdaptersInUse
from ..spec import ModelError
from .adapters import AdapterNames, NamedAdapter
from .capabilities import ModelCard
from .check import shown
from .dialect import Json, Voice
from .errors import LATER, ApiError, NoSuchModel, later

MOST_NAMES = 12  # in a sentence
REMEMBERED = 10.0  # seconds that a load which failed is not tried again
ANY = "*"  # an alias for every name
OTHER_NAMES = "Serve with --alias NAME=MODEL to answer to another name, with --alias '*' to answer to any"
LATEST = ":latest"  # is what programs for Ollama add to a name without a tag


class Models:
    def __init__(
        self,
        load: Load[Voice],
        names: Callable[[], Iterable[str]],
        first: str | None = None,
        limits: RegistryLimits | None = None,
        card: Callable[[str], ModelCard | None] = lambda name: None,
        aliases: Mapping[str, str] | None = None,
        adapters: AdapterNames | None = None,
    ) -> None:
        """`names`: of all that can be loaded, asked whenever somebody wants to know. `first`: where none is named.
        `card`: what the files of one say; None: nobody knows. It reads them. `aliases`: other names for models; `ANY`
        stands for every name that is none. `adapters`: asked for like models."""
        self.registry, self.aliases = Registry(load, limits), dict(aliases or {})
        self.adapters = AdapterNames() if adapters is None else adapters
        self.clock: Callable[[], float] = time.monotonic
        self._failed: dict[str, tuple[float, str]] = {}  # until when a load is not tried again, and why it failed
        self.first, self._names, self.created = first, names, int(time.time())
        self.card = card

    def names(self) -> list[str]:
        """The one that answers where none is named, then those that are loaded, then the others."""
        loaded = (state.name for state in self.registry.states())
        first = () if self.first is None else (self.first,)
        return list(dict.fromkeys((*first, *self.adapters, *loaded, *self._names())))

    def name_of(self, asked: str | None) -> str:
        """Raises for a model that is not here. May look at the disk."""
        if asked is not None and (found := self._found(asked)) is not None:
            return found
        if asked is None and self.first is not None:
            return self.first
        names = self.names()
        if asked is None:
            raise ApiError(400, f"model must name one of the models here: {listed(names)}.", param="model")
        served = f"{listed(names)} {'is' if len(names) == 1 else 'are'} served"
        raise NoSuchModel(shown(asked), f"{served}. {OTHER_NAMES}")

    def _found(self, asked: str) -> str | None:
        names = (asked, asked.removesuffix(LATEST), f"{asked}{LATEST}")
        for name in names:
            if name == self.first or name in self.adapters or self.registry.has(name):
                return name
        known = set(self._names())
        own = next((name for name in names if name in known), None)
        return own or next((self.aliases[name] for name in (*names, ANY) if name in self.aliases), None)

    def loaded(self) -> list[Json]:
        """As /health tells it: what is loaded or on its way."""
        return [told_of(state) for state in self.registry.states()]

    def voices(self) -> list[Voice]:
        return [state.model for state in self.registry.states() if state.model is not None]

    def sampling(self, usual: Sampling) -> Sampling:
        """Where neither a request nor the model's authors say; with one model also what these say."""
        return next((voice.sampling for voice in self.voices() if voice.name == self.first), usual)

    def statistics(self) -> Statistics:
        """Of all models that are loaded, together."""
        return together(voice.assistant.engine.statistics() for voice in self.voices())

    def seconds_between_ends(self) -> float:
        """How long it takes until some answer has ended; 0: nobody knows."""
        told = [voice.assistant.engine.statistics().now for voice in self.voices()]
        return min((now["seconds_between_ends"] for now in told if "seconds_between_ends" in now), default=0.0)

    def memory(self) -> Memory:
        engines = [voice.assistant.engine for voice in self.voices()]
        return engines[0].memory() if len(engines) == 1 else memory_of(engines)

    def base(self, name: str) -> str:
        """The model of an adapter; of a model itself."""
        found = self.adapters.get(name)
        return name if found is None else found.base

    async def lease(self, name: str, keep: Keep = "usual") -> Lease[Voice]:
        """Waits for a load without a thread. If we are cancelled meanwhile, nobody keeps the lease."""
        adapter = self.adapters.get(name)
        if adapter is None:
            return await self._lease(name, keep)
        try:
            lease = await self._lease_adapted(name, adapter, keep)
        except AdaptersInUse as error:
            raise ApiError(503, self.adapters.named_without_folder(str(error)), headers=LATER) from error
        except ModelError as error:
            message = f"The adapter {name!r} could not be loaded: {self.adapters.named_without_folder(str(error))}"
            raise ApiError(503, message) from error
        if self.adapters.get(name) is not adapter:  # unloaded while we waited: it goes with this request
            self._forget(adapter)
        return lease

    async def _lease_adapted(self, name: str, adapter: NamedAdapter, keep: Keep) -> Lease[Voice]:
        """Loads it if it is not there, and keeps it as long as the lease."""
        lease = await self._lease(adapter.base, keep)
        with ExitStack() as held:
            held.callback(lease.release)
            lent, give_back = lend_adapter(lease.model.assistant.engine, adapter.key, adapter.path)
            await asyncio.wrap_future(lent)
            held.callback(give_back)
            return Lease(lease.model.adapted(name, adapter.key), held.pop_all().close)

    async def load_adapter(self, name: str, path: str, *, anew: bool) -> None:
        """Under that name from now on. `anew`: in the place of one that has it; who is being answered keeps that."""
        if self.first is None:
            raise ApiError(400, "Adapters belong to the first MODEL that serve was given, and none was.")
        if name in self.adapters and not anew:
            message = f"There is an adapter {shown(name)} already; unload it first, or say load_inplace."
            raise ApiError(400, message, param="lora_name")
        found = self.adapters.found(self.first, name, path)
        try:
            lease = await self._lease_adapted(name, found, "usual")
        except AdaptersInUse as error:
            raise ApiError(503, self.adapters.named_without_folder(str(error)), headers=LATER) from error
        except (ModelError, RequestError) as error:
            raise ApiError(400, self.adapters.named_without_folder(str(error)), param="lora_path") from error
        lease.release()
        self._forget(self.adapters.put(name, found))

    def unload_adapter(self, name: str) -> None:
        """As soon as nobody is being answered with it."""
        self._forget(self.adapters.remove(name))

    def _forget(self, adapter: NamedAdapter | None) -> None:
        for state in self.registry.states():
            if adapter is not None and state.name == adapter.base and state.model is not None:
                state.model.assistant.engine.model.holdings.adapters.forget(adapter.key)

    def is_model(self, name: str) -> bool:
        """May look at the disk."""
        return name == self.first or name in self.aliases or name in set(self._names())

    async def _lease(self, name: str, keep: Keep) -> Lease[Voice]:
        self._check_failures(name)
        try:
            asked = self.registry.lease(name, keep)
            try:
                return await asyncio.shield(asyncio.wrap_future(asked))
            except asyncio.CancelledError:
                if not asked.cancel():
                    asked.add_done_callback(give_back)
                raise
        except NoRoom as error:
            raise ApiError(503, str(error), headers=LATER) from error
        except NotLoaded as error:
            raise ApiError(503, "The server is stopping.", headers=LATER) from error
        except (ModelError, MemoryError, OSError) as error:
            message = f"The model {name!r} could not be loaded: {said(error)}"
            self._failed[name] = self.clock() + REMEMBERED, message
            raise ApiError(503, message, headers=later(REMEMBERED)) from error

    def _check_failures(self, name: str) -> None:
        """Who asks again and again does not have it tried each time."""
        until, message = self._failed.get(name, (0.0, ""))
        if (left := until - self.clock()) > 0:
            raise ApiError(503, message, headers=later(left))
        self._failed.pop(name, None)

    def stop(self) -> None:
        self.registry.stop()

    def close(self) -> None:
        self.registry.close()


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(map(repr, names[:MOST_NAMES])) or "none") + more


def told_of(state: State[Voice]) -> Json:
    told: Json = {"name": state.name, "state": "loading" if state.model is None else "loaded"}
    told |= {"requests": state.users, "pinned": state.pinned, "bytes": None, "used": None}
    told |= {"idle_seconds": rounded(state.idle), "unloads_in_seconds": rounded(state.goes)}
    if state.model is not None:
        claim = state.model.claim
        told |= {"bytes": claim.own + claim.mapped, "used": state.model.assistant.engine.used().data()}
    return told


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def said(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}."
    return str(error) or "there was not enough memory."


def give_back(asked: Future[Lease[Voice]]) -> None:
    if not asked.cancelled() and asked.exception() is None:
        asked.result().release()
