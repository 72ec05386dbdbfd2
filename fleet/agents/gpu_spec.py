"""The wire about GPUs: what they drew, the burn-in, and the reset that a node is asked for. Part of the protocol."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, StrictFloat

from fleet.agents.wire import Name, Positive, Wire


class BurninSpec(Wire):
    """Put questions whose answers are known to a device for so long, and measure how fast it answers.

    A GPU answers the known-answer kernel (fleet/agents/walls/known_answer.py); without `gpu` the CPU multiplies
    matrices, which is checked against the definition. Made by the control plane only.
    """

    kind: Literal["burnin"] = "burnin"
    gpu: Name | None = None
    seconds: StrictFloat = Field(default=5.0, gt=0, le=600)


class BurninResult(Wire):
    """A burn-in that passed. `rate`: of a GPU its known operations a second, of a CPU floating-point operations a second.

    `link_width` and `link_generation`: of the GPU's PCIe link under that load, where its driver says them.
    """

    rate: StrictFloat = Field(gt=0)
    rounds: Positive
    seconds: StrictFloat = Field(gt=0)
    link_width: Positive | None = None
    link_generation: Positive | None = None
    temperature_celsius: StrictFloat | None = None


class ResetSpec(Wire):
    """A GPU that the node shall reset. `generation`: which asking it is; an answer names it."""

    gpu: Name
    generation: Positive


class ResetReport(Wire):
    """How a reset went. `detail`: why it was not done, and what to do by hand."""

    gpu: Name
    generation: Positive
    done: StrictBool
    detail: str = Field(default="", max_length=2000)


class Energy(Wire):
    """What an attempt's device drew from its start to its end, by the device's own counter or integrated from its power.

    `throttled_s`: for how long the device's clocks were held down meanwhile.
    """

    joules: StrictFloat = Field(ge=0, le=1e15)
    method: Literal["counter", "integrated"]
    throttled_s: StrictFloat = Field(default=0.0, ge=0)
