"""A device that only adds to a scripted clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from mlxrun.ops.choose import MLX, Chooser
from mlxrun.tune.measure import Order
from mlxrun.tune.picks import Pick

ONCE = Order(("standard",), (1, 2))
OURS, THEIRS = Pick("standard", ("standard",)), Pick(MLX, ("standard",))


@dataclass
class Device:
    """A step asks for its operations and takes what each form of them takes."""

    chooser: Chooser
    ours: dict[str, float]  # seconds by key, or by key and cut where a cut takes another time
    theirs: dict[str, float]
    now: float = 0.0
    drift: float = 0.0  # every step takes so much longer than the one before
    broken: str = ""  # a key whose kernel the device refuses
    steps: list[int] = field(default_factory=list)

    def step(self, rows: int) -> None:
        self.steps.append(rows)
        for key in self.theirs:
            if not key.endswith(f" {rows}"):
                continue
            cut = self.chooser.ours(key)
            if cut is not None and key == self.broken:
                raise RuntimeError("the compiler says no\nand more")
            form = self.chooser.picks.get(key, MLX)
            self.now += self.theirs[key] if cut is None else self.ours.get(f"{key} {form}", self.ours[key])
        self.now += self.drift * len(self.steps)

    def clock(self) -> float:
        return self.now


def device(ours: dict[str, float], theirs: dict[str, float], **how: object) -> Device:
    return Device(Chooser(), ours, theirs, **how)  # type: ignore[arg-type]  # the fields' own types
