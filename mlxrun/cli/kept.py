"""--conversation NAME: what was said under that name, in a file of mlxrun's folder that only you can read."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core import RequestError
from ..settings import Settings

Message = dict[str, Any]
NAME = re.compile(r"[\w][\w .-]{0,99}")


@dataclass(frozen=True, slots=True)
class KeptConversation:
    file: Path

    @classmethod
    def named(cls, name: str, settings: Settings) -> KeptConversation:
        if not NAME.fullmatch(name):
            raise RequestError(
                f"A conversation's name is made of letters, digits, spaces, dots, - and _, not {name!r}."
            )
        return cls(settings.home / "conversations" / f"{name}.json")

    def read(self) -> list[Message]:
        if not self.file.exists():
            return []
        try:
            found = json.loads(self.file.read_text("utf-8"))
            return [{"role": str(one["role"]), "content": str(one["content"])} for one in found["messages"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RequestError(
                f"{self.file} is no conversation any more ({error}); move it away or mend it."
            ) from error

    def write(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Whole or not at all."""
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        aside = self.file.with_suffix(".new")
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            json.dump({"messages": list(messages)}, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, self.file)
