"""Expressions of PromQL: read, with Grafana's variables filled in, and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import promql_parser

VARIABLES = {
    "$__rate_interval": "1m",
    "$__range": "5m",
    "$site": ".*",
    "$rack": ".*",
    "$node": ".*",
    "$gpu": ".*",
}
COMPARING = frozenset({"==", "!=", ">", "<", ">=", "<="})
JOINING = frozenset({"and", "or", "unless"})


def substituted(expr: str) -> str:
    """The expression as Grafana sends it when everything is chosen."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def parsed(expr: str) -> Any:
    """Its tree. Raises ValueError."""
    return promql_parser.parse(substituted(expr))


def within(expr: str) -> Iterator[str]:
    """What an alert looks at: its parts below comparisons and set operations, numbers left out. Each must be there,
    or the alert could never fire."""
    yield from _within(parsed(expr))


def _within(node: Any) -> Iterator[str]:
    if isinstance(node, promql_parser.ParenExpr):
        yield from _within(node.expr)
    elif isinstance(node, promql_parser.BinaryExpr) and str(node.op) in COMPARING | JOINING:
        yield from _within(node.lhs)
        yield from _within(node.rhs)
    elif not isinstance(node, promql_parser.NumberLiteral):
        yield str(node)
