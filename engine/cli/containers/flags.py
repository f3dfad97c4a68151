"""The options of `run`, `create` and `update`, with Docker's names: as typed, not yet read."""

# ruff: noqa: RUF009 - `opt` makes fields

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from engine.cli import complete
from engine.cli.complete import one_of

WHEN = ("missing", "always", "never")
POLICIES = one_of("no", "always", "on-failure", "unless-stopped")
STREAMS = one_of("stdin", "stdout", "stderr")
Texts = list[str]
Command = TypeVar("Command", bound=Callable[..., object])
Flags = TypeVar("Flags", bound="LimitFlags")


def opt(
    default: object,
    help: str,
    metavar: str = "",
    *,
    names: str = "",
    words: Callable[..., list[str]] | None = None,
) -> Any:
    """An option with the name of its field. `names`: others, parted by blanks. `words`: what a
    shell offers for its value."""
    told = {"help": help, "metavar": metavar, "names": names, "words": words}
    return field(default=default, metadata=told)


@dataclass(frozen=True, slots=True)
class LimitFlags:
    """What a container may use. `update` knows these, too."""

    blkio_weight: int = opt(0, "Share of the disks' time, 10 to 1000.", "N")
    cpu_period: int = opt(0, "Microseconds of a CFS period.", "N")
    cpu_quota: int = opt(0, "Microseconds of each that it may use.", "N")
    cpu_rt_period: int = opt(0, "The same of real-time tasks.", "N")
    cpu_rt_runtime: int = opt(0, "The same of real-time tasks.", "N")
    cpu_shares: int = opt(0, "Its weight beside others.", "N", names="-c")
    cpus: str = opt("", "How many processors, as 1.5.", "NUMBER")
    cpuset_cpus: str = opt("", "Which processors, as 0-3 or 0,1.", "LIST")
    cpuset_mems: str = opt("", "Which memory nodes.", "LIST")
    kernel_memory: str = opt("", "Does nothing: it is counted as memory.", "BYTES")
    memory: str = opt("", "How much memory, as 512m.", "BYTES", names="-m")
    memory_reservation: str = opt("", "What it keeps when it is scarce.", "BYTES")
    memory_swap: str = opt("", "Memory and swap together; -1: any.", "BYTES")
    pids_limit: int = opt(0, "How many processes; -1: any.", "N")


