"""Candidates are made in processes that may be lost: none of them, and nothing else, is lost with one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.building import Builder, Built, candidate
from engine.compile_processes import CompileProcesses
from engine.compiling import recipe_from_json, recipe_to_json
from engine.errors import CompileError
from engine.ir import UOp
from engine.isolate import CompilerProcess, Died, Isolate
from engine.opts import Opt, OptKind, Schedule
from engine.outcome import Measured, Outcome
from engine.packets import document_file, document_in
from engine.programs import program
from engine.seal import intact
from engine.shrink import shrink
from engine.store import Store
from engine.texts import Recipe
from engine.toolchain import Compiler, detect

GEMM = program("gemm", [48, 64, 40])
TILE: Schedule = (Opt(OptKind.VEC, "out", 1, 8), Opt(OptKind.UPCAST, "out", 0, 4))


@pytest.fixture(scope="module")
def isolate() -> Iterator[Isolate]:
    with Isolate() as found:
        yield found


def recipe(store: Store, compiler: Compiler = Compiler.LLVM) -> Recipe:
    return Recipe(GEMM, shrink(GEMM), detect(compiler), store.objects)


@contextmanager
def builder(isolate: Isolate, store: Store, made: Recipe | None = None) -> Iterator[Builder]:
    made = made or recipe(store)
    processes = CompileProcesses(isolate, made)
    yield Builder(made, store, processes)
    processes.close()


@pytest.mark.parametrize("compiler", list(Compiler))
def test_a_candidate_is_built_in_another_process_as_it_is_here(
    isolate: Isolate, tmp_path: Path, compiler: Compiler
) -> None:
    store = Store(tmp_path)
    made = recipe(store, compiler)
    with builder(isolate, store, made) as building:
        built = building.build(candidate(TILE))
    assert isinstance(built, Built)
    texts = made.texts(TILE)
    assert (built.full.path, built.small.path) == made.compile(texts, 60)
    assert (built.full.name, built.full.tiles) == (texts.full.entry, texts.full.tiles)
    assert built.shown == texts.shown
    assert "void kernel(" in built.shown
    assert intact(built.full.path)


def test_many_are_built_at_once_and_come_in_their_order(isolate: Isolate, tmp_path: Path) -> None:
    schedules = [(Opt(OptKind.UPCAST, "out", 0, amount),) for amount in (2, 3, 4, 6, 7, 8)]
    illegal = (Opt(OptKind.VEC, "out", 0, 8),)
    wanted = [candidate(schedule) for schedule in (*schedules, illegal, schedules[0])]
    with builder(isolate, Store(tmp_path)) as building:
        found = list(building.build_all(wanted))
    assert [b.candidate.hash if isinstance(b, Built) else b.hash for b in found] == [
        c.hash for c in wanted[:-1]
    ]
    assert isinstance(found[-1], Measured)
    assert found[-1].outcome is Outcome.ILLEGAL


def test_a_recipe_is_the_same_kernel_on_the_other_side(tmp_path: Path) -> None:
    made = recipe(Store(tmp_path))
    again = recipe_from_json(recipe_to_json(made))
    assert again == made
    assert again.texts(TILE) == made.texts(TILE)


class Aborting:
    """Assembly on which LLVM ends the process: a call that no machine has."""

    def render(self, linear: Sequence[UOp], name: str) -> str:
        return (
            f"define void @{name}(ptr %b, i64 %f, i64 %l) {{\n"
            '  call void asm sideeffect "no such instruction", ""()\n  ret void\n}\n'
        )


def test_a_compiler_that_ends_its_process_is_a_failed_candidate_and_no_more(
    isolate: Isolate, tmp_path: Path
) -> None:
    store = Store(tmp_path)
    made = Recipe(GEMM, shrink(GEMM), detect(Compiler.LLVM), store.objects, Aborting())
    with builder(isolate, store, made) as building:
        failed = building.build(candidate(TILE))
    assert isinstance(failed, Measured)
    assert failed.outcome is Outcome.COMPILE_FAILED
    assert "SIGABRT" in failed.detail
    with builder(isolate, store) as building:
        assert isinstance(building.build(candidate(TILE)), Built)


def test_a_process_that_was_killed_is_replaced(isolate: Isolate, tmp_path: Path) -> None:
    made = recipe(Store(tmp_path))
    processes = CompileProcesses(isolate, made)
    processes.build(TILE, tmp_path)
    process, _ = processes._idle.get_nowait()
    os.kill(process.pid, signal.SIGKILL)
    processes._idle.put((process, 1))
    with pytest.raises(CompileError, match="SIGKILL"):
        processes.build(TILE, tmp_path)
    assert "entries" in processes.build(TILE, tmp_path)
    processes.close()


def test_a_process_that_does_not_answer_is_ended(isolate: Isolate) -> None:
    process: CompilerProcess = isolate.compiler()
    os.kill(process.pid, signal.SIGSTOP)
    fd = document_file({})
    try:
        with pytest.raises(Died, match="still running after"):
            process.ask({"do": "recipe"}, 0.1, [fd])
    finally:
        os.close(fd)


def test_a_document_of_any_length_goes_by_a_descriptor() -> None:
    document = {"text": "é" * 2_000_000, "number": 1}
    fd = document_file(document)
    try:
        assert document_in(fd) == document
    finally:
        os.close(fd)
