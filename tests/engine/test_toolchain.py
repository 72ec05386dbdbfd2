"""From source to a file of machine code: by either compiler, named by what it was made from, never torn."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from engine import compiler
from engine.errors import CompileError, DeviceError
from engine.object_code import load_object
from engine.options import Options
from engine.render.c import CRenderer
from engine.render.llvm import LlvmRenderer
from engine.seal import intact, write_sealed
from engine.target import Target
from engine.toolchain import Compiler, compile, compiler_of, detect, object_name, renderer_of

ASSEMBLY = """
define void @doubles(ptr %buffers, i64 %first, i64 %last) {
  %out = load ptr, ptr %buffers
  %v = load double, ptr %out
  %s = call double @sin(double %v)
  %w = fadd double %s, 2.0
  store double %w, ptr %out
  ret void
}
declare double @sin(double)
"""
IN_C = "void doubles(void *const *buffers, long first, long last) { *(double *)buffers[0] += 2; }"


@pytest.fixture(scope="module")
def llvm() -> Target:
    return detect(Compiler.LLVM)


def test_dev_says_which_compiler_is_meant_and_llvm_is_the_default() -> None:
    assert compiler_of(detect(options=Options())) is Compiler.LLVM
    assert compiler_of(detect(options=Options(device="cpu:c"))) is Compiler.C
    assert compiler_of(detect(Compiler.LLVM, Options(device="CPU:C"))) is Compiler.LLVM
    assert detect(Compiler.LLVM).id != detect(Compiler.C).id


def test_a_target_has_the_renderer_of_its_compilers_language() -> None:
    assert isinstance(renderer_of(detect(Compiler.LLVM)), LlvmRenderer)
    assert isinstance(renderer_of(detect(Compiler.C)), CRenderer)


def test_an_object_file_runs_and_finds_the_c_librarys_functions(llvm: Target, tmp_path: Path) -> None:
    path = compile(ASSEMBLY, llvm, tmp_path)
    assert path.suffix == ".o"
    address, owner = load_object(path, "doubles")
    value = ctypes.c_double(0.5)
    buffers = (ctypes.c_void_p * 1)(ctypes.addressof(value))
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_long, ctypes.c_long)
    kernel(address)(buffers, 0, 1)
    assert value.value == pytest.approx(2.479425538604203)
    del owner


def test_files_are_named_by_source_compiler_and_flags(llvm: Target, tmp_path: Path) -> None:
    path = compile(ASSEMBLY, llvm, tmp_path)
    assert path.stem == object_name(ASSEMBLY, llvm)
    assert object_name(ASSEMBLY + " ", llvm) != path.stem
    assert compile(ASSEMBLY, llvm, tmp_path) == path
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("compiler", list(Compiler))
def test_a_torn_file_is_made_again(compiler: Compiler, tmp_path: Path) -> None:
    target = detect(compiler)
    source = ASSEMBLY if compiler is Compiler.LLVM else IN_C
    path = compile(source, target, tmp_path)
    whole = path.read_bytes()
    for torn in (b"", whole[: len(whole) // 2], whole[:-1], b"\0" * len(whole)):
        path.write_bytes(torn)
        assert not intact(path)
        assert compile(source, target, tmp_path) == path
        assert intact(path)


def test_assembly_that_llvm_refuses_is_a_compile_error_with_its_words(llvm: Target, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="use of undefined value '%nothing'"):
        compile("define i32 @f() { ret i32 %nothing }", llvm, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_object_file_or_lacks_the_function_cannot_be_loaded(llvm: Target, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="has no function other"):
        load_object(compile(ASSEMBLY, llvm, tmp_path), "other")
    (tmp_path / "text.o").write_text("no object file")
    with pytest.raises(DeviceError, match=r"load text\.o: the file is missing or damaged"):
        load_object(tmp_path / "text.o", "doubles")


def test_a_sealed_file_is_intact_until_a_byte_changes(tmp_path: Path) -> None:
    path = tmp_path / "sealed"
    write_sealed(path, b"content")
    whole = path.read_bytes()
    assert whole.startswith(b"content")
    assert intact(path)
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert not intact(path)
        path.write_bytes(whole[:at])
        assert not intact(path)
    assert not intact(tmp_path / "nothing")


def test_the_c_compiler_seals_its_files_too(tmp_path: Path) -> None:
    path = compiler.compile(IN_C, detect(Compiler.C), tmp_path)
    assert intact(path)
    assert hasattr(ctypes.CDLL(str(path)), "doubles")


# A compiler that breaks down, as LLVM's back ends do, unless it is told not to optimize so much.
FRAGILE = """#!/bin/sh
case " $* " in *" {works_at} "*) exec {real} "$@" ;; esac
cat >/dev/null
echo "fatal error: {sign}" >&2
exit 70
"""


@pytest.mark.parametrize("works_at", ["-O1", "-O0"])
def test_a_compiler_that_breaks_down_is_asked_to_do_less(tmp_path: Path, works_at: str) -> None:
    target = fragile(tmp_path, works_at, "error in backend: Cannot select")
    library = ctypes.CDLL(str(compiler.compile(IN_C, target, tmp_path)))
    value = ctypes.c_double(0.5)
    library.doubles((ctypes.c_void_p * 1)(ctypes.addressof(value)), 0, 1)
    assert value.value == 2.5


def test_a_compiler_that_breaks_down_at_every_level_shows_its_first_log(tmp_path: Path) -> None:
    target = fragile(tmp_path, "-O7", "error in backend: Cannot select")
    with pytest.raises(CompileError) as caught:
        compiler.compile(IN_C, target, tmp_path)
    assert "Cannot select" in caught.value.log


def test_an_error_in_the_source_is_not_tried_again(tmp_path: Path) -> None:
    target = fragile(tmp_path, "-O1", "use of undeclared identifier")
    with pytest.raises(CompileError, match="undeclared"):
        compiler.compile(IN_C, target, tmp_path)


def fragile(directory: Path, works_at: str, sign: str) -> Target:
    target = detect(Compiler.C)
    script = directory / "cc"
    script.write_text(FRAGILE.format(works_at=works_at, real=target.executable, sign=sign))
    script.chmod(0o755)
    return replace(target, executable=str(script))
