"""What is told of a machine: on this one, on every Mac that stands in, and out of what macOS's programs print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

import pytest

from mlxrun.selftest import machine
from tests.macs import GIB, MACS, FakeMLX, Mac, become

from .heard import notes_of

IOREG = """+-o AGXAcceleratorG15X  <class AGXAcceleratorG15X, id 0x1000004e7>
    {
      "model" = "Apple M3 Max"
      "IOPlatformSerialNumber" = "C02XYZSECRET"
      "gpu-core-count" = 40
    }
"""
BATTERY = """Now drawing from 'Battery Power'
 -InternalBattery-0 (id=4653155)	87%; discharging; 5:12 remaining present: true
"""


def told_by(**answers: str) -> Callable[..., str]:
    return lambda *command: next((said for word, said in answers.items() if word in command), "")


@pytest.mark.parametrize("name", MACS)
def test_every_mac_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    become(monkeypatch, MACS[name])
    said, heard, notes = notes_of(machine.look)
    assert not notes.bad
    assert heard.numbers["gpu"]["usable"] is MACS[name].usable
    assert (heard.numbers["gpu"]["why_not"] is None) is MACS[name].usable
    assert "GPU" in said if MACS[name].usable else "CPU" in said
    if "max_buffer_length" in MACS[name].info and name != "odd values":
        assert heard.numbers["device_info"]["max_buffer_length"] == MACS[name].info["max_buffer_length"]


def test_a_working_set_larger_than_the_machine_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    fake: FakeMLX = become(monkeypatch, Mac({"device_name": "x", "max_recommended_working_set_size": 2**50}))
    _, heard, notes = notes_of(machine.look)
    assert fake.asked
    assert not notes.bad
    assert 0 < heard.numbers["memory"]["usable"] <= heard.numbers["memory"]["total"]


def test_what_macos_prints_is_read_and_nothing_else_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.gpu_cores(told_by(AGXAccelerator=IOREG)) == 40
    assert machine.gpu_cores(told_by()) is None
    power = machine.power(told_by(batt=BATTERY, therm="CPU_Speed_Limit \t= 100\n"))
    assert power == {"source": "Battery Power", "cpu_speed_limit": "100"}
    assert machine.power(told_by()) == {}
    assert "4653155" not in json.dumps(power)


def test_what_a_macs_kernel_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = become(monkeypatch, MACS["M4 Pro 24 GB"])
    fake.system.swap(3 * GIB)
    _, heard, _ = notes_of(machine.look)
    assert heard.numbers["swap"] == {"used": 3 * GIB}
    assert heard.numbers["sysctl"]["hw.memsize"] == 24 * GIB
    assert heard.numbers["sysctl"]["kern.memorystatus_level"] == 75
    assert heard.numbers["chip"] == "Apple M4 Pro"


def test_a_program_that_is_not_there_or_hangs_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SECONDS", 0.2)
    assert machine.program("/usr/sbin/absent") == ""
    assert machine.program(sys.executable, "-c", "import time; time.sleep(30)") == ""
    assert machine.program(sys.executable, "-c", "print('here')", "x") in ("here\n", "")


def test_nothing_is_asked_that_belongs_to_one_machine() -> None:
    asked = (*machine.TEXTS, *machine.NUMBERS)
    assert not [name for name in asked if any(word in name for word in ("uuid", "serial", "hostname", "boottime"))]


def test_what_only_one_card_has_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, Mac({"device_name": "x", "uuid": "GPU-SECRET", "pci_bus_id": "0000:65", "serial_number": 7}))
    _, heard, _ = notes_of(machine.look)
    assert heard.numbers["device_info"] == {"device_name": "x"}
