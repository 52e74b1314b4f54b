"""Who may import whom: the table of docs/architecture.md, held by reading every import statement.

Imports inside functions count. Only `if TYPE_CHECKING:` blocks are skipped: they never run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("metal_kernels", "cpu_kernels", "tui")  # stand at the top, install as mlxrun.<name>
# slow to import: only inside the function that needs them
LATE = {"mlx_lm", "transformers", "huggingface_hub", "llguidance", "mcp", "pydantic"}


@dataclass(frozen=True)
class Room:
    rooms: set[str] = field(default_factory=set)  # of mlxrun
    packages: set[str] = field(default_factory=set)  # of other people; the standard library is open to all


BELOW = {
    "spec",
    "core",
    "parts",
    "turns",
    "spec_towers",
    "spec_sound",
    "speech",
    "media",
    "settings",
    "supported",
    "compat",
    "gpu",
    "descriptors",
    "families",
    "text",
    "ops",
    "cache",
    "nn",
    "memory",
    "weights",
    "adapters",
    "loading",
    "engine",
    "tune",
    "command_buffers",
}
RULES = {
    "spec": Room(),
    "core": Room(),
    "parts": Room({"core"}),
    "turns": Room({"core"}),
    "spec_towers": Room({"spec"}),
    "spec_sound": Room({"spec"}),
    "speech": Room(),
    "settings": Room({"core"}),
    "supported": Room(),
    "compat": Room(),
    "gpu": Room(packages={"mlx"}),
    "descriptors": Room(),
    "command_buffers": Room({"memory"}),
    "metal_kernels": Room(packages={"mlx"}),
    "cpu_kernels": Room(packages={"mlx"}),
    "families": Room({"spec", "spec_towers", "spec_sound"}),
    "media": Room({"core", "spec", "spec_towers", "spec_sound"}, {"PIL", "numpy", "miniaudio"}),
    "text": Room({"core", "parts", "turns", "spec", "speech"}, {"tokenizers", "sentencepiece", "jinja2"}),
    "ops": Room({"spec", "gpu", "metal_kernels", "cpu_kernels"}, {"mlx", "numpy"}),
    "contracts": Room({"ops"}, {"mlx"}),
    "cache": Room({"spec", "ops", "contracts"}, {"mlx"}),
    "nn": Room({"spec", "spec_towers", "spec_sound", "ops", "contracts"}, {"mlx"}),
    "memory": Room({"spec", "spec_towers", "gpu", "cache"}, {"mlx"}),
    "weights": Room({"spec", "gpu", "families", "ops"}, {"mlx", "numpy"}),
    "adapters": Room({"spec", "families", "ops", "weights"}, {"mlx"}),
    "loading": Room(
        {
            "adapters",
            "compat",
            "core",
            "descriptors",
            "gpu",
            "spec",
            "spec_towers",
            "contracts",
            "families",
            "nn",
            "cache",
            "weights",
            "memory",
            "ops",
        },
        {"mlx", "numpy", "mlx_lm"},
    ),
    "engine": Room(
        {"core", "spec", "spec_towers", "speech", "contracts", "media", "memory", "ops", "loading"},
        {"mlx", "numpy", "llguidance"},
    ),
    "convert": Room(BELOW, {"mlx", "mlx_lm", "numpy"}),
    "training": Room(BELOW | {"assistant"}, {"mlx", "numpy", "safetensors", "yaml"}),
    "tune": Room({"gpu", "ops", "settings"}, {"mlx"}),
    "store": Room(BELOW, {"huggingface_hub"}),
    "answer": Room({"core", "parts", "text", "engine"}),
    "transcribing": Room({"core", "speech", "text", "media", "engine", "loading"}, {"numpy"}),
    "machines": Room(
        {"core", "settings", "spec", "gpu", "contracts", "families", "ops", "cache", "nn", "memory", "loading"}, {"mlx"}
    ),
    "assistant": Room(
        {"answer", "transcribing", "core", "parts", "turns", "text", "media", "engine", "loading", "weights"}
    ),
    "client": Room(
        BELOW | {"assistant", "store"}, {"numpy", "IPython", "mcp", "pydantic"}
    ),  # by which mcp says what is no MCP
    "server": Room(
        BELOW | {"assistant", "store", "client"},
        {"starlette", "uvicorn", "h11", "prometheus_client"},
    ),
    "selftest": Room(
        BELOW | {"assistant", "store", "tui", "cpu_kernels", "metal_kernels", "__init__"}, {"mlx", "mlx_lm", "numpy"}
    ),
    "cli": Room(
        BELOW
        | {"assistant", "store", "client", "server", "tui", "convert", "training", "machines", "selftest", "__init__"},
        {"rich", "mlx", "numpy"},
    ),
    "tui": Room({"client", "core", "parts"}, {"textual", "rich", "markdown_it"}),
    "__init__": Room({"command_buffers"}),
    "__main__": Room({"cli", "supported"}),
}


@dataclass(frozen=True)
class Import:
    file: Path
    line: int
    room: str  # who imports
    target: str  # "mlxrun.<room>" or a package's name
    in_function: bool

    def __str__(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line} imports {self.target}"


def sources() -> list[Path]:
    return sorted(p for top in ("mlxrun", *MAPPED) for p in (ROOT / top).rglob("*.py"))


def dotted(file: Path) -> list[str]:
    """The module's name as it is installed; a package keeps its `__init__`."""
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ["mlxrun", *parts] if parts[0] in MAPPED else parts


