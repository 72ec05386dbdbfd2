"""How the verbs of several packages become one command."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_group

from fleet import command
from tests.fleet.commanding import runner


def fresh_python(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_the_command_loads_no_heavy_library() -> None:
    heavy = {"sqlalchemy", "fastapi", "numpy", "engine", "httpx", "pydantic", "api", "alembic"}
    loaded = fresh_python("import fleet.command, sys; print(*sys.modules)").split()
    assert heavy & set(loaded) == set()


def test_help_lists_every_verb_without_loading_any() -> None:
    script = (
        "import sys; from fleet import command\n"
        "try: command.app(['--help'], prog_name='tinyfleet')\n"
        "finally: print('loaded:', *sorted({'fleet.cli', 'api', 'engine', 'fleet.agents'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    for verbs in command.VERBS.values():
        assert all(f" {verb} " in shown for verb in verbs)
    assert shown.rstrip().endswith("loaded:")


@pytest.mark.parametrize("file", command.VERBS)
def test_every_listed_verb_is_in_its_file_and_every_verb_is_listed(file: str) -> None:
    entry = next(verb.entry for verb in command.verbs() if verb.entry.name == file)
    assert set(command.VERBS[file]) == set(get_group(entry.load()).commands)


def test_where_only_the_agents_part_is_installed_the_servers_verbs_say_so() -> None:
    script = (
        "import sys; sys.modules['fastapi'] = None; from fleet import command; sys.argv = ['tinyfleet', 'serve']\n"
        "command.main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: serve needs fastapi, which is not installed here")


def test_an_unknown_verb_is_a_usage_error_with_a_suggestion() -> None:
    result = runner({})("job")
    assert result.exit_code == 2
    assert "jobs" in result.stderr
