"""What kernels are compiled for, and the compiler that does it."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from engine import compiler, target
from engine.errors import CompileError
from engine.options import Options
from engine.target import Processor, detect, instruction_set, isa_flags, parse_processor
from tests.parts import need

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8481C
flags\t\t: fpu sse sse2 sse4_2 popcnt avx f16c fma bmi1 bmi2 avx2 avx512f avx512dq avx512cd avx512bw avx512vl amx_tile
bogomips\t: 5400.00

processor\t: 1
vendor_id\t: GenuineIntel
"""
GRAVITON = """processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp sve
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x1
CPU part\t: 0xd40
"""
CACHES = (("l1d", 49152), ("l2", 2097152), ("l3", 110100480))
ADD_ONE = "int add_one(int x) { return x + 1; }\n"


def test_a_cpu_is_named_by_vendor_family_and_model() -> None:
    assert parse_processor("x86_64", XEON).name == "GenuineIntel-6-143"
    assert parse_processor("aarch64", GRAVITON).name == "0x41-0xd40"
    assert parse_processor("riscv64", "processor : 0\n").name == "riscv64"


def test_the_architecture_has_instruction_sets_and_caches() -> None:
    found = target.architecture(parse_processor("x86_64", XEON, CACHES), "avx512")
    assert found.startswith("x86_64-GenuineIntel-6-143+avx+avx2+avx512bw")
    assert found.endswith("+l1d=48K+l2=2048K+l3=107520K")
    assert "amx" not in found, "what no flag turns on does not change the code"


@pytest.mark.parametrize(
    ("machine", "flags", "wanted"),
    [
        ("x86_64", "avx avx2 fma avx512f avx512bw avx512cd avx512dq avx512vl", "avx512"),
        ("x86_64", "avx avx2 fma avx512f", "avx2"),
        ("x86_64", "avx avx2", "sse2"),
        ("x86_64", "sse2", "sse2"),
        ("aarch64", "asimd", "neon"),
        ("riscv64", "", "scalar"),
    ],
)
def test_the_instruction_set_is_the_widest_that_is_there_whole(machine: str, flags: str, wanted: str) -> None:
    assert instruction_set(Processor(machine, "cpu", frozenset(flags.split()), ())) == wanted


