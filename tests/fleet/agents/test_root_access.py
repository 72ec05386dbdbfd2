"""Contributors' logins on a machine with a real sshd: who gets in, who does not, and that its owner always does."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.agents.root_access import AccessRoot
from fleet.agents.root_accounts import Accounts
from fleet.agents.root_logins import Logins
from fleet.agents.root_logins_unit import turn_off
from fleet.agents.root_sshd import Sshd, SshdProblem
from fleet.agents.walls.slots import processes_of
from tests import sshd
from tests.parts import need
from tests.sshd import Box
from tests.whole import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@pytest.fixture
def box() -> Iterator[Box]:
    """A machine with a real sshd."""
    with sshd.opened() as made:
        yield made


@pytest.fixture
def root(box: Box) -> AccessRoot:
    """The part of the agent that renders."""
    return AccessRoot(box.where)


def test_a_grant_lets_its_key_in_and_no_other(box: Box, root: AccessRoot) -> None:
    alice, mallory = box.key("alice"), box.key("mallory")
    grant = box.grant("alice", alice)
    report = root.apply(Logins(grants=(grant,)), 7)
    assert (report.generation, report.grants, report.problem) == (7, [1], "")
    assert box.logs_in(grant.account, alice)
    assert not box.logs_in(grant.account, mallory)
    assert box.logs_in("root", box.folder / "clients" / "admin")


def test_a_key_that_is_gone_is_refused_and_its_live_session_ended(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    with box.session(grant.account, alice) as session:
        report = root.apply(Logins())
        assert report.grants == []
        assert processes_of(grant.uid) == []
        assert session.wait(60) == 255
    assert not box.logs_in(grant.account, alice)
    assert box.logs_in("root", box.folder / "clients" / "admin")


def test_a_grant_given_again_opens_the_account_again_with_its_files(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    assert box.ssh(grant.account, alice, "touch mine").returncode == 0
    root.apply(Logins())
    root.apply(Logins(grants=(grant,)))
    assert box.ssh(grant.account, alice, "ls").stdout == "mine\n"


def test_what_a_contributor_left_behind_brings_nobody_back(box: Box, root: AccessRoot) -> None:
    alice, own = box.key("alice"), box.key("own")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    public = own.with_name("own.pub").read_text().strip()
    planted = f"mkdir -p .ssh && echo '{public}' > .ssh/authorized_keys && chmod -R go= .ssh && echo touch rc-ran > .ssh/rc"
    assert box.ssh(grant.account, alice, planted).returncode == 0
    assert not box.logs_in(grant.account, own)  # not even while the grant lasts
    path = box.folder / "clients" / "master"
    shared = ("ControlMaster=yes", f"ControlPath={path}")
    with box.session(grant.account, alice, options=shared) as master:
        until(path.exists, "the master is there")
        through = (f"ControlPath={path}",)
        assert box.logs_in(grant.account, own, through)  # it needs no key any more
        root.apply(Logins())
        master.wait(60)
    assert not box.logs_in(grant.account, own, through)
    assert not box.logs_in(grant.account, own)
    assert "rc-ran" not in [path.name for path in (box.folder / "homes" / grant.account).iterdir()]


def through(box: Box, account: str, key: Path) -> bytes:
    """What comes back through a login's tunnel to the sshd itself, which is the first to speak."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    forward = (f"LocalForward={port} 127.0.0.1:{box.port}", "ExitOnForwardFailure=yes")
    command = box.command(account, key, "cat", options=forward)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as session:
        try:
            until(lambda: connects(port), "the login's own end of the tunnel is open")
            return answer(port)
        finally:
            session.kill()


