"""Which drafts ride in the next pass: who proposes them, what they are worth by now, and what became of the last ones.

Asked once before each pass. It learns from the tokens that came since it was asked last, whether or not drafts rode
with them: what was proposed and not tried is compared as well. While drafts do not pay, nothing rides and passes follow
each other without waiting. Where they may, what is ahead is read first, since drafts go on from the last token.
Knows rows, and times only as they are told; the model only by what `Proposer`s do with theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ...memory.claim import NO_CLAIM, Claim
from ..request import Row
from .base import NO_DRAFTS, Drafts, Proposer, See
from .depth import choose
from .rates import Rates
from .step_times import StepTimes

FAINT = 0.05  # drafts are not followed further where they are that unlikely
FIRST_PROBE, LAST_PROBE = 64, 512  # passes without drafts before some are tried although they should not pay
PROBED = 4  # drafts


@dataclass(frozen=True, slots=True)
class Riding:
    """What the next pass is like: by row what rides, or that nothing begins before what is ahead was read."""

    drafts: Mapping[Row, Drafts] = field(default_factory=dict)
    read_first: bool = False


NOTHING, READ_FIRST = Riding(), Riding(read_first=True)


@dataclass(frozen=True, slots=True)
class SpeculationCounts:
    passes: int = 0  # that had drafts
    drafted: int = 0  # tokens that were proposed and checked
    accepted: int = 0  # and were right
    waits: int = 0  # times that the next pass waited for the last token
    rests: int = 0  # times that a request's drafts did not pay
    fixed: int = 0  # requests whose memory cannot be taken back, so that nothing is drafted for them
    given_up: str | None = None  # why a draft model drafts no more


NOTHING_COUNTED = SpeculationCounts()


@dataclass(frozen=True, slots=True)
class RowOffer:
    row: Row
    most: int  # drafts that may ride
    chances: list[float]  # of each that is proposed, given those before it

    @property
    def askable(self) -> bool:
        """Of the drafter. Of what an answer must be a draft model knows nothing."""
        return self.most > 0 and self.row.guide is None


@dataclass(frozen=True, slots=True)
class Found:
    """By row: how many drafts, and whether the drafter is to make them."""

    counts: list[int]
    asked: list[bool]


class Speculation:
    def __init__(
        self,
        free: Sequence[Proposer] = (),
        drafter: Proposer | None = None,
        counts: SpeculationCounts = NOTHING_COUNTED,
        see: See | None = None,
    ) -> None:
        """`free`: their drafts take no time that counts. `drafter`: its do, and it is asked where that may pay. `see`:
        is shown the model's rows of each pass, and says which of them must be computed with it."""
        self._free, self._drafter = tuple(free), drafter
        self._proposers = self._free if drafter is None else (*self._free, drafter)
        self._rates, self._times = Rates(), StepTimes()
        self._plain: float | None = None  # seconds that a pass takes without drafts,
        self._took: float | None = None  # and the one that was read last took with them,
        self._drafting = 0.0  # beside what the drafter took for it
        self._idle, self._probe = 0, FIRST_PROBE
        self.counts, self.see = counts, see
        self.counted: Callable[[str, float], None] = lambda name, by: None  # for who counts beside us

    def plan(self, rows: Sequence[Row], plain: float | None) -> Riding:
        """`rows`: everybody who may be in the pass; `plain`: the seconds that it takes without drafts, if known."""
        if not self._proposers:
            return NOTHING
        if any(row.ahead is not None and row.ahead.drafts for row in rows):
            return READ_FIRST
        self._look_back(rows)
        self._plain = plain
        if plain is None or not all(row.speaks for row in rows):
            return NOTHING
        return self._riding(rows, plain)

    def took(self, rows: int, drafts: int, seconds: float) -> None:
        """The pass with drafts that is about to be read."""
        self._took = seconds
        if self._plain is not None:
            self._times.saw(rows, drafts, seconds - self._plain)

    def ended(self, row: Row) -> None:
        self._learn(row)
        for proposer in self._proposers:
            proposer.ended(row)

    def bytes(self, rows: Sequence[Row]) -> int:
        return sum(proposer.bytes(row) for proposer in self._proposers for row in rows)

    def forget(self) -> None:
        """What ended requests left."""
        for proposer in self._proposers:
            proposer.forget()

    @property
    def claim(self) -> Claim:
        """What a drafter holds of this machine beside the memories of requests."""
        return NO_CLAIM if self._drafter is None else self._drafter.claim

    def _look_back(self, rows: Sequence[Row]) -> None:
        took, self._took = self._took, None
        riding = sum(row.drafting.riding for row in rows)
        for row in rows:
            account = row.drafting.account
            said, rode = self._learn(row)
            if rode and took is not None and self._plain is not None:
                account.enter(said, (took - self._plain + self._drafting) * rode / riding, self._plain / len(rows))
                self._count(rests=account.rests)
            else:
                account.said_plainly(said)

    def _learn(self, row: Row) -> tuple[int, int]:
        """From what was said since: how many tokens, and how many drafts rode with them."""
        drafting = row.drafting
        said, rode, right = len(row.tokens) - drafting.at if drafting.at else 0, drafting.riding, 0
        if drafting.proposer is not None and said:
            new = row.tokens[drafting.at :]
            for token, draft, kind in zip(new, drafting.proposed.tokens, drafting.proposed.kinds, strict=False):
                self._rates.saw(drafting.proposer.name, kind, token == draft)
                if token != draft:
                    break
                right += 1
        self._count(drafted=rode, accepted=min(right, rode))
        drafting.at, drafting.proposed, drafting.riding = len(row.tokens), NO_DRAFTS, 0
        return said, rode

    def _riding(self, rows: Sequence[Row], plain: float) -> Riding:
        extras, probing = self._times.extras(len(rows), plain), self._idle >= self._probe
        self._idle += 1
        if not probing and not could_pay(extras, plain / len(rows)):
            return NOTHING
        offers = self._offers(rows, len(extras) - 1)
        found = self._best(offers, extras, plain)
        pays = any(found.counts)
        if not pays and probing:
            found = self._probed(offers)
        if not any(found.counts):
            return NOTHING
        if any(row.ahead is not None for row in rows):
            self._count(waits=1)
            return READ_FIRST
        self._idle, self._probe = 0, FIRST_PROBE if pays else min(LAST_PROBE, 2 * self._probe)
        self._draw_up(offers, found)
        chosen = [(offer.row, count) for offer, count in zip(offers, found.counts, strict=True) if count]
        cut = {row: row.allowed(row.drafting.proposed.cut(count)) for row, count in chosen}
        riding = {row: drafts for row, drafts in cut.items() if drafts}
        self._count(passes=bool(riding))
        return Riding(riding) if riding else NOTHING

    def _offers(self, rows: Sequence[Row], most: int) -> list[RowOffer]:
        """With what costs nothing to propose."""
        wanted = [self._most(row, most) for row in rows]
        for proposer in self._free:
            asked = [count + (row.ahead is not None) if count else 0 for row, count in zip(rows, wanted, strict=True)]
            for row, drafts in zip(rows, proposer.propose(rows, asked), strict=True):
                if len(drafts) > len(row.drafting.proposed):
                    row.drafting.proposed, row.drafting.proposer = drafts, proposer
        return [RowOffer(row, count, self._chances(row)) for row, count in zip(rows, wanted, strict=True)]

    def _best(self, offers: Sequence[RowOffer], extras: Sequence[float], plain: float) -> Found:
        """What says the most tokens in the time that it takes, drafts of the drafter's own included."""
        chosen = choose([offer.chances for offer in offers], extras, plain)
        best, drafter = Found(chosen.counts, [False] * len(offers)), self._drafter
        asked = [offer.askable and not count for offer, count in zip(offers, chosen.counts, strict=True)]
        if drafter is None or not any(asked):
            return best
        each = drafter.seconds(sum(asked))
        kinds = drafter.kinds(drafter.most)
        likely = [self._rates.chance(drafter.name, kind, drafter.prior) for kind in kinds]
        speed = chosen.speed
        for depth in range(1, len(likely) + 1):
            chances = [
                likely[: min(depth, offer.most)] if ask else offer.chances
                for offer, ask in zip(offers, asked, strict=True)
            ]
            tried = choose(chances, [extra + depth * each for extra in extras], plain)
            if any(tried.counts) and tried.speed > speed:
                best, speed = Found(tried.counts, asked), tried.speed
        return best

    def _probed(self, offers: Sequence[RowOffer]) -> Found:
        """Some drafts of one row, although they should not pay: to see what they cost and how often they are right."""
        counts, asked = [0] * len(offers), [False] * len(offers)
        likeliest = max(range(len(offers)), key=lambda index: (offers[index].chances[:1], offers[index].most))
        offer = offers[likeliest]
        asked[likeliest] = self._drafter is not None and offer.askable
        counts[likeliest] = min(PROBED, offer.most if asked[likeliest] else len(offer.chances))
        return Found(counts, asked)

    def _draw_up(self, offers: Sequence[RowOffer], found: Found) -> None:
        """What the drafter is asked for."""
        self._drafting = 0.0
        asked = [
            (offer.row, count)
            for offer, count, ask in zip(offers, found.counts, found.asked, strict=True)
            if count and ask
        ]
        if self._drafter is None or not asked:
            return
        rows, counts = [row for row, _ in asked], [count for _, count in asked]
        for row, drafts in zip(rows, self._drafter.propose(rows, counts), strict=True):
            row.drafting.proposed, row.drafting.proposer = drafts, self._drafter
        if self._drafter.given_up is not None:
            self.counts, self._drafter = replace(self.counts, given_up=self._drafter.given_up), None
            return
        self._drafting = max(counts) * self._drafter.seconds(len(rows))

    def _most(self, row: Row, most: int) -> int:
        if row.drafting.fixed is None:
            self._count(fixed=not row.can_go_back)
        if row.drafting.account.rests or row.sampling.mirostat_tau or row.leaving or not row.can_go_back:
            return 0
        if row.guide is not None and row.guide.free:  # where that ends within drafts no mask would be there
            return 0
        unread = row.ahead is not None
        return max(0, min(most, row.limit - len(row.tokens) - unread - 1))

    def _chances(self, row: Row) -> list[float]:
        """Of each draft that is proposed, given those before it."""
        proposer, chances, all_right = row.drafting.proposer, list[float](), 1.0
        if proposer is None:
            return []
        for kind in row.drafting.proposed.kinds:
            chances.append(self._rates.chance(proposer.name, kind, proposer.prior))
            all_right *= chances[-1]
            if all_right < FAINT:
                break
        if row.ahead is not None and chances:  # the first of them is what is ahead
            return [chances[0] * chances[1], *chances[2:]] if len(chances) > 1 else []
        return chances

    def _count(self, **more: int) -> None:
        for name, by in more.items():
            if by:
                self.counted(f"draft_{name}", by)
        if any(more.values()):
            self.counts = replace(self.counts, **{name: getattr(self.counts, name) + n for name, n in more.items()})


def could_pay(extras: Sequence[float], token: float) -> bool:
    """Whether drafts would, if all were right. `token`: seconds that one takes now."""
    return any(extra < drafts * token for drafts, extra in enumerate(extras) if drafts)