@dataclass(frozen=True, slots=True)
class CreateFlags(LimitFlags):
    add_host: Texts = opt((), "A name in its /etc/hosts.", "NAME:IP")
    annotation: Texts = opt((), "An annotation of the OCI spec.", "KEY=VALUE")
    attach: Texts = opt((), "stdin, stdout or stderr.", "STREAM", names="-a", words=STREAMS)
    blkio_weight_device: Texts = opt((), "The weight on one disk.", "DEVICE:N")
    cap_add: Texts = opt((), "A capability more.", "NAME", words=complete.capabilities)
    cap_drop: Texts = opt((), "A capability less; ALL.", "NAME", words=complete.capabilities)
    cgroup_parent: str = opt("", "The cgroup above its own.", "PATH")
    cgroupns: str = opt("", "host or private.", "MODE", words=one_of("host", "private"))
    cidfile: str = opt("", "Write its id there.", "FILE")
    detach_keys: str = opt("", "What leaves it (ctrl-p,ctrl-q).", "KEYS")
    device: Texts = opt((), "A device of this machine.", "PATH[:PATH[:rwm]]")
    device_cgroup_rule: Texts = opt((), "A rule for devices.", "RULE")
    device_read_bps: Texts = opt((), "Bytes a second read.", "DEVICE:BYTES")
    device_read_iops: Texts = opt((), "Reads a second.", "DEVICE:N")
    device_write_bps: Texts = opt((), "Bytes a second written.", "DEVICE:BYTES")
    device_write_iops: Texts = opt((), "Writes a second.", "DEVICE:N")
    disable_content_trust: bool = opt(
        True,
        "Don't check signatures: the one way there is.",
        names="--disable-content-trust/--enable-content-trust",
    )
    dns: Texts = opt((), "A name server.", "IP")
    dns_option: Texts = opt((), "For resolv.conf.", "OPTION", names="--dns-opt")
    dns_search: Texts = opt((), "A search domain.", "DOMAIN")
    domainname: str = opt("", "Its NIS domain.", "NAME")
    entrypoint: str | None = opt(None, "Instead of the image's; '': none.", "COMMAND")
    env: Texts = opt(
        (),
        "A variable; without =, as it is here.",
        "NAME[=VALUE]",
        names="-e",
        words=complete.variables,
    )
    env_file: Texts = opt((), "A file of variables.", "FILE")
    expose: Texts = opt((), "A port or a range of them.", "PORT[/PROTOCOL]")
    gpus: str = opt("", "'all', a number, or device=…", "GPUS")
    group_add: Texts = opt((), "A group more for its user.", "GROUP")
    health_cmd: str = opt("", "What says whether it is healthy.", "COMMAND")
    health_interval: str = opt("", "How long between two checks.", "DURATION")
    health_retries: int = opt(0, "Failures that make it unhealthy.", "N")
    health_start_interval: str = opt("", "The same while it starts.", "DURATION")
    health_start_period: str = opt("", "How long failures don't count.", "DURATION")
    health_timeout: str = opt("", "How long a check may take.", "DURATION")
    hostname: str = opt("", "Its host name.", "NAME", names="-h")
    init: bool | None = opt(None, "Reap its orphans.")
    interactive: bool = opt(False, "Keep its input open.", names="-i")
    ip: str = opt("", "Its IPv4 address.", "IP")
    ip6: str = opt("", "Its IPv6 address.", "IP")
    ipc: str = opt(
        "", "private, shareable, host, none or container:NAME.", "MODE", words=complete.ipc_modes
    )
    isolation: str = opt("", "default.", "KIND")
    label: Texts = opt((), "A label.", "KEY[=VALUE]", names="-l")
    label_file: Texts = opt((), "A file of labels.", "FILE")
    link: Texts = opt(
        (), "A name for another container.", "CONTAINER[:ALIAS]", words=complete.container_names
    )
    link_local_ip: Texts = opt((), "A link-local address.", "IP")
    log_driver: str = opt("", "What keeps its output.", "NAME", words=complete.log_drivers)
    log_opt: Texts = opt((), "For that.", "KEY=VALUE")
    mac_address: str = opt("", "Of its network interface.", "MAC")
    memory_swappiness: int = opt(-1, "0 to 100.", "N")
    mount: Texts = opt((), "A mount, as type=bind,src=…,dst=…", "KEY=VALUE,…")
    name: str = opt("", "Its name.", "NAME")
    network: Texts = opt(
        (),
        "A network, or host, none, container:NAME.",
        "NETWORK",
        names="--net",
        words=complete.some_network,
    )
    network_alias: Texts = opt((), "Another name for it there.", "NAME", names="--net-alias")
    no_healthcheck: bool = opt(False, "None, whatever the image says.")
    oom_kill_disable: bool = opt(False, "Wait instead of being killed.")
    oom_score_adj: int = opt(0, "-1000 to 1000.", "N")
    pid: str = opt("", "host or container:NAME.", "MODE", words=complete.some_container)
    platform: str = opt("", "Which of an image's several.", "OS/ARCH[/VARIANT]")
    privileged: bool = opt(False, "All of root's rights on this machine.")
    publish: Texts = opt((), "Publish a port.", "[[IP:]HOST:]PORT[/PROTOCOL]", names="-p")
    publish_all: bool = opt(False, "Publish all that are exposed.", names="-P")
    pull: str = opt("missing", "The image: missing, always or never.", "WHEN", words=one_of(*WHEN))
    quiet: bool = opt(False, "Don't show the pull.", names="-q")
    read_only: bool = opt(False, "Nothing of its file system may change.")
    restart: str = opt(
        "no", "no, always, unless-stopped or on-failure[:N].", "POLICY", words=POLICIES
    )
    rm: bool = opt(False, "Remove it when it has ended.")
    runtime: str = opt("", "What runs it.", "NAME")
    security_opt: Texts = opt((), "no-new-privileges, seccomp=FILE, …", "OPTION")
    shm_size: str = opt("", "Size of /dev/shm.", "BYTES")
    stop_signal: str = opt("", "What asks it to end.", "SIGNAL", words=complete.signal_names)
    stop_timeout: int | None = opt(None, "How long it then may take.", "SECONDS")
    storage_opt: Texts = opt((), "For its layer.", "KEY=VALUE")
    sysctl: Texts = opt((), "A kernel parameter of its own.", "KEY=VALUE")
    tmpfs: Texts = opt((), "A folder in memory.", "PATH[:OPTIONS]")
    tty: bool = opt(False, "Give it a terminal.", names="-t")
    ulimit: Texts = opt((), "As nofile=1024:2048.", "NAME=SOFT[:HARD]")
    user: str = opt("", "Who runs it.", "NAME|UID[:GROUP]", names="-u")
    userns: str = opt("", "host.", "MODE")
    uts: str = opt("", "host.", "MODE")
    volume: Texts = opt(
        (),
        "A folder or volume.",
        "[SOURCE:]TARGET[:OPTIONS]",
        names="-v",
        words=complete.volume_sources,
    )
    volume_driver: str = opt("", "For new volumes.", "NAME")
    volumes_from: Texts = opt(
        (), "The mounts of another.", "CONTAINER[:ro]", words=complete.container_names
    )
    workdir: str = opt("", "Where its command starts.", "PATH", names="-w")


@dataclass(frozen=True, slots=True)
class RunFlags(CreateFlags):
    detach: bool = opt(False, "In the background: print its id.", names="-d")
    sig_proxy: bool = opt(True, "Pass signals on to it.", names="--sig-proxy/--no-sig-proxy")


@dataclass(frozen=True, slots=True)
class UpdateFlags(LimitFlags):
    restart: str = opt(
        "", "no, always, unless-stopped or on-failure[:N].", "POLICY", words=POLICIES
    )


def _option(one: Field[object]) -> Any:
    names = one.metadata["names"].split()
    if not any("/" in name for name in names):
        names.append("--" + one.name.replace("_", "-"))
    help, metavar = one.metadata["help"], one.metadata["metavar"] or None
    return typer.Option(
        *names, help=help, metavar=metavar, show_default=False, autocompletion=one.metadata["words"]
    )


def with_options(flags: type) -> Callable[[Command], Command]:
    """For a command that takes its options as `**options`: they are those of `flags`."""

    def decorate(function: Command) -> Command:
        hints = get_type_hints(flags)
        own = inspect.signature(function, eval_str=True)
        given = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [
            inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=one.default,
                annotation=Annotated[hints[one.name], _option(one)],
            )
            for one in sorted(fields(flags), key=lambda one: one.name)
        ]
        signature = own.replace(parameters=[*given, *options])
        function.__signature__ = signature  # type: ignore[attr-defined]
        function.__annotations__ = {
            name: parameter.annotation for name, parameter in signature.parameters.items()
        }
        return function

    return decorate


def given(flags: type[Flags], options: Mapping[str, object]) -> Flags:
    """The library has None for an option that wasn't repeated once."""
    defaults = {one.name: one.default for one in fields(flags)}
    known: dict[str, Any] = {
        name: defaults[name] if value is None else value for name, value in options.items()
    }
    return flags(**known)
