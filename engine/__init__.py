"""The compiler engine: lazy tensors, one graph, kernels with typed axes, search, and the code that runs them."""
