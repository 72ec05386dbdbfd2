"""How exposed this machine is, from what its files and tools say. Pure: text or bytes in, findings out."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence

from fleet.agents.findings import Finding

# What images ship with; the account's own name is tried besides.
DEFAULT_PASSWORDS = ("tiny", "password", "admin", "root", "ubuntu", "changeme", "123456")
# Servers that run what they are sent on the GPU, and ask nobody who they are unless told to.
REMOTE_GPU_PORTS = {
    6667: "tinygrad's remote device",
    8308: "rCUDA",
    14833: "SCUDA",
    50052: "llama.cpp's rpc-server",
    8786: "a Dask scheduler",
    10001: "Ray's client server",
    8265: "Ray's dashboard, which starts jobs",
    8888: "Jupyter",
    11434: "Ollama",
    2375: "Docker without TLS",
}
_LISTEN = "0A"
_CAPABILITIES = {
    1: "cap_dac_override",
    2: "cap_dac_read_search",
    6: "cap_setgid",
    7: "cap_setuid",
    12: "cap_net_admin",
    13: "cap_net_raw",
    16: "cap_sys_module",
    19: "cap_sys_ptrace",
    21: "cap_sys_admin",
}
_SSHD_OPTIONS = {  # option → what it should not be, and why
    "passwordauthentication": ("yes", "passwords are accepted: PasswordAuthentication no"),
    "permitemptypasswords": ("yes", "empty passwords are accepted: PermitEmptyPasswords no"),
    "permitrootlogin": ("yes", "root may log in with a password: PermitRootLogin prohibit-password"),
    "kbdinteractiveauthentication": ("yes", "passwords are asked for: KbdInteractiveAuthentication no"),
}
_OLDEST_SSHD = (9, 0)
_MOST_OFF_S = 5.0


def sudoers(texts: Mapping[str, str]) -> Finding:
    """Who becomes root without a password, from sudoers files by path. Continued lines are joined, comments left out."""
    free = []
    for path, text in texts.items():
        for line in text.replace("\\\n", " ").splitlines():
            rule = line.split("#", 1)[0].strip()
            if rule and (
                re.search(r"\bNOPASSWD\s*:", rule) or re.match(r"Defaults\b.*!authenticate\b", rule)
            ):
                free.append(f"{rule.split()[0]} ({path})")
    if free:
        return Finding(
            "sudo", "weak", f"root without a password: {_several(free)}", "remove NOPASSWD from sudoers"
        )
    return Finding("sudo", "ok", "asks for a password")


def shadow(text: str, matches: Callable[[str, str], bool]) -> Finding:
    """Accounts without a password or with one that images ship with. `matches(password, hash)` is crypt's word."""
    bad = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        hashed = rest.split(":", 1)[0]
        if not name or hashed.startswith(("!", "*")):
            continue
        if not hashed:
            bad.append(f"{name} has none")
        elif any(matches(guess, hashed) for guess in (name, *DEFAULT_PASSWORDS)):
            bad.append(f"{name} has a default one")
    if bad:
        return Finding("passwords", "weak", _several(bad), "passwd NAME, or passwd --lock NAME")
    return Finding("passwords", "ok", "no account has none or a default one")


def file_capabilities(attribute: bytes) -> tuple[str, ...]:
    """The permitted capabilities in an extended attribute security.capability, by name or number; empty for none."""
    if len(attribute) < 12:
        return ()
    revision = struct.unpack_from("<I", attribute)[0] >> 24
    words = [struct.unpack_from("<I", attribute, 4)[0]]
    if revision >= 2 and len(attribute) >= 20:
        words.append(struct.unpack_from("<I", attribute, 12)[0])
    bits = sum(word << (32 * place) for place, word in enumerate(words))
    return tuple(_CAPABILITIES.get(bit, f"cap_{bit}") for bit in range(64) if bits >> bit & 1)


def interpreters(attributes: Mapping[str, bytes]) -> Finding:
    """Interpreters with file capabilities: whoever runs one has them, whatever the script. By path, the attribute."""
    found = [
        f"{path} ({', '.join(names)})"
        for path, attribute in attributes.items()
        if (names := file_capabilities(attribute))
    ]
    if found:
        return Finding("interpreters", "weak", f"with capabilities: {_several(found)}", "setcap -r FILE")
    return Finding("interpreters", "ok", "without file capabilities")


