"""Who may be a machine of a group, and what is told of who may not; who is lost, and how soon."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from mlxrun.machines import first
from mlxrun.machines.first import GroupLost, MachineGroup, gather
from mlxrun.machines.messages import Done, End, GaveUp, Hello, Message, Plan, Pong, ShareLoaded, Start, Step
from mlxrun.machines.supervise import free_ports
from mlxrun.machines.wire import Channel, LinkLost, connect, greet
from mlxrun.spec import ModelError

SECRET = "ab" * 32
OWN = Hello(0, 1, "0.1.0", "0.32", "here", 1 << 30, "its processor", "digest")


def start_of(machines: int = 2, silence: float = 5.0, step: float = 60.0) -> Start:
    names = ("here", "mini", "studio")[:machines]
    control = f"127.0.0.1:{free_ports(1)[0]}"
    return Start(0, SECRET, control, names, names, (0,) * machines, silence, step, (), -1)


def joining(start: Start, hello: Message, secret: str = SECRET) -> Channel:
    port = int(start.control.rpartition(":")[2])
    channel = greet(connect("127.0.0.1", port, 5), bytes.fromhex(secret))
    channel.send(hello)
    return channel


def aside(start: Start, *hellos: Message, secret: str = SECRET) -> queue.SimpleQueue[Channel]:
    """Followers, one after the other."""
    found: queue.SimpleQueue[Channel] = queue.SimpleQueue()

    def join() -> None:
        for hello in hellos:
            try:
                found.put(joining(start, hello, secret))
            except LinkLost:
                return

    threading.Thread(target=join, daemon=True).start()
    return found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": "0.0.9"}, r"mini \(machine 1\) has mlxrun 0\.0\.9 with MLX 0\.32, and this machine 0\.1\.0"),
        ({"mlx": "0.31"}, "with MLX 0.31"),
        ({"protocol": 2}, "install the same on all"),
        ({"model": "other"}, r"mini \(machine 1\) has another model at that place"),
        ({"device": "a GPU (M4)"}, r"computes on a GPU \(M4\) and this machine on its processor"),
        ({"rank": 2}, "number 2 of a group of 2"),
        ({"rank": 0}, "number 0 of a group of 2"),
    ],
)
def test_a_machine_that_does_not_match_is_told_why(change: dict[str, int], why: str) -> None:
    start = start_of()
    joined = aside(start, replace(replace(OWN, rank=1), **change))
    with pytest.raises(ModelError, match=why) as refused:
        gather(start, OWN, 20)
    assert "\n" not in str(refused.value)
    assert joined.get(timeout=5).receive(5) == GaveUp(str(refused.value))


def test_the_same_number_twice_and_no_hello_are_refused() -> None:
    start = start_of(3)
    _held = aside(start, replace(OWN, rank=1), replace(OWN, rank=1))
    with pytest.raises(ModelError, match=r"Two machines say that they are mini \(machine 1\)"):
        gather(start, OWN, 20)
    start = start_of()
    _held = aside(start, Done(3))
    with pytest.raises(ModelError, match="began with a Done"):
        gather(start, OWN, 20)


def test_who_does_not_come_is_named() -> None:
    start = start_of(3)
    _held = aside(start, replace(OWN, rank=1))
    with pytest.raises(ModelError, match=r"studio did not answer within 0\.5 s"):
        gather(start, OWN, 0.5)


def test_who_has_another_secret_is_turned_away_and_the_others_wait_on() -> None:
    start, told = start_of(), list[str]()
    _held = aside(start, replace(OWN, rank=1), secret="cd" * 32)

    def said(line: str) -> None:
        told.append(line)
        aside(start, replace(OWN, rank=1))

    group = gather(start, OWN, 20, said)
    assert len(told) == 1
    assert "has another secret" in told[0]
    group.close()


def test_an_address_that_is_not_ours_is_told() -> None:
    start = replace(start_of(), control="192.0.2.1:9")
    with pytest.raises(ModelError, match=r"The first machine of the file must be this one: 192\.0\.2\.1:9"):
        gather(start, OWN, 1)


@contextmanager
def grouped(start: Start) -> Iterator[tuple[MachineGroup, Channel, queue.SimpleQueue[str]]]:
    joined = aside(start, replace(OWN, rank=1))
    group, told = gather(start, OWN, 20), queue.SimpleQueue[str]()
    group.watch(told.put)
    try:
        yield group, joined.get(timeout=5), told
    finally:
        group.close()


def test_a_closed_connection_a_reason_and_a_wrong_word_lose_the_group() -> None:
    with grouped(start_of()) as (group, mini, told):
        mini.close()
        assert told.get(timeout=20) == "mini (machine 1) closed the connection."
        with pytest.raises(GroupLost):
            group.step(Step(0, (), ((0, 1),)))
    with grouped(start_of()) as (_, mini, told):
        mini.send(GaveUp("its disk is full."))
        assert told.get(timeout=20) == "mini (machine 1) gave up: its disk is full."
    with grouped(start_of()) as (group, mini, told):
        mini.send(Plan(0, 1))
        with pytest.raises(GroupLost):
            group.hear(group.followers[0], ShareLoaded)
        assert told.get(timeout=20) == "mini (machine 1) said a Plan where a ShareLoaded was due."


def test_silence_and_a_pass_that_does_not_end_lose_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first, "BEAT", 0.05)
    with grouped(start_of(silence=0.2)) as (_, _mini, told):
        assert told.get(timeout=20) == "mini (machine 1) said nothing for 0.2 s."
    with grouped(start_of(step=0.2)) as (group, mini, told):
        threading.Thread(target=answer_signs_of_life, args=(mini,), daemon=True).start()
        group.step(Step(0, (), ((0, 1),)))
        mini.send(Done(0))
        group.step(Step(1, (), ((0, 1),)))
        assert told.get(timeout=20) == "mini (machine 1) did not end a pass within 0.2 s."


def answer_signs_of_life(channel: Channel) -> None:
    while True:
        try:
            channel.receive(20)
            channel.send(Pong(0))
        except LinkLost:
            return


def test_a_group_that_ends_says_so_and_is_not_lost() -> None:
    with grouped(start_of()) as (group, mini, told):
        group.close()
        while not isinstance(mini.receive(5), End):
            pass
        assert group.fault is None
        assert told.empty()


def test_a_stranger_that_says_nothing_keeps_nobody_waiting_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxrun.machines import wire

    monkeypatch.setattr(wire, "GREETING", 1.0)
    start, told, silent, joined = start_of(), list[str](), list[socket.socket](), list[Channel]()
    port = int(start.control.rpartition(":")[2])

    def stranger() -> None:
        silent.append(connect("127.0.0.1", port, 5))
        for _ in range(9):  # a busy machine may take longer for its own greeting
            with suppress(LinkLost):
                joined.append(joining(start, replace(OWN, rank=1)))
                return

    threading.Thread(target=stranger, daemon=True).start()
    gather(start, OWN, 20, told.append).close()
    assert "said nothing for 1 s" in told[0]
    assert joined
    silent[0].close()
