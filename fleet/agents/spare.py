"""One process forked before it is needed: what an attempt would wait for, the fork and its first steps, is behind it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


class Spare:
    """At most one forked process that waits for a word and then does `work` with it. For a process of one thread.

    In the fork `begin` is called first, while nobody waits. It ends when the process that forked it does.
    """

    def __init__(self, begin: Callable[[], None], work: Callable[[str], None]) -> None:
        self._begin = begin
        self._work = work
        self._pipe = -1

    @property
    def waits(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._pipe >= 0

    def fork(self) -> None:
        """Have one."""
        if self.waits:
            return
        words, self._pipe = os.pipe()
        if os.fork() == 0:
            self.forget()
            self._wait(words)
        os.close(words)

    def _wait(self, words: int) -> None:
        """In the fork, never to return."""
        try:
            self._begin()
            word = os.read(words, 4096).decode()
            os.close(words)
            if word:  # else whoever forked it is gone
                self._work(word)
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

    def forget(self) -> None:
        """In another fork: it is not this process's spare."""
        if self.waits:
            with suppress(OSError):
                os.close(self._pipe)
            self._pipe = -1
