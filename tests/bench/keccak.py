"""SHA3-256 by the engine against hashlib: one message, and many at once.

`python -m tests.bench.keccak [--bytes 1048576] [--messages 256] [--seconds 1]`. Whole calls: padding, kernels, and bytes back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Sequence
from random import SystemRandom

from rich.table import Table

from engine import hash
from tests.bench.racing import Ratio, in_process, load, race, show, verdict

NAME = "sha3_256"
REACH = {1: 1.0, 0: 4.0}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bytes", type=int, default=1 << 20, help="of all messages together")
    parser.add_argument("--messages", type=int, default=256, help="of the batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of timing, for each row and peer")
    options = parser.parse_args(arguments)
    os.environ["THREADS"] = "1"
    table = Table(
        "messages",
        "bytes of each",
        "MB/s",
        "of hashlib",
        "reach",
        title="SHA3-256, one thread; medians / bests",
    )
    for count, reach in ((1, 1.0), (options.messages, 4.0)):
        length = options.bytes // count
        messages = [SystemRandom().randbytes(length) for _ in range(count)]
        wanted = [hashlib.sha3_256(each).digest() for each in messages]
        assert hash.digests(NAME, messages) == wanted, "the engine's hashes are wrong; nothing was timed"
        ours = in_process("engine", lambda messages=messages: hash.digests(NAME, messages))
        theirs = in_process(
            "hashlib", lambda messages=messages: [hashlib.sha3_256(m).digest() for m in messages]
        )
        times = race([ours, theirs], options.seconds)
        found = Ratio.of(times["engine"], times["hashlib"])
        rate = f"{options.bytes / times['engine'].median_s / 1e6:.0f} / {options.bytes / times['engine'].best_s / 1e6:.0f}"
        table.add_row(str(count), str(length), rate, str(found), verdict(found, reach))
    table.caption = load()
    show(table)


if __name__ == "__main__":
    main()
