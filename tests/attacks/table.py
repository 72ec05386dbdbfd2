"""docs/walls.md: every attack and the walls that stop it; and how many there are, in README.md.

`python -m tests.attacks.table` writes both.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.attacks.catalogue import (
    ATTACKS,
    BY_NAME,
    LETTERS,
    OWN_IN_BUBBLEWRAP,
    OWN_IN_CONTAINER,
    STOPPED_BY_BUBBLEWRAP,
)

PAGE = Path(__file__).parents[2] / "docs" / "walls.md"
README = PAGE.parents[1] / "README.md"
NEVER_OPEN = [entry.name for entry in BY_NAME.values() if not entry.stopped_by]
_COUNTED = re.compile(r"\d+(?= attacks stopped)")
HEAD = """\
# Walls round attempts

What a job runs is native code of people whom the node's owner does not know. Every attempt therefore runs inside the walls
below, compilers included; `tests/attacks` tries to get through them on every change. A wall that a machine lacks is reported
with the node (`tinyfleet node doctor`, `tinyfleet nodes show`), and such a node is trusted with less.

| wall | what it is | needs |
| --- | --- | --- |
| landlock | the attempt reads the system, Python and the engine, writes its own folder, and opens no TCP port; it neither signals nor traces what is outside | Linux 5.13 with Landlock; 6.12 for all of it |
| seccomp | calls that no attempt needs are refused: tracing, mounts, namespaces, bpf, perf, io_uring, keys, clocks, modules, sockets; without the wall of namespaces, shared memory of System V too | x86-64 or aarch64 |
| uid | a user of its own for each attempt at a time, that owns nothing else | an agent that runs as root |
| rights | no capabilities, none to gain from setuid programs | |
| limits | processes, open files, file sizes, address space (not with a GPU), no core files | |
| cgroup | all that the attempt started is killed at once, whatever it did to hide | cgroup 2, Linux 5.14 |
| memory | memory and processes of the attempt together are limited | cgroup 2 with the controllers delegated |
| namespaces | no network, own host name, every file system read-only but for the agent's folder, with root no processes of others to be seen: one set for all attempts of the node; an IPC namespace for each | root, or user namespaces; Linux 5.12 |
| bubblewrap | round commands without a container, inside of all the others: no files but those that may be opened, no processes but its own, a `/tmp` of its own | `bwrap` (`apt-get install bubblewrap`); user namespaces and a whole `/proc`; where the agent is root, the wall `uid` |

`tinyfleet agent --walls all` (the default) raises all that the machine has, `--walls required` starts nothing while one is
missing, `--walls none` is for a trusted node: its operator says so, and the node reports it. Names with commas raise only
those.

bubblewrap is round commands: a program of the job's owner that is executed
anyhow (containers have their own, other kinds run in a fork that is warm already). It sees no files but those that it may
open, no processes but its own and those of its guests, its control group as the root of all, and has a `/tmp`, a `/var/tmp`
and a `/dev/shm` of its own, which are in its folder; so Python's semaphores and shared memory work. Landlock and the filter
of calls are raised inside, round its first process, and Landlock once more round the program. It is tried when the agent starts, and is never started as root; where it does not work, as
in most containers, commands run inside the other walls, and the node says that it lacks this one.
`tests/attacks/test_bubblewrapped.py` tries every attack below from inside one, and bubblewrap alone.

Attempts of other kinds are not executed: bubblewrap adds some 35 ms to a program's start, and an attempt is forked from a warm
process in a few. So that process enters the namespaces once, for all of its forks, and an attempt pays nothing for them, but
for that of its own in which System V's shared memory, semaphores and queues end with it. What bubblewrap gives, and what
gives it without:

| bubblewrap | without | test |
| --- | --- | --- |
| no network, own host name | namespaces | `connect_to_loopback`, `send_datagram`, `abstract_socket`, `host_name` |
| own IPC | namespaces, one for each attempt | `take_shared_memory`, `test_shared_memory_ends_with_the_attempt_that_made_it` |
| a user namespace in which no other can be made | uid, rights, seccomp | `user_namespace`, `clone3_user_namespace`, `be_root`, `regain_capabilities` |
| everything read-only but for its folder, a `/tmp` of its own | namespaces and landlock; `TMPDIR` is in its folder | `write_shared_tmp`, `write_shm`, `change_agents_code` |
| nothing but what is named is there at all | landlock: nothing else can be opened or listed. **Not given:** that a file exists, how large it is and when it changed | `read_passwd`, `list_state`; `test_what_bubblewrap_would_hide_beside` |
| few devices | landlock: five, and those of the leased GPU | `read_disk`, `read_physical_memory`, `write_kernel_log`; `tests/gpu/walls.py` |
| no process of others to be seen or signalled | as root `/proc` without those of others (namespaces, uid), landlock for signals. **Not given** by an agent that is not root: command lines are seen | `signal_agent`, `read_environment`, `test_it_sees_no_processes_but_its_own`; `test_what_bubblewrap_would_hide_beside` |
| own view of control groups | **not given:** the name of its own group is seen; it cannot leave it | `leave_group`; `test_what_bubblewrap_would_hide_beside` |
| all dead with its first process | cgroup, else the reaper of its orphans | `test_daemons_that_hide_are_dead_when_the_attempt_is_said_to_have_ended` |
| a session of its own, so that nothing types into a terminal | seccomp | `type_into_terminal`, `paste_into_console` |
| no new privileges, no capabilities, a filter of calls | rights, seccomp | `rise_by_setuid_program`, `set_setuid_bit`, all under *Kernel* |

