"""How long a login takes to come and to go: a real server, a real agent, a real sshd, all on this machine.

came: from asking the server to approve until a login has worked, with the time of that login. gone: from asking it to
revoke until the session that was open has ended; then a login must be refused, or the benchmark fails. As root, with
openssh-server.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests import login_lab
from tests.login_lab import Lab, gone
from tests.whole import until

REACH_S = 2.0


def main() -> int:
    """Measure, print, and fail where the promise is not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.logins", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, login_lab.opened(Path(folder)) as lab:
        key = lab.box.key("alice")
        with lab.alice() as alice:
            alice.add_ssh_key(Path(f"{key}.pub").read_text())
        bare = [login(lab, "root", lab.box.folder / "clients" / "admin") for _ in range(5)]
        pairs = [come_and_go(lab, key) for _ in range(rounds)]
    came, went, said = zip(*pairs, strict=True)
    table = Table("from", "to", "p50", "p99", "most", title=f"{rounds} logins, s")
    for first, last, times in (
        ("approve", "a login has worked", came),
        ("revoke", "the open session has ended", went),
        ("revoke", "the node has said that it is gone", said),
        ("", "a login by itself, for comparison", bare),
    ):
        table.add_row(first, last, *(f"{each:.3f}" for each in (median(times), p99(times), max(times))))
    Console().print(table)
    return 0 if max(*came, *went, *said) < REACH_S else 1


def median(times: tuple[float, ...] | list[float]) -> float:
    """The middle one."""
    return statistics.median(times)


def p99(times: tuple[float, ...] | list[float]) -> float:
    """The time that 99 in 100 do not pass; of fewer, the longest."""
    return sorted(times)[min(len(times) - 1, int(len(times) * 0.99))]


def login(lab: Lab, account: str, key: Path) -> float:
    """One login, in seconds."""
    begun = time.monotonic()
    assert lab.box.logs_in(account, key)
    return time.monotonic() - begun


def come_and_go(lab: Lab, key: Path) -> tuple[float, float, float]:
    """One login: seconds until it works, until its session has ended, until the node has said so."""
    with lab.alice() as alice, lab.fleet.client() as admin:
        asked = alice.request_grant("to measure", node="tiny1")
        lab.box.made.append(asked.account)
        begun = time.monotonic()
        admin.approve_grant(asked.id)
        while not lab.box.logs_in(asked.account, key):
            assert time.monotonic() - begun < 20
        came = time.monotonic() - begun
        with lab.box.session(asked.account, key, quiet=True) as session:
            begun = time.monotonic()
            admin.revoke_grant(asked.id, "measured")
            session.wait(20)
            went = time.monotonic() - begun
        assert not lab.box.logs_in(asked.account, key), "a revoked login worked"
        ended = until(lambda: gone(admin.grant(asked.id)), "the node has said so")
    return came, went, ended.nodes[0].gone_after_s or 0.0


if __name__ == "__main__":
    sys.exit(main())
