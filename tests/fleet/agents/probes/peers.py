"""Real far ends of protocols: a BMC over IPMI and over Redfish, a PDU over SNMP. Each lives as long as its block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fleet.agents.conftest import until
from tests.parts import need

DCMI = Path(__file__).with_name("ipmi_dcmi.c")
LAN = """
name "box"
loadlib "{module}" ""
set_working_mc 0x20
  startlan 1
    addr 127.0.0.1 {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user none md2 md5 straight
    allowed_auths_operator none md2 md5 straight
    allowed_auths_admin none md2 md5 straight
    guid a123456789abcdefa123456789abcdef
  endlan
  user 2 true "reader" "secret" admin 10 none md2 md5 straight
"""
BMC = """mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
mc_enable 0x20
"""


def script(name: str, package: str) -> str:
    """A program that a Python package brings."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which(name, path=path)
    if found is not None:
        return found
    reason = f"{name} is missing: pip install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def bmc(folder: Path, *, measures: bool = True) -> Iterator[int]:
    """OpenIPMI's simulator of a BMC on a port of UDP; one that `measures` knows DCMI."""
    simulator, compiler = need("ipmi_sim", install="openipmi"), need("cc", "gcc", "clang", install="gcc")
    need("ipmitool", install="ipmitool")
    folder.mkdir()
    module = folder / "dcmi.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-w", "-o", str(module), str(DCMI)], check=True)
    port = free_port(socket.SOCK_DGRAM)
    lan = LAN.format(module=module, port=port)
    (folder / "lan.conf").write_text(
        lan if measures else "\n".join(x for x in lan.splitlines() if "loadlib" not in x)
    )
    (folder / "box.emu").write_text(BMC)
    command = [simulator, "-c", "lan.conf", "-f", "box.emu", "-n", "-s", str(folder)]
    with _running(command, folder) as process:
        until(lambda: process.poll() is not None or f":{port:04X} " in Path("/proc/net/udp").read_text())
        assert process.poll() is None, (folder / "log").read_text()
        yield port


@contextmanager
def redfish(folder: Path) -> Iterator[str]:
    """OpenStack's static Redfish server over the files in `folder`; its URL."""
    server = script("sushy-static", "sushy-tools")
    need("curl", install="curl")
    port = free_port(socket.SOCK_STREAM)
    with _running([server, "-i", "127.0.0.1", "-p", str(port), "-m", str(folder)], folder):
        until(lambda: _listens(port))
        yield f"http://127.0.0.1:{port}"


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def pdu(folder: Path, records: str, community: str = "rack3") -> Iterator[int]:
    """An SNMP agent that answers from records (`OID|type|value` a line), to this community alone; its port of UDP."""
    server = script("snmpsim-command-responder", "snmpsim pysmi")
    data = folder / "data"
    data.mkdir(parents=True)
    (data / f"{community}.snmprec").write_text(records)
    port = free_port(socket.SOCK_DGRAM)
    command = [server, f"--data-dir={data}", f"--cache-dir={folder / 'cache'}", "--logging-method=stderr"]
    command += [f"--agent-udpv4-endpoint=127.0.0.1:{port}"]
    command += ["--process-user=root", "--process-group=root"] if os.getuid() == 0 else []
    with _running(command, folder) as process:
        until(lambda: process.poll() is not None or f":{port:04X} " in Path("/proc/net/udp").read_text())
        assert process.poll() is None, (folder / "log").read_text()
        yield port