def connects(port: int) -> bool:
    """Whether anybody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def answer(port: int) -> bytes:
    """What is said first there; nothing where the connection is ended instead."""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 30) as end:
        return end.recv(100)
    return b""


def test_forwarding_and_other_channels_are_closed(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    admin = box.folder / "clients" / "admin"
    assert through(box, "root", admin).startswith(
        b"SSH-2.0-"
    )  # the owner's works: there is something to be had
    assert through(box, grant.account, alice) == b""
    forward = ["-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:9"]
    refused = box.command(grant.account, alice, "true")
    done = subprocess.run([refused[0], *forward, *refused[1:]], capture_output=True, text=True)
    assert done.returncode == 255
    assert "forwarding failed" in done.stderr


def test_sshd_ends_a_grant_by_itself(box: Box, root: AccessRoot) -> None:
    """No agent runs here at all after the first call: the line's own end is enough."""
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    keys = box.where.folder / "keys" / grant.account
    line = keys.read_text()
    assert line.startswith(f'restrict,pty,expiry-time="20961002070640Z" {grant.key.split()[0]} '), line
    for end, comes_in in (("+1 hour", True), ("-1 second", False), ("+1 hour", True), ("+2 seconds", False)):
        asked = ["date", "-u", "-d", end, "+%Y%m%d%H%M%SZ"]
        moment = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
        keys.write_text(line.replace("20961002070640Z", moment))
        until(lambda: box.logs_in(grant.account, alice) == comes_in, f"sshd goes by {end}", 60)  # noqa: B023


def test_a_look_ends_the_sessions_of_a_grant_that_is_over(box: Box) -> None:
    moment = [1000.0]
    root = AccessRoot(box.where, lambda: moment[0])
    alice = box.key("alice")
    grant = box.grant("alice", alice, until=sshd.FAR)
    root.apply(Logins(grants=(grant,)))
    with box.session(grant.account, alice) as session:
        assert root.look().grants == [1]
        moment[0] = sshd.FAR
        assert (
            AccessRoot(box.where, lambda: moment[0]).look().grants == []
        )  # a new start knows it from its file
        assert root.look().grants == []
        assert session.wait(60) == 255
    assert processes_of(grant.uid) == []


def test_a_login_that_was_granted_again_in_time_goes_on_with_its_sessions(box: Box) -> None:
    moment = [1000.0]
    root = AccessRoot(box.where, lambda: moment[0])
    alice = box.key("alice")
    first, second = box.grant("alice", alice, until=2000.0), box.grant("alice", alice, until=sshd.FAR)
    second = replace(second, grant_id=2)
    root.apply(Logins(grants=(first, second)))
    assert box.logs_in(first.account, alice)  # sshd passes over the line that has ended by its own clock
    with box.session(first.account, alice) as session:
        moment[0] = 3000.0
        assert root.look().grants == [2]
        assert session.poll() is None
        assert processes_of(first.uid) != []
        assert root.apply(Logins()).grants == []
        session.wait(60)
    assert not box.logs_in(first.account, alice)


def test_somebody_elses_account_is_left_alone(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    subprocess.run(["useradd", "--uid", "71999", "--no-create-home", grant.account], check=True)
    report = root.apply(Logins(grants=(grant,)))
    assert report.grants == []
    assert "was not made by the fleet" in report.problem
    assert Accounts(box.where.places).ours() == {}


BROKEN = "Match Group nobody\n    NoSuchOption yes\n"
HARMFUL = "AllowUsers nobody-at-all\n"


@pytest.mark.parametrize(("text", "said"), [(BROKEN, "NoSuchOption|nosuchoption"), (HARMFUL, "allowusers")])
def test_a_broken_drop_in_is_rolled_back_and_the_owner_still_gets_in(
    box: Box, root: AccessRoot, text: str, said: str
) -> None:
    alice, admin = box.key("alice"), box.folder / "clients" / "admin"
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    before = box.where.sshd.drop_in.read_text()
    with pytest.raises(SshdProblem, match=said):
        box.where.sshd.install(text)
    assert box.where.sshd.drop_in.read_text() == before
    assert box.logs_in("root", admin)
    assert box.logs_in(grant.account, alice)


@dataclass(frozen=True)
class Unlucky(Sshd):
    """Its files go bad between the check, which sees nothing, and the reload, which the daemon does not survive."""

    def reload(self) -> None:
        if self.drop_in.exists():
            self.drop_in.write_text("NoSuchOption yes\n")
            os.kill(int((self.config.parent / "pid").read_text()), signal.SIGHUP)
            until(lambda: not self._answers_now(), "sshd has gone down")
            raise SshdProblem("sshd does not answer")
        super().reload()

    def _answers_now(self) -> bool:
        port = self.config.read_text().split("Port ")[1].split()[0]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), timeout=1):
            return True
        return False


def test_an_sshd_that_goes_down_at_the_reload_is_started_again_without_the_drop_in(box: Box) -> None:
    unlucky = Unlucky(config=box.config, drop_in=box.where.sshd.drop_in)
    with pytest.raises(SshdProblem):
        unlucky.install("# nothing\n")
    assert not box.where.sshd.drop_in.exists()
    assert box.logs_in("root", box.folder / "clients" / "admin")