def listeners(tables: Iterable[str]) -> list[tuple[str, int]]:
    """(address in hex, port) of every listening TCP socket that others can reach, from /proc/net/tcp and tcp6."""
    found = []
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 3 and fields[3] == _LISTEN:
                address, _, port = fields[1].partition(":")
                if not _is_loopback(address):
                    found.append((address, int(port, 16)))
    return found


def _is_loopback(address: str) -> bool:
    """Of an address as the kernel prints it: words of 4 bytes, each in the machine's (little-endian) order."""
    if len(address) == 8:
        return address.endswith("7F")
    return address == "0" * 24 + "01000000" or (address[:24].endswith("FFFF0000") and address.endswith("7F"))


def remote_gpu_servers(tables: Iterable[str]) -> Finding:
    """Servers that give a GPU, or the machine, to whoever connects."""
    here = sorted({port for _, port in listeners(tables)} & REMOTE_GPU_PORTS.keys())
    if here:
        found = _several([f"{port} ({REMOTE_GPU_PORTS[port]})" for port in here])
        return Finding(
            "open servers",
            "weak",
            f"reachable by others on port {found}",
            "stop it, or let it listen on 127.0.0.1",
        )
    return Finding("open servers", "ok", "none of the known ones listens beyond this machine")


def sshd_version(banner: str) -> Finding:
    """From `sshd -V` or `ssh -V`: OpenSSH_9.2p1 Debian-2+deb12u3, OpenSSL 3.0.15 …"""
    match = re.search(r"OpenSSH_(\d+)\.(\d+)\S*", banner)
    if match is None:
        return Finding("sshd", "ok", "no OpenSSH")
    version = (int(match[1]), int(match[2]))
    said = match[0].replace("_", " ")
    if version < _OLDEST_SSHD:
        return Finding("sshd", "weak", f"{said} is old", "apt-get install --only-upgrade openssh-server")
    return Finding("sshd", "ok", said)


def sshd_options(effective: str) -> Finding:
    """From `sshd -T`, the options that are in force."""
    options = dict(line.lower().partition(" ")[::2] for line in effective.splitlines())
    wrong = [why for name, (value, why) in _SSHD_OPTIONS.items() if options.get(name, "").strip() == value]
    if wrong:
        return Finding(
            "sshd options", "weak", "; ".join(wrong), "change it in sshd_config, then sshd -t && reload"
        )
    return Finding("sshd options", "ok", "keys only")


def clock(offset_s: float | None, synchronised: bool) -> Finding:
    """How far this clock is from the server's, where a server was asked, and whether anything keeps it right."""
    fix = "let chrony or systemd-timesyncd run"
    if offset_s is not None and abs(offset_s) > _MOST_OFF_S:
        return Finding("clock", "weak", f"{offset_s:+.0f} s from the control plane's", fix)
    beside = "" if offset_s is None else ", within 5 s of the control plane's"
    if not synchronised:
        return Finding("clock", "weak", f"nothing keeps it right{beside}", fix)
    return Finding("clock", "ok", f"synchronised{beside}")


def state_folder(path: str, modes: Mapping[str, int], owned: bool) -> Finding:
    """Who can read the agent's files: their modes by name, '' for the folder itself."""
    if not modes:
        return Finding("state folder", "ok", f"{path} is not there yet")
    wide = [f"{name or path} is {mode & 0o777:o}" for name, mode in modes.items() if mode & 0o077]
    if wide:
        return Finding("state folder", "weak", _several(wide), f"chmod -R go= {path}")
    if not owned:
        return Finding(
            "state folder", "weak", f"{path} is another user's", "chown -R it, or choose another --state"
        )
    return Finding("state folder", "ok", f"{path} is its owner's alone")


def unread(subject: str, why: str) -> Finding:
    """What could not be looked at is said, not skipped."""
    return Finding(subject, "weak", f"could not be looked at: {why}", "run the doctor as root")


def _several(found: Sequence[str]) -> str:
    rest = f", and {len(found) - 4} more" if len(found) > 4 else ""
    return ", ".join(found[:4]) + rest