A command in a container has all of them, but for the name of its group.

Where root's home or a private temporary folder lies on the way to Python or to the attempts, that process also gets a view of
the files in which an empty folder lies there instead, with nothing in it but the way: an attempt's own user can then pass,
and finds nothing.

Beside the walls: an attempt whose files take more than half of what was free on the disk when it began, or that has
more than 200,000, is ended (`TINYFLEET_FOLDER_BYTES`, `TINYFLEET_FOLDER_FILES` of the agent; looked at every second, deleted
files that it holds open included); what an attempt prints is cut at a limit to the byte; artifacts are limited by count and by the bytes
that would be read of them, and only plain files under one name are kept; what a task says of its progress and its result
is believed only when it is JSON of a modest size and depth; an attempt that is told to end gets SIGTERM, and SIGKILL after its grace;
when it has ended, everything it started is dead, or the device counts as wedged. A GPU is wedged as well when a process
still holds it, when its memory is not given back, when the kernel's log has an error of it that wants a reset, and when it gives no right answer to a question of 262,144 threads whose
answer is known; a process that can be killed asks it, by the driver alone (NVIDIA's; others are not asked).

A node whose operator says `--job-network` lets commands that ask for it out of the network wall: into the machine's own
network, with TCP and UDP, as their own user; unix sockets, raw packets and netlink stay shut.

## In a container

A command with `--container` ([commands.md](commands.md#containers)) has these walls, by podman 4.3 with runc 1.1:

| wall | in a container |
| --- | --- |
| landlock | none: podman mounts, which Landlock forbids. In its place a mount namespace with nothing of the node in it but the attempt's own folder and its data sets, the image's files read-only, and namespaces of processes, users and the network of its own |
| seccomp | the same calls refused, by a filter that the runtime raises last; podman itself, before it, is without |
| uid | the same: root inside is the attempt's own user outside, in a user namespace in which there is nobody else |
| rights | no capabilities, also none to be had; no new privileges; nothing setuid is unpacked of an image |
| limits, cgroup, memory | the same, set before podman begins: it is inside of them |
| namespaces | the node's are round podman too; its own are in them |

`tests/attacks/test_contained.py` tries every attack of the table below from inside one, native code too, and again with the
network and as a guest (`exec`); it is skipped, by name, where podman, a runtime or catatonit is missing. What is not shown: an
agent that does not run as root (its container has been run by hand), GPUs, `crun`.

Not promised: that nobody gets through a hole in the kernel or in a GPU's driver, that attempts of one GPU learn nothing of
each other by timing, and anything at all from people with root.
An agent that does not run as root has no uid wall: then its attempts may move the agent to another core, and no more of
what is listed here; and they see the command lines of all that runs on the machine, as every user does.
Landlock does not hide that a file exists, how large it is and when it changed, from whoever may pass the folders on the way.

## Attacks, and the walls that stop each of them alone

{count} of them. Tried by an agent that runs as root; its attempts would be root without walls, and then every one of these gets
through, but for those whose aim the machine lacks (a kernel without `crypto` sockets, modules, `/dev/mem` or the like: fewer
than 20, eight where this was written) and for those that find nothing open without walls either ({never_open}).
bubblewrap alone is tried by an agent that runs as another user, to whom much is not open anyhow: it has a mark for
what is open to such a one without it, and "own" where the attack meets something of its own instead ({own_in_bubblewrap}),
as with all other walls round it, which stop the rest. In the last column all walls of a container together: "own" for
something of the container's own ({own}).
"""


def page() -> str:
    """The whole page."""
    walls = list(LETTERS.values())
    head = HEAD.replace("{count}", str(len(BY_NAME))).replace("{own}", _listed(OWN_IN_CONTAINER))
    head = head.replace("{never_open}", ", ".join(name.replace("_", " ") for name in NEVER_OPEN))
    lines = [head.replace("{own_in_bubblewrap}", _listed(OWN_IN_BUBBLEWRAP))]
    for chapter, entries in ATTACKS.items():
        lines += [
            f"### {chapter.capitalize()}\n",
            f"| attack | {' | '.join(walls)} | bubblewrap | in a container |",
            f"| --- {'| :-: ' * (len(walls) + 2)}|",
        ]
        for entry in entries:
            marks = ["✓" if letter in entry.stopped_by else "" for letter in LETTERS]
            alone = "✓" if entry.name in STOPPED_BY_BUBBLEWRAP else ""
            marks.append("own" if entry.name in OWN_IN_BUBBLEWRAP else alone)
            marks.append("own" if entry.name in OWN_IN_CONTAINER else "✓")
            lines.append(f"| {entry.name.replace('_', ' ')} | {' | '.join(marks)} |")
        lines.append("")
    return "\n".join(lines)


def _listed(own: dict[str, str]) -> str:
    return "; ".join(f"{name.replace('_', ' ')}: {what}" for name, what in own.items())


def counted(text: str) -> str:
    """The README's text with the number of attacks that there are. ValueError when it does not say any."""
    changed, places = _COUNTED.subn(str(len(BY_NAME)), text)
    if places != 1:
        raise ValueError(f"README.md says {places} times how many attacks are stopped")
    return changed


if __name__ == "__main__":
    PAGE.write_text(page())
    README.write_text(counted(README.read_text()))
