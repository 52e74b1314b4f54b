"""What people call a model of the hub: org/name[@revision], with :TAG or /FILE.gguf behind it for one GGUF file.

`hf.co/` before it is allowed, as other programs want it. Knows nothing of what the hub has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

NAME = re.compile(
    r"(?:(?:https://)?(?:hf\.co|huggingface\.co)/)?"
    r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[\w.-]+))?"
    r"(?:/(?P<file>\w[\w.+/-]*\.gguf)|:(?P<tag>\w[\w.+-]*))?",
    re.ASCII,
)
FILE = re.compile(r"\w[\w.+ /-]*\.gguf", re.ASCII)  # of the hub's answer; nothing that a pattern or a shell reads
NO_TAG = "latest"  # as other programs say that they want none


@dataclass(frozen=True, slots=True)
class Name:
    repository: str
    revision: str | None = None
    tag: str | None = None  # a piece of the file's name
    file: str | None = None  # the file itself, or the first of its parts

    @property
    def base(self) -> str:
        """The whole repository, at that revision."""
        return f"{self.repository}@{self.revision}" if self.revision else self.repository

    @property
    def whole(self) -> bool:
        """Nothing in particular of the repository is meant."""
        return self.tag is None and self.file is None

    def __str__(self) -> str:
        return self.base + (f":{self.tag}" if self.tag else "") + (f"/{self.file}" if self.file else "")


def parse(text: str) -> Name | None:
    """None: it is no such name."""
    found = NAME.fullmatch(text)
    if found is None or ".." in text or found["repository"].endswith(".gguf"):
        return None
    name = Name(found["repository"], found["revision"], found["tag"], found["file"])
    return replace(name, tag=None) if name.tag is not None and name.tag.lower() == NO_TAG else name


def believable(file: str) -> bool:
    """Whether a file that the hub names lies in the model's folder whatever happens."""
    return FILE.fullmatch(file) is not None and ".." not in PurePosixPath(file).parts
