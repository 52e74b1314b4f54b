"""Scenes of answers that are written: alone, eight and thirty-two at once, drawn, and what a step costs the host."""

from __future__ import annotations

from typing import Any

from .asked import Ask, Prompts, Told, median, total_rate
from .scene import Bar, Played, Scene, Sizes

READ = 256  # tokens of each prompt


def alone(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    (told,) = peer.ask([Ask(prompts(64), sizes.speaks)])
    return {"tokens/s": told.rate, "first token, ms": 1000 * told.first}


def together(count: int) -> Any:
    def play(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
        return {"tokens/s": total_rate(peer.ask([Ask(prompts(READ), sizes.speaks) for _ in range(count)]))}

    return play


def drawn(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    """A step of 32 rows at a temperature and top-p, over one that takes the likeliest."""
    plain, sampled = (
        step_of(peer.ask([Ask(prompts(16), sizes.speaks, sampled=sampled) for _ in range(32)]))
        for sampled in (False, True)
    )
    return {"greedy step, ms": 1000 * plain, "sampled step, ms": 1000 * sampled, "sampled / greedy": sampled / plain}


def host(peer: Any, prompts: Prompts, sizes: Sizes) -> Played:
    """Processor time of the engine's own thread; what computes are others."""
    found: Played = {}
    for count in (1, 8, 32):
        told = peer.ask([Ask(prompts(16), sizes.speaks) for _ in range(count)])
        steps = [b - a for one in told for a, b in zip(one.host, one.host[1:], strict=False)]
        found[f"ms a step at {count}"] = 1000 * median(steps)
    return found


def step_of(told: list[Told]) -> float:
    """Seconds between two tokens of one, while all of them speak where they ever do."""
    begin, end = max(one.times[0] for one in told), min(one.times[-1] for one in told)
    pairs = [(a, b) for one in told for a, b in zip(one.times, one.times[1:], strict=False)]
    while_all = [b - a for a, b in pairs if begin <= a and b <= end]
    return median(while_all or [b - a for a, b in pairs])


SCENES = (
    Scene("alone", "one answer after a prompt of 64 tokens", alone),
    Scene(
        "eight",
        f"8 requests at once, {READ} tokens in",
        together(8),
        slots=8,
        bars=(Bar("tokens/s", 1.5, beside=True),),
    ),
    Scene(
        "thirty-two",
        f"32 requests at once, {READ} tokens in",
        together(32),
        slots=32,
        bars=(Bar("tokens/s", 1.4, beside=True),),
    ),
    Scene("drawn", drawn.__doc__ or "", drawn, other=False, bars=(Bar("sampled / greedy", 1.15, least=False),)),
    Scene(
        "host",
        host.__doc__ or "",
        host,
        other=False,
        bars=(Bar("ms a step at 8", 0.4, least=False), Bar("ms a step at 32", 1.2, least=False)),
    ),
)
