"""Running a user's script inside this process, as `python script.py` would."""

from __future__ import annotations

import runpy
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

INTERRUPTED = 130


def run_script(path: Path, arguments: Sequence[str]) -> int:
    """Run it with these arguments; its exit status. What it raises is printed as Python prints it, on stderr."""
    before = sys.argv, sys.path[:]
    sys.argv = [str(path), *arguments]
    sys.path.insert(0, str(path.resolve().parent))
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as end:
        return _status(end)
    except BaseException as error:  # noqa: BLE001  # whatever a script raises is its own
        _print(error, path)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    finally:
        sys.argv, sys.path[:] = before
        sys.stdout.flush()
    return 0


def _status(end: SystemExit) -> int:
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)
    return 1


def _print(error: BaseException, path: Path) -> None:
    """The traceback from the script's own first frame on; all of it if it did not get there."""
    begun = error.__traceback__
    while begun is not None and begun.tb_frame.f_code.co_filename != str(path):
        begun = begun.tb_next
    traceback.print_exception(type(error), error, begun or error.__traceback__)
