"""How answers are made in a session: its system prompt, numbers of sampling, how much is thought. Plain data.

What is not set is as the model's authors recommend. Named ones are presets, for any session.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mlxrun.core import NUMBERS, RequestError, Sampling

EFFORTS = ("none", "low", "medium", "high")
WHOLE = ("top_k", "seed", "repeat_last_n", "min_tokens", "dry_allowed_length", "dry_penalty_last_n", "max_tokens")
SETTABLE = (*NUMBERS, "max_tokens")


@dataclass(frozen=True, slots=True)
class Wishes:
    system: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)
    effort: str = ""  # "": as the model does by itself
    tools: tuple[str, ...] = ()  # of these MCP servers

    @classmethod
    def read(cls, written: str) -> Wishes:
        """What cannot be read is left out, so that an odd line on disk costs nobody a conversation."""
        try:
            told = json.loads(written) if written else {}
            system, effort, numbers = told.get("system", ""), told.get("effort", ""), told.get("numbers", {})
            tools = tuple(name for name in told.get("tools", ()) if isinstance(name, str))
            wishes = cls(str(system), {}, effort if effort in EFFORTS else "", tools)
            for name, value in numbers.items():
                wishes = wishes.with_number(name, str(value))
            return wishes
        except (ValueError, AttributeError):
            return cls()

    def written(self) -> str:
        if self == Wishes():
            return ""
        told = {"system": self.system, "numbers": dict(self.numbers), "effort": self.effort}
        return json.dumps(told | {"tools": self.tools} if self.tools else told)

    def with_number(self, name: str, text: str) -> Wishes:
        """A RequestError tells what makes no sense."""
        if name not in SETTABLE:
            raise RequestError(f"There is no setting {name!r}; the settings are {', '.join(SETTABLE)}.")
        if text.lower() in ("", "auto", "default"):
            return replace(self, numbers={key: value for key, value in self.numbers.items() if key != name})
        try:
            value: float = int(text) if name in WHOLE else float(text)
        except ValueError:
            kind = "a whole number" if name in WHOLE else "a number"
            raise RequestError(f"{name} must be {kind}, or auto, not {text!r}.") from None
        if name == "max_tokens":
            if value < 1:
                raise RequestError(f"max_tokens must be a whole number from 1 on, not {text}.")
        else:
            Sampling(**{name: value})  # type: ignore[arg-type]  # it refuses what is out of range
        return replace(self, numbers={**self.numbers, name: value})

    def options(self) -> dict[str, Any]:
        """As a client takes them."""
        options: dict[str, Any] = dict(self.numbers)
        if self.effort:
            options["template"] = {"enable_thinking": self.effort != "none", "reasoning_effort": self.effort}
        return options

    @property
    def told(self) -> str:
        """In one line."""
        parts = [f"{name} {value:g}" for name, value in self.numbers.items()]
        parts += [f"thinks {self.effort}"] if self.effort else []
        parts += [f"tools of {', '.join(self.tools)}"] if self.tools else []
        parts += [f"system prompt of {len(self.system.split())} words"] if self.system else []
        return " · ".join(parts) or "as the model's authors recommend"
