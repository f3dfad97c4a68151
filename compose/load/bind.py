"""The tree in long syntax -> the frozen model. What has the right shape but not the right content
is told here: sizes, times, ports out of range, attributes that are missing.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

from compose.load.defaults import with_defaults
from compose.load.fields import Fields, absolute
from compose.load.nearest import nearest
from compose.load.short import BadSyntax, check_host_ip, clean, port_range
from compose.load.tree import Map, Scalar, Sequence, spelled
from compose.model.build import Build, Ulimit
from compose.model.deploy import (
    Deploy,
    DeviceRequest,
    GenericResource,
    Placement,
    Resource,
    RestartPolicy,
    UpdateConfig,
)
from compose.model.health import HealthCheck
from compose.model.mount import (
    BindOptions,
    FileReference,
    ImageOptions,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)
from compose.model.port import Port
from compose.model.resources import ConfigFile, Ipam, IpamPool, Model, Network, Secret, Volume
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
    return Service(name=name, **with_defaults(given))


def _maybe(bind: Callable[[Fields], T], fields: Fields | None) -> T | None:
    return bind(fields) if fields is not None else None


def _image(fields: Fields) -> str:
    image = fields.text("image")
    if image.startswith(ROOTFS):
        node = fields.scalar("image")
        assert node is not None
        return ROOTFS + absolute(image[len(ROOTFS) :] or "/", node)
    return image


_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")


def _container_name(fields: Fields) -> str:
    name = fields.text("container_name")
    if name and not _CONTAINER_NAME.fullmatch(name):
        fields.add(
            "container_name",
            f'"{name}" can\'t be the name of a container',
            'it takes two or more letters, digits, "_", "." and "-", the first a letter or digit',
        )
    return name


def _host_name(fields: Fields, key: str) -> str:
    name = fields.text(key)
    labels = name.rstrip(".").split(".")
    if name and (
        len(name) > 253 or not all(_LABEL.fullmatch(label) and len(label) <= 63 for label in labels)
    ):
        fields.add(
            key,
            f'"{name}" can\'t be the name of a host',
            'names are made of letters, digits and "-", in parts of up to 63 parted by "."',
        )
    return name


def _mac_address(fields: Fields) -> str:
    address = fields.text("mac_address")
    if address and not _MAC.fullmatch(address):
        fields.add(
            "mac_address",
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


def _not_negative(fields: Fields, key: str) -> float | None:
    value = fields.number(key)
    if value is not None and value < 0:
        fields.add(key, f"{value:g} is negative: it must be 0 or more")
        return None
    return value


def _microseconds(fields: Fields, key: str) -> int:
    """CPU times: a number of microseconds, or a time with its unit."""
    node = fields.scalar(key)
    if node is not None and isinstance(node.value, str) and node.value[-1:].isalpha():
        return (fields.duration(key) or 0) // 1000
    return fields.whole_or(key, 0)


_EXPOSED = re.compile(r"(\d+)(-\d+)?(/(tcp|udp|sctp))?")


def _expose(fields: Fields) -> tuple[str, ...]:
    ports = fields.texts("expose")
    for index, port in enumerate(ports):
        match = _EXPOSED.fullmatch(port)
        if match is None or not 1 <= int(match[1]) <= 65535:
            fields.add_item(
                "expose",
                index,
                f'"{port}" isn\'t a port of the container',
                'write it as in "3000", "3000/udp" or "3000-3005"',
            )
    return ports


def _hosts(fields: Fields) -> dict[str, tuple[str, ...]]:
    hosts: dict[str, tuple[str, ...]] = {}
    for line in fields.texts("extra_hosts"):
        name, _, address = line.partition("=")
        hosts[name] = (*hosts.get(name, ()), address)
    return hosts


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
    protocol = fields.text("protocol", "tcp")
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
    return WatchRule(
        path=os.path.realpath(fields.path("path")),
        action=WatchAction(action) if action in list(WatchAction) else WatchAction.REBUILD,
        target=fields.text("target"),
        exec=_optional_hook(exec_fields) if exec_fields else Hook(),
        include=fields.texts("include"),
        ignore=fields.texts("ignore"),
        initial_sync=fields.flag("initial_sync"),
    )


def _attachment(fields: Fields) -> Attachment:
    return Attachment(
        aliases=fields.texts("aliases"),
        driver_opts=fields.pairs("driver_opts"),
        gw_priority=fields.whole_or("gw_priority", 0),
        interface_name=fields.text("interface_name"),
        ipv4_address=_address(fields, "ipv4_address"),
        ipv6_address=_address(fields, "ipv6_address"),
        link_local_ips=fields.texts("link_local_ips"),
        mac_address=_mac_address(fields),
        priority=fields.whole_or("priority", 0),
    )


def _address(fields: Fields, key: str) -> str:
    address = fields.text(key)
    try:
        check_host_ip(address)
    except BadSyntax as error:
        fields.add(key, error.what, "write an address inside the subnet of the network")
    return address


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


def _ulimits(fields: Fields) -> list[tuple[str, Ulimit]]:
    limits = fields.inner("ulimits")
    found: list[tuple[str, Ulimit]] = []
    for key in limits.names() if limits else ():
        assert limits is not None
        both = limits.inner(key)
        if both is None:
            single = limits.whole(key)
            if single is not None:
                found.append((key, Ulimit(single, single, single=True)))
            continue
        for name in ("soft", "hard"):
            both.required(name, "write both soft and hard, or one number for both")
        soft, hard = both.whole("soft"), both.whole("hard")
        if soft is None or hard is None:
            continue
        if hard != -1 and (soft == -1 or soft > hard):
            both.add("soft", f"the soft limit {soft} is above the hard limit {hard}")
        found.append((key, Ulimit(soft, hard)))
    return found


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


# ---- mounts ----


def _mount(fields: Fields) -> Mount:
    kind = fields.text("type")
    if not kind:
        fields.required("type", "write one of: " + ", ".join(MountType))
    type_ = MountType(kind) if kind in list(MountType) else MountType.VOLUME
    fields.required("target", "say where in the container it is mounted")
    source = fields.path("source") if type_ is MountType.BIND else fields.text("source")
    if type_ is MountType.BIND and not source:
        fields.required("source", "say which folder or file of the host is mounted")
    bind, volume = fields.inner("bind"), fields.inner("volume")
    tmpfs, image = fields.inner("tmpfs"), fields.inner("image")
    for name, given in (("bind", bind), ("volume", volume), ("tmpfs", tmpfs), ("image", image)):
        if given is not None and kind and name != type_ and given.node.entries:
            fields.add(
                name,
                f'"{name}" has no meaning for a mount of type {type_}',
                f'change the type to {name}, or remove "{name}:"',
            )
    return Mount(
        type=type_,
        target=clean(fields.text("target")),
        source=source,
        read_only=fields.flag("read_only"),
        consistency=fields.text("consistency"),
        bind=_bind_options(bind) if type_ is MountType.BIND else None,
        volume=_maybe(_volume_options, volume),
        tmpfs=_maybe(_tmpfs_options, tmpfs),
        image=_maybe(lambda options: ImageOptions(options.text("subpath")), image),
    )


_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def _bind_options(fields: Fields | None) -> BindOptions:
    if fields is None:
        return BindOptions()
    propagation = fields.text("propagation")
    if propagation and propagation not in _PROPAGATION:
        fields.add(
            "propagation",
            f'"{propagation}" isn\'t a kind of propagation',
            f"it can be {', '.join(_PROPAGATION)}",
        )
    create = fields.optional_flag("create_host_path")
    return BindOptions(
        propagation=propagation,
        create_host_path=True if create is None else create,
        selinux=fields.text("selinux"),
        recursive=fields.text("recursive"),
    )


def _volume_options(fields: Fields) -> VolumeOptions:
    return VolumeOptions(fields.flag("nocopy"), fields.text("subpath"), fields.pairs("labels"))


def _tmpfs_options(fields: Fields) -> TmpfsOptions:
    return TmpfsOptions(size=fields.size("size"), mode=_mode(fields))


def _mode(fields: Fields) -> int | None:
    """File permissions: numbers as they are, text as octal digits."""
    node = fields.scalar("mode")
    if node is None:
        return None
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return node.value
    try:
        return int(spelled(node.value), 8)
    except ValueError:
        fields.add(
            "mode", f'"{spelled(node.value)}" isn\'t a file mode', 'write it in octal: "0440"'
        )
        return None


def _reference(fields: Fields) -> FileReference:
    return FileReference(
        source=fields.required("source", "say which one of the top level is meant"),
        target=fields.text("target"),
        uid=fields.text("uid"),
        gid=fields.text("gid"),
        mode=_mode(fields),
    )


def _secret_reference(fields: Fields) -> FileReference:
    reference = _reference(fields)
    if reference.target:
        return reference
    return FileReference(
        source=reference.source,
        target=f"/run/secrets/{reference.source}",
        uid=reference.uid,
        gid=reference.gid,
        mode=reference.mode,
    )


# ---- deploy, build ----


def _deploy(fields: Fields) -> Deploy:
    resources = fields.inner("resources")
    placement = fields.inner("placement")
    return Deploy(
        mode=fields.text("mode"),
        replicas=fields.count("replicas"),
        labels=fields.pairs("labels"),
        update_config=_maybe(_update_config, fields.inner("update_config")),
        rollback_config=_maybe(_update_config, fields.inner("rollback_config")),
        limits=_maybe(_resource, resources.inner("limits") if resources else None),
        reservations=_maybe(_resource, resources.inner("reservations") if resources else None),
        restart_policy=_maybe(_restart_policy, fields.inner("restart_policy")),
        placement=_placement(placement) if placement else Placement(),
        endpoint_mode=fields.text("endpoint_mode"),
    )


def _update_config(fields: Fields) -> UpdateConfig:
    return UpdateConfig(
        parallelism=fields.count("parallelism"),
        delay=fields.duration("delay"),
        failure_action=_choice(fields, "failure_action", ("continue", "rollback", "pause")),
        monitor=fields.duration("monitor"),
        max_failure_ratio=_not_negative(fields, "max_failure_ratio") or 0.0,
        order=fields.text("order"),
    )


def _choice(fields: Fields, key: str, allowed: tuple[str, ...]) -> str:
    given = fields.text(key)
    if given and given not in allowed:
        close = nearest(given, allowed)
        choices = f"{', '.join(allowed[:-1])} or {allowed[-1]}"
        hint = f'did you mean "{close}"?' if close else ""
        fields.add(key, f'"{given}" isn\'t allowed: it must be {choices}', hint)
    return given


def _resource(fields: Fields) -> Resource:
    return Resource(
        cpus=_not_negative(fields, "cpus"),
        memory=fields.size("memory"),
        pids=fields.whole("pids"),
        devices=tuple(_reserved_device(entry) for entry in fields.each("devices")),
        generic_resources=tuple(
            GenericResource(spec.text("kind"), spec.whole_or("value", 0))
            for entry in fields.each("generic_resources")
            if (spec := entry.inner("discrete_resource_spec")) is not None
        ),
    )


def _reserved_device(fields: Fields) -> DeviceRequest:
    if "capabilities" not in fields:
        fields.required("capabilities", "say what the device can do, as in [gpu]")
    return _device_request(fields)


def _device_request(fields: Fields) -> DeviceRequest:
    if "count" in fields and "device_ids" in fields:
        fields.add("count", '"count" and "device_ids" exclude each other', "keep one of the two")
    count = -1 if fields.text("count").lower() == "all" else fields.whole("count")
    return DeviceRequest(
        capabilities=fields.texts("capabilities"),
        driver=fields.text("driver"),
        count=count,
        device_ids=fields.texts("device_ids"),
        options=fields.pairs("options"),
    )


# Swarm's words, and those of `restart` that Compose takes for them.
_CONDITIONS = ("none", "on-failure", "any", "no", "always", "unless-stopped")


def _restart_policy(fields: Fields) -> RestartPolicy:
    return RestartPolicy(
        condition=_choice(fields, "condition", _CONDITIONS),
        delay=fields.duration("delay"),
        max_attempts=fields.count("max_attempts"),
        window=fields.duration("window"),
    )


def _placement(fields: Fields) -> Placement:
    return Placement(
        constraints=fields.texts("constraints"),
        spread=tuple(entry.text("spread") for entry in fields.each("preferences")),
        max_replicas_per_node=fields.count("max_replicas_per_node"),
    )


def is_remote(context: str) -> bool:
    """A build context that isn't a folder here."""
    return (
        "://" in context
        or context.startswith(("git@", "github.com/", "service:", "target:"))
        or context == "-"
    )


