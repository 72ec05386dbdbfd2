"""The filter, run here by a small machine for its language, for both processors; and its numbers, against the system's."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from fleet.agents.walls.seccomp import CONDITIONAL, REFUSED, SYSTEM_V, assembled, program

X86, ARM = 0, 1
AUDIT = (0xC000003E, 0xC00000B7)
ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026, 0x00050061


def verdict(
    column: int,
    number: int,
    *arguments: int,
    audit: int | None = None,
    sockets: bool = False,
    system_v: bool = True,
) -> int:
    """What the filter returns for a call."""
    code = assembled(program(column, sockets=sockets, system_v=system_v))
    steps = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    arguments = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<II Q 6Q", number, audit or AUDIT[column], 0, *arguments)
    held = at = 0
    while True:
        operation, if_true, if_false, operand = steps[at]
        at += 1
        match operation:
            case 0x20:
                (held,) = struct.unpack_from("<I", data, operand)
            case 0x54:
                held &= operand
            case 0x15:
                at += if_true if held == operand else if_false
            case 0x35:
                at += if_true if held >= operand else if_false
            case 0x45:
                at += if_true if held & operand else if_false
            case 0x06:
                return int(operand)


@pytest.mark.parametrize("column", [X86, ARM])
def test_every_refused_call_is_refused_and_others_are_not(column: int) -> None:
    refused = {numbers[column] for numbers in REFUSED.values()}
    conditional = {numbers[column] for numbers, _ in CONDITIONAL.values()}
    for number in range(470):
        if number in refused:
            assert verdict(column, number) == EPERM
        elif number == 435:
            assert verdict(column, number) == ENOSYS
        elif number not in conditional:
            assert verdict(column, number, *[(1 << 64) - 1] * 6) == ALLOW


@pytest.mark.parametrize("column", [X86, ARM])
def test_memory_that_outlives_its_maker_is_refused_unless_it_ends_with_the_attempt(column: int) -> None:
    for numbers in SYSTEM_V.values():
        assert verdict(column, numbers[column], system_v=False) == EPERM
        assert verdict(column, numbers[column]) == ALLOW


@pytest.mark.parametrize("column", [X86, ARM])
def test_calls_that_are_refused_at_times_are_allowed_at_others(column: int) -> None:
    number = {name: numbers[column] for name, (numbers, _) in CONDITIONAL.items()}
    clone, limits, pair, mode = (number[name] or 0 for name in ("clone", "prlimit64", "socketpair", "fchmod"))
    assert verdict(column, clone, 0x01200011) == ALLOW  # as fork does
    assert verdict(column, clone, 0x003D0F00) == ALLOW  # as threads are made
    for namespace in (
        0x00020000,
        0x02000000,
        0x04000000,
        0x08000000,
        0x10000000,
        0x20000000,
        0x40000000,
        0x80,
    ):
        assert verdict(column, clone, 0x11 | namespace) == EPERM
    assert verdict(column, limits, 0) == ALLOW
    assert verdict(column, limits, 4711) == EPERM
    for kind in (1, 5, 1 | 0o2000000):  # stream, packets, stream that is closed at exec
        assert verdict(column, pair, 1, kind) == ALLOW
    assert verdict(column, pair, 1, 2 | 0o2000000) == EPERM
    assert verdict(column, mode, 3, 0o755) == ALLOW
    assert verdict(column, mode, 3, 0o4755) == verdict(column, mode, 3, 0o2755) == EPERM


def test_terminals_are_resized_but_not_typed_into() -> None:
    assert verdict(X86, 16, 0, 0x5414) == ALLOW
    assert verdict(X86, 16, 0, 0x5412) == verdict(ARM, 29, 0, 0x541C) == EPERM
    # the kernel looks at 32 bits of it, and so does the filter
    assert verdict(X86, 16, 0, 0x5412 | 1 << 32) == EPERM


def test_other_tables_of_calls_end_the_process() -> None:
    assert verdict(X86, 20, audit=0x40000003) == KILL  # i386
    assert verdict(X86, 39 | 0x40000000) == KILL  # x32
    assert verdict(ARM, 20, audit=0x40000028) == KILL  # arm


def test_a_driver_may_have_unix_sockets_and_no_others() -> None:
    socket = REFUSED["socket"][X86]
    assert socket is not None
    assert verdict(X86, socket, 1, sockets=True) == ALLOW
    assert verdict(X86, socket, 2, sockets=True) == EAFNOSUPPORT
    assert verdict(X86, socket, 1) == EPERM


HEADERS = (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h"))


@pytest.mark.parametrize(
    ("column", "header"), [(X86, HEADERS[0]), (ARM, HEADERS[1])], ids=["x86-64", "aarch64"]
)
def test_the_numbers_are_the_systems(column: int, header: Path) -> None:
    if not header.exists():
        pytest.skip(f"{header} is missing: apt-get install linux-libc-dev")
    text = header.read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)\b", text)}
    known |= {"umount2": known.get("umount2", 39)}
    named = {name: numbers[column] for name, numbers in (REFUSED | SYSTEM_V).items()}
    named |= {name: numbers[column] for name, (numbers, _) in CONDITIONAL.items() if " " not in name}
    checked = {name for name, number in named.items() if number is not None and name in known}
    assert len(checked) > 60
    assert {name: named[name] for name in checked if known[name] != named[name]} == {}