def test_a_configuration_that_is_broken_without_us_is_left_as_it_is(box: Box, root: AccessRoot) -> None:
    grant = box.grant("alice", box.key("alice"))
    box.config.write_text(box.config.read_text() + "NoSuchOption yes\n")
    report = root.apply(Logins(grants=(grant,)))
    assert report.grants == []
    assert "broken without us" in report.problem
    assert not box.where.sshd.drop_in.exists()
    assert box.logs_in("root", box.folder / "clients" / "admin")


def test_without_the_include_line_nobody_is_let_in_and_the_report_says_what_is_missing(box: Box) -> None:
    text = box.config.read_text()
    box.config.write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith("Include")) + "\n"
    )
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    report = AccessRoot(box.where).apply(Logins(grants=(grant,)))
    assert report.grants == []
    assert "Include" in report.problem
    assert not Accounts(box.where.places).is_open(grant.account)


@pytest.mark.parametrize(
    ("line", "lets"),
    [
        ("AllowUsers root tf-*", True),
        ("AllowUsers root admin-*", False),
        (f"AllowGroups root {sshd.GROUP}", True),
        ("AllowGroups root admin-*", False),
        ("DenyUsers tf-*", False),
        ("DenyUsers mallory-*", True),
        (f"DenyGroups {sshd.GROUP}", False),
    ],
)
def test_the_node_says_of_a_login_that_sshd_would_refuse_what_keeps_it_out(
    box: Box, root: AccessRoot, line: str, lets: bool
) -> None:
    box.config.write_text(f"{box.config.read_text()}{line}\n")
    box.where.sshd.reload()
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    report = root.apply(Logins(grants=(grant,)))
    assert (report.grants == [1], report.problem == "") == (lets, lets), report.problem
    assert lets or line.split()[0].lower() in report.problem
    assert box.logs_in(grant.account, alice) == lets


def test_a_host_that_is_not_the_node_is_refused_without_a_question(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    (host_key,) = root.apply(Logins(grants=(grant,))).host_keys
    (box.folder / "told").write_text(f"[127.0.0.1]:{box.port} {host_key}\n")
    told = (f"UserKnownHostsFile={box.folder / 'told'}",)
    assert box.logs_in(grant.account, alice, told)
    for kept in ("host_key", "host_key.pub"):
        (box.folder / kept).unlink()
    box.key("../host_key")  # somebody else answers at the same address
    box.where.sshd.reload()
    done = box.ssh(grant.account, alice, "true", options=told)
    assert done.returncode == 255
    assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in done.stderr


def authority(box: Box, *, days: int = 1) -> Path:
    """An SSH certificate authority."""
    return box.key("ca")


def signed(box: Box, key: Path, *options: str) -> None:
    """A certificate for a key, beside it."""
    ca = box.folder / "clients" / "ca"
    subprocess.run(
        ["ssh-keygen", "-q", "-s", str(ca), "-I", "a", *options, f"{key}.pub"],
        check=True,
        capture_output=True,
    )


def test_a_certificate_counts_for_its_own_grant_until_that_ends(box: Box, root: AccessRoot) -> None:
    alice, other = box.key("alice"), box.key("other")
    ca = authority(box).with_name("ca.pub").read_text()
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,), user_ca=ca))
    signed(box, other, "-n", "grant-9", "-V", "+1h")
    assert not box.logs_in(grant.account, other)
    signed(box, other, "-n", "grant-1", "-V", "+1h")
    assert box.logs_in(grant.account, other)
    assert root.apply(Logins(user_ca=ca)).grants == []
    assert not box.logs_in(grant.account, other)


def revocation(box: Box, *serials: int) -> bytes:
    """A key revocation list of certificates' serials."""
    what, made = box.folder / "serials", box.folder / "made.krl"
    what.write_text("".join(f"serial: {serial}\n" for serial in serials))
    ca = box.folder / "clients" / "ca.pub"
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(made), "-s", str(ca), str(what)], check=True)
    return made.read_bytes()


