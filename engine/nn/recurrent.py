"""Recurrent layers by PyTorch's names, weights and order of gates: RNN, LSTM, GRU and their cells.

Every step of the sequence becomes kernels of its own; what does not depend on the step before, the products with the
input, is one product for all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

from engine import dtype as dt
from engine.dtype import DType
from engine.errors import InvalidGraph
from engine.nn import initial
from engine.nn.module import Module
from engine.tensor import Tensor

State = tuple[Tensor, ...]  # (hidden,), of LSTM (hidden, cell): each (batch, hidden_size)


def _simple(given: Tensor, state: State, weight: Tensor, bias: Tensor | None, function: str) -> State:
    """tanh (or relu) of both products."""
    (hidden,) = state
    return (getattr(given + hidden.linear(weight, bias), function)(),)


def _lstm(given: Tensor, state: State, weight: Tensor, bias: Tensor | None, function: str) -> State:
    """Source: Hochreiter and Schmidhuber, "Long short-term memory" (1997); the gates stand as i, f, g, o."""
    hidden, cell = state
    i, f, g, o = (given + hidden.linear(weight, bias)).contiguous().chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


def _gru(given: Tensor, state: State, weight: Tensor, bias: Tensor | None, function: str) -> State:
    """Source: Cho et al. (2014); the gates stand as r, z, n, and r meets the hidden state after its product."""
    (hidden,) = state
    own = hidden.linear(weight, bias).contiguous().chunk(3, -1)
    r, z, n = given.chunk(3, -1)
    reset, kept = (r + own[0]).sigmoid(), (z + own[1]).sigmoid()
    new = (n + reset * own[2]).tanh()
    return ((hidden - new) * kept + new,)


# By mode: how many gates, how many states, one step.
_KINDS: dict[str, tuple[int, int, Any]] = {
    "RNN": (1, 1, _simple),
    "LSTM": (4, 2, _lstm),
    "GRU": (3, 1, _gru),
}


class _Recurrent(Module):
    MODE = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        dtype: DType = dt.float32,
    ) -> None:
        initial.check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout <= 1:
            raise InvalidGraph(f"{dropout} is no probability", "dropout")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.dropout, self.bidirectional = batch_first, dropout, bidirectional
        bound = 1 / sqrt(hidden_size) if hidden_size else 0.0
        rows = _KINDS[self.MODE][0] * hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else hidden_size * (1 + bidirectional)
            for end in self._ends(layer):
                for name, shape in (("weight_ih", (rows, width)), ("weight_hh", (rows, hidden_size))):
                    setattr(self, name + end, initial.uniform(shape, bound, dtype))
                for name in ("bias_ih", "bias_hh"):
                    setattr(self, name + end, initial.uniform((rows,), bound, dtype) if bias else None)

    def _ends(self, layer: int) -> list[str]:
        """What the names of a layer's weights end in, for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: 1 + self.bidirectional]

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """(length, batch, input_size), or (batch, length, …) with `batch_first`, or without a batch: (output, states).

        The output (…, hidden_size · directions) is of every step, the states (layers · directions, batch, hidden_size)
        of the last: of LSTM a pair (hidden, cell). `hx` is the same of the start, zeros if it is None.
        """
        name = type(self).__name__
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise InvalidGraph(f"takes a sequence of {self.input_size} numbers, not {x.shape}", name)
        alone = x.ndim == 2
        seen = x.unsqueeze(1) if alone else x.transpose(0, 1) if self.batch_first else x
        if not seen.shape[0]:
            raise InvalidGraph("takes a sequence of one step at least", name)
        starts = self._starts(seen, hx, alone)
        ended: list[State] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                seen = seen.dropout(self.dropout, self.trains)
            sides = []
            for end in self._ends(layer):
                steps, last = self._along(seen, starts[len(ended)], end)
                sides.append(steps)
                ended.append(last)
            seen = sides[0] if len(sides) == 1 else Tensor.cat(sides, axis=-1)
        states = [Tensor.stack(list(parts)) for parts in zip(*ended, strict=True)]
        if alone:
            seen, states = seen.squeeze(1), [state.squeeze(1) for state in states]
        elif self.batch_first:
            seen = seen.transpose(0, 1)
        return seen, tuple(states) if len(states) > 1 else states[0]

    def _along(self, x: Tensor, state: State, end: str) -> tuple[Tensor, State]:
        """One direction of one layer: (all steps, the last state)."""
        own = [getattr(self, name + end) for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
        given = x.linear(own[0], own[1]).contiguous().unbind(0)
        backwards, step = end.endswith("_reverse"), _KINDS[self.MODE][2]
        found: list[Tensor] = []
        for one in reversed(given) if backwards else given:
            state = tuple(s.contiguous() for s in step(one, state, own[2], own[3], self._function()))
            found.append(state[0])
        return Tensor.stack(found[::-1] if backwards else found), state

    def _function(self) -> str:
        return "tanh"

    def _starts(self, x: Tensor, hx: Any, alone: bool) -> list[State]:
        """The state that each direction of each layer starts from."""
        count, size = self.num_layers * (1 + self.bidirectional), _KINDS[self.MODE][1]
        shape = (count, x.shape[1], self.hidden_size)
        if hx is None:
            zeros = Tensor.zeros(*shape[1:], dtype=x.dtype, device=x.device)
            return [(zeros,) * size] * count
        given: Sequence[Tensor] = [hx] if isinstance(hx, Tensor) else list(hx)
        given = [state.unsqueeze(1) if alone and state.ndim == 2 else state for state in given]
        if len(given) != size or any(state.shape != shape for state in given):
            got = [state.shape for state in given]
            raise InvalidGraph(f"takes {size} of shape {shape}, not {got}", f"{type(self).__name__}: hx")
        return [tuple(state[number] for state in given) for number in range(count)]


class RNN(_Recurrent):
    """hidden = tanh(x @ weight_ih.T + bias_ih + hidden @ weight_hh.T + bias_hh), or relu of it."""

    MODE = "RNN"

    def __init__(self, *args: Any, nonlinearity: str = "tanh", **options: Any) -> None:
        if len(args) > 3 and isinstance(args[3], str):  # PyTorch has it in the fourth place
            args, nonlinearity = (*args[:3], *args[4:]), args[3]
        self.nonlinearity = _checked(nonlinearity)
        super().__init__(*args, **options)

    def _function(self) -> str:
        return self.nonlinearity


class LSTM(_Recurrent):
    """Long short-term memory; the state is a pair (hidden, cell)."""

    MODE = "LSTM"


class GRU(_Recurrent):
    """Gated recurrent units."""

    MODE = "GRU"


class _Cell(Module):
    MODE = ""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, dtype: DType = dt.float32
    ) -> None:
        initial.check_sizes(input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        bound = 1 / sqrt(hidden_size) if hidden_size else 0.0
        rows = _KINDS[self.MODE][0] * hidden_size
        self.weight_ih = initial.uniform((rows, input_size), bound, dtype)
        self.weight_hh = initial.uniform((rows, hidden_size), bound, dtype)
        self.bias_ih = initial.uniform((rows,), bound, dtype) if bias else None
        self.bias_hh = initial.uniform((rows,), bound, dtype) if bias else None

    nonlinearity = "tanh"

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        """(batch, input_size), or without a batch, and the state before (zeros if None): the next state."""
        _, size, step = _KINDS[self.MODE]
        shape = (*x.shape[:-1], self.hidden_size)
        if hx is None:
            hx = (Tensor.zeros(*shape, dtype=x.dtype, device=x.device),) * size
        state = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        if len(state) != size or any(s.shape != shape for s in state):
            got = [s.shape for s in state]
            raise InvalidGraph(f"takes {size} of shape {shape}, not {got}", f"{type(self).__name__}: hx")
        given = x.linear(self.weight_ih, self.bias_ih)
        found = step(given, state, self.weight_hh, self.bias_hh, self.nonlinearity)
        return found if size > 1 else found[0]


class RNNCell(_Cell):
    """One step of RNN."""

    MODE = "RNN"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        dtype: DType = dt.float32,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, dtype)
        self.nonlinearity = _checked(nonlinearity)


class LSTMCell(_Cell):
    """One step of LSTM: (hidden, cell)."""

    MODE = "LSTM"


class GRUCell(_Cell):
    """One step of GRU."""

    MODE = "GRU"


def _checked(nonlinearity: str) -> str:
    if nonlinearity not in ("tanh", "relu"):
        raise InvalidGraph(f"{nonlinearity!r} is not 'tanh' or 'relu'", "nonlinearity")
    return nonlinearity
