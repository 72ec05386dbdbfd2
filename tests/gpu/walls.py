"""`python3 tests/gpu/walls.py`: CUDA inside the walls, on a machine with an NVIDIA GPU. Needs Python alone.

With the leased GPU's device nodes a kernel gives the right answer; without them, or with another GPU's only, it cannot have
that GPU. nvcc and PyTorch, where they are, are tried inside too. Prints each wall that the machine lacks. Exit status 1 when
anything is not as it should be.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fleet.agents.walls import gpu, known_answer
from fleet.agents.walls.bubblewrap import Enclosure
from fleet.agents.walls.cell import Cell
from fleet.agents.walls.groups import prefix_of
from fleet.agents.walls.machine import Survey, enter_namespaces, needed, survey
from fleet.agents.walls.policy import Ceilings, Policy
from fleet.agents.walls.ways import open_ways
from tests.forked import in_fork
from tests.gpu.doubling import answer

DOUBLING = Path(__file__).with_name("doubling.py")
CU = """
#include <cstdio>
__global__ void twice(int *v) { v[threadIdx.x] *= 2; }
int main() {
  int *v, host[32];
  for (int i = 0; i < 32; i++) host[i] = i;
  if (cudaMalloc(&v, sizeof host)) return 1;
  cudaMemcpy(v, host, sizeof host, cudaMemcpyHostToDevice);
  twice<<<1, 32>>>(v);
  if (cudaMemcpy(host, v, sizeof host, cudaMemcpyDeviceToHost)) return 1;
  for (int i = 0; i < 32; i++) if (host[i] != 2 * i) return 2;
  puts("right");
}
"""
TORCH = "import torch; x = torch.arange(9, device='cuda') * 2; assert x.sum().item() == 72; print('right')"


def program(command: list[str], source: str = "") -> Callable[[], dict[str, Any]]:
    """Something to run inside that prints "right"."""

    def run() -> dict[str, Any]:
        if source:
            Path("check.cu").write_text(source)
            subprocess.run(
                [command[0], "-o", "check", "check.cu"], check=True, capture_output=True, text=True
            )
        done = subprocess.run(["./check"] if source else command, capture_output=True, text=True)
        return {"right": done.stdout.strip() == "right", "said": (done.stdout + done.stderr)[-600:]}

    return run


def inside(
    state: Path,
    walls: Survey,
    number: int | None,
    act: Callable[[], dict[str, Any]] | list[str],
    ceilings: Ceilings = Ceilings(),  # noqa: B008 - frozen
) -> dict[str, Any]:
    """What `act` returns inside the walls of an attempt that has this GPU, or {"error"}; "killed" for want of memory.

    A list is a command, and runs in bubblewrap as a job's does: what it prints, as JSON.
    """
    folder = state / "attempts"
    folder.mkdir(mode=0o711, exist_ok=True)
    work = folder / "1-1" / "work"
    (work / "tmp").mkdir(parents=True)
    folder.chmod(0o711)
    (folder / "1-1").chmod(0o711)
    work.chmod(0o700)
    cell = Cell(walls, prefix_of(state))
    cell.reserve()
    leased = () if number is None else (number,)
    shutil.copy(DOUBLING, work)
    wrapped = isinstance(act, list)
    cell.fit(Policy(programs=True, gpus=leased, ceilings=ceilings, wrapped=wrapped), work)
    read, write = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.environ.update({"HOME": str(work), "TMPDIR": str(work / "tmp")})
        os.chdir(work)
        try:
            cell.enter(supervisor)
            found = in_bubblewrap(cell.enclosure, act) if isinstance(act, list) else act()
        except subprocess.CalledProcessError as error:
            found = {"error": f"{error}: {error.stderr}"[-600:]}
        except Exception as error:  # noqa: BLE001 - the top of a process
            found = {"error": f"{type(error).__name__}: {error}"}
        os.write(write, json.dumps(found).encode())
        os._exit(0)
    cell.step_out()
    os.close(write)
    os.waitpid(pid, 0)  # what it says fits into the pipe; what it leaves behind holds the other end open
    cell.kill(cell.survivors())
    with os.fdopen(read, "rb") as pipe:
        said = pipe.read()
    left = gone_or_left(cell)
    killed = cell.out_of_memory()
    cell.demolish()
    shutil.rmtree(folder)
    found = json.loads(said) if said else {"error": "it ended without a word"}
    return found | ({"left": left} if left else {}) | ({"killed": True} if killed else {})


def in_bubblewrap(enclosure: Enclosure | None, command: list[str]) -> dict[str, Any]:
    """What a command prints there, as JSON, or {"error"} with all that it printed."""
    assert enclosure is not None
    nothing = os.open(os.devnull, os.O_RDONLY)
    with os.fdopen(os.memfd_create("said"), "w+b") as said:
        enclosure.run(command, os.environ, (nothing, said.fileno(), said.fileno()))
        status = enclosure.wait()
        said.seek(0)
        text = said.read().decode(errors="replace")
    if status != 0:
        return {"error": f"exit status {status}: {text[-600:]}"}
    return dict(json.loads(text))


def gone_or_left(cell: Cell) -> list[int]:
    """Pids that are still there two seconds after they were killed."""
    give_up = time.monotonic() + 2
    while (left := cell.survivors()) and time.monotonic() < give_up:
        time.sleep(0.01)
    return left


def outside() -> dict[str, Any]:
    """The same without walls, in a fork: a process that has used CUDA cannot fork another that does."""
    return in_fork(answer)


def epilogs(numbers: list[int], before: int | None) -> list[tuple[str, dict[str, Any], bool]]:
    """What the end of an attempt asks of every GPU, how long that takes, and three planted faults that it must see."""
    found: list[tuple[str, dict[str, Any], bool]] = []
    for number in numbers:
        started = time.monotonic()
        problem = gpu.Epilog(number, before if number == numbers[0] else None).problem()
        said = {"problem": problem, "seconds": round(time.monotonic() - started, 3)}
        found.append(
            (f"gpu{number} afterwards: no holder, memory as before, known answer", said, not problem)
        )
    first = numbers[0]
    with open(f"/dev/nvidia{first}", "rb"):
        problem = gpu.Epilog(first, before).problem()
    found.append(("a holder is seen", {"problem": problem}, "held by" in problem))
    problem = gpu.Epilog(first, before, wrongly).problem()
    found.append(("a wrong answer is seen", {"problem": problem}, "known answers are wrong" in problem))
    problem = gpu.Epilog(first, -(1 << 40)).problem()
    found.append(("memory in use is seen", {"problem": problem}, "bytes in use" in problem))
    return found


def wrongly(number: int) -> dict[str, Any]:
    """The known answer of a GPU that takes one step too few."""
    known_answer._PTX = known_answer._PTX.replace(b"%round, 0;", b"%round, 1;")
    return gpu.examine(number)


def refused(said: dict[str, Any]) -> bool:
    """Whether CUDA has said so itself."""
    return bool(re.search(r"\bcu\w+ answers [1-9]", str(said.get("error"))))


def of_commands(state: Path, walls: Survey, numbers: list[int]) -> list[tuple[str, dict[str, Any], bool]]:
    """The same of a command in bubblewrap, which has /dev and /proc of its own."""
    command = [sys.executable, DOUBLING.name]
    found = []
    for number in numbers:
        said = inside(state, walls, number, command)
        right = said.get("right") is True and said["gpus"] == 1
        found.append((f"a command in bubblewrap, with the nodes of gpu{number}: right, one GPU", said, right))
    for name, absent in (("without any node", None), ("with all but a GPU's node", max(numbers) + 1)):
        said = inside(state, walls, absent, command)
        found.append((f"a command in bubblewrap, {name}: no GPU", said, refused(said)))
    looking = f"for n in $(seq 0 {max(numbers)}); do test -e /dev/nvidia$n && printf '%s ' $n; done"
    said = inside(state, walls, numbers[0], ["sh", "-c", f"""printf '{{"seen": "%s"}}' "$({looking})\""""])
    name = f"a command in bubblewrap finds the node of gpu{numbers[0]} alone, of {len(numbers)}"
    found.append((name, said, said.get("seen", "").split() == [str(numbers[0])]))
    return found


