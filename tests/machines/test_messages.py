"""Only what was meant is understood, whatever arrives."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxrun.machines.messages import KINDS, MOST, Malformed, Message, SequenceOrder, Step, pack, unpack

VALUES: dict[str, Any] = {
    "int": 3,
    "float": 1.5,
    "str": "é\n",
    "Numbers": (1, 2),
    "Rows": ((1, 2), ()),
    "Texts": ("a",),
}


def one_of(name: str) -> Message:
    kind = KINDS[name]
    return kind(**{field: VALUES[told] for field, told in kind.__annotations__.items()})


@pytest.mark.parametrize("name", sorted(KINDS))
def test_what_is_said_is_what_is_heard(name: str) -> None:
    message = one_of(name)
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("name", sorted(KINDS))
@pytest.mark.parametrize("wrong", [None, True, "x" * 5000, 1 << 60, [[["deep"]]], {"a": 1}, -1.5])
def test_a_field_of_another_type_or_size_is_refused_by_name(name: str, wrong: Any) -> None:
    for field in KINDS[name].__annotations__:
        told = json.loads(pack(one_of(name)))
        told[field] = wrong
        with pytest.raises(Malformed, match=f"the {field} of a "):
            unpack(json.dumps(told).encode())


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no JSON"),
        (b"\x80\x04\x95", "no JSON"),  # a pickle
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no known kind"),
        (b'{"kind": "eval"}', "no known kind"),
        (b'{"kind": "ping"}', "must have the fields number"),
        (b'{"kind": "ping", "number": 1, "more": 2}', "must have the fields number"),
        (b"x" * (MOST + 1), "are the most"),
    ],
)
def test_what_is_no_message_is_told(body: bytes, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        unpack(body)


@given(st.binary(max_size=200))
def test_noise_is_malformed_and_nothing_worse(body: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(body)


def test_a_step_of_many_sequences_is_small() -> None:
    orders = tuple((int(SequenceOrder.OPEN), number, 32768) for number in range(128))
    assert len(pack(Step(1, orders, tuple((number, 1) for number in range(128))))) < 8192
