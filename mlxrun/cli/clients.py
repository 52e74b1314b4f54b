"""How other programs are pointed at a server of ours: for each the lines, and where they go. Data only.

In the lines {url} is the server's address, {model} the name of a model there, {key} its key or a word in its place,
{context} how many tokens a conversation may have.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClientLines:
    title: str
    where: str  # the lines go
    lines: str
    then: str = ""  # what starts it
    tried: str = ""  # with which version; empty: written from its documentation


CODEX = """\
model = "{model}"
model_provider = "mlxrun"

[model_providers.mlxrun]
name = "mlxrun"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "MLXRUN_KEY"
"""
CLAUDE = """\
export ANTHROPIC_BASE_URL={url}
export ANTHROPIC_AUTH_TOKEN={key}
export ANTHROPIC_API_KEY=
export ANTHROPIC_MODEL={model}
export ANTHROPIC_SMALL_FAST_MODEL={model}
export CLAUDE_CODE_ATTRIBUTION_HEADER=0
"""
OPENCODE = """\
{{
  "$schema": "https://opencode.ai/config.json",
  "model": "mlxrun/{model}",
  "provider": {{
    "mlxrun": {{
      "npm": "@ai-sdk/openai-compatible",
      "name": "mlxrun",
      "options": {{ "baseURL": "{url}/v1", "apiKey": "{key}" }},
      "models": {{ "{model}": {{ "name": "{model}" }} }}
    }}
  }}
}}
"""
CONTINUE = """\
name: mlxrun
version: 1.0.0
schema: v1
models:
  - name: {model}
    provider: openai
    model: {model}
    apiBase: {url}/v1
    apiKey: {key}
    roles: [chat, edit, apply]
"""
PI = """\
{{
  "providers": {{
    "mlxrun": {{
      "baseUrl": "{url}/v1",
      "api": "openai-completions",
      "apiKey": "{key}",
      "models": [{{ "id": "{model}", "contextWindow": {context}, "maxTokens": 4096 }}]
    }}
  }}
}}
"""
ZED = """\
{{
  "language_models": {{
    "openai_compatible": {{
      "mlxrun": {{
        "api_url": "{url}/v1",
        "available_models": [{{ "name": "{model}", "display_name": "{model}", "max_tokens": {context} }}]
      }}
    }}
  }}
}}
"""
OPEN_WEBUI = """\
export OPENAI_API_BASE_URL={url}/v1
export OPENAI_API_KEY={key}
"""

CLIENTS: dict[str, ClientLines] = {
    "codex": ClientLines("Codex", "~/.codex/config.toml", CODEX, "MLXRUN_KEY={key} codex", tried="0.171"),
    "claude": ClientLines("Claude Code", "the shell", CLAUDE, "claude", tried="2.1.197"),
    "opencode": ClientLines(
        "opencode",
        "opencode.json in the project, or ~/.config/opencode/opencode.json",
        OPENCODE,
        "opencode",
        tried="1.18",
    ),
    "continue": ClientLines("Continue", "~/.continue/config.yaml", CONTINUE, "cn", tried="its command line, 1.5"),
    "pi": ClientLines("pi", "~/.pi/agent/models.json", PI, "pi --provider mlxrun --model {model}", tried="0.73"),
    "zed": ClientLines("Zed", "~/.config/zed/settings.json", ZED, "MLXRUN_API_KEY={key} zed"),
    "openwebui": ClientLines("Open WebUI", "the shell", OPEN_WEBUI, "open-webui serve"),
}


def told(name: str, url: str, model: str, key: str, context: int) -> list[str]:
    """What a person is told, lines to copy among it."""
    client = CLIENTS[name]
    values = {"url": url, "model": model, "key": key, "context": context}
    head = f"# {client.title}: into {client.where}"
    start = [f"# then: {client.then.format(**values)}"] if client.then else []
    return [head, *client.lines.format(**values).splitlines(), *start]