def main() -> int:
    """Try everything; 1 when something is not as it should be."""
    numbers = gpu.present()
    if not numbers:
        print("no /dev/nvidiaN here: this check needs an NVIDIA GPU")
        return 1
    state = Path(tempfile.mkdtemp(prefix="state-"))
    state.chmod(0o711)
    walls = survey(state, "all")
    for wall in walls.walls:
        print(f"wall {wall.name:<12}{wall.state:<9}{wall.detail}{'; ' + wall.fix if wall.fix else ''}")
    if walls.has("uid"):
        open_ways(needed(state))
    enter_namespaces(walls, state)
    first, others = numbers[0], numbers[1:]
    before = gpu.used_bytes(first)
    bare = outside()
    checks: list[tuple[str, dict[str, Any], bool]] = [
        ("without walls, the GPU answers rightly", bare, bool(bare.get("right")))
    ]
    leased = inside(state, walls, first, answer)
    checks.append(
        (
            f"inside, with the nodes of gpu{first}: right, and one GPU seen",
            leased,
            leased.get("right") is True and leased["gpus"] == 1,
        )
    )
    none = inside(state, walls, None, answer)
    checks.append(("inside, without any node: no GPU", none, refused(none)))
    absent = inside(state, walls, max(numbers) + 1, answer)
    checks.append(("inside, with all that CUDA needs but a GPU's node: no GPU", absent, refused(absent)))
    if others:
        other = inside(state, walls, others[0], answer)
        checks.append((f"inside, with the nodes of gpu{others[0]}: one GPU", other, other.get("gpus") == 1))
    if walls.has("bubblewrap"):
        checks += of_commands(state, walls, numbers)
    compiler = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if compiler:
        built = inside(state, walls, first, program([compiler], CU))
        checks.append(("nvcc compiles inside, and its program is right", built, built.get("right") is True))
    else:
        print("nvcc is not here: compiling inside was not tried")
    torch = [sys.executable, "-c", TORCH]
    if subprocess.run([sys.executable, "-c", "import torch"], capture_output=True).returncode == 0:
        with_torch = inside(state, walls, first, program(torch))
        checks.append(("PyTorch works inside", with_torch, with_torch.get("right") is True))
        without = inside(state, walls, None, program(torch))
        checks.append(("PyTorch without nodes finds no GPU", without, without.get("right") is not True))
    else:
        print("PyTorch is not here: it was not tried inside")
    checks += epilogs(numbers, before)
    for name, found, good in checks:
        print(f"{'ok  ' if good else 'BAD '} {name}: {json.dumps(found)}")
    lacking = ", ".join(wall.name for wall in walls.lacking())
    print(f"walls that this machine lacks: {lacking or 'none'}")
    return 0 if all(good for _, _, good in checks) else 1


if __name__ == "__main__":
    sys.exit(main())
