"""Files of machines: as mlx.launch reads them, with our keys beside; what is wrong is told by its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlxrun.core import RequestError
from mlxrun.machines.hostfile import HostEntry, read_hostfile

HERE = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}
FAR = {"ssh": "mini.local", "ips": ["10.0.0.2"], "rdma": [], "memory": "20GB"}


def written(folder: Path, told: Any) -> Path:
    file = folder / "machines.json"
    file.write_text(told if isinstance(told, str) else json.dumps(told))
    return file


def test_a_list_or_an_object_of_hosts(tmp_path: Path) -> None:
    file = read_hostfile(written(tmp_path, [HERE, FAR]))
    assert file.hosts == (HostEntry("127.0.0.1", "127.0.0.1"), HostEntry("mini.local", "10.0.0.2", 20 * 10**9))
    assert not file.local
    told = {"backend": "ring", "envs": ["A=1"], "hosts": [HERE, HERE], "silence": 3, "port": 4000}
    more = read_hostfile(written(tmp_path, told))
    assert (more.local, more.silence, more.port, more.envs) == (True, 3.0, 4000, ("A=1",))


def test_mlx_launch_reads_the_same_file(tmp_path: Path) -> None:
    from mlx._distributed_utils.common import Hostfile

    told = {"hosts": [HERE, FAR], "silence": 3}
    theirs, ours = Hostfile.from_file(written(tmp_path, told)), read_hostfile(tmp_path / "machines.json")
    assert [(h.ssh_hostname, h.ips[0]) for h in theirs.hosts] == [(h.name, h.ip) for h in ours.hosts]


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "must be a list of hosts"),
        ([HERE], "hosts must be a list of 2 to 64 machines"),
        ({"hosts": [HERE, HERE], "backend": "jaccl"}, "backend must be ring"),
        ({"hosts": [HERE, HERE], "port": 70000}, "port must be"),
        ({"hosts": [HERE, HERE], "silence": 0}, "silence must be a number of seconds"),
        ({"hosts": [HERE, HERE], "envs": ["A"]}, "envs must be a list of NAME=VALUE"),
        ({"hosts": [HERE, HERE], "hostz": 1}, "'hostz' is not known"),
        ([HERE, "mini"], "host 1 must be an object"),
        ([HERE, {"ips": ["10.0.0.2"]}], "host 1 must have a name"),
        ([HERE, {"ssh": "-oProxyCommand=x", "ips": ["10.0.0.2"]}], "host 1 must have a name"),
        ([HERE, {"ssh": "mini"}], r"host 1 \(mini\) must have the address"),
        ([HERE, {"ssh": "mini", "ips": ["mini"]}], "'mini' is no address"),
        ([HERE, {**FAR, "memory": "much"}], "memory must be a size such as 20GB, not 'much'"),
        ([HERE, {**FAR, "speed": 3}], "'speed' is not known"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, told: Any, why: str) -> None:
    with pytest.raises(RequestError, match=why) as refused:
        read_hostfile(written(tmp_path, told))
    assert "machines.json" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        read_hostfile(tmp_path / "machines.json")
