"""x[…] and its relatives are NumPy's, for every kind of key; numbers go before arrays are looked at, as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import dtype as dt
from engine.errors import InvalidGraph
from engine.tensor import Tensor
from tests.engine.tensor.comparing import Array, equal, integers, normal, same

Key = tuple[Any, ...]


# ------------------------------------------------------------------------------------------- random keys


@st.composite
def shapes_and_keys(draw: st.DrawFn) -> tuple[tuple[int, ...], Key]:
    """A shape of 0 to 4 axes and a key that fits it: numbers, slices, arrays, masks, None, ... in any order."""
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=4)))
    common = draw(st.sampled_from([(), (1,), (3,), (2, 1), (2, 3)]))
    masked = draw(st.booleans())
    parts: list[Any] = []
    axis = 0
    while axis < len(shape):
        kind = draw(st.sampled_from(["number", "slice", "slice", "array", "mask", "new", "end"]))
        if kind == "new":
            if len(parts) < 8:
                parts.append(None)
            continue
        if kind == "end":
            break
        if kind == "mask" and masked:
            mask, taken = draw(masks(shape[axis:], common))
            if mask is not None:
                parts.append(mask)
                axis += taken
                masked = False
                continue
        parts.append(draw(one_part(kind, shape[axis], common)))
        axis += 1
    if draw(st.booleans()):
        rest = len(shape) - axis
        at = draw(st.integers(0, len(parts)))
        before = sum(axes_of(part) for part in parts[:at])
        # ... moves what stands behind it to the last axes: the parts there must fit those.
        if rest == 0 or at == len(parts) or before == axis:
            parts.insert(at, ...)
    return shape, tuple(parts)


def axes_of(part: Any) -> int:
    if part is None:
        return 0
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == np.bool_ else 1


@st.composite
def masks(draw: st.DrawFn, sizes: tuple[int, ...], common: tuple[int, ...]) -> tuple[Any, int]:
    """A mask with as many true elements as broadcast with `common`; None if there is none such."""
    taken = draw(st.integers(1, min(2, len(sizes))))
    shape = sizes[:taken]
    count = common[-1] if common else 1
    if np.prod(shape) < count:
        return None, 0
    flat = np.zeros(int(np.prod(shape)), np.bool_)
    flat[draw(st.permutations(range(flat.size)))[:count]] = True
    return flat.reshape(shape), taken


@st.composite
def one_part(draw: st.DrawFn, kind: str, n: int, common: tuple[int, ...]) -> Any:
    if kind == "slice" or n == 0:
        bound = st.none() | st.integers(-6, 6)
        return slice(draw(bound), draw(bound), draw(st.none() | st.sampled_from([-3, -2, -1, 1, 2, 3])))
    if kind in ("number", "mask"):
        return draw(st.integers(-n, n - 1))
    shape = draw(st.sampled_from([common, common[1:], ()]))
    count = int(np.prod(shape))
    numbers = draw(st.lists(st.integers(-n, n - 1), min_size=count, max_size=count))
    return np.array(numbers, draw(st.sampled_from([np.int64, np.int32, np.int8]))).reshape(shape)


def given_to_tensor(key: Key, as_tensors: bool) -> Key:
    return tuple(
        Tensor(part) if isinstance(part, np.ndarray) and (as_tensors or not part.ndim) else part
        for part in key
    )


def without_numbers(array: Array, key: Key) -> tuple[Array, Key]:
    """What PyTorch makes of a key before it takes arrays together: a view where numbers have gone, and the rest."""
    named = sum(axes_of(part) for part in key if part is not ...)
    numbers: list[Any] = []
    rest: list[Any] = []
    for part in key:
        if isinstance(part, int) or (isinstance(part, np.ndarray) and not part.ndim):
            numbers.append(int(part))
            continue
        spelled = [slice(None)] * (array.ndim - named) if part is ... else [part]
        rest += spelled
        numbers += [slice(None)] * (len(spelled) if part is ... else axes_of(part))
    return array[(*numbers, ...)], tuple(rest)


@settings(max_examples=600, deadline=None)
@given(shapes_and_keys(), st.booleans())
@pytest.mark.slow
def test_reading_at_any_key_is_numpys(drawn: tuple[tuple[int, ...], Key], as_tensors: bool) -> None:
    shape, key = drawn
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    left, rest = without_numbers(array, key)
    equal(Tensor(array)[given_to_tensor(key, as_tensors)], left[rest])


@settings(max_examples=300, deadline=None)
@given(shapes_and_keys(), st.booleans(), st.booleans())
@pytest.mark.slow
def test_writing_at_any_key_is_numpys(
    drawn: tuple[tuple[int, ...], Key], as_tensors: bool, one_number: bool
) -> None:
    shape, key = drawn
    array = np.arange(int(np.prod(shape)), dtype=np.int32).reshape(shape)
    wanted, tensor = array.copy(), Tensor(array)
    left, rest = without_numbers(wanted, key)
    replaced = np.shape(left[rest])
    value = -1 if one_number else -1 - np.arange(int(np.prod(replaced)), dtype=np.int32).reshape(replaced)
    left[rest] = value
    tensor[given_to_tensor(key, as_tensors)] = value
    equal(tensor, wanted)


# ------------------------------------------------------------------------------------------- single cases

A = normal(5, 6, 7)
M = np.arange(12, dtype=np.int32).reshape(3, 4)


def test_lists_and_single_tensors_index() -> None:
    same(Tensor(A)[[0, -1, 2]], A[[0, -1, 2]])
    same(Tensor(A)[Tensor(3)], A[3])
    same(Tensor(A)[1, [0, 2]], A[1, [0, 2]])
    same(Tensor(A)[..., [[1, 2], [3, -1]]], A[..., [[1, 2], [3, -1]]])
    same(Tensor(A)[[]], A[[]])
    same(Tensor(A)[Tensor(A) > 0], A[A > 0])
    same(Tensor(2.5)[()], np.float32(2.5))
    same(Tensor(2.5)[None, ...], np.float32([2.5]))


def test_arrays_that_are_apart_put_their_axes_in_front() -> None:
    assert Tensor(A)[[0, 1, 2], :, [1, 2, 3]].shape == (3, 6)
    assert Tensor(A)[:, [0, 1, 2], [1, 2, 3]].shape == (5, 3)
    assert Tensor(A)[:, [0, 1, 2], ..., [1, 2, 3]].shape == (5, 3)


@pytest.mark.parametrize("kind", [int, np.int64, Tensor, lambda n: Tensor(n - 1) + 1])
def test_a_number_beside_arrays_takes_its_axis_away_first(kind: Any) -> None:
    number = kind(2)
    same(Tensor(A)[number, :, [1, 2, 3]], A[2][:, [1, 2, 3]])
    same(Tensor(A)[[0, 1], number, [1, 2]], A[:, 2][[0, 1], [1, 2]])
    same(Tensor(A)[None, [0, 1], :, number], A[:, :, 2][None, [0, 1]])
    x, wanted = Tensor(A), A.copy()
    x[number, 1:, [1, 3]] = 7
    wanted[2][1:, [1, 3]] = 7
    same(x, wanted)


def test_uint8_is_a_mask() -> None:
    mask = np.uint8([1, 0, 2, 0, 1])
    same(Tensor(A)[Tensor(mask)], A[mask != 0])
    same(Tensor(A)[mask], A[mask != 0])
    with pytest.raises(IndexError, match="cast uint8 to int64"):
        Tensor(A)[Tensor([1, 2], dtype=dt.uint8)]


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (5, IndexError, "index 5 is out of range for axis 0 of size 5"),
        ((0, -7), IndexError, "index -7 is out of range for axis 1 of size 6"),
        ([0, 9], IndexError, "index 9 is out of range for axis 0 of size 5"),
        ((0, 0, 0, 0), IndexError, "4 indices for 3 axes"),
        ((..., ...), IndexError, "at most one"),
        (np.ones((5, 5), np.bool_), IndexError, "mask of shape"),
        (1.5, TypeError, "not 1.5"),
        ("a", TypeError, "not 'a'"),
        ([0.5], TypeError, "not float"),
        (slice(None, None, 0), ValueError, "zero"),
        (slice(0.5), TypeError, "integer"),
        (([0, 1], [0, 1, 2]), InvalidGraph, "broadcast"),
    ],
)
def test_a_key_that_does_not_fit_is_refused_at_once(key: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Tensor(A)[key]
    with pytest.raises(error, match=message):
        Tensor(A)[key] = 0


def test_a_float_tensor_is_no_index() -> None:
    with pytest.raises(TypeError, match="not float32"):
        Tensor(A)[Tensor([0.0])]


def test_what_a_tensor_yet_to_be_computed_points_out_of_range_reads_0_and_writes_nothing() -> None:
    nowhere = Tensor([0, 99, -99, 2]) + 0
    same(Tensor(M)[nowhere], np.stack([M[0], M[0] * 0, M[0] * 0, M[2]]))
    same(Tensor(M)[Tensor([0, 1, 7]) + 0, Tensor([0, 4, 0]) + 0], [0, 0, 0])
    x = Tensor(M)
    x[nowhere] = -1
    same(x, np.where(np.arange(3)[:, None] == 1, M, -1))


FLAGS: list[Any] = [
    True,
    False,
    np.True_,
    (True, 0),
    (slice(None), True),
    (..., False),
    ([0, 2], True),
    (True, True),
]


@pytest.mark.parametrize("key", FLAGS)
def test_true_and_false_are_masks_of_no_axes(key: Any) -> None:
    np.testing.assert_array_equal(Tensor(M)[key].numpy(), M[key])
    x, a = Tensor(M), M.copy()
    x[key] = -1
    a[key] = -1
    np.testing.assert_array_equal(x.numpy(), a)


def test_a_number_is_written_by_a_mask_of_its_own() -> None:
    x = Tensor(5.0)
    x[x > 3] = 0.0
    assert x.item() == 0
    x[x > 3] = 1.0
    assert x.item() == 0
    assert x[x == 0].tolist() == [0]


def test_writing_changes_this_tensor_and_no_copy() -> None:
    x = Tensor(M)
    copy, alias = x[0].clone(), x
    alias[0] = 9
    assert copy.tolist() == M[0].tolist()
    assert x.tolist()[0] == [9] * 4
    x[1:, ::2] += 100
    assert x.tolist() == [[9] * 4, [104, 5, 106, 7], [108, 9, 110, 11]]


def test_gradients_go_through_what_is_written_and_past_it() -> None:
    x, y = Tensor(A, requires_grad=True), Tensor([2.0], requires_grad=True)
    z = x * 3
    z[1:, 0] = y
    z.sum().backward()
    wanted = np.full_like(A, 3)
    wanted[1:, 0] = 0
    assert x.grad is not None
    assert y.grad is not None
    same(x.grad, wanted)
    assert y.grad.tolist() == [28.0]


def test_a_leaf_that_is_written_to_stays_one() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    x[0] = 5
    (x * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [10.0, 4.0]
    with pytest.raises(InvalidGraph, match="leaf"):
        x[0] = x[1]


def test_of_places_named_twice_the_last_value_stays() -> None:
    x = Tensor([0, 0, 0])
    x[[1, 1, 0]] = Tensor([5, 6, 7])
    assert x.tolist() == [7, 6, 0]


def test_what_is_written_is_cast_and_must_fit() -> None:
    x = Tensor(M)
    x[0] = 1.9
    x[1] = Tensor([True, False, True, True])
    assert x.tolist() == [[1] * 4, [1, 0, 1, 1], M[2].tolist()]
    assert x.dtype is dt.int32
    with pytest.raises(InvalidGraph, match=r"\(3,\) does not fit the \(4,\)"):
        x[0] = Tensor([1, 2, 3])


def test_a_mask_that_is_a_tensor_writes_a_number_without_being_computed() -> None:
    x = Tensor(A)
    x[x > 0] = 0
    assert "lazy" in repr(x)
    same(x, np.minimum(A, 0))
    y = Tensor(A)
    y[Tensor(A[:, 0, 0]) > 0] = -1
    same(y, np.where(A[:, :1, :1] > 0, -1, A))


def test_iterating_gives_the_slices() -> None:
    assert [row.tolist() for row in Tensor(M)] == M.tolist()
    with pytest.raises(TypeError, match="0-d"):
        iter(Tensor(1))


# ------------------------------------------------------------------------------------- gather and scatter


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_gather_takes_along_an_axis(axis: int) -> None:
    shape = [3, 4, 5]
    shape[axis] = 6
    index = integers(*shape, low=0, high=A.shape[axis] - 1)
    corner = tuple(slice(None) if i == axis % 3 else slice(n) for i, n in enumerate(shape))
    same(Tensor(A).gather(axis, Tensor(index)), np.take_along_axis(A[corner], index, axis))
    same(Tensor(A).gather(dim=axis, index=index), np.take_along_axis(A[corner], index, axis))


def scattered(start: Any, axis: int, index: Any, source: Any, how: str) -> Any:
    """Element by element, in order."""
    found = start.astype(np.float64)
    for at in np.ndindex(index.shape):
        place = (*at[:axis], index[at], *at[axis + 1 :])
        if 0 <= index[at] < start.shape[axis]:
            old, new = found[place], float(source[at])
            found[place] = {"set": new, "add": old + new, "amax": max(old, new)}[how]
    return found.astype(start.dtype)


@pytest.mark.parametrize("how", ["set", "add", "amax"])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(4, 6), (9, 6), (4, 9), (2, 3), (0, 6)])
def test_scatter_puts_in_order(how: str, axis: int, shape: tuple[int, int]) -> None:
    start, source = normal(4, 6), normal(9, 9, seed=1)
    shape = tuple(min(n, start.shape[i]) if i != axis else n for i, n in enumerate(shape))
    index = integers(*shape, low=-1, high=start.shape[axis])
    got = Tensor(start).scatter(axis, Tensor(index) + 0, Tensor(source), None if how == "set" else how)
    same(got, scattered(start, axis, index, source, how))


def test_scatter_of_a_number_and_of_other_dtypes() -> None:
    index = np.array([[0, 2]])
    same(Tensor(M).scatter(0, Tensor(index), 7), scattered(M, 0, index, np.full((1, 2), 7), "set"))
    half = Tensor([1.0, 2.0]).half().scatter_add(0, Tensor([0, 0, 0]), Tensor([2048.0, 1.0, 1.0]).half())
    assert half.tolist() == [2052.0, 2.0]  # 2049 is no float16: the sum was kept in float32
    flags = Tensor([False, True]).scatter(0, Tensor([0, 1]), Tensor([True, False]), "add")
    assert (flags.dtype, flags.tolist()) == (dt.bool_, [True, True])


@pytest.mark.parametrize("how", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_scatter_reduce_reduces_what_meets(how: str, include_self: bool, dtype: Any) -> None:
    start, source = integers(5).astype(dtype), integers(12, seed=3).astype(dtype)
    index = integers(12, low=0, high=3, seed=4)
    reducers = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min}
    wanted = start.copy()
    for place in range(5):
        met = [*([start[place]] if include_self else []), *source[index == place]]
        if met:
            wanted[place] = np.floor(reducers[how](met)) if dtype is np.int32 else reducers[how](met)
    same(Tensor(start).scatter_reduce(0, Tensor(index), Tensor(source), how, include_self), wanted)


def test_select_take_and_masks() -> None:
    same(Tensor(A).index_select(1, Tensor([0, 5, -1])), A[:, [0, 5, -1]])
    same(Tensor(A).take(Tensor([[0, 100], [-1, 3]])), A.ravel()[[[0, 100], [-1, 3]]])
    same(Tensor(A).masked_select(Tensor(A) > 1), A[A > 1])
    same(Tensor(A[0, 0]).masked_select(Tensor(A[0]) > 0), np.broadcast_to(A[0, 0], (6, 7))[A[0] > 0])
    same(Tensor(A).masked_fill(Tensor(A[0]) > 0, 2.5), np.where(A[0] > 0, np.float32(2.5), A))
    equal(Tensor(M).masked_fill(Tensor(M) > 3, 1), np.where(M > 3, 1, M).astype(np.int32))


def test_nonzero_names_the_places() -> None:
    equal(Tensor(M % 3).nonzero(), np.argwhere(M % 3))
    for got, wanted in zip(Tensor(M % 3).nonzero(as_tuple=True), np.nonzero(M % 3), strict=True):
        equal(got, wanted)
    assert Tensor(5).nonzero().shape == (1, 0)
    assert Tensor(0).nonzero().shape == (0, 0)


def test_one_hot_marks_its_class() -> None:
    equal((Tensor([[0, 2], [1, 5]]) + 0).one_hot(3), np.eye(6, dtype=np.int64)[[[0, 2], [1, 5]]][..., :3])
    equal(Tensor([[0, 2], [1, 5]]).one_hot(), np.eye(6, dtype=np.int64)[[[0, 2], [1, 5]]])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.gather(0, Tensor(np.zeros((1, 9), np.int64))),
        lambda x: x.gather(0, Tensor(np.zeros(3, np.int64))),
        lambda x: x.scatter(0, Tensor(np.zeros((2, 4), np.int64)), Tensor(np.zeros((1, 4), np.int32))),
        lambda x: x.scatter(0, Tensor(np.zeros((1, 5), np.int64)), 1),
        lambda x: x.scatter(0, Tensor(np.zeros((1, 4), np.int64)), 1, "mul"),
        lambda x: x.scatter_reduce(0, Tensor(np.zeros((1, 4), np.int64)), x, "median"),
        lambda x: x.index_select(0, Tensor([[0]])),
    ],
)
def test_indices_that_do_not_fit_are_refused(wrong: Any) -> None:
    with pytest.raises(InvalidGraph):
        wrong(Tensor(M))


@pytest.mark.parametrize("name", ["gather", "index_select"])
def test_an_index_of_floats_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=f"index of {name} must be of integers, not float32"):
        getattr(Tensor(M), name)(0, Tensor([0.5]))
