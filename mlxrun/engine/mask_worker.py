"""One thread beside the model's that does short pieces of work in order, and that may be given up.

Native code that hangs cannot be ended from outside. So a piece that takes too long is given up with its thread, whoever
waits for it is told, and a new thread goes on with the next piece. Knows no grammar and no token.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
STARTING = threading.Lock()  # the size of a stack is the whole process's until the thread has started


class BrokenError(RuntimeError):
    """A piece of work ended in a way that nobody foresaw, as native code does that panics."""


class LateError(RuntimeError):
    """A piece of work took too long and was given up."""


class Task(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self.work = work
        self.began: float | None = None
        self.done = threading.Event()
        self.value: T | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            value = self.work()
        except BaseException as error:  # noqa: BLE001 whoever waits for it raises it
            self.end(error if isinstance(error, Exception) else BrokenError(f"{type(error).__name__}: {error}"))
        else:
            if not self.done.is_set():  # else it was given up
                self.value = value
            self.done.set()

    def end(self, error: Exception) -> None:
        if not self.done.is_set():
            self.error = error
        self.done.set()


class Worker:
    def __init__(self, name: str, seconds: float, stack: int = 0) -> None:
        """`seconds` is what one piece may take, once it was begun; `stack` bytes, 0 for the usual."""
        self.name, self.seconds, self.stack = name, seconds, stack
        self.given_up = 0  # threads
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of all below
        self._thread: threading.Thread | None = None
        self._current: Task | None = None
        self._closed = False

    def begin(self, work: Callable[[], T]) -> Task[T]:
        task = Task(work)
        with self._lock:
            if self._closed:
                task.end(LateError("its thread was ended"))
                return task
            self._tasks.put(task)
            if self._thread is None:
                self._start()
        return task

    def result(self, task: Task[T]) -> T:
        """What the work returned; what it raised is raised here, a LateError among it."""
        while not task.done.wait(self.seconds if task.began is None else self._left(task)):
            self._look()
        if task.error is not None:
            raise task.error
        return task.value  # type: ignore[return-value] # it is what `work` returned, None where it returns None

    def close(self) -> None:
        """The thread ends after what it has. Nobody waits for it: it may hang."""
        with self._lock:
            self._closed = True
            self._tasks.put(None)

    def _left(self, task: Task) -> float:
        return max(0.001, self.seconds - (time.monotonic() - (task.began or 0.0)))

    def _look(self) -> None:
        """Give up what takes too long, or was never finished because its thread died."""
        with self._lock:
            current, thread = self._current, self._thread
            dead = thread is not None and not thread.is_alive()
            late = current is not None and time.monotonic() - (current.began or 0.0) >= self.seconds
            if not dead and not late:
                return
            self.given_up += 1
            self._start()
        if current is not None:
            why = "its thread ended" if dead else f"it took more than {self.seconds:g} seconds"
            current.end(LateError(why))

    def _start(self) -> None:
        self._current = None
        self._thread = threading.Thread(target=self._live, name=self.name, daemon=True)
        with STARTING:
            usual = threading.stack_size(self.stack)
            try:
                self._thread.start()
            finally:
                threading.stack_size(usual)

    def _live(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            with self._lock:
                task.began, self._current = time.monotonic(), task
            task.run()
            with self._lock:
                if self._thread is not threading.current_thread():
                    return  # we were given up meanwhile, and another goes on
                self._current = None
