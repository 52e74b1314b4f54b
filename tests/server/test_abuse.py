"""A sample of what `make abuse` sends: every field with wrong values, in every dialect."""

from __future__ import annotations

from .abuse import cases, fault_of, scripted, send
from .scripted import chat

SAMPLE = 97  # every so manieth


def test_no_wrong_value_is_our_fault() -> None:
    own, every = scripted(), list(cases())
    assert len(every) > 5000
    assert len({case.path for case in every}) >= 5
    faults = [fault for case, answer in send(own, every[::SAMPLE]) if (fault := fault_of(case, answer)) is not None]
    assert faults == []
    assert chat(own).json()["choices"][0]["message"]["content"] == "Hello"
    assert own.bodies.held == 0
    assert own.traffic.reserve(own.traffic.limit)
