"""The fleet's errors, by whose problem it is. Values are attributes, so that no message is parsed for meaning.

Nothing here knows HTTP: api/errors.py has the one table from these classes to statuses.
"""

from __future__ import annotations


class FleetError(Exception):
    """Anything the control plane refuses or cannot do; `attributes` are the values behind the sentence."""

    @property
    def attributes(self) -> dict[str, object]:
        """The error's values by name, as they go into a problem document."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class Rejected(FleetError):
    """The caller asked for something that cannot be."""


class NotFound(Rejected):
    """No such row, or none that this principal may know of."""

    def __init__(self, noun: str, key: object) -> None:
        self.noun, self.key = noun, str(key)
        super().__init__(f"there is no {noun} {key}")


class AlreadyExists(Rejected):
    """A unique name is taken; `fix` says what to do."""

    def __init__(self, noun: str, key: object, fix: str) -> None:
        self.noun, self.key, self.fix = noun, str(key), fix
        super().__init__(f"{noun} {key} exists already: {fix}")


class IdempotencyConflict(Rejected):
    """The same idempotency key came with another request body."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"idempotency key {key!r} was used with another body: send the same body or use a new key"
        )


class InvalidTransition(Rejected):
    """The state machine has no such edge; `allowed` lists the events that the state accepts."""

    def __init__(self, machine: str, state: str, event: str, allowed: tuple[str, ...]) -> None:
        self.machine, self.state, self.event, self.allowed = machine, state, event, list(allowed)
        accepts = ", ".join(allowed) or "nothing: it is final"
        super().__init__(f"a {machine} that is {state} cannot {event}; it accepts {accepts}")


class NotPermitted(Rejected):
    """The token is unknown, expired, spent, or its role does not reach that far."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class StaleWrite(Rejected):
    """Somebody was faster: the writer's generation, fence or sequence is old."""

    def __init__(self, noun: str, key: object, reason: str) -> None:
        self.noun, self.key, self.reason = noun, str(key), reason
        super().__init__(f"stale write to {noun} {key}: {reason}")


class InvalidSpec(Rejected):
    """A field of the request cannot be; `problem` says why and what would do."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


class QuotaExceeded(Rejected):
    """The tenant has as much as it may."""

    def __init__(self, tenant: str, noun: str, held: int, limit: int) -> None:
        self.tenant, self.noun, self.held, self.limit = tenant, noun, held, limit
        super().__init__(
            f"tenant {tenant} has {held} of {limit} {noun}: wait for some to end, or ask for a larger quota"
        )


class Crowded(Rejected):
    """So many run there already that one more would harm the others."""

    def __init__(self, place: str, held: int, limit: int) -> None:
        self.place, self.held, self.limit = place, held, limit
        super().__init__(f"{place} has {held} of {limit} commands that run inside jobs: wait for some to end")


class TooLarge(Rejected):
    """More bytes than the fleet accepts in one piece."""

    def __init__(self, noun: str, size: int, limit: int) -> None:
        self.noun, self.size, self.limit = noun, size, limit
        super().__init__(f"{noun} of {size} bytes is larger than the limit of {limit}")


class Unavailable(FleetError):
    """The world failed, not the caller: the same request may succeed later."""


class DatabaseUnavailable(Unavailable):
    """The database does not answer, or not in time; the cause is for the log, not for the caller."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")
