"""/containers and what hangs below it: one method an API call, typed answers."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager

from compose.client import fields
from compose.client.errors import BadAnswer
from compose.client.proxies import ProxyVariables
from compose.client.streams import Output, outputs
from compose.client.times import parse_time
from compose.client.transport import Duplex, Query, Transport
from compose.dataclass import dataclass

Filters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """`public` 0: exposed, but not published."""

    ip: str
    private: int
    public: int
    protocol: str


@dataclass(frozen=True, slots=True)
class MountPoint:
    """`name` is the volume's, for mounts of volumes."""

    kind: str
    name: str
    source: str
    destination: str
    writable: bool


@dataclass(frozen=True, slots=True)
class ContainerSummary:
    """A row of the list. `exit_code` and `health` come out of the status text, as nowhere else."""

    id: str
    name: str
    image: str
    image_id: str
    command: str
    created: int  # seconds since 1970
    state: str
    status: str
    exit_code: int | None
    health: str
    labels: Mapping[str, str]
    ports: tuple[PublishedPort, ...]
    network_mode: str
    networks: Mapping[str, str]  # name -> id
    addresses: Mapping[str, str]  # network name -> address
    mounts: tuple[MountPoint, ...]


@dataclass(frozen=True, slots=True)
class Probe:
    """One run of a health check. Times in nanoseconds since 1970."""

    start: int
    end: int
    exit_code: int
    output: str


@dataclass(frozen=True, slots=True)
class ContainerDetails:
    """What waiting and attaching need of an inspect; `document` is the whole answer."""

    id: str
    name: str
    status: str
    running: bool
    restarting: bool
    exit_code: int
    error: str
    oom_killed: bool
    started_at: int
    finished_at: int
    restart_count: int
    restart_policy: str
    health: str  # "" without a check
    probes: tuple[Probe, ...]
    start_period: float  # seconds
    tty: bool
    open_stdin: bool
    log_driver: str
    labels: Mapping[str, str]
    image_id: str
    document: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ExecDetails:
    running: bool
    exit_code: int | None
    pid: int


@dataclass(frozen=True, slots=True)
class ProcessTable:
    titles: tuple[str, ...]
    processes: tuple[tuple[str, ...], ...]


# Bits of Go's fs.FileMode, in which the API tells what a path is.
_GO_DIRECTORY = 1 << 31


@dataclass(frozen=True, slots=True)
class PathStat:
    """`link_target`: where a symbolic link leads, as a path in the container; else empty."""

    name: str
    mode: int
    link_target: str

    @property
    def is_directory(self) -> bool:
        return bool(self.mode & _GO_DIRECTORY)


