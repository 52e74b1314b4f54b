"""What documents tell people to type is understood: each command and flag of ours exists, each link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlxrun.cli import COMMANDS, completion

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TYPED = re.compile(r"(?:^|[`|] ?|\$ )mlxrun ([a-z]+)((?: [^`|\n]*)?)", re.MULTILINE)
FLAG = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
KNOWN = completion.commands()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_flags_exist(page: Path) -> None:
    wrong = []
    for name, rest in TYPED.findall(page.read_text("utf-8")):
        if name in COMMANDS:
            flags = {flag for flag, _ in KNOWN[name][1]}
            wrong += [
                f"mlxrun {name} {flag}" for flag in FLAG.findall(re.split(r"\s#|\s{3}", rest)[0]) if flag not in flags
            ]
    assert not wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert not [link for link in LINK.findall(page.read_text("utf-8")) if not (page.parent / link).exists()]


def test_what_the_pattern_finds() -> None:
    text = "| `mlxrun fit M --parallel 2` |\n$ mlxrun show X --forms\nmlxrun list\n"
    assert [name for name, _ in TYPED.findall(text)] == ["fit", "show", "list"]
