"""The agents as data: what npm calls them, how each is pointed at a server and asked, and what a model that does
everything right would have it do. Knows no server.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxrun.cli.clients import told

TASK = "test_calc.py fails. Read calc.py, mend it, and run python3 test_calc.py until it prints green."
WRONG, RIGHT = "return a - b", "return a + b"
REPOSITORY = {
    "calc.py": f"def add(a, b):\n    {WRONG}\n",
    "test_calc.py": 'from calc import add\n\nassert add(2, 3) == 5\nprint("green")\n',
}
Call = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class Served:
    url: str
    model: str
    context: int  # tokens


@dataclass(frozen=True)
class Agent:
    name: str
    package: str
    program: str  # in node_modules/.bin
    words: Callable[[Served], list[str]]  # of the command line
    environment: Callable[[Served], dict[str, str]]
    files: Callable[[Served], dict[str, str]]  # below its home
    steps: Callable[[Path], list[Call]]  # read, edit, run, in that repository


def codex_files(served: Served) -> dict[str, str]:
    lines = f'model = "{served.model}"\nmodel_provider = "mlxrun"\nmodel_context_window = {served.context}\n'
    lines += f'[model_providers.mlxrun]\nname = "mlxrun"\nbase_url = "{served.url}/v1"\n'
    return {".codex/config.toml": lines}


def claude_environment(served: Served) -> dict[str, str]:
    return {
        "ANTHROPIC_BASE_URL": served.url,
        "ANTHROPIC_AUTH_TOKEN": "none",
        "ANTHROPIC_API_KEY": "",
        "ANTHROPIC_MODEL": served.model,
        "ANTHROPIC_SMALL_FAST_MODEL": served.model,
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def opencode_files(served: Served) -> dict[str, str]:
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{served.url}/v1", "apiKey": "none"},
        "models": {served.model: {"limit": {"context": served.context, "output": 4096}}},
    }
    config = {"provider": {"mlxrun": provider}, "permission": {"edit": "allow", "bash": "allow"}, "autoupdate": False}
    return {".config/opencode/opencode.json": json.dumps(config)}


def shell_steps(_: Path) -> list[Call]:
    commands = ("cat calc.py test_calc.py", f"sed -i.old 's/{WRONG}/{RIGHT}/' calc.py", "python3 test_calc.py")
    return [("exec_command", {"cmd": command}) for command in commands]


def claude_steps(repository: Path) -> list[Call]:
    file = str(repository / "calc.py")
    edit = {"file_path": file, "old_string": WRONG, "new_string": RIGHT}
    run = {"command": "python3 test_calc.py", "description": "Run the test"}
    return [("Read", {"file_path": file}), ("Edit", edit), ("Bash", run)]


def opencode_steps(repository: Path) -> list[Call]:
    file = str(repository / "calc.py")
    edit = {"filePath": file, "oldString": WRONG, "newString": RIGHT}
    return [("read", {"filePath": file}), ("edit", edit), ("bash", {"command": "python3 test_calc.py"})]


def printed(name: str, served: Served) -> str:
    """What `mlxrun serve --for NAME` tells a person to put into a file."""
    lines = told(name, served.url, served.model, "none", served.context)
    return "\n".join(line for line in lines if not line.startswith("#"))


def pi_steps(_: Path) -> list[Call]:
    edit = {"path": "calc.py", "edits": [{"oldText": WRONG, "newText": RIGHT}]}
    return [("read", {"path": "calc.py"}), ("edit", edit), ("bash", {"command": "python3 test_calc.py"})]


def continue_steps(repository: Path) -> list[Call]:
    file = str(repository / "calc.py")
    edit = {"file_path": file, "old_string": WRONG, "new_string": RIGHT}
    return [("Read", {"filepath": file}), ("Edit", edit), ("Bash", {"command": "python3 test_calc.py"})]


def nothing(served: Served) -> dict[str, str]:
    return {}


AGENTS = (
    Agent(
        name="codex",
        package="@openai/codex@0.171.0",
        program="codex",
        words=lambda served: ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", TASK],
        environment=nothing,
        files=codex_files,
        steps=shell_steps,
    ),
    Agent(
        name="claude",
        package="@anthropic-ai/claude-code@2.1.197",
        program="claude",
        words=lambda served: ["-p", TASK, "--allowedTools", "Bash", "Read", "Edit", "Write"],
        environment=claude_environment,
        files=nothing,
        steps=claude_steps,
    ),
    Agent(
        name="opencode",
        package="opencode-ai@1.18.33",
        program="opencode",
        words=lambda served: ["run", "--model", f"mlxrun/{served.model}", TASK],
        environment=nothing,
        files=opencode_files,
        steps=opencode_steps,
    ),
    Agent(
        name="pi",
        package="@mariozechner/pi-coding-agent@0.73.1",
        program="pi",
        words=lambda served: ["--provider", "mlxrun", "--model", served.model, "-p", TASK],
        environment=lambda served: {"PI_OFFLINE": "1", "PI_TELEMETRY": "0"},
        files=lambda served: {".pi/agent/models.json": printed("pi", served)},
        steps=pi_steps,
    ),
    Agent(
        name="continue",
        package="@continuedev/cli@1.5.47",
        program="cn",
        words=lambda served: ["-p", TASK, "--auto"],
        environment=lambda served: {"CONTINUE_TELEMETRY_ENABLED": "0"},
        files=lambda served: {".continue/config.yaml": printed("continue", served)},
        steps=continue_steps,
    ),
)