def _build(fields: Fields) -> Build:
    context = fields.text("context", ".")
    node = fields.scalar("context") or fields.node
    dockerfile, inline = fields.text("dockerfile"), fields.text("dockerfile_inline")
    if dockerfile and inline:
        fields.add(
            "dockerfile_inline",
            '"dockerfile" and "dockerfile_inline" exclude each other',
            "keep one of the two",
        )
    contexts = fields.inner("additional_contexts")
    return Build(
        context=context if is_remote(context) else absolute(context, node),
        dockerfile=dockerfile or ("" if inline else "Dockerfile"),
        dockerfile_inline=inline,
        entitlements=fields.texts("entitlements"),
        args={name: value for name, value in fields.variables("args").items() if value is not None},
        provenance=fields.text("provenance"),
        sbom=fields.text("sbom"),
        ssh=fields.pairs("ssh"),
        labels=fields.pairs("labels"),
        cache_from=fields.texts("cache_from"),
        cache_to=fields.texts("cache_to"),
        no_cache=fields.flag("no_cache"),
        no_cache_filter=fields.texts("no_cache_filter"),
        additional_contexts={
            key: contexts.text(key) if is_remote(contexts.text(key)) else contexts.path(key)
            for key in contexts.names()
        }
        if contexts
        else {},
        pull=fields.flag("pull"),
        extra_hosts=_hosts(fields),
        isolation=fields.text("isolation"),
        network=fields.text("network"),
        target=fields.text("target"),
        secrets=tuple(_reference(entry) for entry in fields.each("secrets")),
        shm_size=fields.size("shm_size"),
        tags=fields.texts("tags"),
        ulimits=dict(_ulimits(fields)),
        platforms=fields.texts("platforms"),
        privileged=fields.flag("privileged"),
    )


