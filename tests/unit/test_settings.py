"""Defaults < environment < flags."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import pytest

from mlxrun.memory.wiring import POLICIES
from mlxrun.settings import SettingsError, Wire, from_environment


def test_defaults() -> None:
    found = from_environment({})
    cache = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    assert (found.home, found.threads, found.context) == (cache / "mlxrun", None, None)


def test_the_environment_wins_over_defaults_and_flags_over_both() -> None:
    found = from_environment({"MLXRUN_HOME": "/somewhere", "MLXRUN_THREADS": "3", "MLXRUN_CONTEXT": "512"})
    assert (found.models, found.threads, found.context) == (Path("/somewhere/models"), 3, 512)
    assert found.but(context=64).context == 64
    assert found.but(context=None).context == 512


@pytest.mark.skipif(sys.platform == "darwin", reason="XDG folders are of Linux")
def test_the_cache_folder_of_the_platform() -> None:
    assert from_environment({"XDG_CACHE_HOME": "/x"}).home == Path("/x/mlxrun")
    assert from_environment({"XDG_CACHE_HOME": "relative"}).home == Path.home() / ".cache/mlxrun"


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "9" * 30, "²"])
def test_nonsense_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match="MLXRUN_THREADS"):
        from_environment({"MLXRUN_THREADS": text})


def test_what_is_wired() -> None:
    assert get_args(Wire) == POLICIES
    assert [from_environment({"MLXRUN_WIRE": text}).wire for text in ("", *POLICIES)] == ["weights", *POLICIES]
    assert from_environment({"MLXRUN_WIRE": "max"}).but(wire="off").wire == "off"
    with pytest.raises(SettingsError, match="MLXRUN_WIRE must be off, own, weights or max, not 'all'"):
        from_environment({"MLXRUN_WIRE": "all"})


def test_nothing_is_kept_on_disk_of_what_was_read_unless_it_is_said_how_much() -> None:
    assert from_environment({}).prefix_disk is None
    found = from_environment({"MLXRUN_PREFIX_DISK": "2GB", "MLXRUN_HOME": "/somewhere"})
    assert (found.prefix_disk, found.prefixes) == (2_000_000_000, Path("/somewhere/prefixes"))
    with pytest.raises(SettingsError, match="MLXRUN_PREFIX_DISK must be a size such as 8GB"):
        from_environment({"MLXRUN_PREFIX_DISK": "yes"})


def test_bits_of_keys_and_values() -> None:
    assert [from_environment({"MLXRUN_KV_BITS": text}).kv_bits for text in ("", "16", "8")] == [16, 16, 8]
    assert from_environment({"MLXRUN_KV_BITS": "8"}).but(kv_bits=16).kv_bits == 16
    with pytest.raises(SettingsError, match="MLXRUN_KV_BITS must be 16 or 8, not '4'"):
        from_environment({"MLXRUN_KV_BITS": "4"})
