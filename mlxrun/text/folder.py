"""The small JSON files beside a model's weights that speak of text: special tokens, stop ids, chat template.

Reads and checks; decides nothing about tokens. Knows nothing of weights: `families/config.py` reads
config.json for the architecture, here only its token ids matter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..spec import ModelError, shown

MAX_JSON = 64 << 20  # bytes; tokenizer_config.json with thousands of added tokens stays far below
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def is_there(path: Path) -> bool:
    """What is there must be a file: a folder in its place would be overlooked, and a pipe block whoever reads it."""
    if not os.path.lexists(path):
        return False
    if not path.is_file():
        raise ModelError(f"{path} is not a regular file.")
    return True


def read_text(path: Path) -> str:
    is_there(path)
    try:
        if path.stat().st_size > MAX_JSON:
            raise ModelError(f"{path} is larger than {MAX_JSON >> 20} MiB; that is no file of settings.")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8 text.") from error


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; an empty one where the file does not exist."""
    if not is_there(path):
        return {}
    text = read_text(path)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: a number of thousands of digits too
        raise ModelError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold a JSON object, not {type(found).__name__}.")
    return found


@dataclass(frozen=True, slots=True)
class Folder:
    path: Path
    tokenizer: Mapping[str, Any]  # tokenizer_config.json
    roles: Mapping[str, Any]  # special_tokens_map.json
    generation: Mapping[str, Any]  # generation_config.json
    config: Mapping[str, Any]  # config.json

    @classmethod
    def read(cls, path: Path) -> Folder:
        names = ("tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "config.json")
        return cls(path, *(read_json(path / name) for name in names))

    def role(self, name: str) -> str | None:
        """The text of a special token, such as `bos_token`; None where no file names one."""
        for table in (self.tokenizer, self.roles):
            if name in table:
                found = table[name]
                found = found.get("content") if isinstance(found, dict) else found
                if found is not None and not isinstance(found, str):
                    raise ModelError(f"{self.path}: {name} must be text, not {shown(found)}.")
                return found
        return None

    def named(self, name: str) -> bool:
        return name in self.tokenizer or name in self.roles

    def special_texts(self) -> dict[str, str]:
        return {name: text for name in ROLES if (text := self.role(name)) is not None}

    def ids(self, key: str) -> frozenset[int]:
        """Every id that generation_config.json or config.json gives under `key`, a number or a list."""
        text_config = self.config.get("text_config")
        tables = [self.generation, self.config, text_config if isinstance(text_config, dict) else {}]
        return frozenset(i for table in tables for i in self._as_ids(key, table.get(key)))

    def _as_ids(self, key: str, value: Any) -> Iterable[int]:
        found = value if isinstance(value, list) else [] if value is None else [value]
        for i in found:
            if isinstance(i, bool) or not isinstance(i, int) or not -1 <= i < 2**31:
                raise ModelError(f"{self.path}: {key} must be a token id or a list of them, not {shown(value)}.")
        return [i for i in found if i >= 0]  # -1 is how some configs write "none"
