"""The tree in long syntax -> the frozen model. What has the right shape but not the right content
is told here: sizes, times, ports out of range, attributes that are missing.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from compose.load.bind_build import bind_build, bind_hosts, bind_ulimits
from compose.load.bind_deploy import bind_deploy, bind_device_request
from compose.load.bind_mounts import bind_mount, bind_reference, bind_secret_reference
from compose.load.defaults import with_defaults
from compose.load.fields import Fields, absolute
from compose.load.nearest import nearest
from compose.load.short import BadSyntax, check_host_ip, port_range
from compose.load.tree import Map, Scalar, Sequence, spelled
from compose.model.health import HealthCheck
from compose.model.port import Port
from compose.model.service import (
    Attachment,
    BlkioConfig,
    Condition,
    CredentialSpec,
    Dependency,
    Device,
    Hook,
    Logging,
    ModelBinding,
    Provider,
    Service,
    ThrottleDevice,
    WatchAction,
    WatchRule,
    WeightDevice,
)

T = TypeVar("T")
ROOTFS = "rootfs:"  # an image that is a folder: rootfs:/, rootfs:./tree


def plain(node: object) -> object:
    """A part of the tree as JSON data."""
    match node:
        case Scalar():
            return str(node.value) if isinstance(node.value, str) else node.value
        case Sequence():
            return [plain(item) for item in node.items]
        case Map():
            return {key: plain(value) for key, value in node.entries.items()}
    return None


def extensions_of(node: Map) -> dict[str, object]:
    return {key: plain(value) for key, value in node.entries.items() if key.startswith("x-")}


# ---- services ----


def bind_service(
    name: str,
    fields: Fields,
    environment: Mapping[str, str | None],
    labels: Mapping[str, str],
) -> Service:
    """One service. Environment and labels come ready, with their files folded in."""
    given: dict[str, Any] = {
        key: read(fields, key) for key in fields.names() if (read := _ATTRIBUTES.get(key))
    }
    if "develop" in given:
        given["watch"] = given.pop("develop")
    if extensions := extensions_of(fields.node):
        given["extensions"] = extensions
    given |= {"environment": environment, "labels": labels}
    if "label_file" in fields:
        given["label_file"] = _label_files(fields)
    return Service(name=name, **with_defaults(given))


def _label_files(fields: Fields) -> tuple[str, ...]:
    node = fields.node.entries.get("label_file")
    files = node.items if isinstance(node, Sequence) else ()
    return tuple(absolute(spelled(file.value), file) for file in files if isinstance(file, Scalar))


def _image(fields: Fields) -> str:
    image = fields.text("image")
    if image.startswith(ROOTFS):
        node = fields.scalar("image")
        assert node is not None
        return ROOTFS + absolute(image[len(ROOTFS) :] or "/", node)
    return image


_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def _container_name(fields: Fields) -> str:
    name = fields.text("container_name")
    if "container_name" in fields and not _CONTAINER_NAME.fullmatch(name):
        fields.add(
            "container_name",
            f'"{name}" can\'t be the name of a container',
            'it takes two or more letters, digits, "_", "." and "-", the first a letter or digit',
        )
    return name


def _mac_address(fields: Fields, key: str = "mac_address") -> str:
    address = fields.text(key)
    if address and not _MAC.fullmatch(address):
        fields.add(
            key,
            f'"{address}" isn\'t a MAC address',
            'write six pairs of hex digits, as in "02:42:ac:11:00:02"',
        )
    return address


def _pull_policy(fields: Fields) -> str:
    policy = fields.text("pull_policy")
    return "missing" if policy == "if_not_present" else policy


_RESTARTS = ("no", "always", "unless-stopped", "on-failure")


def _restart(fields: Fields) -> str:
    node = fields.scalar("restart")
    policy = "no" if node is not None and node.value is False else fields.text("restart")
    name, colon, count = policy.partition(":")
    if policy and (name not in _RESTARTS or (colon and name != "on-failure")):
        close = nearest(name, _RESTARTS)
        fields.add(
            "restart",
            f'"{policy}" isn\'t a restart policy',
            f'did you mean "{close}"?'
            if close and close != name
            else 'it can be "no", always, unless-stopped, on-failure or on-failure:3',
        )
    elif colon and not count.isdecimal():
        fields.add("restart", f'"{count}" isn\'t a number of retries', 'write "on-failure:3"')
    return policy


def _percent(fields: Fields, key: str) -> int | None:
    value = fields.whole(key)
    if value is not None and not 0 <= value <= 100:
        fields.add(key, f"{value} is out of range: it must be from 0 to 100")
        return None
    return value


def _microseconds(fields: Fields, key: str) -> int:
    """CPU times: a number of microseconds, or a time with its unit."""
    node = fields.scalar(key)
    if node is not None and isinstance(node.value, str) and node.value[-1:].isalpha():
        return (fields.duration(key) or 0) // 1000
    return fields.whole_or(key, 0)


_EXPOSED = re.compile(r"(\d{1,12})(-\d{1,12})?(/(tcp|udp|sctp))?")


def _expose(fields: Fields) -> tuple[str, ...]:
    ports = fields.texts("expose")
    for index, port in enumerate(ports):
        if not port:
            continue  # a variable that isn't set: told already
        match = _EXPOSED.fullmatch(port)
        if match is None or not 1 <= int(match[1]) <= 65535:
            fields.add_item(
                "expose",
                index,
                f'"{port}" isn\'t a port of the container',
                'write it as in "3000", "3000/udp" or "3000-3005"',
            )
    return ports


def _ports(fields: Fields) -> tuple[Port, ...]:
    # Index for index as in the tree, so that a port is found by its place.
    ports = (_port(entry) for entry in fields.each("ports"))
    return tuple(port for port in ports if port is not None)


def _port(fields: Fields) -> Port | None:
    before = len(fields.problems.errors)
    target = fields.whole("target")
    if "target" not in fields:
        fields.required("target", 'say which port of the container: "target: 80"')
    elif target is not None and not 1 <= target <= 65535:
        fields.add("target", f"there is no port {target}: ports run from 1 to 65535")
    published = fields.text("published")
    host_ip = fields.text("host_ip")
    for key, check in (
        ("published", lambda: port_range(published, published, least=0) if published else None),
        ("host_ip", lambda: check_host_ip(host_ip)),
    ):
        try:
            check()
        except BadSyntax as error:
            fields.add(key, error.what, error.hint)
    protocol = fields.text("protocol", "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        fields.add("protocol", f'"{protocol}" isn\'t a protocol', "it can be tcp, udp or sctp")
    if target is None or len(fields.problems.errors) > before:
        return None
    return Port(
        target=target,
        published=published,
        protocol=protocol,
        host_ip=host_ip.strip("[]"),
        mode=fields.text("mode", "ingress"),
        name=fields.text("name"),
        app_protocol=fields.text("app_protocol"),
    )


def _dependency(name: str, fields: Fields) -> Dependency:
    condition = fields.text("condition")
    if not condition:
        fields.required("condition", "write one of: " + ", ".join(Condition))
    required = fields.optional_flag("required")
    return Dependency(
        service=name,
        condition=Condition(condition) if condition in list(Condition) else Condition.STARTED,
        restart=fields.flag("restart"),
        required=True if required is None else required,
    )


def _health_check(fields: Fields) -> HealthCheck:
    test = fields.texts("test")
    if "test" in fields and not fields.flag("disable"):
        if not test:
            fields.add("test", "the list is empty", 'write ["CMD", "program", "argument"]')
        elif test[0] not in ("NONE", "CMD", "CMD-SHELL"):
            fields.add(
                "test",
                f'a test starts with CMD, CMD-SHELL or NONE, not with "{test[0]}"',
                f'write ["CMD", "{test[0]}", ...], or one text for a shell',
            )
    return HealthCheck(
        test=test,
        timeout=fields.duration("timeout"),
        interval=fields.duration("interval"),
        retries=fields.count("retries"),
        start_period=fields.duration("start_period"),
        start_interval=fields.duration("start_interval"),
        disable=fields.flag("disable"),
    )


def _hook(fields: Fields) -> Hook:
    if "command" not in fields:
        fields.required("command", 'say what to run: "command: [program, argument]"')
    return _optional_hook(fields)


def _optional_hook(fields: Fields) -> Hook:
    return Hook(
        command=fields.arguments("command"),
        user=fields.text("user"),
        privileged=fields.flag("privileged"),
        working_dir=fields.text("working_dir"),
        environment=fields.variables("environment"),
        image=fields.text("image"),
        per_replica=fields.flag("per_replica"),
    )


def _watch_rule(fields: Fields) -> WatchRule:
    fields.required("path", "say which files: a path relative to the project")
    action = fields.text("action")
    if not action:
        fields.required("action", "write one of: " + ", ".join(WatchAction))
    if action.startswith("sync") and not fields.text("target"):
        fields.required("target", f'"{action}" must know where in the container the files go')
    exec_fields = fields.inner("exec")
    if action == WatchAction.SYNC_EXEC and (exec_fields is None or "command" not in exec_fields):
        fields.required("exec", 'say what to run after the sync: "exec: {command: ...}"')
    former = "x-initialSync"
    if former in fields:
        fields.problems.warn(
            fields.node.keys[former], (*fields.place, former),
            f"{former} is called initial_sync by now", "write initial_sync",
        )  # fmt: skip
    return WatchRule(
        path=os.path.realpath(fields.path("path")),
        action=WatchAction(action) if action in list(WatchAction) else WatchAction.REBUILD,
        target=fields.text("target"),
        exec=_optional_hook(exec_fields) if exec_fields else Hook(),
        include=fields.texts("include"),
        ignore=fields.texts("ignore"),
        initial_sync=fields.flag("initial_sync"),
        former_initial_sync=fields.flag(former),
    )


def _attachment(fields: Fields) -> Attachment:
    return Attachment(
        aliases=fields.texts("aliases"),
        driver_opts=fields.pairs("driver_opts"),
        gw_priority=fields.whole_or("gw_priority", 0),
        interface_name=fields.text("interface_name"),
        ipv4_address=fields.address("ipv4_address"),
        ipv6_address=fields.address("ipv6_address"),
        link_local_ips=fields.texts("link_local_ips"),
        mac_address=_mac_address(fields),
        priority=fields.whole_or("priority", 0),
    )


def _logging(fields: Fields) -> Logging:
    return Logging(driver=fields.text("driver"), options=fields.pairs("options"))


def _provider(fields: Fields) -> Provider:
    fields.required("type", "say which program provides the service")
    options = fields.inner("options")
    values: dict[str, tuple[str, ...]] = {}
    for key in options.names() if options else ():
        assert options is not None
        values[key] = options.texts(key) or (options.text(key),)
    return Provider(type=fields.text("type"), options=values)


def _credential_spec(fields: Fields) -> CredentialSpec:
    return CredentialSpec(fields.text("config"), fields.text("file"), fields.text("registry"))


def _model_binding(fields: Fields) -> ModelBinding:
    return ModelBinding(fields.text("endpoint_var"), fields.text("model_var"))


def _device(fields: Fields) -> Device:
    source = fields.required("source", "say which device of the host")
    return Device(
        source=source,
        target=fields.text("target") or source,
        permissions=fields.text("permissions") or "rwm",
    )


def _blkio(fields: Fields) -> BlkioConfig:
    def limits(key: str) -> tuple[ThrottleDevice, ...]:
        return tuple(
            ThrottleDevice(
                entry.required("path", "say which device of the host"), entry.size("rate") or 0
            )
            for entry in fields.each(key)
        )

    return BlkioConfig(
        weight=fields.whole_or("weight", 0),
        weight_device=tuple(
            WeightDevice(
                entry.required("path", "say which device of the host"),
                entry.whole_or("weight", 0),
            )
            for entry in fields.each("weight_device")
        ),
        device_read_bps=limits("device_read_bps"),
        device_read_iops=limits("device_read_iops"),
        device_write_bps=limits("device_write_bps"),
        device_write_iops=limits("device_write_iops"),
    )


# ---- the table: attribute of a service -> how it is read ----

_Read: TypeAlias = Callable[[Fields, str], object]


def _one(bind: Callable[[Fields], object]) -> _Read:
    """A mapping; None when it isn't there."""
    return lambda fields, key: bind(inner) if (inner := fields.inner(key)) else None


