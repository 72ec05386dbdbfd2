"""The compiler engine: lazy tensors, one graph, kernels with typed axes, search, and the code that runs them.

`from engine import Tensor, dtypes, jit, nn` is what a user's script needs; the names are PyTorch's and tinygrad's.
Each is loaded when it is first asked for: who needs a part of the engine (the fleet's agent, say) pays for that part.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine import dtypes as dtypes
    from engine import nn as nn
    from engine.autograd import no_grad as no_grad
    from engine.generator import Generator as Generator
    from engine.sizes import Var as Var
    from engine.tensor import Tensor as Tensor
    from engine.tracing import Jit as Jit
    from engine.tracing import TinyJit as TinyJit
    from engine.tracing import jit as jit

_EXPORTS = {
    "Generator": "engine.generator",
    "Jit": "engine.tracing",
    "Tensor": "engine.tensor",
    "TinyJit": "engine.tracing",
    "Var": "engine.sizes",
    "dtypes": "engine.dtypes",
    "jit": "engine.tracing",
    "nn": "engine.nn",
    "no_grad": "engine.autograd",
}


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    module = import_module(_EXPORTS[name])
    return getattr(module, name, module)
