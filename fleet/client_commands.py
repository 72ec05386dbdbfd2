"""What the SDK says of commands: run one, follow what it prints, fetch what it left. Part of `fleet.client.Client`."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import httpx

from fleet.agents.protocol import PART_BYTES, DataFile, DataList, blob_address
from fleet.client_wire import TIMEOUT_S, ApiError, Connection, Unreachable, given, new_key, refusal
from fleet.resources import DataSet, DataSetPage, Job, LogPieces

LOG_WAIT_S = 20.0  # how long a request for more of a log is parked

Content = bytes | str | Path  # of an input file: its bytes, its text, or the local file that has them


@dataclass(frozen=True)
class Printed:
    """What a job printed: some bytes of one stream; `system` is what its agent has to say."""

    stream: Literal["stdout", "stderr", "system"]
    data: bytes


class CommandCalls(Connection):
    """Commands, and the bytes that they read and leave."""

    def put_blob(self, content: bytes) -> str:
        """Store bytes; returns their address."""
        address = blob_address(content)
        headers = {"Content-Type": "application/octet-stream"}
        self._send("PUT", f"/v1/blobs/{address}", content=content, headers=headers, repeatable=True)
        return address

    def get_blob(self, address: str) -> bytes:
        """The bytes stored at an address. Raises ValueError if they do not belong there."""
        content = self._send("GET", f"/v1/blobs/{address}", repeatable=True).content
        if blob_address(content) != address:
            raise ValueError(
                f"the server's bytes for blob {address} have the address {blob_address(content)}"
            )
        return content

    def command_spec(
        self,
        argv: Sequence[str] | None = None,
        *,
        script: str | None = None,
        files: Mapping[str, Content] | None = None,
        executable: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        artifacts: Sequence[str] = (),
        grace_s: float | None = None,
        network: bool = False,
        container: str | None = None,
        threads: int | None = None,
    ) -> dict[str, Any]:
        """The spec of a command, for a job, an array or a cron. `files`: path in its folder → content, which is uploaded;
        those whose paths are in `executable` may be run; `secrets`: variable → name of a secret; `data`: folder in data/
        → data set; `network`: only where operators allow it; `container`: an image, where nodes have podman."""
        spec = {
            "kind": "command",
            "argv": None if argv is None else list(argv),
            "script": script,
            "files": [
                self._file(path, content, path in executable) for path, content in (files or {}).items()
            ],
            "env": dict(env or {}),
            "secrets": dict(secrets or {}),
            "data": dict(data or {}),
            "artifacts": list(artifacts),
            "grace_s": grace_s,
            "network": network or None,
            "container": container,
            "threads": threads,
        }
        return given(**spec)

    def run_command(
        self,
        argv: Sequence[str] | None = None,
        *,
        script: str | None = None,
        files: Mapping[str, Content] | None = None,
        executable: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        artifacts: Sequence[str] = (),
        grace_s: float | None = None,
        network: bool = False,
        container: str | None = None,
        threads: int | None = None,
        **options: Any,
    ) -> Job:
        """Queue a command: a program with its arguments, or a script, as `command_spec` has it. `options` are those of
        `submit_job`. Files are uploaded first."""
        spec = self.command_spec(
            argv,
            script=script,
            files=files,
            executable=executable,
            env=env,
            secrets=secrets,
            data=data,
            artifacts=artifacts,
            grace_s=grace_s,
            network=network,
            container=container,
            threads=threads,
        )
        key = options.pop("idempotency_key", None) or new_key()
        return self._post(Job, "/v1/jobs", {"spec": spec, **given(**options)}, key)

    def exec_command(
        self,
        job_id: int,
        argv: Sequence[str] | None = None,
        *,
        script: str | None = None,
        env: Mapping[str, str] | None = None,
        rank: int = 0,
        timeout_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Run a command inside a job that runs: in the walls, the folder and the lease of its attempt (of a gang: of that
        rank). It is a job of its own, that begins at once and ends with the other one at the latest."""
        spec = given(kind="command", argv=None if argv is None else list(argv), script=script, env=env)
        body = {"spec": spec, "rank": rank, **given(timeout_s=timeout_s)}
        return self._post(Job, f"/v1/jobs/{job_id}/exec", body, idempotency_key or new_key())

    def push_data(self, folder: Path, said: Callable[[int, int], None] = lambda done, whole: None) -> str:
        """Store a folder's files as a data set; returns its address. What is stored already is not sent again. `said` hears
        how many bytes are there, of how many. ValueError for what cannot be in a data set."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        whole, done = sum(path.stat().st_size for path in paths), 0
        files = []
        for path in paths:
            parts = []
            with path.open("rb") as file:
                while part := file.read(PART_BYTES):
                    parts.append(self._stored(part))
                    done += len(part)
                    said(done, whole)
            name = path.relative_to(folder).as_posix()
            files.append(DataFile(path=name, size=path.stat().st_size, parts=parts))
        return self.put_data_set(DataList(files=files)).address

    def put_data_set(self, listed: DataList) -> DataSet:
        """Keep a data set whose parts are stored already."""
        address = self.put_blob(listed.text())
        reply = self._send("PUT", f"/v1/data-sets/{address}", repeatable=True)
        return DataSet.model_validate_json(reply.content)

    def data_sets(self, after: str = "", limit: int = 50) -> DataSetPage:
        """The data sets of this tenant."""
        return self._get(DataSetPage, "/v1/data-sets", {"after": after, "limit": limit})

    def remove_data_set(self, address: str) -> None:
        """Keep a data set no more."""
        self._send("DELETE", f"/v1/data-sets/{quote(address, safe='')}", repeatable=True)

    def data_list(self, address: str) -> DataList:
        """What is in a data set. ValueError when the blob lists none."""
        return DataList.model_validate_json(self.get_blob(address))

    def _stored(self, content: bytes) -> str:
        address = blob_address(content)
        try:
            self._send("HEAD", f"/v1/blobs/{address}", repeatable=True)
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return self.put_blob(content)
        return address

    def _file(self, path: str, content: Content, executable: bool) -> dict[str, Any]:
        if isinstance(content, Path):
            content = content.read_bytes()
        data = content.encode() if isinstance(content, str) else content
        return {"path": path, "blob": self.put_blob(data), "executable": executable}

    def job_logs(self, job_id: int, follow: bool = False) -> Iterator[str]:
        """The job's log in pieces, from its first attempt to its last; with `follow`, until the job has ended."""
        position: dict[str, Any] = {"attempt": "first", "offset": 0}
        wait = {"wait": LOG_WAIT_S} if follow else {}
        text = codecs.getincrementaldecoder("utf-8")("replace")
        while True:
            reply = self._send("GET", f"/v1/jobs/{job_id}/logs", query={**position, **wait}, repeatable=True)
            if reply.content:
                yield text.decode(reply.content)
            if reply.headers["Log-End"] == "true" or not (reply.content or follow):
                return
            position["attempt"] = reply.headers.get("Log-Attempt", "first")
            position["offset"] = int(reply.headers["Log-Offset"])

    def follow_log(self, job_id: int) -> Iterator[str]:
        """The job's log as it grows, over one connection that ends with the job. Raises Unreachable when it breaks."""
        text = codecs.getincrementaldecoder("utf-8")("replace")
        timeout = httpx.Timeout(TIMEOUT_S, read=None)  # a job may be silent for long
        try:
            with self._http.stream("GET", f"/v1/jobs/{job_id}/logs/stream", timeout=timeout) as reply:
                if reply.is_error:
                    reply.read()
                    raise refusal(reply)
                yield from filter(None, map(text.decode, reply.iter_raw()))
        except httpx.TransportError as error:
            raise Unreachable(self.base_url, str(error) or type(error).__name__) from error

    def log_pieces(self, job_id: int, follow: bool = False, wait: float = LOG_WAIT_S) -> Iterator[Printed]:
        """What a job printed, stream by stream as it arrived, from its first attempt to its last; with `follow`, until the
        job has ended. `wait`: how many seconds one request is parked."""
        found = LogPieces(items=[])
        while True:
            found = self.log_page(job_id, found, wait if follow else 0.0)
            yield from printed(found)
            if found.end or not (found.items or follow):
                return

    def log_page(self, job_id: int, before: LogPieces, wait: float = 0.0) -> LogPieces:
        """The page of a job's log that follows another one; with `wait`, once there is more or after so many seconds."""
        query = {"attempt": before.attempt or "first", "after": before.after, "wait": wait}
        return self._get(LogPieces, f"/v1/jobs/{job_id}/log-chunks", query)

    def artifact(self, job_id: int, name: str) -> bytes:
        """An artifact of the job's last attempt. KeyError names those that there are."""
        artifacts = self._get(Job, f"/v1/jobs/{job_id}").artifacts
        if name not in artifacts:
            there_is = ", ".join(sorted(artifacts)) or "none"
            raise KeyError(f"job {job_id} has no artifact {name!r}; there is: {there_is}")
        return self.get_blob(artifacts[name])

    def download_artifacts(self, job_id: int, folder: Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write artifacts of the job's last attempt (all, or these) below `folder`, under their own paths. ValueError for
        a name that would lead out of it."""
        artifacts = self._get(Job, f"/v1/jobs/{job_id}").artifacts
        written = []
        for name in artifacts if names is None else names:
            path = folder / safe(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get_blob(artifacts[name]))
            written.append(path)
        return written


def printed(page: LogPieces) -> Iterator[Printed]:
    """The pieces of a page."""
    return (Printed(piece.stream, base64.b64decode(piece.data)) for piece in page.items)


def safe(name: str) -> PurePosixPath:
    """An artifact's name as a path that stays below where it is put. A server could say anything."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ValueError(f"{name!r} is no name of an artifact")
    return path
