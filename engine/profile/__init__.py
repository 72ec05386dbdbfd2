"""The profiler: which kernels ran, for how long, and how near each was to what this machine can do.

`with record() as events:` watches a block; `python -m engine profile script.py` a script. Every kernel's picture is
three percentages of calibrated peaks: DRAM, SRAM (the caches nearest to the core) and ALU; see docs/profiler.md.
"""

from engine.profile.recording import Event, Recording, Runs, record

__all__ = ["Event", "Recording", "Runs", "record"]
