"""The compiler engine: lazy tensors, one graph, kernels with typed axes, search, and the code that runs them.

`from engine import Tensor, dtypes` is what a user's script needs. Tensor is loaded when it is first asked for: who
needs a part of the engine (the fleet's agent, say) pays for that part only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine import dtypes as dtypes
    from engine.sizes import Var as Var
    from engine.tensor import Tensor as Tensor

_EXPORTS = {"Tensor": "engine.tensor", "Var": "engine.sizes", "dtypes": "engine.dtypes"}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    module = import_module(_EXPORTS[name])
    return getattr(module, name, module)