# ---- resources ----


def bind_network(key: str, fields: Fields, project_name: str) -> Network:
    ipam = fields.inner("ipam")
    return Network(
        key=key,
        name=_resource_name(key, fields, project_name),
        driver=fields.text("driver"),
        driver_opts=fields.pairs("driver_opts"),
        ipam=_ipam(ipam) if ipam else Ipam(),
        external=fields.flag("external"),
        internal=fields.flag("internal"),
        attachable=fields.flag("attachable"),
        labels=fields.pairs("labels"),
        enable_ipv4=fields.optional_flag("enable_ipv4"),
        enable_ipv6=fields.optional_flag("enable_ipv6"),
    )


def _ipam(fields: Fields) -> Ipam:
    return Ipam(
        driver=fields.text("driver"),
        config=tuple(_pool(entry) for entry in fields.each("config")),
        options=fields.pairs("options"),
    )


def _pool(fields: Fields) -> IpamPool:
    subnet = _subnet(fields, "subnet")
    inner = _subnet(fields, "ip_range")
    if subnet and inner and not (inner.version == subnet.version and inner.subnet_of(subnet)):  # type: ignore[arg-type]
        fields.add("ip_range", f"{inner} lies outside of the subnet {subnet}")
    gateway = _address(fields, "gateway")
    if subnet and _is_address(gateway) and ipaddress.ip_address(gateway) not in subnet:
        fields.add("gateway", f"{gateway} lies outside of the subnet {subnet}")
    return IpamPool(
        subnet=fields.text("subnet"),
        gateway=gateway,
        ip_range=fields.text("ip_range"),
        aux_addresses=fields.pairs("aux_addresses"),
    )


