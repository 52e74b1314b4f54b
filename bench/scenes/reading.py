"""Scenes of prompts: a long one beside a stream, one that was seen before, one document for many, agents' sessions."""

from __future__ import annotations

from typing import Any

from .asked import Ask, Prompts, median, share, total_rate
from .ours import Watch
from .scene import Bar, Played, Scene, Sizes, is_ours

TURNS, SESSIONS = 6, 3  # of agents
ASKED, ANSWERED = 100, 32  # tokens of a turn
MANY, SHORTER = 10, 4  # conversations in turn, and so much shorter than an agent's
QUESTION = 32  # tokens behind a document
FEW = 4  # tokens of an answer whose beginning is timed


def beside(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    """How a stream fares while a long prompt is read beside it, and how that prompt does."""
    (cold,) = peer.ask([Ask(prompts(sizes.prompt), FEW)])
    (alone,) = peer.ask([Ask(prompts(64), 64)])
    normal = median(alone.gaps)
    speaks = Ask(prompts(64), peer.context - 64 - 1, until=1)
    stream, long = peer.ask([speaks, Ask(prompts(sizes.prompt), FEW, behind=0)])
    during = [
        b - a for a, b in zip(stream.times, stream.times[1:], strict=False) if b > long.began and a < long.times[0]
    ]
    return {
        "normal gap, ms": 1000 * normal,
        "p99 / normal": share(during, 0.99) / normal,
        "worst / normal": max(during) / normal,
        "tokens meanwhile": len(during),
        "first token, s": long.first,
        "first token / alone": long.first / cold.first,
    }


def seen(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    """The first token of a prompt that was answered before."""
    prompt = prompts(sizes.prompt)
    (cold,), (warm,) = peer.ask([Ask(prompt, FEW)]), peer.ask([Ask(prompt, FEW)])
    return {"cold, ms": 1000 * cold.first, "seen, ms": 1000 * warm.first, "cold / seen": cold.first / warm.first}


def document(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    """Many requests on one document, and as many on documents of their own."""
    text = prompts(sizes.prompt)
    asks = [Ask([*text, *prompts(QUESTION)], ANSWERED) for _ in range(sizes.sharers)]
    apart = [Ask(prompts(sizes.prompt + QUESTION), ANSWERED) for _ in range(sizes.sharers)]
    found: Played = {}
    if is_ours(peer):
        with Watch(peer) as watch:
            told = peer.ask(asks)
        found["MB held"] = (watch.most - watch.before) / 1e6
        one = peer.engine.model.planned_bytes(sizes.prompt + QUESTION + ANSWERED, 1)
        found["held / one of them"] = (watch.most - watch.before) / one
    else:
        told = peer.ask(asks)
    shared, single = total_rate(told), total_rate(peer.ask(apart))
    return {**found, "tokens/s": shared, "tokens/s apart": single, "shared / apart": shared / single}


def sessions(peer: Any, prompts: Prompts, sizes: Sizes, count: int, length: int, turns: int) -> Played:
    """Conversations in turn, each going on from all that was said: how much of a prompt is not computed again."""
    texts = [prompts(length) for _ in range(count)]
    shares, firsts = [], []
    for turn in range(turns):
        for number in range(count):
            known = len(texts[number])  # what was said until now
            texts[number] += prompts(ASKED)
            (told,) = peer.ask([Ask(texts[number], ANSWERED)])
            if turn:
                shares.append((told.cached or 0) / known)
                firsts.append(told.first)
            texts[number] += told.tokens
    return {
        "least from cache": min(shares),
        "median from cache": median(shares),
        "first token, ms": 1000 * median(firsts),
    }


def agents(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    return sessions(peer, prompts, sizes, SESSIONS, sizes.session, TURNS)


def conversations(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    return sessions(peer, prompts, sizes, MANY, sizes.session // SHORTER, 2)


SCENES = (
    Scene(
        "beside",
        beside.__doc__ or "",
        beside,
        slots=2,
        context=lambda sizes: sizes.prompt + 512,
        bars=(
            Bar("p99 / normal", 3.0, least=False),
            Bar("worst / normal", 6.0, least=False),
            Bar("first token / alone", 2.5, least=False),
        ),
    ),
    Scene(
        "seen",
        seen.__doc__ or "",
        seen,
        context=lambda sizes: sizes.prompt + 512,
        bars=(Bar("cold / seen", 100.0),),
    ),
    Scene(
        "document",
        document.__doc__ or "",
        document,
        slots=4,  # of so long a context more take gigabytes
        context=lambda sizes: sizes.prompt + 512,
        bars=(Bar("shared / apart", 3.0),),
    ),
    Scene(
        "agents",
        f"{SESSIONS} agents in turn, {TURNS} turns each",
        agents,
        slots=SESSIONS,
        context=lambda sizes: sizes.session + 2000,
        bars=(Bar("least from cache", 0.95),),
    ),
    Scene(
        "conversations",
        f"{MANY} conversations in turn, the second turn of each",
        conversations,
        slots=MANY,
        context=lambda sizes: sizes.session // SHORTER + 512,
        bars=(Bar("least from cache", 0.95),),
    ),
)
