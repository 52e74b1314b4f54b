"""Events of a handle: waited for, or listened to."""

from __future__ import annotations

import threading

from mlxrun.core import Event, Finish, Request
from mlxrun.engine.handle import Handle


def test_who_listens_is_rung_for_what_is_there_and_for_what_comes() -> None:
    handle = Handle(Request((1,)))
    handle.post(Event((5,)))
    rings: list[str] = []
    handle.listen(lambda: rings.append(threading.current_thread().name))
    assert [event.tokens for event in handle.ready()] == [(5,)]
    engine = threading.Thread(target=lambda: handle.post(Event((6,), finish=Finish.STOP)), name="engine")
    engine.start()
    engine.join()
    assert rings == [threading.current_thread().name, "engine"]
    assert [event.finish for event in handle.ready()] == [Finish.STOP]
    assert list(handle.ready()) == []


def test_the_event_is_there_when_the_ring_comes() -> None:
    handle = Handle(Request((1,)))
    found: list[tuple[int, ...]] = []
    handle.listen(lambda: found.extend(event.tokens for event in handle.ready()))
    handle.post(Event((7,)))
    assert found == [(7,)]
