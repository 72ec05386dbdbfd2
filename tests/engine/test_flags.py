"""A search's flags: what is listed is what there is, and the key has exactly what changes a result."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields, replace
from typing import Any

import pytest
from typer.testing import CliRunner

from engine.cli import app, search_command
from engine.errors import InvalidOption
from engine.flags import FLAGS, Flag, Flags, described, flag_of, flags_of
from engine.toolchain import Compiler, detect

# A value other than the default for each.
OTHERS = {
    "budget": "7.5",
    "threads": "2",
    "compiler": "c",
    "width": "5",
    "per-round": "8",
    "patience": "4",
    "finalists": "2",
    "seed": "9",
}


def place(flags: Flags) -> tuple[str, int]:
    """Where a search with these flags keeps and finds a kernel's results."""
    return detect(flags.compiler).id, flags.threads


@pytest.mark.parametrize("flag", FLAGS, ids=lambda flag: flag.name)
def test_a_flag_is_part_of_the_key_exactly_when_it_says_so(flag: Flag) -> None:
    given = flags_of({flag.name: OTHERS[flag.name]})
    assert given == replace(Flags(), **{flag.field: getattr(given, flag.field)})
    assert given != Flags()
    assert (place(given) != place(Flags())) == flag.key


def test_the_compiler_that_is_meant_anyway_changes_no_key() -> None:
    assert place(Flags(compiler=Compiler.LLVM)) == place(flags_of({"compiler": "dev"}))


def test_every_field_has_a_flag_and_every_flag_an_option_with_its_default() -> None:
    assert [flag.field for flag in FLAGS] == [field.name for field in fields(Flags)]
    options = inspect.signature(search_command).parameters
    for flag in FLAGS:
        assert options[flag.name.replace("-", "_")].default == getattr(Flags(), flag.field)


def test_the_flags_are_listed_with_type_default_meaning_and_whether_they_are_in_the_key() -> None:
    listed = CliRunner().invoke(app, ["search", "--flags"])
    assert listed.exit_code == 0
    for row in described():
        assert row["flag"] in listed.output
        assert row["default"] in listed.output
        assert row["help"].split()[0] in listed.output
    as_json = CliRunner().invoke(app, ["search", "--json", "--flags"])
    assert json.loads(as_json.stdout) == described()


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"widht": "4"}, "widht='4': there is no such flag; the nearest is width"),
        ({"per_round": "4"}, "per_round='4': there is no such flag; the nearest is per-round"),
        ({"width": "0"}, "width='0': must be a whole number from 1 to 1000; the nearest is 1"),
        ({"width": "2000"}, "width='2000': must be a whole number from 1 to 1000; the nearest is 1000"),
        ({"width": "2.5"}, "width='2.5': must be a whole number from 1 to 1000"),
        ({"budget": "nan"}, "budget='nan': must be seconds from 0.1 to 1e+06"),
        ({"budget": "0"}, "budget='0': must be seconds from 0.1 to 1e+06; the nearest is 0.1"),
        ({"seed": "-1"}, "the nearest is 0"),
        ({"compiler": "lvm"}, "compiler='lvm': must be one of dev, llvm, c; the nearest is llvm"),
    ],
)
def test_what_cannot_be_is_named_with_the_nearest_that_can(texts: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidOption) as refused:
        flags_of(texts)
    assert message in str(refused.value)


def shown(*words: str) -> str:
    """What a search that is refused prints, in one line."""
    result = CliRunner().invoke(app, ["search", "copy", "8", *words], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--widht", "4"), "--width"),
        (("--width", "0"), "width='0': must be a whole number from 1 to 1000; the nearest is 1"),
        (("--compiler", "lvm"), "the nearest is llvm"),
    ],
)
def test_the_command_line_says_the_same(words: tuple[str, ...], message: str) -> None:
    assert message in shown(*words)


def test_flags_are_frozen() -> None:
    flags: Any = Flags()
    with pytest.raises(AttributeError):
        flags.width = 3
    assert flag_of("seed").default == "0"
