"""engine.rewrite: patterns bind, rules run to a fixpoint, and circles are found instead of followed."""

from __future__ import annotations

import pytest

from engine import dtype as dt
from engine.build import const, param
from engine.errors import VerifyError
from engine.ir import UOp, toposort
from engine.ops import Op
from engine.rewrite import Rule, RuleSet, anything, pattern, rewrite, rewrite_all

X = param(0, (3,), dt.int32)
Y = param(1, (3,), dt.int32)


def add(a: UOp, b: UOp) -> UOp:
    return UOp(Op.ADD, a.dtype, (a, b))


def neg(a: UOp) -> UOp:
    return UOp(Op.NEG, a.dtype, (a,))


DOUBLE_NEG = RuleSet(
    "double negation", (Rule(pattern(Op.NEG, src=(pattern(Op.NEG, src=(anything("x"),)),)), lambda x: x),)
)


def test_a_rule_replaces_what_its_pattern_matches() -> None:
    assert rewrite(neg(neg(X)), DOUBLE_NEG) is X
    assert rewrite(neg(X), DOUBLE_NEG) is neg(X)


def test_rules_run_until_none_fires() -> None:
    deep = X
    for _ in range(101):
        deep = neg(deep)
    assert rewrite(deep, DOUBLE_NEG) is neg(X)


def test_one_name_bound_twice_must_be_one_node() -> None:
    same = pattern(Op.ADD, src=(anything("x"), anything("x")))
    rules = RuleSet("same", (Rule(same, lambda x: x),))
    assert rewrite(add(X, X), rules) is X
    assert rewrite(add(X, Y), rules) is add(X, Y)


def test_sources_match_in_either_order_only_when_asked() -> None:
    def rules(any_order: bool) -> RuleSet:
        found = pattern(Op.ADD, src=(pattern(Op.NEG), anything("y")), any_order=any_order)
        return RuleSet("order", (Rule(found, lambda y: y),))

    assert rewrite(add(Y, neg(X)), rules(True)) is Y
    assert rewrite(add(Y, neg(X)), rules(False)) is add(Y, neg(X))


def test_a_rule_may_decline() -> None:
    rules = RuleSet("declines", (Rule(pattern(Op.NEG), lambda: None), *DOUBLE_NEG.rules))
    assert rewrite(neg(neg(X)), rules) is X


def test_the_first_rule_that_fires_wins() -> None:
    rules = RuleSet("first", (Rule(pattern(Op.NEG), lambda: X), Rule(pattern(Op.NEG), lambda: Y)))
    assert rewrite(neg(Y), rules) is X


def test_a_replacement_is_rewritten_too() -> None:
    rules = RuleSet(
        "unfold", (Rule(pattern(Op.SUB, src=(anything("a"), anything("b"))), _as_sum), *DOUBLE_NEG.rules)
    )
    assert rewrite(UOp(Op.SUB, dt.int32, (X, neg(Y))), rules) is add(X, Y)


def _as_sum(a: UOp, b: UOp) -> UOp:
    return add(a, neg(b))


def test_what_roots_share_is_rewritten_once() -> None:
    seen: list[UOp] = []

    def note(x: UOp) -> None:
        seen.append(x)

    shared = add(X, Y)
    rewrite_all((neg(shared), add(shared, X)), RuleSet("note", (Rule(pattern(Op.ADD, name="x"), note),)))
    assert seen.count(shared) == 1


def test_rules_that_undo_each_other_are_reported_by_name() -> None:
    there = Rule(
        pattern(Op.ADD, src=(anything("a"), anything("b"))), lambda a, b: UOp(Op.SUB, a.dtype, (a, b))
    )
    back = Rule(pattern(Op.SUB, src=(anything("a"), anything("b"))), lambda a, b: add(a, b))
    with pytest.raises(VerifyError, match="after circle"):
        rewrite(add(X, Y), RuleSet("circle", (there, back)))


def test_a_rule_that_wraps_a_node_in_itself_is_reported_by_name() -> None:
    with pytest.raises(VerifyError, match="after wrap: ADD"):
        rewrite(add(X, Y), RuleSet("wrap", (Rule(pattern(Op.ADD, name="x"), neg_of),)))


def neg_of(x: UOp) -> UOp:
    return neg(x)


def test_a_graph_far_deeper_than_pythons_stack_is_rewritten_without_recursion() -> None:
    deep = X
    for _ in range(3_000):
        deep = add(neg(neg(deep)), const(1, dt.int32, (3,)))
    assert len([n for n in toposort(rewrite(deep, DOUBLE_NEG)) if n.op is Op.NEG]) == 0
