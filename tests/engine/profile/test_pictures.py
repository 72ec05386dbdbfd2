"""Three numbers: which is the greatest for which work, and what is said to bind it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.device.cpu import Cpu
from engine.kernel import Kernel
from engine.options import Options
from engine.profile import record
from engine.profile.calibration import measure
from engine.profile.counts import Counts
from engine.profile.lines import lines
from engine.profile.peaks import Peaks, keep, load
from engine.profile.picture import Bound, Picture, picture
from engine.profile.traffic import Traffic
from engine.programs import program, random_inputs
from engine.target import processor_target

GIGA = 1e9
PEAKS = Peaks(
    threads=1,
    read_bytes_per_s=10 * GIGA,
    copy_bytes_per_s=16 * GIGA,
    sram_bytes_per_s=100 * GIGA,
    l2_bytes_per_s=50 * GIGA,
    float32_per_s=200 * GIGA,
    float64_per_s=100 * GIGA,
    cache_bytes=1 << 20,
    dram_array_bytes=1 << 30,
    launch_s=1e-6,
)


def counted(read: float = 0, written: float = 0, sram: float = 0, **widths: float) -> Counts:
    return Counts(Traffic(read, written), sram, {int(width[1:]): number for width, number in widths.items()})


def test_a_kernel_at_a_peak_has_all_of_it() -> None:
    assert picture(counted(read=10 * GIGA), 1.0, 0.0, PEAKS) == Picture(1.0, 0.0, 0.0, Bound.DRAM)
    copied = picture(counted(read=8 * GIGA, written=8 * GIGA), 1.0, 0.0, PEAKS)
    assert copied.dram == pytest.approx(1.0)
    assert picture(counted(sram=100 * GIGA), 1.0, 0.0, PEAKS) == Picture(0.0, 1.0, 0.0, Bound.SRAM)
    mixed = picture(counted(w4=100 * GIGA, w8=50 * GIGA), 1.0, 0.0, PEAKS)
    assert mixed == Picture(0.0, 0.0, 1.0, Bound.ALU)
    assert picture(counted(w1=800 * GIGA), 1.0, 0.0, PEAKS).alu == 1.0


def test_what_reaches_no_peak_waits_for_something_else() -> None:
    assert (
        picture(counted(read=3 * GIGA, sram=30 * GIGA, w4=30 * GIGA), 1.0, 0.0, PEAKS).bound is Bound.LATENCY
    )


def test_a_short_kernel_is_bound_by_its_launch() -> None:
    assert picture(counted(read=20000), 2e-6, 1e-6, PEAKS).bound is Bound.LAUNCH
    assert picture(counted(read=200000), 2e-5, 1e-5, PEAKS).bound is Bound.DRAM
    assert (
        picture(counted(read=20000), 2e-6, 1e-7, PEAKS).bound is Bound.DRAM
    )  # one after the other, in a list


def test_more_than_dram_gives_comes_from_the_cache() -> None:
    assert picture(counted(read=20 * GIGA, sram=20 * GIGA), 1.0, 0.0, PEAKS).bound is Bound.CACHE
    assert picture(counted(read=20 * GIGA, sram=80 * GIGA), 1.0, 0.0, PEAKS).bound is Bound.SRAM


def test_writing_is_free_where_copying_is_twice_as_fast_as_reading() -> None:
    counts = counted(read=GIGA, written=GIGA)
    duplex = Peaks(1, 10 * GIGA, 25 * GIGA, GIGA, GIGA, GIGA, GIGA, 1, 1, 1e-6)
    assert duplex.dram_s(counts) == pytest.approx(0.1)


def test_more_threads_can_do_what_fewer_can() -> None:
    disturbed = replace(
        PEAKS, threads=2, float32_per_s=150 * GIGA, sram_bytes_per_s=190 * GIGA, launch_s=2e-6
    )
    raised = disturbed.at_least(PEAKS)
    assert raised == replace(disturbed, float32_per_s=200 * GIGA)


def test_peaks_are_kept_by_target_and_version(tmp_path: Path) -> None:
    target = processor_target()
    assert load(tmp_path, target) == {}
    path = keep(tmp_path, target, {1: PEAKS})
    assert load(tmp_path, target) == {1: PEAKS}
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    assert load(tmp_path, target) == {}
    path.write_text("{")
    assert load(tmp_path, target) == {}


def test_a_product_a_matvec_and_a_copy_give_three_pictures(tmp_path: Path) -> None:
    options = Options(cache=tmp_path, threads=1)
    steps: list[int] = []
    peaks = measure(1, lambda done, what: steps.append(done), options, dram_bytes=128 << 20)
    assert steps == list(range(9))
    device = Cpu("LLVM", options)
    works = {
        "product": program("gemm", [512, 512, 512]),
        "matvec": program("gemm", [4096, 1, 4096]),
        "copy": program("copy", [4096, 4096]),
    }
    inputs = {name: random_inputs(kernel, 0) for name, kernel in works.items()}
    with record() as events:
        for _ in range(3):
            for name, kernel in works.items():
                device.run(kernel, inputs[name])
    found = {line.subject.kernel: line for line in lines(events, {1: peaks})}

    def seen(kernel: Kernel) -> Picture:
        line = found[kernel]
        assert line.calls == 3
        assert line.picture is not None
        return line.picture

    product, matvec, copy = (seen(works[name]) for name in ("product", "matvec", "copy"))
    assert product.alu > max(product.sram, product.dram)
    assert matvec.dram > matvec.sram > matvec.alu > 0
    assert copy.dram > copy.sram > 0
    assert copy.alu == 0
    assert product.alu > matvec.alu
