"""Random tensors: by engine.random, from the generators of engine.generator.

All but the methods of a tensor take `seed` (these numbers, whatever was drawn before) or `generator` (from that
one's stream); without either they draw from the device's own generator, which `manual_seed` restarts. Each draw is
a kernel of its own, the same one whenever its shape is.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod, sqrt
from typing import Any, Self

from engine import build, generator, random
from engine import dtype as dt
from engine.arguments import sizes
from engine.device import canonical
from engine.dtype import DType
from engine.errors import DeviceError, InvalidGraph
from engine.functions import arithmetic
from engine.generator import Generator
from engine.ir import UOp
from engine.ops import Op
from engine.random import Source
from engine.shapes import Shape
from engine.tensor.known import check_probabilities
from engine.tensor.value import Value


class Randomness(Value):
    """Constructors of random numbers, and what else takes chances."""

    __slots__ = ()

    @classmethod
    def _drawn(cls, draw: Callable[[Source], UOp], options: dict[str, Any]) -> Self:
        """What `draw` makes of a source, of the device and in the way that the constructor's `options` say."""
        unknown = sorted(options.keys() - {"device", "seed", "generator", "requires_grad"})
        if unknown:
            raise TypeError(
                f"unexpected argument {unknown[0]!r}; there are device, seed, generator, requires_grad"
            )
        device = canonical(options.get("device"))
        node = draw(_source(device, options.get("seed"), options.get("generator")))
        found = cls._of(UOp(Op.CONTIGUOUS, node.dtype, (node,), "global"), device)
        if options.get("requires_grad", False):
            found.requires_grad = True
        return found

    @classmethod
    def manual_seed(cls, seed: int) -> None:
        """Restart the generators of all devices: what is drawn from now on is the same for the same seed."""
        generator.manual_seed(seed)

    # -- numbers --------------------------------------------------------------------------------------------

    @classmethod
    def rand(cls, *shape: Any, dtype: DType = dt.float32, **options: Any) -> Self:
        """Uniform from 0 up to, not including, 1."""
        return cls._drawn(lambda source: random.uniform(source, sizes(shape), dtype), options)

    @classmethod
    def randn(cls, *shape: Any, dtype: DType = dt.float32, **options: Any) -> Self:
        """Normal, of mean 0 and standard deviation 1."""
        return cls._drawn(lambda source: random.normal(source, sizes(shape), dtype), options)

    @classmethod
    def uniform(
        cls, *shape: Any, low: float = 0.0, high: float = 1.0, dtype: DType = dt.float32, **options: Any
    ) -> Self:
        """Uniform from `low` to `high`, which rounding may give."""

        def draw(source: Source) -> UOp:
            unit = random.uniform(source, sizes(shape), dtype)
            return _affine(unit, high - low, low)

        return cls._drawn(draw, options)

    @classmethod
    def normal(
        cls, *shape: Any, mean: float = 0.0, std: float = 1.0, dtype: DType = dt.float32, **options: Any
    ) -> Self:
        """Normal, of this mean and standard deviation."""
        return cls._drawn(
            lambda source: _affine(random.normal(source, sizes(shape), dtype), std, mean), options
        )

    @classmethod
    def randint(
        cls, *shape: Any, low: int = 0, high: int = 10, dtype: DType = dt.int64, **options: Any
    ) -> Self:
        """Whole numbers from `low` up to, not including, `high`. InvalidGraph if the dtype cannot hold them.

        PyTorch's order is taken too: randint(high, (2, 3)) and randint(low, high, (2, 3)).
        """
        if 2 <= len(shape) <= 3 and isinstance(shape[-1], tuple | list):
            *limits, shape = shape
            low, high = limits if len(limits) == 2 else (0, limits[0])
        return cls._drawn(lambda source: random.integers(source, sizes(shape), low, high, dtype), options)

    @classmethod
    def randperm(cls, n: int, dtype: DType = dt.int64, **options: Any) -> Self:
        """0 … n - 1 in random order."""
        (n,) = sizes((n,))
        return cls._drawn(lambda source: build.cast(random.permutation(source, n), dtype), options)

    def rand_like(self, dtype: DType | None = None, **options: Any) -> Self:
        """`rand` of this tensor's shape, device and (if nothing else is said) dtype."""
        return type(self).rand(*self.shape, dtype=dtype or self.dtype, **{"device": self.device, **options})

    def randn_like(self, dtype: DType | None = None, **options: Any) -> Self:
        """`randn` of this tensor's shape, device and (if nothing else is said) dtype."""
        return type(self).randn(*self.shape, dtype=dtype or self.dtype, **{"device": self.device, **options})

    def randint_like(self, low: int = 0, high: int = 10, dtype: DType | None = None, **options: Any) -> Self:
        """`randint` of this tensor's shape, device and (if nothing else is said) dtype."""
        wanted = {"device": self.device, **options}
        return type(self).randint(*self.shape, low=low, high=high, dtype=dtype or self.dtype, **wanted)

    # -- weights --------------------------------------------------------------------------------------------

    @classmethod
    def kaiming_uniform(cls, *shape: Any, a: float = 0.01, dtype: DType = dt.float32, **options: Any) -> Self:
        """He's uniform weights (out, in, …) for what a leaky ReLU of slope `a` follows: ± √(6 / ((1 + a²) · in))."""
        bound = sqrt(6 / ((1 + a * a) * _fans(sizes(shape))[0]))
        return cls.uniform(*shape, low=-bound, high=bound, dtype=dtype, **options)

    @classmethod
    def kaiming_normal(cls, *shape: Any, a: float = 0.01, dtype: DType = dt.float32, **options: Any) -> Self:
        """He's normal weights (out, in, …): standard deviation √(2 / ((1 + a²) · in))."""
        deviation = sqrt(2 / ((1 + a * a) * _fans(sizes(shape))[0]))
        return cls.normal(*shape, std=deviation, dtype=dtype, **options)

    @classmethod
    def xavier_uniform(
        cls, *shape: Any, gain: float = 1.0, dtype: DType = dt.float32, **options: Any
    ) -> Self:
        """Glorot's uniform weights (out, in, …): ± gain · √(6 / (in + out))."""
        bound = gain * sqrt(6 / sum(_fans(sizes(shape))))
        return cls.uniform(*shape, low=-bound, high=bound, dtype=dtype, **options)

    @classmethod
    def xavier_normal(cls, *shape: Any, gain: float = 1.0, dtype: DType = dt.float32, **options: Any) -> Self:
        """Glorot's normal weights (out, in, …): standard deviation gain · √(2 / (in + out))."""
        return cls.normal(*shape, std=gain * sqrt(2 / sum(_fans(sizes(shape)))), dtype=dtype, **options)

    glorot_uniform, glorot_normal = xavier_uniform, xavier_normal

    # -- chances --------------------------------------------------------------------------------------------

    def bernoulli(self, **options: Any) -> Self:
        """1 with the probability that each element is, else 0; of this tensor's dtype, a float."""
        if not self.dtype.is_float:
            raise InvalidGraph(f"probabilities are floats, not {self.dtype.name}", "bernoulli")
        check_probabilities(self.node, "bernoulli")
        draws = self.rand_like(dtype=_at_least_float32(self.dtype), **options)
        chosen = build.elementwise(Op.LT, draws.node, build.cast(self.node, draws.dtype))
        return self._new(build.cast(chosen, self.dtype))

    def dropout(self, p: float = 0.5, training: bool | None = None, **options: Any) -> Self:
        """While training, each element 0 with probability `p` and else divided by 1 - p; itself otherwise.

        Whether it trains is what `Tensor.train` says if nothing else does, and yes if that was never used.
        """
        training = getattr(self, "training", None) is not False if training is None else training
        if not 0 <= p <= 1:
            raise InvalidGraph(f"probability {p} is not from 0 to 1", "dropout")
        if not training or p == 0:
            return self

        def kept(source: Source) -> UOp:
            draws = random.uniform(source, self.shape, dt.float32)
            return build.elementwise(Op.LT, draws, arithmetic.like(1 - p, draws))

        mask = self._drawn(kept, {"device": self.device, **options})
        scaled = arithmetic.multiply(self.node, arithmetic.like(1 / (1 - p) if p < 1 else 0.0, self.node))
        return self._new(arithmetic.where(mask.node, scaled, arithmetic.like(0, self.node)))

    def multinomial(self, num_samples: int, replacement: bool = False, **options: Any) -> Self:
        """int64 (…, num_samples): places in the rows (…, n) of weights, chosen in proportion to these.

        InvalidGraph for a tensor without axes or weights, and for more samples without replacement than there are.
        """
        if not self.shape or self.shape[-1] == 0 or num_samples < 0:
            raise InvalidGraph(f"cannot choose {num_samples} from {self.shape} weights", "multinomial")
        if not replacement and num_samples > self.shape[-1]:
            raise InvalidGraph(
                f"cannot choose {num_samples} of {self.shape[-1]} without replacement", "multinomial"
            )

        def draw(source: Source) -> UOp:
            return random.choices(source, self.node, num_samples, replacement)

        return self._drawn(draw, {"device": self.device, **options})


def _source(device: str, seed: int | None, chosen: Generator | None) -> Source:
    if seed is not None:
        state = generator.state_of(seed)
        return lambda _: state
    found = chosen or generator.default(device)
    if found.device != device:
        raise DeviceError(
            f"a generator of {found.device} for a tensor on {device}", "make one for that device"
        )
    return found.take


def _affine(node: UOp, factor: float, offset: float) -> UOp:
    scaled = build.elementwise(Op.MUL, node, arithmetic.like(factor, node))
    return build.elementwise(Op.ADD, scaled, arithmetic.like(offset, node))


def _at_least_float32(dtype: DType) -> DType:
    return dt.float64 if dtype is dt.float64 else dt.float32


def _fans(shape: Shape) -> tuple[int, int]:
    """How many inputs and outputs a weight (out, in, …) connects. InvalidGraph for fewer than two axes, or none in."""
    if len(shape) < 2 or 0 in shape:
        raise InvalidGraph(f"weights have at least the axes (out, in), and elements: not {shape}", "fan")
    return prod(shape[1:]), shape[0] * prod(shape[2:])
