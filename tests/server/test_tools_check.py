"""How many tools, and what they may be called."""

from __future__ import annotations

import pytest

from mlxrun.server.errors import ApiError
from mlxrun.server.tools_check import MOST_TOOLS, check_tools


def placed(*names: str) -> list[tuple[str, str]]:
    return [(name, f"tools[{index}].name") for index, name in enumerate(names)]


def test_names_that_programs_use() -> None:
    check_tools(placed("read_file", "mcp__github__get-issue", "functions.run:0", "a" * 128, "A1"))
    check_tools(placed(*(f"tool_{i}" for i in range(MOST_TOOLS))))


@pytest.mark.parametrize("name", ["", " ", "a b", "a\n", "naïve", "<tool_call>", "a/b", '"', "a" * 129, "\x00"])
def test_a_name_that_no_format_can_carry(name: str) -> None:
    with pytest.raises(ApiError, match=r"tools\[1\]\.name must be a name of 1 to 128") as refused:
        check_tools(placed("fine", name))
    assert (refused.value.status, refused.value.param) == (400, "tools[1].name")
    assert len(refused.value.message) < 160


def test_a_name_that_is_used_twice() -> None:
    with pytest.raises(ApiError, match=r"tools\[2\]\.name is 'a', which tools\[0\]\.name is already"):
        check_tools(placed("a", "b", "a"))


def test_too_many() -> None:
    with pytest.raises(ApiError, match="tools must have at most 512 entries, not 513"):
        check_tools(placed(*(f"t{i}" for i in range(MOST_TOOLS + 1))))