def test_a_revocation_list_revokes_and_one_that_is_cut_off_is_not_used(box: Box, root: AccessRoot) -> None:
    alice, first, second = box.key("alice"), box.key("first"), box.key("second")
    ca = authority(box).with_name("ca.pub").read_text()
    grant = box.grant("alice", alice)
    signed(box, first, "-n", "grant-1", "-V", "+1h", "-z", "1")
    signed(box, second, "-n", "grant-1", "-V", "+1h", "-z", "2")
    whole = revocation(box, 1)
    wanted = Logins(grants=(grant,), user_ca=ca, revoked=base64.b64encode(whole).decode())
    assert root.apply(wanted).problem == ""
    assert not box.logs_in(grant.account, first)
    assert box.logs_in(grant.account, second)
    for bad in (whole[:-3], b"", b"rubbish"):
        report = root.apply(replace(wanted, revoked=base64.b64encode(bad).decode()))
        assert "revocation list" in report.problem
        assert report.grants == [1]
        assert box.logs_in(grant.account, second)
        assert not box.logs_in(grant.account, first)


def test_the_hosts_certificate_stands_for_its_key(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    ca = authority(box).with_name("ca.pub").read_text()
    grant = box.grant("alice", alice)
    signed(box, box.folder / "host_key", "-h", "-n", "tiny1", "-V", "+1d")
    line = " ".join((box.folder / "host_key-cert.pub").read_text().split()[:2])
    assert root.apply(Logins(grants=(grant,), host_certificate=line)).certified
    (box.folder / "told").write_text(f"@cert-authority tiny1 {ca}")
    told = (f"UserKnownHostsFile={box.folder / 'told'}", "HostKeyAlias=tiny1")
    assert box.logs_in(grant.account, alice, told)
    assert box.ssh(grant.account, alice, "true", options=(told[0], "HostKeyAlias=tiny2")).returncode == 255


@pytest.mark.timeout(200)
def test_neither_cron_nor_at_nor_linger_bring_anybody_back(box: Box, root: AccessRoot) -> None:
    """Two people plant the same; one of them is revoked, the other shows that what was planted works."""
    need("crontab", install="cron")
    need("at", install="at")
    alice, bob = box.key("alice"), box.key("bob")
    gone, stays = box.grant("alice", alice, 1), box.grant("bob", bob, 2)
    root.apply(
        Logins(
            grants=(
                gone,
                stays,
            )
        )
    )
    dies_with_us = ["setpriv", "--pdeathsig", "KILL", "--"]
    cron = subprocess.Popen(
        [*dies_with_us, "cron", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    at = subprocess.Popen([*dies_with_us, "atd", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    linger = Path("/var/lib/systemd/linger")
    linger.mkdir(parents=True, exist_ok=True)
    try:
        for grant, key in ((gone, alice), (stays, bob)):
            plant = "echo '* * * * * touch by-cron' | crontab - && echo touch by-at | at -M now + 1 minute"
            done = box.ssh(grant.account, key, plant)
            assert done.returncode == 0, done.stderr
            (linger / grant.account).touch()
        root.apply(Logins(grants=(stays,)))
        assert not Accounts(box.where.places).has_leftovers(gone.account, gone.uid)
        assert not (linger / gone.account).exists()
        kept = box.folder / "homes" / stays.account
        until(lambda: {"by-cron", "by-at"} <= {path.name for path in kept.iterdir()}, "bob's have run", 140)
        lost = {path.name for path in (box.folder / "homes" / gone.account).iterdir()}
        assert not lost & {"by-cron", "by-at"}
    finally:
        for daemon in (cron, at):
            daemon.terminate()
            daemon.wait(10)
        (linger / stays.account).unlink(missing_ok=True)


def test_turning_logins_off_closes_every_account_and_gives_sshd_back(box: Box, root: AccessRoot) -> None:
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    root.apply(Logins(grants=(grant,)))
    assert box.logs_in(grant.account, alice)
    turn_off(box.folder, box.where)
    assert not box.logs_in(grant.account, alice)
    assert not box.where.sshd.drop_in.exists()
    assert box.logs_in("root", box.folder / "clients" / "admin")


def test_a_login_works_whatever_the_umask_of_roots_part(box: Box, root: AccessRoot) -> None:
    """sshd reads an account's keys as that account: a folder of root's alone would let nobody in."""
    alice = box.key("alice")
    grant = box.grant("alice", alice)
    before = os.umask(0o077)
    try:
        root.apply(Logins(grants=(grant,)))
    finally:
        os.umask(before)
    assert box.logs_in(grant.account, alice)
