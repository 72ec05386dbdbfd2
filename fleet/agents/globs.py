"""Paths that match a pattern: * and ? within a part, ** for any number of parts. In time that no pattern can blow up. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def matches(pattern: str, path: str) -> bool:
    """Whether a path, its parts separated by /, is meant by a pattern."""
    return _parts_match(pattern.split("/"), path.split("/"))


def _parts_match(patterns: Sequence[str], parts: Sequence[str]) -> bool:
    """Row by row: which prefixes of the parts the patterns so far match."""
    reached = [True] + [False] * len(parts)
    for pattern in patterns:
        if pattern == "**":
            first = reached.index(True) if True in reached else len(reached)
            reached = [at >= first for at in range(len(reached))]
        else:
            reached = [False] + [
                before and part_matches(pattern, part) for before, part in zip(reached, parts, strict=False)
            ]
    return reached[-1]


def part_matches(pattern: str, part: str) -> bool:
    """Whether one part of a path matches: * is any characters, ? is one. A leading dot is a character like others."""
    at, seen = 0, 0
    star, kept = -1, 0  # the last * and how far it reached: only the last can be wrong
    while seen < len(part):
        if at < len(pattern) and pattern[at] == "*":
            star, kept = at, seen
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", part[seen]):
            at, seen = at + 1, seen + 1
        elif star >= 0:
            kept += 1
            at, seen = star + 1, kept
        else:
            return False
    return all(character == "*" for character in pattern[at:])