def _subnet(fields: Fields, key: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    given = fields.text(key)
    if not given:
        return None
    try:
        return ipaddress.ip_network(given, strict=False)
    except ValueError:
        fields.add(key, f'"{given}" isn\'t a subnet', 'write it as in "10.5.0.0/16"')
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def bind_volume(key: str, fields: Fields, project_name: str) -> Volume:
    options = fields.pairs("driver_opts")
    device = options.get("device", "")
    driver = fields.text("driver")
    # A bind in disguise: its folder may be written relative to the project.
    if driver in ("", "local") and options.get("o") == "bind" and device.startswith((".", "~")):
        inner = fields.inner("driver_opts")
        assert inner is not None
        options["device"] = inner.path("device")
    return Volume(
        key=key,
        name=_resource_name(key, fields, project_name),
        driver=driver,
        driver_opts=options,
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
    )


def bind_config(key: str, fields: Fields, project_name: str) -> ConfigFile:
    return ConfigFile(
        key=key,
        name=_resource_name(key, fields, project_name),
        file=fields.path("file"),
        environment=fields.text("environment"),
        inline=fields.text("content"),
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
        template_driver=fields.text("template_driver"),
    )


def bind_secret(key: str, fields: Fields, project_name: str) -> Secret:
    return Secret(
        key=key,
        name=_resource_name(key, fields, project_name),
        file=fields.path("file"),
        environment=fields.text("environment"),
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
        driver=fields.text("driver"),
        driver_opts=fields.pairs("driver_opts"),
        template_driver=fields.text("template_driver"),
    )


def bind_model(key: str, fields: Fields, project_name: str) -> Model:
    return Model(
        key=key,
        name=_resource_name(key, fields, project_name),
        model=fields.required("model", "say which model to run"),
        context_size=fields.whole("context_size"),
        runtime_flags=fields.texts("runtime_flags"),
    )


def _resource_name(key: str, fields: Fields, project_name: str) -> str:
    """What the engine calls it: projects don't share what doesn't say so."""
    return fields.text("name") or (key if fields.flag("external") else f"{project_name}_{key}")


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


def _dependencies(fields: Fields, key: str) -> dict[str, Dependency]:
    return {name: _dependency(name, each) for name, each in fields.named(key)}


_text, _texts, _flag = Fields.text, Fields.texts, Fields.flag
_ATTRIBUTES: dict[str, _Read] = {
    "annotations": Fields.pairs,
    "attach": Fields.optional_flag,
    "blkio_config": _one(_blkio),
    "build": _one(_build),
    "cap_add": _texts,
    "cap_drop": _texts,
    "cgroup": _text,
    "cgroup_parent": _text,
    "command": Fields.arguments,
    "configs": _many(_reference),
    "container_name": lambda fields, key: _container_name(fields),
    "cpu_count": _whole,
    "cpu_percent": lambda fields, key: fields.number(key) or 0.0,
    "cpu_period": _microseconds,
    "cpu_quota": _microseconds,
    "cpu_rt_period": _microseconds,
    "cpu_rt_runtime": _microseconds,
    "cpu_shares": _whole,
    "cpus": lambda fields, key: _not_negative(fields, key) or 0.0,
    "cpuset": _text,
    "credential_spec": _one(_credential_spec),
    "depends_on": _dependencies,
    "deploy": _one(_deploy),
    "develop": _one(_watch),
    "device_cgroup_rules": _texts,
    "devices": _many(_device),
    "dns": lambda fields, key: tuple(address for address in fields.texts(key) if address),
    "dns_opt": _texts,
    "dns_search": _texts,
    "domainname": _host_name,
    "entrypoint": Fields.arguments,
    "expose": lambda fields, key: _expose(fields),
    "external_links": _texts,
    "extra_hosts": lambda fields, key: _hosts(fields),
    "gpus": _many(_device_request),
    "group_add": _texts,
    "healthcheck": _one(_health_check),
    "hostname": _host_name,
    "image": lambda fields, key: _image(fields),
    "init": Fields.optional_flag,
    "ipc": _text,
    "isolation": _text,
    "links": _texts,
    "logging": _one(_logging),
    "mac_address": lambda fields, key: _mac_address(fields),
    "mem_limit": Fields.size,
    "mem_reservation": Fields.size,
    "mem_swappiness": _percent,
    "memswap_limit": Fields.size,
    "models": _named(_model_binding),
    "network_mode": _text,
    "networks": _named(_attachment),
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
    "secrets": _many(_secret_reference),
    "security_opt": _texts,
    "shm_size": Fields.size,
    "stdin_open": _flag,
    "stop_grace_period": Fields.duration,
    "stop_signal": _text,
    "storage_opt": Fields.pairs,
    "sysctls": Fields.pairs,
    "tmpfs": _texts,
    "tty": _flag,
    "ulimits": lambda fields, key: dict(_ulimits(fields)),
    "use_api_socket": _flag,
    "user": _text,
    "userns_mode": _text,
    "uts": _text,
    "volumes": _many(_mount),
    "volumes_from": _texts,
    "working_dir": _text,
}