def imports(file: Path, source: str | None = None) -> Iterator[Import]:
    name = dotted(file)
    for node, in_function in statements(ast.parse(source or file.read_text(encoding="utf-8")), False):
        for target in targets(node, name[:-1]):
            parts = target.split(".")
            if parts[0] != "mlxrun":
                yield Import(file, node.lineno, name[1], parts[0], in_function)
            elif len(parts) > 1 and parts[1] != name[1]:
                yield Import(file, node.lineno, name[1], ".".join(parts[:2]), in_function)


def statements(node: ast.AST, in_function: bool) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, in_function
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from statements(other, in_function)
        else:
            yield from statements(child, in_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


def targets(node: ast.Import | ast.ImportFrom, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = package[: len(package) - node.level + 1] if node.level else []
    base = base + (node.module.split(".") if node.module else [])
    if base == ["mlxrun"]:  # from .. import spec; __version__ and its like are no rooms
        return [f"mlxrun.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
    return [".".join(base)]


def breaks_a_rule(found: Import) -> bool:
    rule = RULES[found.room]
    if found.target.startswith("mlxrun."):
        return found.target.removeprefix("mlxrun.") not in rule.rooms
    if found.target in LATE and not found.in_function:
        return True
    return found.target not in rule.packages | sys.stdlib_module_names


def test_every_room_has_a_rule() -> None:
    rooms = {dotted(file)[1] for file in sources()}
    assert rooms <= set(RULES), f"say in RULES what {sorted(rooms - set(RULES))} may import"


@pytest.mark.parametrize("room", sorted(RULES))
def test_imports_go_down(room: str) -> None:
    bad = [str(i) for file in sources() if dotted(file)[1] == room for i in imports(file) if breaks_a_rule(i)]
    assert not bad, f"not allowed by docs/architecture.md: {bad}"


@pytest.mark.parametrize(
    ("file", "source", "bad"),
    [
        ("mlxrun/nn/attention.py", "from ..cache import paged", True),
        ("mlxrun/nn/attention.py", "from ..spec import Norm\nfrom .norm import NormBlock\nimport math", False),
        ("mlxrun/nn/attention.py", "def late():\n    from mlxrun.cache.full import Full", True),
        ("mlxrun/nn/attention.py", "if TYPE_CHECKING:\n    from ..cache import Full", False),
        ("mlxrun/families/llama.py", "import mlx.core as mx", True),
        ("mlxrun/engine/engine.py", "from .. import text", True),
        ("mlxrun/loading/fallback.py", "import mlx_lm", True),
        ("mlxrun/loading/fallback.py", "def late():\n    import mlx_lm.utils", False),
        ("tui/app.py", "from .widgets import Chat\nfrom mlxrun.client import Client", False),
        ("tui/app.py", "from ..engine import Engine", True),
        ("mlxrun/spec.py", "import numpy", True),
    ],
)
def test_the_reader_of_imports(file: str, source: str, bad: bool) -> None:
    assert any(breaks_a_rule(i) for i in imports(ROOT / file, source)) is bad


def test_other_peoples_modules_are_changed_in_compat_only() -> None:
    assert [line for file in sources() if dotted(file)[1:] != ["compat"] for line in patches(file)] == []
    assert len(list(patches(ROOT / "mlxrun" / "compat.py"))) == 2  # of resource: there and back


def patches(file: Path) -> Iterator[str]:
    """Assignments to a name of an imported module."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    bound = {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        for aim in node.targets if isinstance(node, ast.Assign) else ():
            if isinstance(aim, ast.Attribute) and isinstance(aim.value, ast.Name) and aim.value.id in bound:
                yield f"{file.relative_to(ROOT)}:{node.lineno}"
