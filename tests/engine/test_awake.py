"""A Mac stays awake while somebody waits for an answer, and no longer. The Mac is made up: none ever ran this."""

from __future__ import annotations

from typing import Any

import pytest

from mlxrun.core import Request, Sampling
from mlxrun.engine import awake
from mlxrun.engine.engine import Engine

from .fake import FakeModel, continuation


class Function:
    """As ctypes has one: types may be set on it."""

    def __init__(self, act: Any) -> None:
        self._act = act

    def __call__(self, *arguments: Any) -> Any:
        return self._act(*arguments)


class Frameworks:
    """IOKit and CoreFoundation, as far as they are asked."""

    def __init__(self, failing: bool = False) -> None:
        self.held: set[int] = set()
        self.given = 0
        self.failing = failing
        self.CFStringCreateWithCString = Function(lambda place, text, encoding: text)
        self.IOPMAssertionCreateWithName = Function(self._create)
        self.IOPMAssertionRelease = Function(self._release)

    def _create(self, kind: bytes, level: int, why: bytes, number: Any) -> int:
        assert (kind, level, why) == (b"PreventUserIdleSystemSleep", 255, b"mlxrun is answering")
        if self.failing:
            return -1
        self.given += 1
        number._obj.value = self.given
        self.held.add(self.given)
        return 0

    def _release(self, number: int) -> int:
        self.held.remove(number)
        return 0


def test_held_once_and_let_go_once() -> None:
    mac = Frameworks()
    ours = awake.Awake(awake.Power(mac, mac))
    ours.release()
    ours.hold()
    ours.hold()
    assert mac.held == {1}
    ours.release()
    ours.release()
    assert (mac.held, mac.given) == (set(), 1)


def test_a_mac_that_gives_no_assertion() -> None:
    mac = Frameworks(failing=True)
    ours = awake.Awake(awake.Power(mac, mac))
    ours.hold()
    ours.release()
    assert mac.held == set()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_where_the_frameworks_are_not(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(awake.sys, "platform", platform)
    monkeypatch.setattr(awake, "FRAMEWORKS", "/nowhere")
    ours = awake.Awake()
    ours.hold()
    ours.release()


def test_from_the_question_to_the_last_token(monkeypatch: pytest.MonkeyPatch) -> None:
    mac, seen = Frameworks(), []
    monkeypatch.setattr(awake, "power_of_this_mac", lambda: awake.Power(mac, mac))

    class Watching(FakeModel):
        def __call__(self, *arguments: Any) -> Any:
            seen.append(set(mac.held))
            return super().__call__(*arguments)

    engine = Engine.start(Watching)
    try:
        for turn in (1, 2):
            events = list(engine.submit(Request((1, 2, 3), 4, Sampling(temperature=0))))
            assert [token for event in events for token in event.tokens] == continuation([1, 2, 3], 4)
            assert seen == [{turn}] * len(seen) != []
            seen.clear()
    finally:
        engine.close()
    assert mac.held == set()
