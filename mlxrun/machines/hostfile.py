"""The file that names the machines: JSON as mlx.launch reads it, with a few keys of our own beside, which it ignores.

    {"hosts": [{"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, {"ssh": "mini", "ips": ["10.0.0.2"], "memory": "20GB"}]}

The first machine is the one where `mlxrun serve` runs. Reads a file and asks nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from ..core import RequestError
from ..settings import bytes_of

MOST = 64  # machines
LARGEST = 1 << 20  # bytes of the file
PORT = 32323  # as mlx.launch; the control plane has the next one after the rings'
LOCAL = ("localhost", "127.0.0.1", "::1")
HOST_KEYS = {"ssh", "ips", "rdma", "memory", "machine", "python"}
FILE_KEYS = {"hosts", "backend", "envs", "port", "silence", "step"}
SILENCE, STEP = 10.0, 120.0  # seconds


@dataclass(frozen=True, slots=True)
class HostEntry:
    name: str  # by which ssh finds it
    ip: str  # by which rows reach it
    memory: int = 0  # bytes that it may use; 0: what it has
    machine: str = ""  # what it is, for who plans without asking it: "M4 Pro 24GB"
    python: str = ""  # that runs mlxrun there; empty: the one at the same place as here

    @property
    def local(self) -> bool:
        return self.name in LOCAL


@dataclass(frozen=True, slots=True)
class Hostfile:
    hosts: tuple[HostEntry, ...]
    port: int = 0  # 0: any that are free where all machines are this one, else PORT
    silence: float = SILENCE  # seconds after which a machine that says nothing is lost
    step: float = STEP  # seconds that a pass may take
    envs: tuple[str, ...] = ()  # NAME=VALUE for each process

    @property
    def local(self) -> bool:
        return all(host.local for host in self.hosts)


def read_hostfile(file: Path) -> Hostfile:
    try:
        with file.expanduser().open("rb") as opened:
            raw = opened.read(LARGEST + 1)
        if len(raw) > LARGEST:
            raise RequestError(f"{file}: a file of machines has at most {LARGEST} bytes.")
        told = json.loads(raw)
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror or error}.") from None
    except (ValueError, RecursionError):
        raise RequestError(f"{file} is no JSON.") from None
    told = {"hosts": told} if isinstance(told, list) else told
    if not isinstance(told, dict):
        raise RequestError(f'{file} must be a list of hosts, or {{"hosts": [...]}}.')
    _only(told, FILE_KEYS, f"{file}")
    if (backend := told.get("backend") or "ring") not in ("ring", "any"):
        raise RequestError(f"{file}: backend must be ring, the only one that mlxrun was ever run on, not {backend!r}.")
    hosts = told.get("hosts")
    if not isinstance(hosts, list) or not 2 <= len(hosts) <= MOST:
        raise RequestError(f"{file}: hosts must be a list of 2 to {MOST} machines.")
    envs = told.get("envs") or []
    if not isinstance(envs, list) or not all(isinstance(one, str) and one.partition("=")[1] for one in envs):
        raise RequestError(f"{file}: envs must be a list of NAME=VALUE.")
    port = told.get("port", 0)
    if type(port) is not int or not 0 <= port <= 65535 - MOST - 1:
        raise RequestError(f"{file}: port must be a number from 0 to {65535 - MOST - 1}.")
    return Hostfile(
        tuple(_host(f"{file}: host {number}", host) for number, host in enumerate(hosts)),
        port,
        _seconds(file, told, "silence", SILENCE),
        _seconds(file, told, "step", STEP),
        tuple(envs),
    )


def _host(where: str, told: Any) -> HostEntry:
    if not isinstance(told, dict):
        raise RequestError(f"{where} must be an object with ssh and ips.")
    _only(told, HOST_KEYS, where)
    name, ips = told.get("ssh"), told.get("ips")
    if not isinstance(name, str) or not name.strip() or name.startswith("-") or not name.isprintable():
        raise RequestError(f"{where} must have a name by which ssh finds it (ssh), or 127.0.0.1 for this machine.")
    ips = ["127.0.0.1"] if ips is None and name in LOCAL else ips
    if not isinstance(ips, list) or not ips or not isinstance(ips[0], str):
        raise RequestError(f"{where} ({name}) must have the address by which rows reach it (ips).")
    try:
        ip = str(ip_address(ips[0]))
    except ValueError:
        raise RequestError(f"{where} ({name}): {ips[0]!r} is no address; names are not taken in ips.") from None
    memory, machine, python = (told.get(key, "") for key in ("memory", "machine", "python"))
    if not all(isinstance(one, str) for one in (memory, machine, python)):
        raise RequestError(f"{where} ({name}): memory, machine and python are texts.")
    size = bytes_of(memory) if memory else 0
    if size is None:
        raise RequestError(f"{where} ({name}): memory must be a size such as 20GB, not {memory!r}.")
    return HostEntry(name.strip(), ip, size, machine, python)


def _only(told: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := sorted(told.keys() - known):
        raise RequestError(f"{where}: {strange[0]!r} is not known; known are {', '.join(sorted(known))}.")


def _seconds(file: Path, told: Mapping[str, Any], name: str, usual: float) -> float:
    value = told.get(name, usual)
    if type(value) not in (int, float) or not 1 <= value <= 3600:
        raise RequestError(f"{file}: {name} must be a number of seconds from 1 to 3600, not {value!r}.")
    return float(value)
