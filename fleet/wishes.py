"""What a job may ask of nodes, as a request gives it: the shape and its checks, shared by the API and the SDK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, model_validator

from fleet.agents.protocol import Count, JobKind, Name
from fleet.requirements import Needs

MAX_RANKS = 1024
Key = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")]
Value = Annotated[str, Field(max_length=63, pattern=r"^[A-Za-z0-9._/-]*$")]
Labels = Annotated[dict[Key, Value], Field(max_length=32)]
AntiLabel = Annotated[
    str, Field(min_length=1, max_length=127, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*(=[A-Za-z0-9._/-]*)?$")
]


class Requirements(BaseModel):
    """What each node of the job must offer. Of a gang (`ranks` > 1) each rank gets as much."""

    model_config = ConfigDict(extra="forbid")
    gpus: StrictInt = Field(default=0, ge=0, le=64, description="how many GPUs, each for itself")
    gpu_arch: str | None = Field(
        default=None, min_length=1, max_length=400, description="only GPUs whose arch begins so, as sm_90"
    )
    gpu_memory_bytes: Count = Field(default=0, description="of each GPU, at least")
    gpu_vendor: Name | None = Field(default=None, description="as nvidia or amd")
    gpu_driver: Name | None = Field(default=None, description="only GPUs in this driver mode")
    whole_node: StrictBool = Field(
        default=False, description="every GPU that the node has in order, and nobody beside it"
    )
    exclusive: Literal["gpu", "node"] | None = Field(
        default=None,
        description="gpu: alone on its GPUs, which every job is; node: alone on the node, for timing",
    )
    cpus: StrictInt = Field(default=1, ge=1, le=4096, description="CPU slots")
    labels: Labels = Field(default_factory=dict, description="labels that the node must have")
    anti_labels: list[AntiLabel] = Field(
        default_factory=list, max_length=32, description="key or key=value that it must not have"
    )
    features: list[Name] = Field(
        default_factory=list, max_length=8, description="what the node's agent must offer, as network"
    )
    rack: Name | None = Field(default=None, description="only nodes of this rack")
    trust: Literal["sealed", "shared", "tainted"] | None = Field(
        default=None, description="only nodes that are trusted at least so far"
    )
    ranks: StrictInt = Field(
        default=1, ge=1, le=MAX_RANKS, description="a gang: on so many nodes at once, or on none"
    )

    @model_validator(mode="after")
    def _gpus_where_they_are_spoken_of(self) -> Requirements:
        asked = [name for name in ("gpu_arch", "gpu_vendor", "gpu_driver") if getattr(self, name) is not None]
        asked += ["gpu_memory_bytes"] if self.gpu_memory_bytes else []
        asked += ["exclusive 'gpu'"] if self.exclusive == "gpu" else []
        if asked and not (self.gpus or self.whole_node):
            raise ValueError(f"{asked[0]} is about GPUs, and none is asked for: set gpus")
        return self

    def stored(self) -> dict[str, Any]:
        """What was given, for the job's row."""
        return self.model_dump(mode="json", exclude_defaults=True)


def needs(
    kind: JobKind | str,
    requires: Mapping[str, Any],
    *,
    arch: str | None = None,
    target_id: str | None = None,
    node_id: int | None = None,
    threads: int = 1,
) -> Needs:
    """A job's needs from its row: its columns, and what `Requirements.stored` gave."""
    found = requires.get
    return Needs(
        JobKind(kind),
        arch,
        target_id,
        node_id,
        threads,
        slots=found("cpus", 1),
        gpus=found("gpus", 0),
        gpu_arch=found("gpu_arch"),
        gpu_memory_bytes=found("gpu_memory_bytes", 0),
        gpu_vendor=found("gpu_vendor"),
        gpu_driver=found("gpu_driver"),
        whole_node=found("whole_node", False),
        alone=found("exclusive") or "",
        labels=tuple(sorted(f"{key}={value}" for key, value in found("labels", {}).items())),
        anti_labels=tuple(sorted(found("anti_labels", ()))),
        features=tuple(sorted(found("features", ()))),
        rack=found("rack"),
        trust=found("trust"),
        ranks=found("ranks", 1),
        burnin=found("burnin", ""),
    )
