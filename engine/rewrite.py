"""Rules as data: a pattern, and what stands in place of what it matches; applied bottom-up to a fixpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.errors import VerifyError
from engine.ir import UOp
from engine.ops import Op

Bound = dict[str, UOp]
# How often one node may be replaced before the rules are taken to go round in circles.
MAX_REPLACEMENTS = 1000


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a node looks like; see `pattern` for a short way to write one.

    `ops`: which operations (none: any). `src`: patterns of the sources (None: any). `name`: bind the node; one
    name bound twice must be one node. `test`: a last condition. `any_order`: two sources match either way round.
    """

    ops: frozenset[Op] = frozenset()
    src: tuple[Pattern, ...] | None = None
    name: str = ""
    test: Callable[[UOp], bool] | None = None
    any_order: bool = False

    def match(self, node: UOp, bound: Bound) -> bool:
        """Does `node` match? Adds names to `bound`, which is spoilt when the answer is no."""
        if self.ops and node.op not in self.ops:
            return False
        if self.test is not None and not self.test(node):
            return False
        if self.name and bound.setdefault(self.name, node) is not node:
            return False
        return self.src is None or self._match_sources(node.src, bound)

    def _match_sources(self, sources: tuple[UOp, ...], bound: Bound) -> bool:
        assert self.src is not None
        if len(sources) != len(self.src):
            return False
        if not self.any_order:
            return _match_each(self.src, sources, bound)
        before = dict(bound)
        if _match_each(self.src, sources, bound):
            return True
        bound.clear()
        bound.update(before)
        return _match_each(self.src, sources[::-1], bound)


def _match_each(patterns: tuple[Pattern, ...], nodes: tuple[UOp, ...], bound: Bound) -> bool:
    return all(p.match(node, bound) for p, node in zip(patterns, nodes, strict=True))


def pattern(
    *ops: Op,
    src: Sequence[Pattern] | None = None,
    name: str = "",
    test: Callable[[UOp], bool] | None = None,
    any_order: bool = False,
) -> Pattern:
    """A pattern of any of `ops`: `pattern(Op.ADD, src=(anything("x"), anything("y")))`."""
    return Pattern(frozenset(ops), None if src is None else tuple(src), name, test, any_order)


def anything(name: str = "", test: Callable[[UOp], bool] | None = None) -> Pattern:
    """A pattern that matches every node, or every node that passes `test`."""
    return Pattern(name=name, test=test)


@dataclass(frozen=True, slots=True)
class Rule:
    """`function` is called with the bound nodes as keywords; it gives the replacement, or None to decline."""

    pattern: Pattern
    function: Callable[..., UOp | None]


@dataclass(frozen=True)
class RuleSet:
    """A named list of rules, tried in order; the name stands in errors."""

    name: str
    rules: tuple[Rule, ...]

    @cached_property
    def _by_op(self) -> dict[Op, tuple[Rule, ...]]:
        return {op: tuple(r for r in self.rules if not r.pattern.ops or op in r.pattern.ops) for op in Op}

    def apply(self, node: UOp) -> UOp | None:
        """What the first rule that fires puts in place of `node`; None when none does."""
        for rule in self._by_op[node.op]:
            bound: Bound = {}
            if rule.pattern.match(node, bound):
                found = rule.function(**bound)
                if found is not None and found is not node:
                    return found
        return None


def rewrite(root: UOp, rules: RuleSet) -> UOp:
    """`root` with `rules` applied everywhere, sources first, until none fires. VerifyError if they never stop."""
    return rewrite_all((root,), rules)[0]


def rewrite_all(roots: Iterable[UOp], rules: RuleSet) -> tuple[UOp, ...]:
    """`rewrite` of several roots with one memo, so that what they share is rewritten once."""
    roots = tuple(roots)
    done: dict[UOp, UOp] = {}
    for root in roots:
        _rewrite_under(root, rules, done)
    return tuple(done[root] for root in roots)


@dataclass(slots=True)
class _Task:
    """A node being rewritten: `original` stands as `current` for now, after `count` replacements."""

    original: UOp
    current: UOp
    count: int = 0
    sources_done: bool = False


def _rewrite_under(root: UOp, rules: RuleSet, done: dict[UOp, UOp]) -> None:
    open_: set[UOp] = set()  # nodes whose rewriting has begun: meeting one below itself is a circle
    stack = [_Task(root, root)]
    while stack:
        task = stack[-1]
        if task.original in done:
            stack.pop()
        elif not task.sources_done:
            _open_sources(task, stack, open_, done, rules.name)
        elif _step(task, rules, done):
            open_.discard(task.original)
            stack.pop()


def _open_sources(task: _Task, stack: list[_Task], open_: set[UOp], done: dict[UOp, UOp], stage: str) -> None:
    if task.count == 0 and task.original in open_:
        raise VerifyError(stage, task.original.op.value, "a rule puts a node below itself, for ever")
    open_.add(task.original)
    task.sources_done = True
    stack.extend(_Task(source, source) for source in reversed(task.current.src) if source not in done)


def _step(task: _Task, rules: RuleSet, done: dict[UOp, UOp]) -> bool:
    """Rebuild the node over its rewritten sources and try the rules; True when it is settled."""
    src = tuple(done[source] for source in task.current.src)
    node = task.current if src == task.current.src else task.current.replace(src=src)
    found = done.get(node)
    if found is None:
        found = rules.apply(node)
        if found is not None:
            _replaced(task, found, rules.name)
            return False
        found = done[node] = node
    done[task.original] = done[task.current] = found
    return True


def _replaced(task: _Task, replacement: UOp, stage: str) -> None:
    task.current, task.sources_done = replacement, False
    task.count += 1
    if task.count > MAX_REPLACEMENTS:
        raise VerifyError(stage, replacement.op.value, f"{MAX_REPLACEMENTS} replacements without an end")
