"""One process forked before it is needed: what an attempt would wait for, the fork and its first steps, is behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Begun = TypeVar("Begun")


class Spare(Generic[Begun]):
    """At most one forked process that waits for a word and then does `work` with it. For a process of one thread.

    In the fork `begin` is called first, while nobody waits; `work` gets what it returned, and the word. It ends when the
    process that forked it does: then `undo` gets what `begin` returned.
    """

    def __init__(
        self, begin: Callable[[], Begun], work: Callable[[Begun, str], None], undo: Callable[[Begun], None]
    ) -> None:
        self._begin = begin
        self._work = work
        self._undo = undo
        self._pipe = -1

    @property
    def waits(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._pipe >= 0

    def fork(self) -> None:
        """Have one."""
        if self.waits:
            return
        words, pipe = os.pipe()
        if os.fork() == 0:
            os.close(pipe)
            self._wait(words)
        os.close(words)
        self._pipe = pipe

    def _wait(self, words: int) -> None:
        """In the fork, never to return."""
        try:
            begun = self._begin()
            word = os.read(words, 4096).decode()
            os.close(words)
            if word:
                self._work(begun, word)
            else:  # whoever forked it is gone
                self._undo(begun)
        finally:
            os._exit(0)

    def hand(self, word: str) -> bool:
        """Give it the word; False when there is none, or it has died."""
        if not self.waits:
            return False
        pipe, self._pipe = self._pipe, -1
        try:
            os.write(pipe, word.encode())
        except BrokenPipeError:
            return False
        finally:
            os.close(pipe)
        return True