def test_what_a_cpu_is_called_decides_nothing_but_its_name() -> None:
    bits = frozenset(["avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "popcnt", "sse4_2"])
    cpus = [Processor("x86_64", name, bits, ()) for name in ("GenuineIntel-6-60", "AuthenticAMD-25-33", "")]
    assert {instruction_set(cpu) for cpu in cpus} == {"avx2"}
    assert len({isa_flags(cpu, "avx2") for cpu in cpus}) == 1
    assert len({target.architecture(cpu, "avx2") for cpu in cpus}) == 3


@pytest.mark.parametrize("missing", ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"])
def test_one_missing_bit_of_avx512_leaves_avx2_and_none_of_its_flags(missing: str) -> None:
    processor = parse_processor("x86_64", XEON.replace(f" {missing}", ""))
    found = target.describe(processor, "gcc 12.2.0", ())
    assert found.isa == "avx2"
    assert found.features.vector_bytes == 32
    assert "-mavx2" in found.flags
    assert not any("avx512" in flag or "512" in flag for flag in found.flags)


def test_flags_follow_feature_bits_and_never_ask_the_compiler_to_guess() -> None:
    flags = isa_flags(parse_processor("x86_64", XEON), "avx512")
    assert {"-mavx512f", "-mfma", "-mbmi2", "-msse4.2", "-mprefer-vector-width=512"} <= set(flags)
    assert not any(flag.startswith("-march") for flag in flags)
    assert isa_flags(parse_processor("aarch64", GRAVITON), "neon") == ()


def test_this_machine_is_detected_once_and_always_the_same() -> None:
    found = detect()
    assert found is detect()
    assert found.device == "CPU"
    assert found.cores >= 1
    assert len(found.id) == 64
    assert json.loads(json.dumps(found.to_json()))["compiler"].split()[0] in ("clang", "gcc")


def test_the_id_follows_what_decides_the_code_and_not_where_the_compiler_is() -> None:
    found = detect()
    assert replace(found, executable="/elsewhere/cc").id == found.id
    assert replace(found, compiler="gcc 99.0").id != found.id
    assert replace(found, version=found.version + 1).id != found.id


def test_cache_sizes_are_read_from_the_architecture() -> None:
    found = replace(detect(), arch=target.architecture(parse_processor("x86_64", XEON, CACHES), "avx512"))
    assert found.cache_bytes("l2") == 2097152
    assert found.cache_bytes("l4") is None


def test_without_a_compiler_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CompileError, match="install one"):
        target.find_compiler(None)


def test_clang_is_taken_before_gcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, line in (("clang", "Debian clang version 14.0.6"), ("gcc", "gcc (Debian 12.2.0-14) 12.2.0")):
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\necho '{line}'\necho 'Free Software Foundation'\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert target.find_compiler(None) == (str(tmp_path / "clang"), "clang 14.0.6")
    assert target.find_compiler("gcc") == (str(tmp_path / "gcc"), "gcc 12.2.0")


def test_a_source_is_compiled_once_and_named_by_its_content(tmp_path: Path) -> None:
    first = compiler.compile(ADD_ONE, detect(), tmp_path / "kernels")
    made = first.stat().st_mtime_ns
    assert compiler.compile(ADD_ONE, detect(), tmp_path / "kernels") == first
    assert first.stat().st_mtime_ns == made
    assert compiler.compile(ADD_ONE, detect(), tmp_path / "kernels", level="-O0") != first


def test_many_threads_may_compile_the_same_source(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: compiler.compile(ADD_ONE, detect(), tmp_path), range(4)))
    assert len(set(paths)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [paths[0].name], "and nothing is left beside it"


def test_a_compile_error_carries_the_compilers_log(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as caught:
        compiler.compile("int broken(", detect(), tmp_path)
    assert "error" in caught.value.log
    assert list(tmp_path.iterdir()) == []


def test_a_compiler_that_hangs_is_a_compile_error(tmp_path: Path) -> None:
    script = tmp_path / "cc"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    with pytest.raises(CompileError, match=r"longer than 0\.2 s"):
        compiler.compile(ADD_ONE, replace(detect(), executable=str(script)), tmp_path / "out", timeout_s=0.2)


def test_a_compiler_that_is_gone_is_a_compile_error(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="install"):
        compiler.compile(ADD_ONE, replace(detect(), executable="/nowhere/cc"), tmp_path)


@pytest.mark.parametrize("flag", sorted(compiler.BANNED))
def test_flags_that_change_results_are_refused(flag: str, tmp_path: Path) -> None:
    with pytest.raises(CompileError, match="not allowed"):
        compiler.compile(ADD_ONE, replace(detect(), flags=(flag,)), tmp_path)


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_cc_chooses_the_compiler_by_name_or_path_and_the_id_is_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = need(name, install=name)
    monkeypatch.delenv("CC", raising=False)
    link = tmp_path / "my-cc"
    link.symlink_to(place)
    for chosen in (name, place, str(link)):
        found = detect(options=Options(compiler=chosen))
        assert found.compiler.split()[0] == name
        assert found.id == detect(name).id
        assert detect(options=Options(compiler=chosen)) is found
    assert detect(options=Options()) is detect()
    monkeypatch.setenv("CC", str(link))
    assert detect().executable == str(link)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ("/nowhere/gcc", "is no program here"),
        ("gcc -m32", "is no program here"),
        ("ls", "is neither clang nor gcc"),
    ],
)
def test_a_cc_that_is_no_compiler_is_refused_by_name(chosen: str, message: str) -> None:
    with pytest.raises(CompileError, match=f"CC='{chosen}' {message}"):
        detect(options=Options(compiler=chosen))
