"""What the methods of Tensor mean: pure functions from nodes to nodes, one file per noun, of the graph's ops alone.

They check what they are given (InvalidGraph, IndexError, TypeError) and compute nothing.
"""
