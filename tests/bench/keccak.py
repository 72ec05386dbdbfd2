"""SHA3-256 by the engine against hashlib: one message, and many at once.

`python -m tests.bench.keccak [--bytes 1048576] [--messages 1,8,256] [--seconds 1]`. Tensors hashed by a function that
engine.jit replays, and whole calls with bytes, which write the graph down anew each time.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence

import numpy as np
from rich.table import Table

from engine import hash, jit
from engine.tensor import Tensor
from tests.bench.racing import Ratio, Times, in_process, race, shown, verdict

NAME = "sha3_256"
ALONE_REACH, BATCH_REACH = 1.0, 4.0
ALONE_BINDS = "25 words of state in 16 registers, where hashlib's assembly is laid out by hand"
BATCH_BINDS = "bringing the messages' words side by side takes half as long as hashing them"


def contest(count: int, length: int, seconds: float) -> dict[str, Times]:
    """`count` messages of so many random bytes, hashed by everybody: checked, then raced."""
    messages = [os.urandom(length) for _ in range(count)]
    rows = Tensor(np.frombuffer(b"".join(messages), np.uint8).reshape(count, length), device="CPU")
    replayed = jit(lambda x: hash.digest(NAME, x))
    wanted = [hashlib.sha3_256(each).digest() for each in messages]
    for _ in range(3):
        found = replayed(rows).numpy()
        assert [row.tobytes() for row in found] == wanted, "the engine's hashes are wrong; nothing was timed"
    assert hash.digests(NAME, messages) == wanted, "the engine's hashes are wrong; nothing was timed"
    racers = [
        in_process("replayed", lambda: replayed(rows)),
        in_process("whole", lambda: hash.digests(NAME, messages)),
        in_process("hashlib", lambda: [hashlib.sha3_256(each).digest() for each in messages]),
    ]
    return race(racers, seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 20, help="of all messages together")
    parser.add_argument("--messages", default="1,8,256")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    options = parser.parse_args(arguments)
    os.environ["THREADS"] = "1"
    columns = ("messages", "bytes of each", "MB/s", "of hashlib", "reach", "whole call, MB/s")
    table = Table(*columns, title="SHA3-256, one thread; medians / bests")
    with shown(table):
        for count in map(int, options.messages.split(",")):
            length = options.bytes // count
            times = contest(count, length, options.seconds)
            found = Ratio.of(times["replayed"], times["hashlib"])
            rates = [
                f"{options.bytes / times[name].median_s / 1e6:.0f} / {options.bytes / times[name].best_s / 1e6:.0f}"
                for name in ("replayed", "whole")
            ]
            reach = (ALONE_REACH, ALONE_BINDS) if count == 1 else (BATCH_REACH, BATCH_BINDS)
            reached = verdict(found, *reach)
            table.add_row(str(count), str(length), rates[0], str(found), reached, rates[1])


if __name__ == "__main__":
    main()
