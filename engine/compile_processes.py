"""The processes that render and compile candidates: a few, each with one candidate at a time, replaced when they end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue

from engine.compiling import recipe_to_json, text_to_json
from engine.errors import CompileError, DeviceError
from engine.isolate import CompilerProcess, Died, Isolate
from engine.opts import Schedule, schedule_to_json
from engine.packets import Message, document_file
from engine.texts import Recipe

# One candidate may take so long; the process is ended after it.
COMPILE_TIMEOUT_S = 30.0
MARGIN_S = 5.0
# A process that has made so many makes room for a fresh one, whatever the libraries in it hold on to.
MADE_AT_MOST = 2000


class CompileProcesses:
    """Compiling processes for one recipe, forked as they are asked for; any number of threads may ask at once."""

    def __init__(self, isolate: Isolate, recipe: Recipe) -> None:
        self._isolate = isolate
        self._recipe = recipe
        self._idle: SimpleQueue[tuple[CompilerProcess, int]] = SimpleQueue()

    def build(self, schedule: Schedule, sources: Path) -> Message:
        """See `Worker._build` in engine.compiling. CompileError when it took too long or ended the process."""
        command = {"do": "build", "schedule": schedule_to_json(schedule), "sources": str(sources)}
        return self._ask(command)

    def compile(self, source: str) -> Path:
        """The file of a source that was rendered elsewhere. CompileError as `build`, and with the compiler's log."""
        answer = self._ask({"do": "compile"}, text_to_json(source, self._recipe))
        if "path" not in answer:
            raise CompileError("compile", answer["detail"].removeprefix("compile: "))
        return Path(answer["path"])

    def close(self) -> None:
        """End the processes."""
        while True:
            try:
                process, _ = self._idle.get_nowait()
            except Empty:
                return
            process.close()

    def _ask(self, command: Message, document: object = None) -> Message:
        command = {**command, "timeout_s": COMPILE_TIMEOUT_S}
        with self._lent(needs_recipe=document is None) as process:
            try:
                if document is None:
                    return process.ask(command, COMPILE_TIMEOUT_S + MARGIN_S)
                return _ask_with(process, command, document)
            except Died as died:
                raise CompileError("compile", f"the compiling process: {died.detail}") from died
            except DeviceError as error:
                raise CompileError("compile", error.code) from error

    @contextmanager
    def _lent(self, needs_recipe: bool) -> Iterator[CompilerProcess]:
        """An idle process or a fresh one. It comes back unless what it is lent for fails."""
        try:
            process, made = self._idle.get_nowait()
        except Empty:
            process, made = self._isolate.compiler(), 0
        try:
            if needs_recipe and made == 0:
                _ask_with(process, {"do": "recipe"}, recipe_to_json(self._recipe))
            yield process
        except BaseException:
            process.close()
            raise
        if made < MADE_AT_MOST:
            self._idle.put((process, made + 1))
        else:
            process.close()


def _ask_with(process: CompilerProcess, command: Message, document: object) -> Message:
    """Ask with a document of any length."""
    fd = document_file(document)
    try:
        return process.ask(command, COMPILE_TIMEOUT_S + MARGIN_S, [fd])
    finally:
        os.close(fd)
