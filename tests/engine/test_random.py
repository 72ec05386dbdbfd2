"""Random numbers: Threefry's bits against the published ones and a plain reference; what is made of them; statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from engine import dtype as dt
from engine import jit
from engine.build import const
from engine.device import canonical
from engine.dtype import DType
from engine.errors import DeviceError, InvalidGraph
from engine.generator import Generator
from engine.order import order
from engine.random import threefry
from engine.tensor import Tensor
from engine.term import Term

Array = np.ndarray[Any, np.dtype[Any]]
MASK = 0xFFFFFFFF


def reference(key: tuple[int, int], counter: Array) -> tuple[Array, Array]:
    """Threefry2x32-20 in plain NumPy: the two words for each 64-bit counter."""
    keys = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    x, y = (counter & MASK) + keys[0] & MASK, (counter >> 32) + keys[1] & MASK
    for i in range(20):
        x = x + y & MASK
        by = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        y = (y << by | y >> 32 - by) & MASK ^ x
        if i % 4 == 3:
            r = i // 4 + 1
            x, y = x + keys[r % 3] & MASK, y + keys[(r + 1) % 3] + r & MASK
    return x, y


def words(seed: int, n: int, used: int = 0) -> tuple[Array, Array]:
    return reference((seed & MASK, seed >> 32), np.arange(used, used + n).astype(np.uint64))


def word(value: int) -> Term:
    return Term(const(value, dt.uint32))


@pytest.mark.parametrize(
    ("key", "counter", "wanted"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((MASK, MASK), (MASK, MASK), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_published_words(
    key: tuple[int, int], counter: tuple[int, int], wanted: tuple[int, int]
) -> None:
    found = threefry((word(key[0]), word(key[1])), (word(counter[0]), word(counter[1])))
    assert tuple(Tensor._of(term.node, "INTERP").item() for term in found) == wanted
    plain = reference(key, np.array([counter[0] | counter[1] << 32], np.uint64))
    assert tuple(int(part[0]) for part in plain) == wanted


SEEDS = [0, 1, (1 << 64) - 1, 0x123456789ABCDEF]


@pytest.mark.parametrize("device", ["INTERP", "CPU"])
@pytest.mark.parametrize("seed", SEEDS)
def test_uniform_numbers_are_the_top_bits_of_the_words(seed: int, device: str) -> None:
    found = Tensor.rand(7, 11, seed=seed, device=device).numpy()
    first, _ = words(seed, 77)
    np.testing.assert_array_equal(found.ravel(), ((first >> 8) * 2.0**-24).astype(np.float32))


@pytest.mark.parametrize("device", ["INTERP", "CPU"])
def test_wide_uniform_numbers_have_53_bits(device: str) -> None:
    found = Tensor.rand(50, seed=5, dtype=dt.float64, device=device).numpy()
    first, second = words(5, 50)
    np.testing.assert_array_equal(found, (first << 32 | second) // 2**11 * 2.0**-53)


@pytest.mark.parametrize(("dtype", "digits"), [(dt.float16, 11), (dt.bfloat16, 8)])
def test_narrow_uniform_numbers_never_round_to_one(dtype: DType, digits: int) -> None:
    found = Tensor.rand(5000, seed=5, dtype=dtype, device="INTERP").numpy().astype(np.float64)
    np.testing.assert_array_equal(found, (words(5, 5000)[0] >> (32 - digits)) * 2.0**-digits)
    assert found.max() == 1 - 2.0**-digits


@pytest.mark.parametrize("device", ["INTERP", "CPU"])
def test_normal_numbers_are_within_four_units_of_box_and_muller(device: str) -> None:
    n = 20_000
    found = Tensor.randn(n, seed=9, device=device).numpy()
    first, second = words(9, n)
    radius = np.sqrt(-2 * np.log(((first >> 8) + 1) * 2.0**-24))
    exact = radius * _cosine(second.astype(np.int64), 32)
    assert _units(found, exact) <= 4


@pytest.mark.parametrize("device", ["INTERP", "CPU"])
def test_wide_normal_numbers_are_within_four_units_too(device: str) -> None:
    n = 5000
    found = Tensor.randn(n, seed=9, dtype=dt.float64, device=device).numpy()
    (a, b), (c, d) = words(9, n), words(9, n, n)
    radius = np.sqrt(-2 * np.log((((a << 32 | b) >> 11) + 1).astype(np.longdouble) * 2.0**-53))
    assert _units(found, radius * _cosine((c << 32 | d).astype(np.longdouble), 64)) <= 4


def _cosine(turns: Array, width: int) -> Array:
    """cos(2π t / 2**width), without losing digits where it is small."""
    t = turns.astype(np.longdouble) / np.longdouble(2) ** (width - 2)  # quarters
    quarter = np.rint(t)
    angle = (t - quarter) * (4 * np.arctan(np.longdouble(1))) / 2
    chosen = quarter.astype(np.int64) % 4
    found: Array = np.choose(chosen, [np.cos(angle), -np.sin(angle), -np.cos(angle), np.sin(angle)])
    return found


def _units(found: Array, exact: Array) -> float:
    unit = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.longdouble)
    return float(np.max(np.abs(found.astype(np.longdouble) - exact) / unit))


# ------------------------------------------------------------------------------------------- the stream


def test_two_draws_differ_and_the_same_seed_repeats_them() -> None:
    generator = Generator(4, "INTERP")
    first, second = (Tensor.rand(6, generator=generator, device="INTERP").tolist() for _ in range(2))
    assert first != second
    generator.manual_seed(4)
    again = [Tensor.rand(6, generator=generator, device="INTERP").tolist() for _ in range(2)]
    assert again == [first, second]


def test_one_draw_after_the_other_is_one_stream() -> None:
    generator = Generator(4, "INTERP")
    parts = [Tensor.rand(n, generator=generator, device="INTERP").tolist() for n in (2, 0, 3)]
    assert [x for part in parts for x in part] == Tensor.rand(5, seed=4, device="INTERP").tolist()


def test_what_was_drawn_lazily_keeps_its_place_in_the_stream() -> None:
    generator = Generator(4, "INTERP")
    one, two = (Tensor.rand(2, generator=generator, device="INTERP") for _ in range(2))
    wanted = Tensor.rand(4, seed=4, device="INTERP").tolist()
    assert two.tolist() + one.tolist() == wanted[2:] + wanted[:2]


def test_manual_seed_restarts_the_generators_there_are_and_will_be() -> None:
    Tensor.manual_seed(77)
    first = Tensor.rand(3, device="INTERP").tolist(), Tensor.randn(3, device="INTERP").tolist()
    Tensor.manual_seed(77)
    assert (Tensor.rand(3, device="INTERP").tolist(), Tensor.randn(3, device="INTERP").tolist()) == first


def test_generators_without_a_seed_differ() -> None:
    draws = [Tensor.rand(3, generator=Generator(device="INTERP"), device="INTERP").tolist() for _ in range(2)]
    assert draws[0] != draws[1]


def test_draws_of_one_shape_are_one_kernel_whatever_the_seed() -> None:
    draws = [
        Tensor.rand(3, 4, device="INTERP"),
        Tensor.rand(3, 4, device="INTERP"),
        Tensor.rand(3, 4, seed=1, device="INTERP"),
    ]
    kernels = {step.kernel for draw in draws for step in order([draw.node])}
    assert len(kernels) == 1


def test_a_replayed_function_draws_on() -> None:
    generator = Generator(8, "INTERP")

    @jit
    def draw() -> tuple[Tensor, Tensor]:
        first = Tensor.rand(2, generator=generator, device="INTERP")
        return first, Tensor.rand(2, generator=generator, device="INTERP")

    found = [part.tolist() for _ in range(5) for part in draw()]
    after = Tensor.rand(2, generator=generator, device="INTERP").tolist()
    stream = Tensor.rand(11, 2, seed=8, device="INTERP").tolist()
    assert [*found, after] == stream


def test_drawing_on_the_device_that_computes_nothing_moves_on() -> None:
    generator = Generator(8, "NULL")

    @jit
    def draw() -> Tensor:
        return Tensor.rand(2, generator=generator, device="NULL")

    for _ in range(4):
        assert draw().shape == (2,)
    assert Tensor.rand(2, generator=generator, device="NULL").realize().shape == (2,)


# ------------------------------------------------------------------------------------- other numbers


RANGES = [
    (0, 10, dt.int64),
    (-5, 6, dt.int8),
    (0, 1, dt.int32),
    (0, 256, dt.uint8),
    (0, 1 << 32, dt.uint32),
    (-3, (1 << 32) - 2, dt.int64),
    (-(1 << 63), 1 << 63, dt.int64),
    (-(1 << 62) - 3, 1 << 62, dt.int64),
    (5, (1 << 64) - 7, dt.uint64),
]


@pytest.mark.parametrize(("low", "high", "dtype"), RANGES)
def test_integers_are_a_random_fraction_of_the_choices_rounded_down(
    low: int, high: int, dtype: DType
) -> None:
    n = 40
    found = Tensor.randint(n, low=low, high=high, dtype=dtype, seed=3, device="INTERP").tolist()
    parts = [*words(3, n), *words(3, n, n)]
    a, b, c, d = ([int(x) for x in part] for part in parts)
    narrow = [low + ((high - low) * (x << 32 | y) >> 64) for x, y in zip(a, b, strict=True)]
    wide = [
        low + ((high - low) * (x << 96 | y << 64 | z << 32 | w) >> 128)
        for x, y, z, w in zip(a, b, c, d, strict=True)
    ]
    assert found == (narrow if high - low <= 1 << 32 else wide)


@pytest.mark.parametrize(
    ("low", "high", "dtype"), [(0, 0, dt.int64), (0, 257, dt.uint8), (-1, 2, dt.uint8), (0, 2, dt.float32)]
)
def test_integers_that_the_dtype_cannot_hold_are_refused(low: int, high: int, dtype: DType) -> None:
    with pytest.raises(InvalidGraph, match=r"cannot choose from"):
        Tensor.randint(3, low=low, high=high, dtype=dtype)


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_a_random_order_has_each_number_once(n: int) -> None:
    found = Tensor.randperm(n, seed=6, device="INTERP").tolist()
    first, second = words(6, n)
    assert found == np.argsort(first << 32 | second, kind="stable").tolist()
    assert sorted(found) == list(range(n))


def test_dropout_zeroes_some_and_lifts_the_others() -> None:
    x = Tensor(np.arange(1, 4001, dtype=np.float32), device="INTERP")
    found = x.dropout(0.25, seed=1).numpy()
    kept = found != 0
    np.testing.assert_array_equal(found[kept], (x.numpy() * np.float32(1 / 0.75))[kept])
    assert abs(kept.mean() - 0.75) < 0.03
    assert x.dropout(0.25, training=False) is x
    assert x.dropout(1.0).numpy().max() == 0


def test_dropout_keeps_no_nan_of_what_it_drops() -> None:
    assert Tensor([np.nan, np.inf], dt.float32, device="INTERP").dropout(1.0).tolist() == [0.0, 0.0]


def test_bernoulli_is_one_as_often_as_it_is_told() -> None:
    found = Tensor([[0.0], [0.3], [1.0]], device="INTERP").expand(3, 5000).bernoulli(seed=2).numpy()
    assert set(np.unique(found)) == {0.0, 1.0}
    np.testing.assert_allclose(found.mean(1), [0, 0.3, 1], atol=0.02)
    assert found[0].max() == 0
    assert found[2].min() == 1


def test_choices_with_replacement_are_in_proportion_to_the_weights() -> None:
    weights = Tensor([[1.0, 0.0, 3.0, 4.0], [0.0, 0.0, 5.0, 0.0]], device="INTERP")
    found = weights.multinomial(4000, replacement=True, seed=1).numpy()
    counts = np.array([np.bincount(row, minlength=4) for row in found]) / 4000
    np.testing.assert_allclose(counts, [[0.125, 0, 0.375, 0.5], [0, 0, 1, 0]], atol=0.03)


def test_choices_without_replacement_are_all_different_and_weightless_ones_come_last() -> None:
    weights = Tensor([[1.0, 0.0, 3.0, 4.0]], device="INTERP").expand(2000, 4)
    found = weights.multinomial(4, seed=1).numpy()
    assert (np.sort(found, 1) == np.arange(4)).all()
    assert (found[:, 3] == 1).all()
    np.testing.assert_allclose(
        np.bincount(found[:, 0], minlength=4) / 2000, [0.125, 0, 0.375, 0.5], atol=0.04
    )


@pytest.mark.parametrize(
    ("make", "bound", "deviation"),
    [
        (Tensor.kaiming_uniform, (6 / (1.0001 * 60)) ** 0.5, (2 / (1.0001 * 60)) ** 0.5),
        (Tensor.kaiming_normal, None, (2 / (1.0001 * 60)) ** 0.5),
        (Tensor.xavier_uniform, (6 / (60 + 400)) ** 0.5, (2 / (60 + 400)) ** 0.5),
        (Tensor.glorot_normal, None, (2 / (60 + 400)) ** 0.5),
    ],
)
def test_weights_have_the_spread_that_their_inputs_and_outputs_ask_for(
    make: Callable[..., Tensor], bound: float | None, deviation: float
) -> None:
    found = make(100, 15, 2, 2, seed=1, device="INTERP", requires_grad=True)
    assert found.requires_grad
    values = found.numpy()
    assert abs(values.std() / deviation - 1) < 0.05
    assert bound is None or 0.95 * bound < np.abs(values).max() <= bound


def test_numbers_like_a_tensor_have_its_shape_dtype_and_device() -> None:
    x = Tensor.zeros(2, 3, dtype=dt.float64, device="INTERP")
    for found in (x.rand_like(), x.randn_like(seed=3)):
        assert (found.shape, found.dtype, found.device) == ((2, 3), dt.float64, "INTERP")
    assert x.randint_like(0, 5, dtype=dt.uint8).dtype is dt.uint8


def test_uniform_and_normal_take_their_limits_and_moments() -> None:
    low = Tensor.uniform(4000, low=-3, high=-1, seed=1, device="INTERP").numpy()
    assert -3 <= low.min() < -2.9
    assert -1.1 < low.max() <= -1
    normal = Tensor.normal(4000, mean=5, std=0.5, seed=1, device="INTERP").numpy()
    assert abs(normal.mean() - 5) < 0.03
    assert abs(normal.std() - 0.5) < 0.02


def test_what_does_not_fit_is_refused_at_the_call() -> None:
    with pytest.raises(InvalidGraph, match="random numbers of int64"):
        Tensor.rand(3, dtype=dt.int64)
    with pytest.raises(TypeError, match="unexpected argument 'sed'"):
        Tensor.rand(3, sed=4)
    with pytest.raises(DeviceError, match="a generator of INTERP for a tensor on CPU"):
        Tensor.rand(3, generator=Generator(1, "INTERP"), device="CPU")
    with pytest.raises(InvalidGraph, match=r"probability 1\.5"):
        Tensor.zeros(3).dropout(1.5)
    with pytest.raises(InvalidGraph, match="without replacement"):
        Tensor.ones(3).multinomial(4)
    with pytest.raises(InvalidGraph, match="at least the axes"):
        Tensor.kaiming_uniform(3)
    assert canonical("INTERP") == "INTERP"


# ----------------------------------------------------------------------------------------- statistics


def test_uniform_numbers_have_the_moments_and_bytes_of_uniform_ones() -> None:
    n = 100_000
    found = Tensor.rand(n, seed=12, device="INTERP").numpy().astype(np.float64)
    for power in (1, 2, 3, 4):
        deviation = np.sqrt((1 / (2 * power + 1) - 1 / (power + 1) ** 2) / n)
        assert abs((found**power).mean() - 1 / (power + 1)) < 4 * deviation
    whole = (found * 2**24).astype(np.int64)
    for shift in (0, 8, 16):
        counts = np.bincount(whole >> shift & 255, minlength=256)
        chi = ((counts - n / 256) ** 2 / (n / 256)).sum()
        assert abs(chi - 255) < 4 * np.sqrt(2 * 255)


def test_normal_numbers_have_the_moments_and_tails_of_normal_ones() -> None:
    n = 100_000
    found = Tensor.randn(n, seed=12, device="INTERP").numpy().astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((found**power).mean() - moment) < 4 * np.sqrt(variance / n)
    for limit, part in ((1, 0.3173105), (2, 0.0455003), (3, 0.0026998)):
        beyond = (np.abs(found) > limit).mean()
        assert abs(beyond - part) < 4 * np.sqrt(part / n)


def test_streams_are_not_correlated_with_each_other_nor_with_themselves_shifted() -> None:
    n = 50_000
    streams = [Tensor.rand(n, seed=seed, device="INTERP").numpy() - 0.5 for seed in (0, 1, 2, 1 << 32)]
    pairs = [(a, b) for i, a in enumerate(streams) for b in streams[:i]]
    pairs += [(stream[lag:], stream[:-lag]) for stream in streams for lag in (1, 2, 64)]
    for a, b in pairs:
        assert abs(np.corrcoef(a, b)[0, 1]) < 4 / np.sqrt(n)
