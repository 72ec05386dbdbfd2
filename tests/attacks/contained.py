"""Attacks from inside a container: `python -m tests.attacks.contained TARGET NAME…` prints the verdict of each as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.attacks.catalogue import BY_NAME
from tests.attacks.trial import Target, tried


def main(arguments: list[str]) -> None:
    """Ends with status 0, whoever wins."""
    document, *names = arguments
    told = json.loads(document)
    supervisor = told.pop("supervisor")
    target = replace(Target.of(told, Path.cwd()), supervisor=supervisor)
    print(json.dumps({name: tried(BY_NAME[name].act, target) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1:])
