"""What one attempt is put in. Its supervisor builds it and ends it, its task enters it and never comes out."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from fleet.agents.processes import MARKER
from fleet.agents.walls import calls, gpu, landlock, seccomp
from fleet.agents.walls.bubblewrap import SHM, Enclosure, View, namespaces
from fleet.agents.walls.groups import Group, own_group
from fleet.agents.walls.landlock import EXECUTE, IOCTL, LIST, OWN, READ, WRITE, Rule
from fleet.agents.walls.machine import Survey, code
from fleet.agents.walls.policy import Policy
from fleet.agents.walls.slots import Slot, processes_of, sweep, threads_of
from fleet.agents.walls.traces import Traces
from fleet.agents.walls.users import enter_users

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt/rocm")
_READABLE = ("/proc", "/sys", "/etc/alternatives", "/etc/ld.so.conf.d", "/etc/OpenCL")
_FILES = ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime", "/etc/os-release")
# How names are resolved and servers believed.
_NAMES = (
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/ssl",
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_EMPTY_S = 5.0


class Unbuildable(Exception):
    """A wall that is meant cannot be raised for this attempt; the machine's fault."""


class Cell:
    """The walls round one attempt. What takes long is reserved ahead; then the attempt's policy and folder are fitted in."""

    def __init__(self, survey: Survey, prefix: str) -> None:
        self._survey = survey
        self._prefix = prefix  # of the names of groups
        self._policy = Policy(programs=False)
        self._slot: Slot | None = None
        self._group: Group | None = None
        self._home: Group | None = None  # where the supervisor was before it went into the group
        self._reserved = False
        self._ruleset = -1
        self._filter = b""
        self._clean = False
        self._guest = False
        self._host_task = 0
        self._state = Path()  # of the agent
        self._view: View | None = None  # of the program that runs in bubblewrap
        self._first = 0
        self.enclosure: Enclosure | None = None  # in the task, once it has entered

    @property
    def shut(self) -> bool:
        """Whether the attempt cannot write outside its own folder."""
        return self._survey.has("landlock") or self._survey.has("uid")

    @property
    def guest(self) -> bool:
        """Whether it is another attempt's, whose program can keep what is needed from it."""
        return self._guest

    @property
    def traces(self) -> Traces:
        """Where it is to be found."""
        slot, group = self._slot, self._group
        if self._guest:  # what is found there is its host's, to which it leaves no trace of its own
            return Traces()
        return Traces(slot.uid if slot else None, str(group.path) if group else None)

    def wraps(self, policy: Policy) -> bool:
        """Whether what this policy is for runs in bubblewrap here."""
        return policy.wrapped and not policy.container and self._survey.has("bubblewrap")

    # ------------------------------------------------------------------------------- in the supervisor

    def reserve(self) -> None:
        """Take a user and make a group, and go into it: what is forked then is in it from the start. Unbuildable.

        Moving a process into a group takes milliseconds, which the attempt need not wait for. Again it does nothing.
        """
        if not self._reserved:
            self._each(("uid", self._take_slot), ("cgroup", self._make_group))
        self._reserved = True

    def visit(self, host: Traces, task: int = 0, first: int = 0) -> None:
        """Be the host's cell from now on: its user and its group, which are its own to end. Before `fit`. `task`: its pid,
        where it has a container to enter; `first`: that of the first process in its bubblewrap."""
        self._host_task, self._first = task, first
        self.step_out()
        self._clean = True
        self.demolish()
        self._guest, self._reserved = True, True
        self._slot = None if host.uid is None else Slot(host.uid, -1)
        self._group = None if host.group is None else Group(Path(host.group))

    def fit(self, policy: Policy, work: Path) -> None:
        """Round the attempt whose folder `work` is the only one that it may write to. Unbuildable names the wall."""
        if self._survey.mode == "required" and self._survey.lacking():
            lack = "; ".join(f"{wall.name} ({wall.detail})" for wall in self._survey.lacking())
            self.step_out()
            self.demolish()
            raise Unbuildable(f"--walls required, and this machine lacks {lack}")
        self._policy = policy
        if not self._guest:
            self._each(("uid", lambda: self._give(work)), ("memory", self._limit_group))
        self._state = work.parent.parent.parent
        if policy.container:
            return
        self._each(
            ("landlock", lambda: self._build_landlock(work)),
            ("seccomp", self._build_seccomp),
        )
        if self.wraps(policy) and (self._first or not self._guest):
            self._view = View(
                rules=tuple(self._rules(work)),
                work=work,
                network=policy.network,
                group=None if self._group is None else self._group.path,
                landlock=self._ruleset >= 0,
                code=self._filter,
            )

    def _each(self, *walls: tuple[str, Callable[[], None]]) -> None:
        for name, build in walls:
            try:
                if self._survey.has(name):
                    build()
            except Exception as error:
                with contextlib.suppress(OSError):
                    self.step_out()
                self.demolish()
                raise Unbuildable(f"the wall {name} could not be raised: {error}") from error

    def step_out(self) -> None:
        """The supervisor leaves the group; the task that it has forked stays. OSError, and then there is no group."""
        home, self._home = self._home, None
        if home is not None:
            try:
                home.join()
            except OSError:
                self._group = None
                raise

    def _take_slot(self) -> None:
        self._slot = Slot.take()

    def _give(self, work: Path) -> None:
        assert self._slot is not None
        for folder, folders, files in os.walk(work):
            for name in ("", *folders, *files):
                os.chown(Path(folder, name), self._slot.uid, self._slot.uid, follow_symlinks=False)

    def _make_group(self) -> None:
        home = own_group()
        assert self._survey.parent_group is not None
        assert home is not None
        group = Group.make(self._survey.parent_group, f"{self._prefix}{os.getpid()}")
        if not group.wait_empty(_EMPTY_S):
            raise OSError(f"{group.path} has processes that do not end")
        group.join()
        self._group, self._home = group, Group(home)

    def _limit_group(self) -> None:
        if self._group is not None:
            self._group.limit(self._memory_bytes(), self._policy.ceilings.processes)

    def _memory_bytes(self) -> int:
        return self._policy.ceilings.memory_bytes or gpu.memory_of_machine() * 9 // 10

    def _build_landlock(self, work: Path) -> None:
        self._ruleset = landlock.ruleset(self._rules(work), tcp=not self._policy.network)

    def _rules(self, work: Path) -> list[Rule]:
        run = EXECUTE if self._policy.programs else 0
        rules = [Rule(Path(path), READ | LIST | run) for path in _SYSTEM]
        rules += [Rule(path, READ | LIST | run) for path in code()]
        rules += [Rule(path.parent, LIST) for path in code() if path.name == "engine"]
        rules += [Rule(Path(path), READ | LIST) for path in (*_READABLE, *_FILES)]
        rules += [Rule(Path(path), READ | WRITE | landlock.TRUNCATE) for path in _DEVICES]
        rules += [Rule(path, READ | LIST | run) for path in self._policy.readable]
        rules += [Rule(Path(path), READ | LIST) for path in _NAMES if self._policy.network]
        if self._policy.gpus:
            paths = dict.fromkeys(path for number in self._policy.gpus for path in gpu.nodes(number))
            rules += [Rule(path, READ | WRITE | IOCTL) for path in paths]
            # CUDA names its threads by writing to their /proc/PID/task/TID/comm, and does not start where it cannot.
            rules.append(Rule(Path("/proc"), READ | LIST | WRITE | landlock.TRUNCATE))
        return [*rules, Rule(work, OWN | run)]

    def _build_seccomp(self) -> None:
        column = calls.column()
        assert column is not None
        self._filter = seccomp.assembled(
            seccomp.program(
                column,
                sockets=bool(self._policy.gpus),
                network=self._policy.network,
                system_v=self._survey.has("namespaces"),
            )
        )

    # ------------------------------------------------------------------------------------- in the task

    def give(self, descriptors: Iterable[int]) -> None:
        """Have the attempt's user own these, so that its programs may open them by name, as /dev/stdout. OSError."""
        if self._slot is not None:
            for descriptor in descriptors:
                os.fchown(descriptor, self._slot.uid, self._slot.uid)

    def enter(self, supervisor: int) -> None:
        """Raise the walls round this process, in the order in which each is still allowed. OSError when one fails."""
        calls.prctl(calls.PR_SET_DUMPABLE, 1)  # else its own files in /proc are root's
        if self._guest and self._group is not None:
            self._group.join()
        visits = self._view is not None and self._guest
        host = namespaces(self._first, network=self._policy.network) if visits else []
        if self._policy.network:
            self._enter_network()
        if self._survey.has("namespaces"):
            # One of its own: what it leaves in shared memory would outlive it, and be open to the next.
            calls.unshare(calls.CLONE_NEWIPC)
        if self._survey.has("limits"):
            self._limit()
        if self._slot is not None:
            os.setgroups([])
            os.setresgid(self._slot.uid, self._slot.uid, self._slot.uid)
            os.setresuid(self._slot.uid, self._slot.uid, self._slot.uid)
            calls.prctl(calls.PR_SET_DUMPABLE, 1)
        if self._survey.has("rights"):
            calls.give_up_capabilities()
            os.umask(0o077)
        if self._survey.has("rights") or self._ruleset >= 0 or self._filter:
            calls.prctl(calls.PR_SET_NO_NEW_PRIVS, 1)
        if self._view is not None:
            self.enclosure = self._wrap(self._view, host)
        if self._ruleset >= 0:
            landlock.restrict(self._ruleset)
        if self._filter:
            calls.filter_calls(self._filter)
        if self._policy.container:
            calls.prctl(calls.PR_SET_DUMPABLE, 1)
            enter_users(self._state, self._host_task)
        # A process that changed its user, or lost rights, is not told of its parent's death any more.
        calls.prctl(calls.PR_SET_DUMPABLE, 1)
        calls.prctl(calls.PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != supervisor:
            os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(self, view: View, host: Sequence[tuple[int, int]]) -> Enclosure:
        if not host:
            (view.work / SHM).mkdir(mode=0o700, exist_ok=True)
        marks = {MARKER: os.environ[MARKER]} if MARKER in os.environ else {}
        return Enclosure.begin(view, marks, host)

    def _enter_network(self) -> None:
        if self._survey.network < 0:
            raise OSError(errno.EPERM, "this node lets no command reach the network: --job-network")
        if self._survey.has("namespaces"):
            calls.enter_network(self._survey.network)

    def _limit(self) -> None:
        """Before the uid changes: root may lower a limit below what another user has in use."""
        ceilings = self._policy.ceilings
        limits = {
            resource.RLIMIT_NOFILE: ceilings.open_files,
            resource.RLIMIT_FSIZE: ceilings.file_bytes,
            resource.RLIMIT_NPROC: self._processes(),
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_RTPRIO: 0,
            resource.RLIMIT_NICE: 0,
        }
        if not self._policy.gpus:  # drivers of GPUs reserve far more addresses than they use
            limits[resource.RLIMIT_AS] = self._memory_bytes()
        for kind, value in limits.items():
            most = resource.getrlimit(kind)[1]
            lower = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (lower, lower))

    def _processes(self) -> int:
        """The limit counts all threads of a user: a user of its own has none yet, the agent's may have many."""
        if self._slot is not None:
            return self._policy.ceilings.processes
        return threads_of(os.getuid()) + self._policy.ceilings.processes

    # ------------------------------------------------------------------- in the supervisor, afterwards

    def kill(self, seen: Sequence[int] = ()) -> None:
        """End everything that is inside, whatever it has done to hide; `seen` is what `survivors` has found there.

        A guest's processes are known to its supervisor, their reaper, and the rest are its host's.
        """
        if self._guest:
            return
        if self._group is not None:
            self._group.kill()
        if self._slot is not None and seen:
            sweep(self._slot.uid)

    def survivors(self) -> list[int]:
        """Pids of what is inside still."""
        if self._guest:
            return []
        inside = self._group.members() if self._group is not None else []
        left = inside + (processes_of(self._slot.uid) if self._slot is not None else [])
        self._clean = not left
        return left

    def out_of_memory(self) -> bool:
        """Whether the kernel has ended something inside for want of memory."""
        return not self._guest and self._group is not None and self._group.out_of_memory() > 0

    def demolish(self) -> None:
        """What was built is no more. Only when nothing is inside."""
        if self._guest:
            self._group = self._slot = None
        if self._group is not None:
            self._group.wait_empty(_EMPTY_S)
            self._group.remove()
        if self._slot is not None:
            self._slot.release(empty=self._clean)
        if self._ruleset >= 0:
            os.close(self._ruleset)
        self._group, self._slot, self._ruleset = None, None, -1
