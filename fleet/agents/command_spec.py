"""Jobs of the kind `command`: a program or a script, what it reads, what it is told, and what of it is kept."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictFloat, StrictInt, model_validator

from fleet.agents.wire import Count, Hash, Positive, Wire

# A file below the attempt's folder: no empty part, no "." and no "..", no control characters.
_PART = (
    r"(?:[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.[^/.\x00-\x1f\x7f][^/\x00-\x1f\x7f]*|\.\.[^/\x00-\x1f\x7f]+)"
)
RelativePath = Annotated[str, Field(min_length=1, max_length=255, pattern=rf"^{_PART}(/{_PART})*$")]
# The same with * and ? within a part, ** for any number of parts.
Glob = RelativePath
# What an artifact is called: the path of its file, in characters that mean nothing anywhere.
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}"
ArtifactName = Annotated[str, Field(min_length=1, max_length=255, pattern=rf"^{_PLAIN}(/{_PLAIN}){{0,15}}$")]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Text = Annotated[str, Field(max_length=32_768, pattern=r"^[^\x00]*$")]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
# How podman is told to take an image from elsewhere than a registry, as oci:/a/folder of the node's: what it pulls, it reads
# with the agent's rights.
_TRANSPORTS = frozenset(
    {"atomic", "containers-storage", "dir", "docker-archive", "docker-daemon"}
    | {"oci", "oci-archive", "ostree", "sif", "tarball"}
)


def _of_a_registry(name: str) -> str:
    head, colon, rest = name.partition(":")
    if colon and (head in _TRANSPORTS or rest.startswith("/")):
        raise ValueError(f"{head}: is a place and no image; give a name as registries have it, HOST/PATH:TAG")
    return name


# As registries have it: host:port/path/name:tag, or @sha256:digest, or an id; nothing that podman takes for an option.
ImageName = Annotated[
    str,
    Field(max_length=255, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$"),
    AfterValidator(_of_a_registry),
]
SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]

RESERVED = "TINYFLEET_"  # variables that the agent sets
# Folders of an attempt that are not for input files.
TAKEN = frozenset({"artifacts", "blobs", "cache", "data", "tmp"})


class InputFile(Wire):
    """A blob that lies in the attempt's folder, at `path`, when the command starts."""

    path: RelativePath
    blob: Hash
    executable: StrictBool = False


class Inside(Wire):
    """The attempt in whose walls a command runs, beside what runs there already."""

    attempt_id: Positive
    fence: Positive


class CommandSpec(Wire):
    """Run a program (`argv`) or a script; exactly one of them. It succeeds when its exit status is 0.

    A script begins with #! and an interpreter, else it is the shell's.
    """

    kind: Literal["command"] = "command"
    argv: list[Text] | None = Field(default=None, min_length=1, max_length=1024)
    script: Annotated[str, Field(min_length=1, max_length=256 * 1024, pattern=r"^[^\x00]*$")] | None = None
    files: list[InputFile] = Field(default_factory=list, max_length=1024)
    env: dict[Variable, Text] = Field(default_factory=dict, max_length=256)
    data: dict[FolderName, Hash] = Field(
        default_factory=dict, max_length=16, description="folder in data/ → data set that is there, read-only"
    )
    secrets: dict[Variable, SecretName] = Field(
        default_factory=dict, max_length=64, description="variable → name of a secret of the tenant's"
    )
    artifacts: list[Glob] = Field(
        default_factory=list,
        max_length=64,
        description="what is kept beside what lies in artifacts/: paths with * and ?, ** for any folders",
    )
    grace_s: StrictFloat | None = Field(
        default=None, ge=0, le=300, description="from SIGTERM to SIGKILL when it has to end; else the node's"
    )
    network: StrictBool = Field(
        default=False, description="only on nodes whose operators let commands reach the network"
    )
    container: ImageName | None = Field(
        default=None, description="an image in the place of the node's files; only on nodes that have podman"
    )
    threads: StrictInt = Field(default=1, ge=1, le=1024, description="of the node's cores")
    # Filled in by the control plane (POST /v1/jobs/{id}/exec); None from users.
    inside: Inside | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CommandSpec:
        if (self.argv is None) == (self.script is None):
            raise ValueError("give exactly one of argv and script")
        if self.argv is not None and not self.argv[0]:
            raise ValueError("argv[0] names no program")
        self._check_files()
        self._check_variables()
        return self

    def _check_files(self) -> None:
        paths = [file.path for file in self.files]
        for path in paths:
            if path.partition("/")[0] in TAKEN:
                raise ValueError(f"files: {path} is in a folder of the agent's; give another path")
        places = set(paths)
        if len(places) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise ValueError(f"files: {twice} is given more than once")
        for path in paths:
            above = path.rpartition("/")[0]
            while above:
                if above in places:
                    raise ValueError(f"files: {above} cannot be a file and the folder of {path}")
                above = above.rpartition("/")[0]

    def _check_variables(self) -> None:
        for field, names in (("env", self.env), ("secrets", self.secrets)):
            for name in names:
                if name.startswith(RESERVED):
                    raise ValueError(
                        f"{field}: {name} is the agent's; begin it otherwise than with {RESERVED}"
                    )
        if both := self.env.keys() & self.secrets.keys():
            raise ValueError(f"secrets: {min(both)} is in env too; give it once")

    def blobs(self) -> list[str]:
        """The addresses of the input files, each once."""
        return list(dict.fromkeys(file.blob for file in self.files))


class HandedSecrets(Wire):
    """The secrets of an attempt, for the node that is to run it: variable → value."""

    secrets: dict[str, str] = Field(repr=False)


class LogAck(Wire):
    """How many bytes of the attempt's log the server has; the agent continues there."""

    offset: Count
