"""Whether the files that a model's weights are views of are still what was loaded. Once they are not, nothing that was
computed may be believed, for good: a ready file goes, so that the next load makes it anew.

Noticed are pages that could not be read, a change of a mapped file's size or time, and in the background blocks of a
ready file that are not what was written. Where weights are packed into a ready file, a change inside an original is not
noticed: only the few that are used as stored are views of one.
"""

from __future__ import annotations

from ..weights.mapped import lost_count, lost_files
from .checksums import BackgroundCheck
from .model import Runnable
from .ready import forget

ANEW = "load the model again, which makes it anew."
CHANGED = "The model's file has changed on disk since it was loaded; load it again."
LOST = f"A part of the model's file could not be read: it was cut short, or its disk fails; {ANEW}"
SOURCE_LOST = "A part of the model's file could not be read: it was cut short, or its disk fails; bring it anew."
DAMAGED = f"The file that was made ready of this model is damaged ({{}}) and was removed; {ANEW}"
NAMELESS = "/dev/fd/"  # a file whose name is no text


class FileGuard:
    def __init__(self, model: Runnable) -> None:
        self._held = model.holdings
        self._lost = lost_count()
        self.reason: str | None = None  # as it was found last
        self._check = None if self._held.blocks is None else BackgroundCheck(self._held.blocks)
        if self._check is not None:
            self._check.start()

    def fault(self) -> str | None:
        """Why no answer may be believed any more; None: all is well. Cheap enough for every pass."""
        if self.reason is None:
            self.reason = self._found()
            if self.reason is not None and self._held.blocks is not None:
                forget(self._held.blocks.path, self._held.blocks.identity[0])
        return self.reason

    def _found(self) -> str | None:
        files = (*self._held.files, *self._held.adopted)
        if any(file.lost for file in files):
            return SOURCE_LOST if self._held.blocks is None else LOST
        if not all(file.unchanged for file in files):
            return CHANGED
        if self._check is not None and self._check.fault is not None:
            return DAMAGED.format(self._check.fault)
        if lost_count() != self._lost:
            names, self._lost = lost_files(), lost_count()
            if any(name in self._held.sources or name.startswith(NAMELESS) for name in names):
                return SOURCE_LOST
        return None

    def close(self) -> None:
        if self._check is not None:
            self._check.stop()
