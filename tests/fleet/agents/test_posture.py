"""What the doctor says of a machine's posture, from recorded files and answers of tools."""

from __future__ import annotations

import ctypes
import ctypes.util
import struct
from pathlib import Path

import pytest

from fleet.agents import posture
from fleet.agents.posture_probes import _crypt, examine_posture

SUDOERS = """
# User rules: NOPASSWD: is only a comment here
Defaults\tenv_reset
root    ALL=(ALL:ALL) ALL
%sudo   ALL=(ALL:ALL) ALL
"""
TCP = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1A0B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0A00020F:1A0B 0A000202:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
"""
TCP6 = """  sl  local_address                         remote_address                        st tx_queue rx_queue
   0: 00000000000000000000000001000000:22B8 00000000000000000000000000000000:0000 0A 00000000:00000000
   1: 0000000000000000FFFF00000100007F:22B8 00000000000000000000000000000000:0000 0A 00000000:00000000
"""
SHADOW = "root:*:19000:0:99999:7:::\ndaemon:!:1::::::\ntiny:{}:19000:0:99999:7:::\n"


def test_who_becomes_root_without_a_password_is_named() -> None:
    assert posture.sudoers({"/etc/sudoers": SUDOERS}).verdict == "ok"
    tiny = {"/etc/sudoers": SUDOERS, "/etc/sudoers.d/90-tiny": "tiny ALL=(ALL) \\\n  NOPASSWD: ALL\n"}
    finding = posture.sudoers(tiny)
    assert (finding.verdict, "tiny (/etc/sudoers.d/90-tiny)" in finding.found) == ("weak", True)
    assert posture.sudoers({"a": "Defaults:tiny !authenticate\n"}).verdict == "weak"
    assert posture.sudoers({"a": "tiny ALL=(ALL) NOPASSWD:ALL # for now"}).verdict == "weak"
    assert posture.sudoers({"a": "tiny ALL=(ALL) PASSWD: ALL"}).verdict == "ok"


def test_default_and_empty_passwords_are_found_by_the_systems_own_crypt() -> None:
    crypt = _crypt()
    if crypt is None:
        pytest.skip("there is no libcrypt here")
    tiny = "$6$abcdefgh$"  # a salt; the hash of "tiny" with it follows
    hashed = _hash("tiny", tiny)
    assert posture.shadow(SHADOW.format(hashed), crypt).found == "tiny has a default one"
    assert posture.shadow(SHADOW.format(_hash("x9!kQ-7fal", tiny)), crypt).verdict == "ok"


def _hash(password: str, salt: str) -> str:
    function = ctypes.CDLL(ctypes.util.find_library("crypt") or "").crypt
    function.restype = ctypes.c_char_p
    found: bytes = function(password.encode(), salt.encode())
    return found.decode()


def test_an_account_without_a_password_is_named_and_locked_ones_are_not() -> None:
    never = posture.shadow(SHADOW.format(""), lambda _password, _hash: False)
    assert (never.verdict, never.found) == ("weak", "tiny has none")
    assert posture.shadow(SHADOW.format("!"), lambda _password, _hash: True).verdict == "ok"


@pytest.mark.parametrize(
    ("attribute", "names"),
    [
        (struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0), ("cap_setuid",)),
        (struct.pack("<6I", 0x03000001, 1 << 13 | 1 << 21, 0, 0, 0, 1000), ("cap_net_raw", "cap_sys_admin")),
        (struct.pack("<3I", 0x01000000, 1 << 1, 0), ("cap_dac_override",)),
        (struct.pack("<5I", 0x02000001, 0, 0, 1 << 8, 0), ("cap_40",)),
        (struct.pack("<5I", 0x02000000, 0, 1 << 7, 0, 0), ()),  # inheritable alone gives nothing
        (b"", ()),
        (b"\x01\x00", ()),
    ],
)
def test_file_capabilities_are_read_from_the_attribute(attribute: bytes, names: tuple[str, ...]) -> None:
    assert posture.file_capabilities(attribute) == names


def test_an_interpreter_with_capabilities_is_named() -> None:
    setuid = struct.pack("<5I", 0x02000001, 1 << 7, 0, 0, 0)
    finding = posture.interpreters({"/usr/bin/python3.11": setuid, "/usr/bin/perl": b""})
    assert (finding.verdict, finding.found) == (
        "weak",
        "with capabilities: /usr/bin/python3.11 (cap_setuid)",
    )
    assert posture.interpreters({}).verdict == "ok"


def test_a_remote_gpu_server_that_others_can_reach_is_named_and_one_on_loopback_is_not() -> None:
    assert posture.remote_gpu_servers([TCP, TCP6]).verdict == "ok"
    reachable = TCP.replace("0100007F:1A0B", "00000000:1A0B")
    finding = posture.remote_gpu_servers([reachable, TCP6])
    assert (finding.verdict, "6667 (tinygrad's remote device)" in finding.found) == ("weak", True)
    six = TCP6.replace("00000000000000000000000001000000:22B8", f"{'0' * 32}:22B8")
    assert "8888 (Jupyter)" in posture.remote_gpu_servers([six]).found
    assert posture.listeners([""]) == []


@pytest.mark.parametrize(
    ("banner", "verdict"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15 3 Sep 2024", "ok"),
        ("unknown option -- V\nOpenSSH_7.6p1 Ubuntu-4ubuntu0.3, OpenSSL 1.0.2n", "weak"),
        ("OpenSSH_10.0p2, OpenSSL 3.5.1", "ok"),
        ("", "ok"),
    ],
)
def test_an_old_sshd_is_told(banner: str, verdict: str) -> None:
    assert posture.sshd_version(banner).verdict == verdict


def test_what_sshd_accepts_is_judged_by_the_options_in_force() -> None:
    good = "port 22\npermitrootlogin without-password\npasswordauthentication no\npermitemptypasswords no\n"
    assert posture.sshd_options(good).verdict == "ok"
    bad = posture.sshd_options(good.replace("passwordauthentication no", "passwordauthentication yes"))
    assert (bad.verdict, "PasswordAuthentication no" in bad.found) == ("weak", True)


@pytest.mark.parametrize(
    ("offset_s", "synchronised", "verdict"),
    [
        (None, True, "ok"),
        (0.4, True, "ok"),
        (None, False, "weak"),
        (-75.0, True, "weak"),
        (0.4, False, "weak"),
    ],
)
def test_the_clock_is_judged_by_the_servers_and_by_what_keeps_it(
    offset_s: float | None, synchronised: bool, verdict: str
) -> None:
    assert posture.clock(offset_s, synchronised).verdict == verdict


def test_a_state_folder_that_others_can_read_is_told() -> None:
    assert posture.state_folder("/s", {}, True).verdict == "ok"
    assert posture.state_folder("/s", {"": 0o40700, "node.key": 0o100600}, True).verdict == "ok"
    wide = posture.state_folder("/s", {"": 0o40755, "node.key": 0o100640}, True)
    assert (wide.verdict, wide.found) == ("weak", "/s is 755, node.key is 640")
    assert posture.state_folder("/s", {"": 0o40700}, False).verdict == "weak"


def test_this_machine_can_be_examined_whoever_asks(tmp_path: Path) -> None:
    subjects = [finding.subject for finding in examine_posture(tmp_path)]
    assert {"sudo", "passwords", "interpreters", "open servers", "sshd", "clock", "state folder"} <= set(
        subjects
    )
    assert all(finding.fix for finding in examine_posture(tmp_path) if finding.verdict != "ok")
