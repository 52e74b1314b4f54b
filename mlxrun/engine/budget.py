"""How many prompt tokens go into a pass, from what passes took until now, and whose they are.

Those who speak feel a pass as the gap between two tokens, so prompts that come later may make it GAP times as long as
it is without them. Where nobody speaks, or only those whose requests came together with the prompts, a pass takes ALONE
seconds more: the longest that a cancel or a new request waits. What a prompt token costs depends on how deep it stands,
on who else is in the pass and on how many go together, so these are learned apart. What counts of the last few passes
is a quick one: a machine that has other things to do only ever makes them longer. Knows numbers only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import log2

CHUNK = 512  # prompt tokens in one pass at most: a plan counts the memory of so many
ENOUGH = 64  # where nobody speaks, at least: a pass reads all weights, however few tokens share that
LEAST = 2  # beside those who speak, whatever it costs: a prompt gets on
UNKNOWN = 3  # beside those who speak, where nothing is known of what it costs
TILE = 4  # rows that kernels take at once: one row more may cost as much as the next four
GAP = 2.5  # a pass with prompts, in passes without
ALONE = 0.150  # seconds
REMEMBERED = 9  # passes of a kind
TRIED = 2  # of them, before they are believed to tell that it costs too much
FORGOTTEN = 512  # passes after which it is tried again
QUICK = 4  # one of so many is quicker than the one that counts
BASE = 0.3  # of a pass, what does not grow with its rows, where that was not measured
PROBES = 2  # plain passes in a row: the first is read while the second is computed
STALE = 64  # passes with prompts after which a plain one is measured again
DEEPER = 1.4  # what a token costs twice as deep, where that was not measured
SHALLOW = 256  # tokens; depths below are one kind,
KINDS = 4  # and from there to twice as deep are so many: the end of a kind should cost what its beginning does


@dataclass(frozen=True, slots=True)
class Load:
    """What a pass is made of."""

    speaking: int  # rows that decode
    prompt: int = 0  # prompt tokens
    depth: int = 0  # at which they stand, in the mean
    drafts: int = 0  # rows of those who speak that hold a draft
    hurried: bool = False  # as many as if nobody spoke: nobody who does began before their requests came

    @property
    def kind(self) -> int:
        """Of the depth."""
        return 1 + int(KINDS * log2(max(1.0, self.depth / SHALLOW)))

    @property
    def tiles(self) -> int:
        return about(-(-(self.speaking + self.prompt) // TILE))


@dataclass(slots=True)
class Times:
    """The last few measurements of one kind."""

    last: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    usual: float = 0.0
    at: int = 0  # pass in which the last one was made

    def add(self, seconds: float, at: int = 0) -> None:
        self.at = at
        self.last.append(seconds)
        self.usual = sorted(self.last)[(len(self.last) - 1) // QUICK]


class PassBudget:
    def __init__(self) -> None:
        self._plain: dict[int, Times] = {}  # by rows that decode, of about that number
        self._alone: dict[int, Times] = {}  # a prompt token, by kind of depth
        self._beside: dict[int, dict[int, Times]] = {}  # the same beside those who speak, by tiles of the pass and kind
        self._passes = 0  # with prompts beside those who speak
        self._mixed = 0  # passes with prompts since a plain one was measured
        self._asked = 0  # plain passes in a row that were asked for to measure one

    def learn(self, load: Load, seconds: float) -> None:
        if seconds <= 0:
            return
        if not load.prompt:
            self._plain.setdefault(about(load.speaking), Times()).add(seconds)
            self._mixed = 0
        else:
            alone = load.hurried or not load.speaking
            self._mixed += bool(load.speaking)
            self._passes += not alone
            more = seconds - (self.plain(load.speaking) or 0.0 if load.speaking else 0.0)
            # below this it is noise: a token in a larger pass costs less, never nothing
            times = (self._alone if alone else self._beside.setdefault(load.tiles, {})).setdefault(load.kind, Times())
            times.add(max(more, 0.1 * seconds) / load.prompt, self._passes)

    def plain(self, speaking: int) -> float | None:
        """Seconds of a pass of so many that decode and nothing else; None: nothing is known of any.

        Between two that are known on a line; beyond the largest like that one, so that more are tried.
        """
        known, wanted = self._plain, about(speaking)
        if wanted in known or not known:
            return known[wanted].usual if known else None
        below = max((rows for rows in known if rows < wanted), default=None)
        above = min((rows for rows in known if rows > wanted), default=None)
        if above is None:
            return known[max(known)].usual
        most = known[above].usual
        least = BASE * most if below is None else known[below].usual
        return least + (most - least) * (wanted - (below or 0)) / (above - (below or 0))

    @property
    def rate(self) -> float:
        """Prompt tokens a second where nobody speaks and none stand deep; 0: not known."""
        each = nearest(self._alone, 1)
        return 1 / each if each else 0.0

    def wants_plain(self, speaking: int) -> bool:
        """Whether prompts should stand back for this pass: what those who speak are used to is not known."""
        unknown = speaking > 0 and (about(speaking) not in self._plain or self._mixed >= STALE)
        self._asked = self._asked + 1 if unknown and self._asked < PROBES else 0
        return self._asked > 0

    def prompt_tokens(self, speaking: int, depth: int, taken: float = 0.0) -> int:
        """For the next pass, beside so many that decode; `taken`: seconds of the gap that others have."""
        kind = Load(speaking, 1, depth).kind
        if not speaking:
            each = nearest(self._alone, kind)
            return ENOUGH if each is None else rounded(max(ENOUGH, min(CHUNK, int(ALONE / each))))
        plain = self.plain(speaking)
        if plain is None or not self._beside:
            return UNKNOWN
        return self._filling((GAP - 1) * plain - taken, kind, speaking)

    def _filling(self, room: float, kind: int, speaking: int) -> int:
        """As many prompt tokens as fill the tiles of a pass that so many seconds more have room for."""
        each, tiles = self._least_known(kind), 1 + speaking // TILE
        found = min(LEAST, TILE * tiles - speaking)
        while TILE * tiles <= CHUNK:
            each = self._known(tiles, kind) or each  # what was not tried is believed to cost what a smaller one does
            if (TILE * tiles - speaking) * each > room:
                break
            found, tiles = TILE * tiles - speaking, more_tiles(tiles)
        return found

    def _known(self, tiles: int, kind: int) -> float | None:
        """Seconds of a prompt token in a pass of so many tiles, where that was tried more than once, and lately."""
        times = self._beside.get(about(tiles), {})
        tried = {one: known for one, known in times.items() if len(known.last) >= TRIED}
        fresh = any(self._passes - known.at < FORGOTTEN for known in tried.values())
        return nearest(tried, kind) if fresh else None

    def _least_known(self, kind: int) -> float:
        return next(each for _, times in sorted(self._beside.items()) if (each := nearest(times, kind)) is not None)

    @property
    def told(self) -> dict[str, float]:
        """Seconds, for people: of a plain pass by rows, of a prompt token by depth."""
        plain = {f"pass_{rows}": times.usual for rows, times in sorted(self._plain.items())}
        alone = {f"prompt_token_{depth_of(kind)}": t.usual for kind, t in sorted(self._alone.items())}
        least: dict[int, float] = {}
        for kind, times in ((kind, times) for known in self._beside.values() for kind, times in known.items()):
            least[kind] = min(times.usual, least.get(kind, times.usual))
        beside = {f"prompt_token_beside_{depth_of(kind)}": seconds for kind, seconds in sorted(least.items())}
        return plain | alone | beside


def about(rows: int) -> int:
    """Up to 8 each number is its own; beyond that those within a quarter are alike."""
    if rows <= 8:
        return rows
    step = 1 << (rows.bit_length() - 3)
    return rows - rows % step


def depth_of(kind: int) -> int:
    return round(SHALLOW * 2 ** ((kind - 1) / KINDS))


def nearest(known: dict[int, Times], wanted: int) -> float | None:
    if not known:
        return None
    closest = min(known, key=lambda one: abs(one - wanted))
    return known[closest].usual * DEEPER ** (max(0, wanted - closest) / KINDS)


def rounded(tokens: int) -> int:
    return tokens - tokens % (2 * TILE)


def more_tiles(tiles: int) -> int:
    """The next number that is not like this one."""
    return tiles + max(1, (1 << tiles.bit_length()) // 8)


class PassTimer:
    """From when passes are built and read to what each of them took: they overlap, and each begins when the one before
    is done or, where that was long ago, when it is built."""

    def __init__(self, learn: Callable[[Load, float], None]) -> None:
        self._learn = learn
        self._open: tuple[Load, float] | None = None  # of a pass whose tokens are not read yet, and when it was begun
        self._done = 0.0

    def passed(self, load: Load | None, began: float, now: float, *, read: bool, waited: bool) -> None:
        """A pass was begun, `read`: meanwhile the tokens of the one before; `waited`: until it was done itself."""
        before, self._open = self._open, None
        if read and before is not None and not waited:
            self._learn(before[0], now - max(self._done, before[1]))
        if load is not None and (read or before is None):  # else two are under way, and neither's own time is known
            if not waited:
                self._open = load, began
            elif not read:
                self._learn(load, now - max(self._done, began))
        if read or waited:
            self._done = now

    def forget(self) -> None:
        """A pass broke, or ran by itself."""
        self._open = None


def split_budget(wanted: Sequence[int], budget: int) -> list[int]:
    """What each gets of the budget: the oldest half of it, so that it gets on; else whoever needs least comes first."""
    given = [0] * len(wanted)
    for index, most in ((0, budget // 2), *((i, budget) for i in sorted(range(len(wanted)), key=wanted.__getitem__))):
        if wanted:
            more = min(wanted[index] - given[index], most, budget)
            given[index] += more
            budget -= more
    return given
