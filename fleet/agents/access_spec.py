"""The wire about logins: whom a node should let in, and what it says of itself. Shared by both sides.

Part of `Observed` and `Desired`. A grant is one person's one key until one moment; a node that is not told of it any more
ends it, whether or not that moment has come.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt

from fleet.agents.public_keys import parse
from fleet.agents.root_logins import (
    ACCOUNT,
    BASE64,
    CERTIFICATE,
    FIRST_UID,
    LARGEST,
    LAST_UID,
    LATEST,
    LONGEST_CERTIFICATE,
    LONGEST_KRL,
    MOST,
)

Account = Annotated[str, Field(pattern=ACCOUNT)]
Uid = Annotated[StrictInt, Field(ge=FIRST_UID, le=LAST_UID)]
Moment = Annotated[StrictFloat, Field(ge=0, le=LATEST)]
HostName = Annotated[str, Field(max_length=253, pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._:-]*)?$")]


def _plain(line: str) -> str:
    """The key written anew; KeyRefused, a ValueError, for what is none or weak."""
    return parse(line).line


KeyLine = Annotated[str, Field(max_length=16_384), AfterValidator(_plain)]
# `ssh-keygen -s` made it: one line, a certificate's type and base64.
CertificateLine = Annotated[str, Field(max_length=LONGEST_CERTIFICATE, pattern=CERTIFICATE)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


class AccessGrant(_Said):
    """Let this key into this account until then (epoch seconds)."""

    grant_id: Annotated[StrictInt, Field(ge=1, le=LARGEST)]
    account: Account
    uid: Uid
    key: KeyLine
    until: Moment


class AccessSpec(_Said):
    """Everybody who may log in. `user_ca`: whose certificates count; `host_certificate`: this node's own; `revoked`: a
    key revocation list in base64."""

    grants: Annotated[list[AccessGrant], Field(max_length=MOST)] = Field(default_factory=list)
    user_ca: KeyLine | None = None
    host_certificate: CertificateLine | None = None
    revoked: Annotated[str, Field(max_length=LONGEST_KRL, pattern=BASE64)] | None = None


class AccessReport(_Said):
    """How logins stand on a node: which grants are in force, since which desired generation, and how it is reached.

    A grant that is listed may still have processes; one that is not has neither a line, nor a process, nor a cron
    job. `problem`: why something could not be done.
    """

    generation: Annotated[StrictInt, Field(ge=0, le=LARGEST)] = 0
    grants: Annotated[list[Annotated[StrictInt, Field(ge=1, le=LARGEST)]], Field(max_length=MOST)] = Field(
        default_factory=list
    )
    address: HostName = ""
    port: Annotated[StrictInt, Field(ge=1, le=65535)] = 22
    host_keys: Annotated[list[KeyLine], Field(max_length=16)] = Field(default_factory=list)
    certified: StrictBool = False
    problem: str = Field(default="", max_length=2000)
