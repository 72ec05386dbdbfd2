"""One process forked before it is needed: what an attempt would wait for, the fork and its first steps, is behind it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Generic, TypeVar

Begun = TypeVar("Begun")


class Spare(Generic[Begun]):
    """At most one forked process that waits for a word and then does `work` with it. For a process of one thread.

    In the fork `begin` is called first, while nobody waits; `work` gets what it returned, the word, and the descriptor
    that came with it or -1. It ends when the process that forked it does: then `undo` gets what `begin` returned.
    """

    def __init__(
        self,
        begin: Callable[[], Begun],
        work: Callable[[Begun, str, int], None],
        undo: Callable[[Begun], None],
    ) -> None:
        self._begin = begin
        self._work = work
        self._undo = undo
        self._ours: socket.socket | None = None

    @property
    def waits(self) -> bool:
        """Whether there is one, as far as is known."""
        return self._ours is not None

    def fork(self) -> None:
        """Have one."""
        if self.waits:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            ours.close()
            self._wait(theirs)
        theirs.close()
        self._ours = ours

    def _wait(self, theirs: socket.socket) -> None:
        """In the fork, never to return."""
        try:
            begun = self._begin()
            word, descriptors, _, _ = socket.recv_fds(theirs, 4096, 1)
            theirs.close()
            if word:
                self._work(begun, word.decode(), descriptors[0] if descriptors else -1)
            else:  # whoever forked it is gone
                self._undo(begun)
        finally:
            os._exit(0)

    def hand(self, word: str, descriptor: int = -1) -> bool:
        """Give it the word, and a descriptor with it; False when there is none, or it has died."""
        if self._ours is None:
            return False
        ours, self._ours = self._ours, None
        with ours:
            try:
                send(ours, word, descriptor)
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True


def send(channel: socket.socket, word: str, descriptor: int = -1) -> None:
    """One packet: the word, and the descriptor unless it is -1. OSError."""
    if descriptor >= 0:
        socket.send_fds(channel, [word.encode()], [descriptor])
    else:
        channel.send(word.encode())
