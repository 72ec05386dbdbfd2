"""The table of what attempts drew, as their nodes read it from counters at their start and end."""

from __future__ import annotations

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table, one_of


class AttemptEnergy(Table):
    """What one ended attempt's devices drew, and for how long their clocks were held down meanwhile.

    `tenant` and `node_id` are its job's and its own, kept here so that sums need no other table. `at`: when it ended.
    """

    __tablename__ = "attempt_energies"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempts.id"), primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id"), index=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    at: Mapped[float] = mapped_column(index=True)
    joules: Mapped[float]
    throttled_s: Mapped[float]
    method: Mapped[str]
    __table_args__ = (one_of("method", ["counter", "integrated"]),)
