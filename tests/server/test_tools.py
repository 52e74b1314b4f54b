"""How many tools, and what they may be called."""

from __future__ import annotations

import pytest

from mlxrun.server.errors import ApiError
from mlxrun.server.tools import MOST, checked
from mlxrun.turns import Tool


def check(*names: str) -> None:
    tools = tuple(map(Tool, names))
    assert checked(tools, [f"tools[{index}].name" for index in range(len(names))]) == tools


def test_names_that_programs_use() -> None:
    check("read_file", "mcp__github__get-issue", "functions.run:0", "a" * 128, "A1")
    check(*(f"tool_{i}" for i in range(MOST)))


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "naïve", "<tool_call>", "a/b", '"', "a" * 129, "\x00"])
def test_a_name_that_no_format_can_carry(name: str) -> None:
    with pytest.raises(ApiError, match=r"tools\[1\]\.name must be 1 to 128") as refused:
        check("fine", name)
    assert (refused.value.status, refused.value.param) == (400, "tools[1].name")
    assert len(refused.value.message) < 160


def test_a_name_that_is_used_twice() -> None:
    with pytest.raises(ApiError, match=r"tools\[2\]\.name is 'a', as another tool's name is already"):
        check("a", "b", "a")


def test_too_many() -> None:
    with pytest.raises(ApiError, match="tools must be at most 512, not 513"):
        check(*(f"t{i}" for i in range(MOST + 1)))
