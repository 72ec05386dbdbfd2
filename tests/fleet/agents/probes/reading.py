"""Find one sample among many."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.agents.samples import Sample


def sample(samples: Iterable[Sample], name: str, **wanted: str) -> Sample:
    """The only one of this name (without its prefix) that has these labels."""
    found = [
        each
        for each in samples
        if each.name == f"fleet_{name}"
        and all(f'{label}="{text}"' in each.labels.split(",") for label, text in wanted.items())
    ]
    assert len(found) == 1, f"{len(found)} samples are {name} {wanted}: {found}"
    return found[0]


def value(samples: Iterable[Sample], name: str, **wanted: str) -> float:
    """Its value."""
    return sample(samples, name, **wanted).value
