"""What the engine raises. Each error carries its facts as attributes; the message is for people."""

from __future__ import annotations


class EngineError(Exception):
    """Anything the engine refuses or fails at."""


class InvalidGraph(EngineError):
    """A graph, kernel document or schedule that cannot be: the caller's mistake. `field` names where."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.field = field


class IllegalOpt(InvalidGraph):
    """An opt that may not be applied to this kernel in this state."""


class InvalidOption(EngineError):
    """An environment variable that is set to what it cannot be; the message says what to set instead."""

    def __init__(self, variable: str, given: str, fix: str) -> None:
        super().__init__(f"{variable}={given!r}: {fix}")
        self.variable = variable


class VerifyError(EngineError):
    """A pass produced a graph outside the spec: our bug. Names the pass and the offending op."""

    def __init__(self, stage: str, op: str, message: str) -> None:
        super().__init__(f"after {stage}: {op}: {message}")
        self.stage = stage
        self.op = op


class CompileError(EngineError):
    """The system's compiler failed or is missing. `log` is what it printed."""

    def __init__(self, stage: str, message: str, log: str = "") -> None:
        super().__init__(f"{stage}: {message}" + (f"\n{log}" if log else ""))
        self.stage = stage
        self.log = log


class CaptureError(EngineError):
    """A function given to jit does what a replay could not repeat. The message says what to write instead."""


class DeviceError(EngineError):
    """A device call failed, or a device is unknown (then the message lists those there are)."""

    def __init__(self, call: str, code: str) -> None:
        super().__init__(f"{call}: {code}")
        self.call = call
        self.code = code


class WrongResult(EngineError):
    """A kernel's output differs from its definition by more than the tolerance."""

    def __init__(self, error: float, tolerance: float, where: str = "") -> None:
        super().__init__(
            f"max error {error:.3g} exceeds tolerance {tolerance:.3g}{f' at {where}' if where else ''}"
        )
        self.error = error
        self.tolerance = tolerance
