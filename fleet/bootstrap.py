"""Bring a bare host into the fleet over SSH: ordered steps, each with its check, so that it may be run again.

A step whose check says that it is done is not done again. Whatever stops in between (a connection, an operator, a host)
is taken up by running the same command once more.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fleet.errors import InvalidSpec
from fleet.ssh import Host

PACKAGES = ("bubblewrap", "ca-certificates", "curl", "openssh-client", "python3", "python3-venv")
_LOCK = "/run/tinyfleet-bootstrap.lock"
_TOKEN_MIN = 50  # a join token lives an hour: one that lies there longer is made anew
_PYTHON = "python3 -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'"


@dataclass(frozen=True)
class Wanted:
    """What the host is to become. `script`: the installer, as the control plane serves it; `token` mints a join token,
    when one is needed; `seen` waits until the control plane sees the node whose id its argument tells, when the host has
    one. `logins`: people can be let in by SSH. `root`: another folder in place of /, on which systemd does not act (for
    trying it out)."""

    server: str
    name: str
    script: bytes
    token: Callable[[], str]
    seen: Callable[[Callable[[], int | None]], bool]
    ca: bytes = b""
    logins: bool = False
    root: str = ""


@dataclass(frozen=True)
class Step:
    """One step. `check`: a command that succeeds once it is done; `act` does it; `fix` says what helps when not."""

    name: str
    check: str
    fix: str
    act: Callable[[Host, Wanted], None] | None = None
    said: Callable[[Host, Wanted], bool] | None = None  # in place of `check`: the control plane's word


@dataclass(frozen=True)
class Outcome:
    """What became of a step: it was done before, or has been done now."""

    step: str
    state: str


def steps(wanted: Wanted) -> tuple[Step, ...]:
    """All of them, in their order."""
    root = shlex.quote(wanted.root) if wanted.root else ""
    state, home = f"{root}/var/lib/tinyfleet", f"{root}/opt/tinyfleet"
    logins = f" && grep -qsx TINYFLEET_SSH=on {root}/etc/tinyfleet/local.env" if wanted.logins else ""
    probe = f"curl -fsS --max-time 15 {'--cacert /root/.tinyfleet-ca.pem ' if wanted.ca else ''}-o /dev/null"
    found = [
        Step("root", 'test "$(id -u)" = 0', "log in as root, or give --sudo-password-file"),
        Step(
            "system",
            '. /etc/os-release && case " $ID ${ID_LIKE:-} " in *" debian "* | *" ubuntu "*) ;; *) exit 1 ;; esac',
            "only Debian and Ubuntu are brought in; on others install Python 3.11 and run install.sh",
        ),
        Step(
            "packages",
            f"command -v curl && command -v ssh-keygen && command -v bwrap && test -d /etc/ssl/certs && {_PYTHON}",
            f"Python 3.11 or newer is needed (Debian 12, Ubuntu 24.04), and: apt-get install {' '.join(PACKAGES)}",
            _install_packages,
        ),
        Step(
            "control plane",
            f"{probe} {shlex.quote(wanted.server)}/livez",
            f"the host does not reach {wanted.server}: look at its routes, its name server and its proxy",
            _put_ca if wanted.ca else None,
        ),
        Step(
            "agent",
            f"test -x {home}/current/bin/tinyfleet && test -s {root}/etc/tinyfleet/agent.env"
            f" && {{ test -s {state}/identity.json"
            f' || test -n "$(find {root}/etc/tinyfleet/join-token -mmin -{_TOKEN_MIN} 2>/dev/null)"; }}{logins}',
            "look at what the installer says above",
            _install_agent,
        ),
    ]
    if not wanted.root:
        running = "systemctl is-active --quiet tinyfleet-agent.service tinyfleet-root.service"
        found.append(Step("running", running, "look: journalctl -u tinyfleet-agent", _start))
        found.append(Step("joined", "", "look: journalctl -u tinyfleet-agent", said=_joined))
    return tuple(found)


def bootstrap(host: Host, wanted: Wanted) -> Iterator[Outcome]:
    """Take each step that is not done; yields what became of it. InvalidSpec names the step that cannot be done, what
    the host said, and the fix."""
    for step in steps(wanted):
        if _is_done(host, step, wanted):
            yield Outcome(step.name, "was done")
            continue
        if step.act is not None:
            step.act(host, wanted)
        if step.act is None or not _is_done(host, step, wanted):
            raise InvalidSpec(step.name, f"{step.fix}{_said(host, step)}")
        yield Outcome(step.name, "done")


def _is_done(host: Host, step: Step, wanted: Wanted) -> bool:
    return (
        step.said(host, wanted) if step.said is not None else host.run(step.check, within_s=60.0).status == 0
    )


def _joined(host: Host, wanted: Wanted) -> bool:
    """Whether the fleet sees this host: by the id that the host was given, for another may have its name."""
    return wanted.seen(lambda: _node_id(host))


def _node_id(host: Host) -> int | None:
    """What the control plane calls the host, once it has joined; sudo may say something of its own before it."""
    found = re.search(r'"node_id": *(\d{1,16})\b', host.run("cat /var/lib/tinyfleet/identity.json").output)
    return None if found is None else int(found[1])


def _said(host: Host, step: Step) -> str:
    said = host.run(step.check, within_s=60.0).output.strip() if step.check else ""
    return f" (the host says: {said[-300:]})" if said else ""


def _install_packages(host: Host, _: Wanted) -> None:
    """A host that has just booted looks for updates itself: it is waited for. What an apt left half done that was cut off
    is done first."""
    apt = "apt-get -q -o DPkg::Lock::Timeout=300"
    install = f"{apt} install -y --no-install-recommends {' '.join(PACKAGES)}"
    update = f"n=0; until {apt} update; do n=$((n+1)); test $n -lt 12 || break; sleep 5; done"
    _must(
        host,
        "packages",
        f"export DEBIAN_FRONTEND=noninteractive; {update}; {install} || {{ dpkg --configure -a && {install}; }}",
    )


def _put_ca(host: Host, wanted: Wanted) -> None:
    host.put("/root/.tinyfleet-ca.pem", wanted.ca, 0o644)


def _install_agent(host: Host, wanted: Wanted) -> None:
    """Token and script go by stdin into a folder that is root's alone, and that is gone whatever becomes of the installer.
    One that was started before, was cut off and goes on by itself, is waited for."""
    options = f"--server {shlex.quote(wanted.server)} --name {shlex.quote(wanted.name)}"
    if wanted.ca:
        options += " --ca-file /root/.tinyfleet-ca.pem"
    if wanted.logins:
        options += " --logins"
    root = f"export TINYFLEET_INSTALL_ROOT={shlex.quote(wanted.root)}; " if wanted.root else ""
    command = (
        "umask 077; d=$(mktemp -d /root/.tinyfleet-XXXXXXXX) || exit; trap 'rm -rf \"$d\"' EXIT; "
        "trap 'exit 143' HUP PIPE TERM; IFS= read -r token; printf '%s\\n' \"$token\" >\"$d/join-token\"; "
        f'cat >"$d/install.sh"; export TINYFLEET_JOIN_TOKEN_FILE="$d/join-token"; {root}umask 022; '
        f'flock -w 600 {_LOCK} sh "$d/install.sh" {options}'
    )
    _must(host, "agent", command, f"{wanted.token()}\n".encode() + wanted.script)


def _start(host: Host, _: Wanted) -> None:
    units = "tinyfleet-root.service tinyfleet-agent.service"
    _must(host, "running", f"systemctl daemon-reload && systemctl enable --now {units}")


def _must(host: Host, step: str, command: str, stdin: bytes = b"") -> None:
    done = host.run(command, stdin)
    if done.status:
        raise InvalidSpec(step, f"the host says: {done.output.strip()[-600:]}")
