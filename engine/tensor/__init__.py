"""The lazy tensor: operations only write the graph down; `realize`, `numpy` and `item` compute it.

Conventions are PyTorch's: bool < int < float, a Python number lifts the category and never the width, sums of
bool and integers are int64, int / int is float32; broadcasting is NumPy's. Methods that take an `axis` take PyTorch's
`dim` as well. Views share elements with what they are views of. What differs from PyTorch: `max`, `min` and `median` along an axis give values alone (`argmax` the places); places
that a tensor of indices names are not checked if it has yet to be computed: one that does not exist reads 0 and writes
nothing.

One file per noun: each a class of thin methods over engine.functions, all of
them joined in `Tensor`.
"""

from engine.tensor.tensor import Tensor

__all__ = ["Tensor"]
