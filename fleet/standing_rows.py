"""The tables of who a node is and how far it is trusted: keys, spent nonces, and its standing.

Apart from `nodes`, which heartbeats write: nothing here is written by a sync that is as usual.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from fleet.schema import Table, one_of


class Trust(StrEnum):
    """How far what a node says is believed. Only a sealed node's word counts for others than who asked it."""

    SEALED = "sealed"  # no contributor has logged in since its image; its walls stand
    SHARED = "shared"  # people log in, a wall is missing, or a second node found otherwise
    TAINTED = "tainted"  # its identity was in two places, or an operator said so


class NodeKey(Table):
    """A public key (ed25519) of a node; `id` is the hex sha256 of its 32 bytes. Times are epoch seconds."""

    __tablename__ = "node_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), index=True)
    public_key: Mapped[str]
    created_at: Mapped[float]
    expires_at: Mapped[float | None]  # set when a newer key came, or the node was retired


class Nonce(Table):
    """A signed mutation that was accepted: the primary key refuses it a second time."""

    __tablename__ = "nonces"
    key_id: Mapped[str] = mapped_column(primary_key=True)
    nonce: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[float] = mapped_column(index=True)


class Standing(Table):
    """One node's pool and trust, and what its signatures are held against.

    What was signed before `signed_from` counts for nothing. `boot_signed_at`: when the first report of its present
    boot was signed. `contested_at`: since when two live agents have used its identity; both are refused. `rotate`:
    it is asked for a new key, and the old one ends with that.
    """

    __tablename__ = "node_standings"
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"), primary_key=True)
    pool: Mapped[str] = mapped_column(default="")
    trust: Mapped[str] = mapped_column(default=Trust.SEALED)
    trust_at: Mapped[float]
    trust_reason: Mapped[str] = mapped_column(default="")
    signed_from: Mapped[float] = mapped_column(default=0.0)
    boot_signed_at: Mapped[float | None]
    contested_at: Mapped[float | None]
    rotate: Mapped[bool] = mapped_column(default=False)
    join_token_id: Mapped[int | None]  # with which it joined
    __table_args__ = (one_of("trust", Trust),)
