"""A linearized kernel as LLVM assembly.

`void NAME(ptr buffers, i64 first, i64 last)` computes tiles [first, last): buffers[0] is the output, buffers[1 + slot]
the input of that slot; none may overlap. It hands the pointers to a function of its own, because only parameters can
be `noalias`. Loops are written with their test at the end, accumulators as stack slots that LLVM makes registers.
Nothing is left to LLVM's licence: no fast-math flag, no nsw, and never an fptrunc to half or bfloat (see small_floats).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from engine import dtype as dt
from engine.dtype import DType
from engine.ir import UOp, toposort
from engine.lanes import lanes_of
from engine.linearize import behind_after, reads_accumulator
from engine.offsets import is_lanes
from engine.ops import Op
from engine.opts import RangeType
from engine.render.language import output_of, scratch_place, stages_of
from engine.render.llvm_arithmetic import Arithmetic
from engine.render.llvm_types import constant, listed, memory_type, type_of
from engine.target import Features


class LlvmRenderer:
    """Renders for a CPU of the given features."""

    def __init__(self, features: Features) -> None:
        self._features = features

    def render(self, linear: Sequence[UOp], name: str) -> str:
        """The module of one kernel, complete by itself."""
        source = _Source(linear)
        lines = source.body()
        params = source.params
        arguments = "".join(f"ptr noalias {p.qualifier}{p.name}, " for p in params)
        given = "".join(f"ptr {p.given}, " for p in params)
        attributes = f'nounwind "prefer-vector-width"="{8 * self._features.vector_bytes}"'
        text = [
            f"define internal void @{name}.tiles({arguments}i64 %first, i64 %last) noinline {attributes} {{",
            "entry:",
            *source.slots,
            *lines,
            *(["  fence seq_cst"] if source.streams else []),  # others see them once the kernel is done
            "  ret void",
            "}",
            f"define void @{name}(ptr %buffers, i64 %first, i64 %last) {attributes} {{",
            *(line for p in params for line in p.taken()),
            f"  call void @{name}.tiles({given}i64 %first, i64 %last)",
            "  ret void",
            "}",
            *source.arithmetic.declarations.values(),
            *(["!0 = !{i32 1}"] if source.streams else []),
        ]
        return "\n".join(text) + "\n"


@dataclass(frozen=True)
class _Pointer:
    """A memory: its name, where its address is among the buffers; a stage begins `at` bytes behind that."""

    name: str
    qualifier: str
    place: int
    at: int | None = None

    @property
    def given(self) -> str:
        """What the function of the tiles is given."""
        return f"%b{self.place}" if self.at is None else f"%b{self.place}.{self.at}"

    def taken(self) -> list[str]:
        """The lines that take it from the buffers."""
        of = f"{self.place}" if self.at is None else f"{self.place}.{self.at}"
        lines = [
            f"  %p{of} = getelementptr ptr, ptr %buffers, i64 {self.place}",
            f"  %{'b' if self.at is None else 'a'}{of} = load ptr, ptr %p{of}",
        ]
        if self.at is not None:
            lines.append(f"  %b{of} = getelementptr i8, ptr %a{of}, i64 {self.at}")
        return lines


class _Source:
    """The lines of one kernel."""

    def __init__(self, linear: Sequence[UOp]) -> None:
        self._linear = linear
        self._nodes = toposort(*linear)
        self._numbers = count()
        self.lines: list[str] = []
        self.slots: list[str] = []
        self.arithmetic = Arithmetic(self.emit)
        self._names: dict[UOp, str] = {}
        self.streams = False  # are there stores past the caches?
        self._block = "entry"
        self._latches: dict[UOp, tuple[int, str]] = {}
        self._acc_lanes = {
            behind_after(node.src[0]): lanes_of(node) for node in self._nodes if node.op is Op.INDEX
        }
        self.params = self._pointers()

    def body(self) -> list[str]:
        for node in self._linear:
            match node.op:
                case Op.RANGE:
                    self._open(node)
                case Op.END:
                    for range_ in reversed(node.src[1:]):
                        self._close(range_)
                case Op.ACC:
                    self._declare(node)
                case Op.STORE:
                    self._store(node)
                case Op.PREFETCH:
                    self._prefetch(node.src[0])
                case Op.LOAD:
                    self._names[node] = self._load(node)
                case _:
                    self._names[node] = self._compute(node)
        return self.lines

    def emit(self, text: str) -> str:
        """One instruction with a result; its name."""
        name = f"%v{next(self._numbers)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def _do(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def _begin(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self._block = label

    def _pointers(self) -> list[_Pointer]:
        output = output_of(self._linear)
        found = []
        for param in sorted((n for n in self._nodes if n.op is Op.PARAM), key=lambda n: n.arg[0]):
            is_output = param is output
            self._names[param] = "%out" if is_output else f"%in{param.arg[0]}"
            place = 0 if is_output else 1 + param.arg[0]
            found.append(_Pointer(self._names[param], "" if is_output else "readonly ", place))
        for stage in stages_of(self._nodes):
            id_, _, at = stage.arg
            self._names[stage] = f"%s{id_}"
            found.append(_Pointer(f"%s{id_}", "", scratch_place(self._nodes), at))
        return found

    # -- loops -----------------------------------------------------------------------------------------------

    def _open(self, range_: UOp) -> None:
        number = next(self._numbers)
        _, extent, type_ = range_.arg
        if extent == 1 and range_.src and type_ is not RangeType.THREAD:
            self._condition(range_, number)
            return
        start, stop = "0", str(extent)
        if type_ is RangeType.THREAD:
            start, stop = "%first", "%last"
        elif range_.src:
            stop = self._value(range_.src[0], 1)
        before = self._block
        if range_.src or type_ is RangeType.THREAD or extent < 1:
            any_ = self.emit(f"icmp slt i64 {start}, {stop}")
            self._do(f"br i1 {any_}, label %body{number}, label %exit{number}")
        else:
            self._do(f"br label %body{number}")
        self._begin(f"body{number}")
        self._names[range_] = f"%r{number}"
        self._do(f"%r{number} = phi i64 [ {start}, %{before} ], [ %next{number}, %latch{number} ]")
        self._latches[range_] = (number, stop)

    def _condition(self, range_: UOp, number: int) -> None:
        holds = self.emit(f"icmp ne i64 {self._value(range_.src[0], 1)}, 0")
        self._do(f"br i1 {holds}, label %body{number}, label %exit{number}")
        self._begin(f"body{number}")
        self._names[range_] = "0"
        self._latches[range_] = (number, "")

    def _close(self, range_: UOp) -> None:
        number, stop = self._latches.pop(range_)
        if stop:
            self._do(f"br label %latch{number}")
            self._begin(f"latch{number}")
            # it stays below the number of trips, so here nothing can wrap
            self._do(f"%next{number} = add nuw nsw i64 %r{number}, 1")
            more = self.emit(f"icmp slt i64 %next{number}, {stop}")
            self._do(f"br i1 {more}, label %body{number}, label %exit{number}")
        else:
            self._do(f"br label %exit{number}")
        self._begin(f"exit{number}")

    # -- accumulators and memory -----------------------------------------------------------------------------

    def _declare(self, acc: UOp) -> None:
        number, extent = acc.arg
        if acc in self._names:
            return
        self._names[acc] = f"%a{number}"
        lanes = self._acc_lanes.get(acc, 1)
        type_ = type_of(acc.dtype, lanes)
        self.slots += [f"  %a{number}.{slot} = alloca {type_}" for slot in range(extent // lanes)]

    def _accumulator(self, place: UOp) -> str:
        """The stack slot that an INDEX of an ACC means."""
        return f"%a{behind_after(place.src[0]).arg[0]}.{place.src[1].arg // lanes_of(place)}"

    def _address(self, place: UOp) -> str:
        return self._address_at(place, self._value(place.src[1], 1))

    def _address_at(self, place: UOp, offset: str) -> str:
        pointer = self._names[behind_after(place.src[0])]
        return self.emit(f"getelementptr {memory_type(place.dtype)}, ptr {pointer}, i64 {offset}")

    def _load(self, node: UOp) -> str:
        place, *other = node.src
        lanes, dtype = lanes_of(place), node.dtype
        if not other:
            return self._read(place, lanes)
        if lanes == 1:
            return self._load_if(node)
        mask, instead = self._value(place.src[2], lanes), self._stored(other[0], lanes)
        pointer, type_ = self._address(place), memory_type(dtype, lanes)
        name = self.arithmetic.masked("load", dtype, lanes)
        loaded = self.emit(
            f"call {type_} {name}(ptr {pointer}, i32 {dtype.itemsize}, <{lanes} x i1> {mask}, {type_} {instead})"
        )
        return self._as_value(loaded, dtype, lanes)

    def _read(self, place: UOp, lanes: int) -> str:
        return self._read_at(place, lanes, self._value(place.src[1], 1))

    def _read_at(self, place: UOp, lanes: int, offset: str) -> str:
        address = self._address_at(place, offset)
        loaded = self.emit(
            f"load {memory_type(place.dtype, lanes)}, ptr {address}, align {place.dtype.itemsize}"
        )
        return self._as_value(loaded, place.dtype, lanes)

    def _load_if(self, node: UOp) -> str:
        """A load of the first element where it may not be made, and then not of its value; of no elements, in a branch."""
        place, other = node.src
        valid, instead = self._value(place.src[2], 1), self._value(other, 1)
        if 0 not in behind_after(place.src[0]).arg[1]:
            offset = self.emit(f"select i1 {valid}, i64 {self._value(place.src[1], 1)}, i64 0")
            loaded, type_ = self._read_at(place, 1, offset), type_of(node.dtype)
            return self.emit(f"select i1 {valid}, {type_} {loaded}, {type_} {instead}")
        number, before = next(self._numbers), self._block
        self._do(f"br i1 {valid}, label %load{number}, label %done{number}")
        self._begin(f"load{number}")
        loaded = self._read(place, 1)
        self._do(f"br label %done{number}")
        self._begin(f"done{number}")
        return self.emit(f"phi {type_of(node.dtype)} [ {loaded}, %load{number} ], [ {instead}, %{before} ]")

    def _as_value(self, loaded: str, dtype: DType, lanes: int) -> str:
        """A bool in memory is true unless it is 0."""
        if dtype is not dt.bool_:
            return loaded
        return self.emit(f"icmp ne {memory_type(dtype, lanes)} {loaded}, {constant(dt.uint8, 0, lanes)}")

    def _stored(self, value: UOp, lanes: int) -> str:
        """A value as it lies in memory."""
        text = self._value(value, lanes)
        if value.dtype is not dt.bool_:
            return text
        return self.emit(f"zext {type_of(dt.bool_, lanes)} {text} to {memory_type(dt.bool_, lanes)}")

    def _store(self, node: UOp) -> None:
        place, value = node.src
        lanes, dtype = lanes_of(place), value.dtype
        if behind_after(place.src[0]).op is Op.ACC:
            self._do(
                f"store {type_of(dtype, lanes)} {self._value(value, lanes)}, ptr {self._accumulator(place)}"
            )
            return
        stored, type_ = self._stored(value, lanes), memory_type(dtype, lanes)
        plain = f"store {type_} {stored}, ptr {{}}, align {dtype.itemsize}"
        if len(place.src) == 2 and node.arg == "stream" and lanes > 1:
            self._stream(place, plain, lanes * dtype.itemsize)
        elif len(place.src) == 2:
            self._do(plain.format(self._address(place)))
        elif lanes == 1:
            self._store_if(place, plain)
        else:
            mask, pointer = self._store_mask(place, lanes), self._address(place)
            name = self.arithmetic.masked("store", dtype, lanes)
            self._do(
                f"call void {name}({type_} {stored}, ptr {pointer}, i32 {dtype.itemsize}, <{lanes} x i1> {mask})"
            )

    def _stream(self, place: UOp, plain: str, size: int) -> None:
        """A store past the caches where the address is a multiple of the vector's size, which its memory's may not be."""
        number, address = next(self._numbers), self._address(place)
        whole = self.emit(f"ptrtoint ptr {address} to i64")
        rest = self.emit(f"and i64 {whole}, {size - 1}")
        aligned = self.emit(f"icmp eq i64 {rest}, 0")
        self._do(f"br i1 {aligned}, label %stream{number}, label %plain{number}")
        self._begin(f"stream{number}")
        store = plain.format(address).rpartition(", align")[0]
        self._do(f"{store}, align {size}, !nontemporal !0")
        self._do(f"br label %done{number}")
        self._begin(f"plain{number}")
        self._do(plain.format(address))
        self._do(f"br label %done{number}")
        self._begin(f"done{number}")
        self.streams = True

    def _prefetch(self, place: UOp) -> None:
        self.arithmetic.declarations["prefetch"] = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
        self._do(f"call void @llvm.prefetch.p0(ptr {self._address(place)}, i32 1, i32 3, i32 1)")

    def _store_mask(self, place: UOp, lanes: int) -> str:
        """Which lanes to store; of integers, so that LLVM never knows.

        LLVM 22 with AVX-512 stores a truncated integer vector whose one valid lane it knows at compile time in the
        width from before truncation, beyond the lane: the mask goes through memory that it must not look into.
        """
        mask = self._value(place.src[2], lanes)
        if place.dtype.is_float or place.dtype.itemsize == 8:
            return mask
        slot, type_ = f"%mask{next(self._numbers)}", f"<{lanes} x i8>"
        self.slots.append(f"  {slot} = alloca {type_}")
        wide = self.emit(f"zext <{lanes} x i1> {mask} to {type_}")
        self._do(f"store volatile {type_} {wide}, ptr {slot}")
        read = self.emit(f"load volatile {type_}, ptr {slot}")
        return self.emit(f"icmp ne {type_} {read}, {constant(dt.uint8, 0, lanes)}")

    def _store_if(self, place: UOp, store: str) -> None:
        number, valid = next(self._numbers), self._value(place.src[2], 1)
        self._do(f"br i1 {valid}, label %store{number}, label %done{number}")
        self._begin(f"store{number}")
        self._do(store.format(self._address(place)))
        self._do(f"br label %done{number}")
        self._begin(f"done{number}")

    # -- values ----------------------------------------------------------------------------------------------

    def _value(self, node: UOp, lanes: int) -> str:
        """A value as an operand of `lanes` lanes."""
        node = behind_after(node)
        if node.op is Op.CONST:
            return constant(node.dtype, node.arg, lanes)
        text = self._own(node)
        if lanes_of(node) == lanes:
            return text
        return self.arithmetic.splat(node.dtype, lanes, text)

    def _own(self, node: UOp) -> str:
        """A value with its own lanes."""
        if node in self._names:
            return self._names[node]
        if is_lanes(node):
            return listed(dt.int64, [str(q) for q in range(lanes_of(node))])
        assert reads_accumulator(node), f"{node.op.value} is used before it is computed"
        place = node.src[0]
        return self.emit(f"load {type_of(node.dtype, lanes_of(place))}, ptr {self._accumulator(place)}")

    def _compute(self, node: UOp) -> str:
        lanes = lanes_of(node)
        match node.op:
            case Op.LANE:
                type_ = type_of(node.dtype, lanes_of(node.src[0]))
                return self.emit(
                    f"extractelement {type_} {self._own(behind_after(node.src[0]))}, i64 {node.arg}"
                )
            case Op.VECTOR:
                return self.arithmetic.gathered(node.dtype, [self._value(source, 1) for source in node.src])
            case Op.WHERE:
                return self._where(node, lanes)
        sources = [self._value(source, lanes) for source in node.src]
        return self.arithmetic.compute(node, lanes, sources)

    def _where(self, node: UOp, lanes: int) -> str:
        condition, *values = node.src
        width = lanes_of(condition)
        a, b = (f"{type_of(node.dtype, lanes)} {self._value(value, lanes)}" for value in values)
        return self.emit(f"select {type_of(dt.bool_, width)} {self._value(condition, width)}, {a}, {b}")
