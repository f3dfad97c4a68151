"""What the daemon asks the runtime for, and what of it a shim has to know when. Pure."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import cast

from engine.oci.rootfs import Rootfs
from engine.runtime import sequence
from engine.runtime.files import File


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Where the shim writes the container's log, and how."""

    path: str  # "" = no log
    max_size: int  # bytes, 0 = unlimited
    max_file: int  # at least 1; older ones are path.1, path.2, …
    attributes: str = ""  # `"attrs":{…},` for each record
    compress: bool = False  # older ones are path.1.gz, path.2.gz, …
    buffer: int = (
        0  # bytes that wait for a slow disk before records are lost; 0 = the process waits
    )


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    container_id: str
    spec: Mapping[str, object]  # an OCI runtime spec without linux.seccomp
    seccomp: bytes  # compiled BPF, b"" = unconfined
    user: str  # "", name, uid, each with :group or :gid; found in the container's own files
    groups: tuple[str, ...]
    rootfs: Rootfs
    exec_dir: str  # exists, 0700
    log: LogTarget
    open_stdin: bool
    stdin_once: bool
    init: bool
    own_network: bool  # a network namespace of its own was asked for
    dns: bool  # bind sockets for DNS in it
    files: tuple[File, ...] = ()  # with contents that are in this container alone


def birth_orders(request: LaunchRequest) -> dict[str, object]:
    """What a shim has to know before it has a container."""
    linux = cast("Mapping[str, object]", request.spec.get("linux") or {})
    enclosure = sequence.enclosure(request.spec)
    return {
        "spare": False,
        "scripted": False,
        "container_id": request.container_id,
        "exec_dir": request.exec_dir,
        "cgroup": linux["cgroupsPath"],
        "resources": linux.get("resources") or {},
        "namespaces": enclosure.new,
        "pid_namespace": enclosure.pid,
        "ids": enclosure.ids.to_oci() if enclosure.ids else None,
        "user_namespace": enclosure.user,
        "own_network": request.own_network,
        "dns": request.dns,
    }


def left_limits(request: LaunchRequest) -> dict[str, object]:
    """A spare was born with its device rules, and no other limits."""
    linux = cast("Mapping[str, object]", request.spec.get("linux") or {})
    resources = cast("Mapping[str, object]", linux.get("resources") or {})
    return {key: value for key, value in resources.items() if key != "devices"}


def launch_orders(request: LaunchRequest) -> dict[str, object]:
    """What it has to know then."""
    process = cast("Mapping[str, object]", request.spec.get("process") or {})
    return {
        "dns": request.dns,
        "log": asdict(request.log),
        "terminal": bool(process.get("terminal")),
        "open_stdin": request.open_stdin,
        "stdin_once": request.stdin_once,
    }
