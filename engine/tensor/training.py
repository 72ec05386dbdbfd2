"""tinygrad's way to say that a model trains: `with Tensor.train():` round the steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from engine.autograd import no_grad
from engine.tensor.value import Value


class Training(Value):
    """Whether anything trains is said by `Tensor.train`, for all modules of the process; until then by each module.

    Within `with Tensor.train():` Dropout drops and BatchNorm takes statistics. Once it has been left they do not,
    until it is entered again or `Tensor.training` is set: None leaves it to the modules' `train()` and `eval()`.
    """

    __slots__ = ()
    training: ClassVar[bool | None] = None

    @classmethod
    @contextmanager
    def train(cls, mode: bool = True) -> Iterator[None]:
        """Within it (or in a function decorated with it) modules train, or do not."""
        before, cls.training = cls.training, mode
        try:
            yield
        finally:
            cls.training = bool(before)

    @classmethod
    @contextmanager
    def test(cls, mode: bool = True) -> Iterator[None]:
        """Within it nothing trains and nothing is followed for gradients."""
        with cls.train(not mode), no_grad():
            yield

    no_grad: Any = staticmethod(no_grad)