class Containers:
    def __init__(self, transport: Transport, proxies: ProxyVariables) -> None:
        self._transport = transport
        self._proxies = proxies

    async def list(
        self, *, all: bool = True, filters: Filters | None = None
    ) -> tuple[ContainerSummary, ...]:
        answer = await self._transport.json(
            "GET", "/containers/json", query={"all": all, "filters": encode_filters(filters)}
        )
        rows = fields.items(answer, "the list of containers")
        return tuple(_summary(fields.mapping(row, "a container")) for row in rows)

    async def inspect(self, container: str) -> ContainerDetails:
        answer = await self._transport.json("GET", f"/containers/{container}/json")
        return _details(fields.mapping(answer, "a container"))

    async def create(
        self, name: str, body: Mapping[str, object], *, platform: str = ""
    ) -> tuple[str, tuple[str, ...]]:
        """The id, and the engine's warnings."""
        answer = await self._transport.json(
            "POST",
            "/containers/create",
            query={"name": name, "platform": platform or None},
            body=self._proxies.in_body(body),
        )
        created = fields.mapping(answer, "the created container")
        return fields.text(created, "Id"), fields.texts(created, "Warnings")

    async def start(self, container: str) -> None:
        await self._transport.json("POST", f"/containers/{container}/start")

    async def stop(self, container: str, *, timeout: int | None = None) -> None:
        """Returns when it is down. `timeout`: seconds until SIGKILL; None: the container's own."""
        await self._transport.json("POST", f"/containers/{container}/stop", query={"t": timeout})

    async def restart(self, container: str, *, timeout: int | None = None) -> None:
        await self._transport.json("POST", f"/containers/{container}/restart", query={"t": timeout})

    async def kill(self, container: str, *, signal: str = "SIGKILL") -> None:
        await self._transport.json(
            "POST", f"/containers/{container}/kill", query={"signal": signal}
        )

    async def pause(self, container: str) -> None:
        await self._transport.json("POST", f"/containers/{container}/pause")

    async def unpause(self, container: str) -> None:
        await self._transport.json("POST", f"/containers/{container}/unpause")

    async def update(self, container: str, body: Mapping[str, object]) -> tuple[str, ...]:
        """Warnings."""
        answer = await self._transport.json("POST", f"/containers/{container}/update", body=body)
        return fields.texts(fields.mapping(answer, "the update"), "Warnings")

    async def rename(self, container: str, name: str) -> None:
        await self._transport.json("POST", f"/containers/{container}/rename", query={"name": name})

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """`volumes`: its anonymous ones too."""
        await self._transport.json(
            "DELETE", f"/containers/{container}", query={"force": force, "v": volumes}
        )

    async def wait(self, container: str, *, condition: str = "not-running") -> int:
        """The exit code."""
        async with self.waiting(container, condition=condition) as exit_code:
            return await exit_code

    @asynccontextmanager
    async def waiting(
        self, container: str, *, condition: str
    ) -> AsyncIterator[Coroutine[object, object, int]]:
        """Inside of the block the engine is waiting already; what is yielded gives the exit code
        when awaited. For `next-exit` and `removed`, which have to be asked for before the start.
        """
        async with self._transport.stream(
            "POST", f"/containers/{container}/wait", query={"condition": condition}
        ) as answer:

            async def exit_code() -> int:
                async for result in answer.objects():
                    return fields.number(fields.mapping(result, "a wait"), "StatusCode")
                raise ConnectionResetError(f"the engine gave no exit code of {container}")

            code = exit_code()
            try:
                yield code
            finally:
                code.close()

    async def logs(
        self,
        container: str,
        *,
        tty: bool,
        stdout: bool = True,
        stderr: bool = True,
        follow: bool = False,
        tail: str = "all",
        since: str = "",
        until: str = "",
        timestamps: bool = False,
    ) -> AsyncGenerator[Output, None]:
        """`since`, `until`: seconds[.nanoseconds]; empty: no bound."""
        query: Query = {
            "stdout": stdout,
            "stderr": stderr,
            "follow": follow,
            "tail": tail,
            "since": since or None,
            "until": until or None,
            "timestamps": timestamps,
        }
        async with self._transport.stream(
            "GET", f"/containers/{container}/logs", query=query
        ) as answer:
            async for output in outputs(answer.chunks, tty=tty):
                yield output

    async def attach(
        self,
        container: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        detach_keys: str = "",
    ) -> Duplex:
        query = {
            "stream": True,
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "logs": logs,
            "detachKeys": detach_keys or None,
        }
        return await self._transport.upgrade(f"/containers/{container}/attach", query=query)

    async def resize(self, container: str, *, height: int, width: int) -> None:
        await self._transport.json(
            "POST", f"/containers/{container}/resize", query={"h": height, "w": width}
        )

    async def top(self, container: str, *, ps_args: str = "") -> ProcessTable:
        answer = await self._transport.json(
            "GET", f"/containers/{container}/top", query={"ps_args": ps_args or None}
        )
        table = fields.mapping(answer, "top")
        rows = fields.items(table.get("Processes"), "Processes")
        return ProcessTable(
            titles=fields.texts(table, "Titles"),
            processes=tuple(fields.texts({"row": row}, "row") for row in rows),
        )

    async def put_archive(
        self,
        container: str,
        path: str,
        tar: bytes | AsyncIterator[bytes],
        *,
        keep_owners: bool = False,
        keep_kinds: bool = False,
    ) -> None:
        """Unpack a tar below `path`, which has to be a directory. `keep_kinds`: a file does not
        take the place of a folder, nor a folder that of a file."""
        query: Query = {
            "path": path,
            "copyUIDGID": keep_owners,
            "noOverwriteDirNonDir": keep_kinds,
        }
        await self._transport.json("PUT", f"/containers/{container}/archive", query=query, body=tar)

    async def stat_path(self, container: str, path: str) -> PathStat:
        """Raises NotFound where there is nothing."""
        async with self._transport.stream(
            "HEAD", f"/containers/{container}/archive", query={"path": path}
        ) as answer:
            text = answer.head.headers.get("x-docker-container-path-stat", "")
        try:
            found = fields.mapping(json.loads(b64decode(text, validate=True)), "a path")
        except ValueError as error:
            raise BadAnswer(f"the engine tells nothing readable of {path}") from error
        return PathStat(
            name=fields.text(found, "name"),
            mode=fields.number(found, "mode"),
            link_target=fields.text(found, "linkTarget", ""),
        )

    @asynccontextmanager
    async def get_archive(self, container: str, path: str) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._transport.stream(
            "GET", f"/containers/{container}/archive", query={"path": path}
        ) as answer:
            yield answer.chunks

    async def create_exec(
        self,
        container: str,
        command: Sequence[str],
        *,
        user: str = "",
        privileged: bool = False,
        working_dir: str = "",
        environment: Sequence[str] = (),
        tty: bool = False,
        stdin: bool = False,
        output: bool = True,
    ) -> str:
        """The exec's id."""
        body = {
            "Cmd": [*command],
            "User": user,
            "Privileged": privileged,
            "WorkingDir": working_dir,
            "Env": [*environment],
            "Tty": tty,
            "AttachStdin": stdin,
            "AttachStdout": output,
            "AttachStderr": output,
        }
        answer = await self._transport.json("POST", f"/containers/{container}/exec", body=body)
        return fields.text(fields.mapping(answer, "the created exec"), "Id")

    async def start_exec(self, exec_id: str, *, tty: bool = False) -> Duplex:
        """Its streams; the exit code is in `inspect_exec` once they have ended."""
        body = {"Detach": False, "Tty": tty}
        return await self._transport.upgrade(f"/exec/{exec_id}/start", body=body)

    async def start_exec_detached(self, exec_id: str) -> None:
        await self._transport.json("POST", f"/exec/{exec_id}/start", body={"Detach": True})

    async def inspect_exec(self, exec_id: str) -> ExecDetails:
        answer = fields.mapping(await self._transport.json("GET", f"/exec/{exec_id}/json"), "exec")
        code = answer.get("ExitCode")
        return ExecDetails(
            running=fields.flag(answer, "Running"),
            exit_code=None if code is None else fields.number(answer, "ExitCode"),
            pid=fields.number(answer, "Pid", 0),
        )

    async def resize_exec(self, exec_id: str, *, height: int, width: int) -> None:
        await self._transport.json(
            "POST", f"/exec/{exec_id}/resize", query={"h": height, "w": width}
        )

    @asynccontextmanager
    async def export(self, container: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Its whole file system as a tar."""
        async with self._transport.stream("GET", f"/containers/{container}/export") as answer:
            yield answer.chunks

    async def commit(
        self,
        container: str,
        repository: str,
        tag: str,
        *,
        author: str = "",
        comment: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> str:
        """The id of the image. `changes`: instructions of a Dockerfile."""
        query: Query = {
            "container": container,
            "repo": repository or None,
            "tag": tag or None,
            "author": author or None,
            "comment": comment or None,
            "changes": [*changes],
            "pause": pause,
        }
        answer = await self._transport.json("POST", "/commit", query=query, body={})
        return fields.text(fields.mapping(answer, "the committed image"), "Id")

    async def samples(self, container: str, *, stream: bool) -> AsyncIterator[Mapping[str, object]]:
        """What it uses, undecoded: the fields differ between cgroup versions. About once a second
        until the container ends; without `stream` one sample. A first sample of a stream has none
        before it."""
        path = f"/containers/{container}/stats"
        query: Query = {"stream": "1" if stream else "0"}  # which is on where it isn't said
        async with self._transport.stream("GET", path, query=query) as answer:
            async for sample in answer.objects():
                yield fields.mapping(sample, "stats")


def encode_filters(filters: Filters | None) -> str | None:
    if not filters:
        return None
    return json.dumps({key: [*values] for key, values in filters.items()}, separators=(",", ":"))


_EXITED = re.compile(r"(?:Exited|Restarting) \((-?\d+)\)")
_HEALTH = re.compile(r"\((health: starting|healthy|unhealthy)\)")


def _summary(row: Mapping[str, object]) -> ContainerSummary:
    status = fields.text(row, "Status", "")
    exited = _EXITED.match(status)
    health = _HEALTH.search(status)
    names = fields.texts(row, "Names")
    endpoints = fields.child(fields.child(row, "NetworkSettings"), "Networks")
    networks = {name: fields.mapping(value or {}, name) for name, value in endpoints.items()}
    return ContainerSummary(
        id=fields.text(row, "Id"),
        # With links a container has further names, all with a second slash.
        name=next((name[1:] for name in names if name.count("/") == 1), ""),
        image=fields.text(row, "Image", ""),
        image_id=fields.text(row, "ImageID", ""),
        command=fields.text(row, "Command", ""),
        created=fields.number(row, "Created", 0),
        state=fields.text(row, "State"),
        status=status,
        exit_code=int(exited[1]) if exited else None,
        health=health[1].removeprefix("health: ") if health else "",
        labels=fields.text_map(row, "Labels"),
        ports=tuple(
            PublishedPort(
                ip=fields.text(port, "IP", ""),
                private=fields.number(port, "PrivatePort"),
                public=fields.number(port, "PublicPort", 0),
                protocol=fields.text(port, "Type", "tcp"),
            )
            for port in fields.children(row, "Ports")
        ),
        network_mode=fields.text(fields.child(row, "HostConfig"), "NetworkMode", ""),
        networks={name: fields.text(value, "NetworkID", "") for name, value in networks.items()},
        addresses={name: fields.text(value, "IPAddress", "") for name, value in networks.items()},
        mounts=tuple(
            MountPoint(
                kind=fields.text(mount, "Type", "bind"),
                name=fields.text(mount, "Name", ""),
                source=fields.text(mount, "Source", ""),
                destination=fields.text(mount, "Destination", ""),
                writable=fields.flag(mount, "RW"),
            )
            for mount in fields.children(row, "Mounts")
        ),
    )


def _details(document: Mapping[str, object]) -> ContainerDetails:
    state = fields.child(document, "State")
    config = fields.child(document, "Config")
    host = fields.child(document, "HostConfig")
    health = fields.child(state, "Health")
    check = fields.child(config, "Healthcheck")
    status = fields.text(health, "Status", "")
    return ContainerDetails(
        id=fields.text(document, "Id"),
        name=fields.text(document, "Name").removeprefix("/"),
        status=fields.text(state, "Status"),
        running=fields.flag(state, "Running"),
        restarting=fields.flag(state, "Restarting"),
        exit_code=fields.number(state, "ExitCode", 0),
        error=fields.text(state, "Error", ""),
        oom_killed=fields.flag(state, "OOMKilled"),
        started_at=parse_time(fields.text(state, "StartedAt", "")),
        finished_at=parse_time(fields.text(state, "FinishedAt", "")),
        restart_count=fields.number(document, "RestartCount", 0),
        restart_policy=fields.text(fields.child(host, "RestartPolicy"), "Name", "") or "no",
        health="" if status == "none" else status,
        probes=tuple(
            Probe(
                start=parse_time(fields.text(probe, "Start", "")),
                end=parse_time(fields.text(probe, "End", "")),
                exit_code=fields.number(probe, "ExitCode", 0),
                output=fields.text(probe, "Output", ""),
            )
            for probe in fields.children(health, "Log")
        ),
        start_period=fields.number(check, "StartPeriod", 0) / 1e9,
        tty=fields.flag(config, "Tty"),
        open_stdin=fields.flag(config, "OpenStdin"),
        log_driver=fields.text(fields.child(host, "LogConfig"), "Type", ""),
        labels=fields.text_map(config, "Labels"),
        image_id=fields.text(document, "Image", ""),
        document=document,
    )
