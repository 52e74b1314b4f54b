"""What becomes of a pass that broke while our Metal kernels ran in it: a kernel's fault costs nobody an answer.

A kernel that does not compile, or may not have its threads, shows at its first launch, inside of the pass, which goes
on with MLX's form (`metal_kernels.launch`). Before a model is ready all of its picked kernels had one. What is left
is a kernel that ran and then fails. By then memories have moved on and cannot be taken back, so everybody begins anew
from the tokens that were read. The first time, each kernel is computed by itself at its next launch, which finds the
one that fails again. When a pass breaks another time, everybody is run alone by MLX's forms: if that goes well it was
the kernels, and those of the pass are refused; if not, it was a request, which ends by itself.

Never ran on a Mac. Not caught: what ends the process, as a GPU that hangs does.
"""

from __future__ import annotations

import logging

import mlx.core as mx

from ..core import RequestError
from ..loading.model import Runnable
from ..ops.choose import MLX, ROWS, Pipeline, Policy, told
from ..spec import ModelError

log = logging.getLogger("mlxrun.kernels")


class KernelGuard:
    def __init__(self, model: Runnable) -> None:
        self._model, self._chooser = model, model.holdings.chooser
        self._before: tuple[Pipeline, ...] = ()  # launched in the pass that is not read yet
        self._breaks = 0
        self._trial: tuple[str, tuple[Pipeline, ...], Policy] | None = None  # why, of whom, and what went before

    @property
    def refused(self) -> tuple[str, ...]:
        """A sentence for each; from any thread."""
        return () if self._chooser is None else self._chooser.told()

    def try_out(self) -> None:
        """Each picked kernel once, so that what the device refuses is known before somebody asks."""
        chooser = self._chooser
        if chooser is None or not chooser.possible():
            return
        if chooser.policy == "auto" and all(pick == MLX for pick in chooser.picks.values()):
            return
        try:
            for rows in ROWS:
                memory = self._model.new_sequence()
                hidden = self._model(mx.zeros((rows,), mx.int32), [(memory, rows)])
                best = self._model.best(hidden)
                mx.eval(self._model.logits(hidden) if best is None else best, memory.arrays())
        except (RuntimeError, ValueError) as error:  # the requests will show whose fault it is
            self.broke(error)

    def begin(self) -> None:
        """What was launched between two passes, to tune kernels, is none of the next one's."""
        if self._chooser is not None:
            self._chooser.launched()

    def went_well(self, retrying: bool) -> None:
        """A pass was read. `retrying`: somebody is not yet where the broken pass had brought him."""
        if self._chooser is None:
            return
        self._before = self._chooser.launched()
        if self._trial is not None and not retrying:
            why, launched, self._chooser.policy = self._trial
            self._trial = None
            self._chooser.convict(launched, f"a pass broke with it and not without: {why}")

    def broke(self, error: Exception) -> bool:
        """Whether it may have been a kernel: everybody is to begin anew, and the kernels are seen to."""
        if self._chooser is None:
            return False
        launched = tuple(dict.fromkeys((*self._before, *self._chooser.launched())))
        self._before = ()
        if self._trial is not None:  # MLX's forms broke as well
            _, _, self._chooser.policy = self._trial
            self._trial = None
            return False
        if not launched or isinstance(error, ModelError | RequestError):
            return False
        self._breaks += 1
        log.warning("A pass with our Metal kernels broke and is run again: %s", told(error))
        if self._breaks == 1:
            self._chooser.doubt()
        else:
            self._trial = told(error), launched, self._chooser.policy
            self._chooser.policy = "mlx"
        return True