def _many(bind: Callable[[Fields], object]) -> _Read:
    """A list of mappings."""
    return lambda fields, key: tuple(bind(entry) for entry in fields.each(key))


def _named(bind: Callable[[Fields], object]) -> _Read:
    """Mappings by name."""
    return lambda fields, key: {name: bind(entry) for name, entry in fields.named(key)}


def _whole(fields: Fields, key: str) -> int:
    return fields.whole(key) or 0


def _watch(fields: Fields) -> tuple[WatchRule, ...]:
    return tuple(_watch_rule(rule) for rule in fields.each("watch"))


def _attachments(fields: Fields, key: str) -> dict[str, Attachment]:
    written = fields.node.entries[key]
    entries = written.entries if isinstance(written, Map) else {}
    return {
        name: replace(_attachment(each), is_mapping=isinstance(entries.get(name), Map))
        for name, each in fields.named(key)
    }


def _dependencies(fields: Fields, key: str) -> dict[str, Dependency]:
    return {name: _dependency(name, each) for name, each in fields.named(key)}


_text, _texts, _flag = Fields.text, Fields.texts, Fields.flag
_ATTRIBUTES: dict[str, _Read] = {
    "annotations": Fields.pairs,
    "attach": Fields.optional_flag,
    "blkio_config": _one(_blkio),
    "build": _one(bind_build),
    "cap_add": _texts,
    "cap_drop": _texts,
    "cgroup": _text,
    "cgroup_parent": _text,
    "command": Fields.arguments,
    "configs": _many(bind_reference),
    "container_name": lambda fields, key: _container_name(fields),
    "cpu_count": _whole,
    "cpu_percent": lambda fields, key: fields.number(key) or 0.0,
    "cpu_period": _microseconds,
    "cpu_quota": _microseconds,
    "cpu_rt_period": _microseconds,
    "cpu_rt_runtime": _microseconds,
    "cpu_shares": _whole,
    "cpus": lambda fields, key: fields.share(key) or 0.0,
    "cpuset": _text,
    "credential_spec": _one(_credential_spec),
    "depends_on": _dependencies,
    "deploy": _one(bind_deploy),
    "develop": _one(_watch),
    "device_cgroup_rules": _texts,
    "devices": _many(_device),
    "dns": lambda fields, key: tuple(address for address in fields.texts(key) if address),
    "dns_opt": _texts,
    "dns_search": _texts,
    "domainname": _text,
    "entrypoint": Fields.arguments,
    "expose": lambda fields, key: _expose(fields),
    "external_links": _texts,
    "extra_hosts": lambda fields, key: bind_hosts(fields),
    "gpus": _many(bind_device_request),
    "group_add": _texts,
    "healthcheck": _one(_health_check),
    "hostname": _text,
    "image": lambda fields, key: _image(fields),
    "init": Fields.optional_flag,
    "ipc": _text,
    "isolation": _text,
    "links": _texts,
    "logging": _one(_logging),
    "mac_address": _mac_address,
    "mem_limit": Fields.size,
    "mem_reservation": Fields.size,
    "mem_swappiness": _percent,
    "memswap_limit": Fields.size,
    "models": _named(_model_binding),
    "network_mode": _text,
    "networks": _attachments,
    "oom_kill_disable": _flag,
    "oom_score_adj": _whole,
    "pid": _text,
    "pids_limit": _whole,
    "platform": _text,
    "ports": lambda fields, key: _ports(fields),
    "post_start": _many(_hook),
    "pre_start": _many(_hook),
    "pre_stop": _many(_hook),
    "privileged": _flag,
    "profiles": _texts,
    "provider": _one(_provider),
    "pull_policy": lambda fields, key: _pull_policy(fields),
    "pull_refresh_after": _text,
    "read_only": _flag,
    "restart": lambda fields, key: _restart(fields),
    "runtime": _text,
    "scale": Fields.count,
    "secrets": _many(bind_secret_reference),
    "security_opt": _texts,
    "shm_size": Fields.size,
    "stdin_open": _flag,
    "stop_grace_period": Fields.duration,
    "stop_signal": _text,
    "storage_opt": Fields.pairs,
    "sysctls": Fields.pairs,
    "tmpfs": _texts,
    "tty": _flag,
    "ulimits": lambda fields, key: dict(bind_ulimits(fields)),
    "use_api_socket": _flag,
    "user": _text,
    "userns_mode": _text,
    "uts": _text,
    "volumes": _many(bind_mount),
    "volumes_from": _texts,
    "working_dir": _text,
}
