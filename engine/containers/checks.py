"""What can be said against a create request before anything is done: pure, in Docker's words.

Raises InvalidRequest (the request is wrong) or Unsupported (this engine can't do it).
"""

import ipaddress
import re
import signal
from collections.abc import Iterator, Sequence

from engine.containers import log_options
from engine.containers.model import (
    RUNTIMES,
    ContainerConfig,
    CreateRequest,
    EndpointSettings,
    ExecConfig,
    HealthCheck,
    HostConfig,
    Record,
    RestartPolicy,
)
from engine.errors import InvalidRequest, Unsupported
from engine.networks import endpoint_options
from engine.networks.model import Network

MINIMUM_MEMORY = 6 * 1024 * 1024
NOT_TO_HOST = (
    "cannot connect container to host network - container must be created in host network mode"
)
NO_NETWORK_BESIDE = (
    "container sharing network namespace with another container or host cannot be connected to "
    "any other network"
)
NONE_IS_ALONE = (
    "container cannot be connected to multiple networks with one of the networks in private "
    "(none) mode"
)
ULIMITS = re.compile(
    "as|core|cpu|data|fsize|locks|memlock|msgqueue|nice|nofile|nproc|rss|rtprio|rttime|"
    "sigpending|stack"
)
_SYSCTLS_IPC = frozenset({"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"})
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_SET = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")
_MILLISECOND = 1_000_000


def check_request(request: CreateRequest, *, cpus: int, memory_nodes: int = 1) -> None:
    """`cpus` and `memory_nodes` are how many this machine has. Raises InvalidRequest, or
    Unsupported."""
    _check_text(request)
    _check_config(request.config)
    _check_supported(request)
    host = request.host
    check_resources(host, cpus=cpus, memory_nodes=memory_nodes)
    check_restart_policy(host.restart_policy, auto_remove=host.auto_remove)
    _check_network(request)
    _check_modes(host)
    if host.uts_mode == "host" and request.config.hostname:
        raise InvalidRequest("conflicting options: hostname and the UTS mode")
    if host.uts_mode == "host" and request.config.domainname:
        raise InvalidRequest("conflicting options: domainname and the UTS mode")
    _check_sysctls(host)
    _check_ulimits(host)
    _check_dns(host)
    parse_security_options(host.security_opt)
    log_options.check_log(host.log_config)


def _check_text(request: CreateRequest) -> None:
    config = request.config
    texts = (*(config.cmd or ()), *(config.entrypoint or ()), *config.env, config.working_dir)
    texts += (config.user, config.hostname, config.domainname, *request.host.binds)
    for text in texts:
        if "\0" in text:
            raise InvalidRequest(f"invalid value {text!r}: it holds a NUL character")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InvalidRequest(f"invalid value {text!r}: it is not Unicode text") from None


def _check_config(config: ContainerConfig) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidRequest(
            f"the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    for variable in config.env:
        if not variable or variable.startswith("="):
            raise InvalidRequest(f"invalid environment variable: {variable}")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    for text in config.exposed_ports:
        each_port(text)
    for name in (config.hostname, config.domainname):
        if len(name) > 64 or not re.fullmatch(r"[A-Za-z0-9._-]*", name):
            raise InvalidRequest(f"invalid hostname: {name!r}")
    if config.healthcheck is not None:
        _check_health(config.healthcheck)
    if config.mac_address:
        check_mac(config.mac_address)


def _check_health(check: HealthCheck) -> None:
    for name, duration in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if duration and duration < _MILLISECOND:
            raise InvalidRequest(f"{name} in Healthcheck cannot be less than 1ms")
    if check.retries < 0:
        raise InvalidRequest("Retries in Healthcheck cannot be negative")
    if check.test and check.test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidRequest(f"unknown type {check.test[0]!r} in Healthcheck Test")
    if check.test and check.test[0] != "NONE" and len(check.test) < 2:
        raise InvalidRequest("Healthcheck Test has no command")


def _check_supported(request: CreateRequest) -> None:
    host, config = request.host, request.config
    for reason in _unsupported(host):
        raise Unsupported(reason)
    if host.runtime and host.runtime not in RUNTIMES:
        raise InvalidRequest(f"unknown or invalid runtime name: {host.runtime}")
    if host.isolation not in ("", "default"):
        raise InvalidRequest(f"invalid isolation '{host.isolation}' on linux")
    if config.network_disabled and request.endpoints:
        raise InvalidRequest("conflicting options: network disabled and networks given")


def _unsupported(host: HostConfig) -> Iterator[str]:
    if host.device_requests:
        yield "cannot give devices by request (GPUs): this engine has no device drivers"
    if host.storage_opt:
        yield "cannot set storage options: the writable layer is a plain directory"
    if host.userns_mode not in ("", "host"):
        yield f"cannot use user namespace mode {host.userns_mode!r}: only the host's is supported"
    if host.cgroup:
        yield "cannot use the cgroup of another container"


def check_resources(host: HostConfig, *, cpus: int, memory_nodes: int = 1) -> None:
    _check_memory(host)
    _check_set(host.cpuset_mems, memory_nodes, "mems", "memory nodes")
    _check_cpu(host, cpus)
    if not -1000 <= host.oom_score_adj <= 1000:
        raise InvalidRequest(
            f"Invalid value {host.oom_score_adj}, range for oom score adj is [-1000, 1000]"
        )
    if host.shm_size < 0:
        raise InvalidRequest("SHM size can not be less than 0")
    if ".." in host.cgroup_parent.split("/"):
        raise InvalidRequest(f"invalid cgroup parent {host.cgroup_parent!r}: it holds '..'")
    if host.blkio_weight and not 10 <= host.blkio_weight <= 1000:
        raise InvalidRequest("Range of blkio weight is from 10 to 1000")


def _check_memory(host: HostConfig) -> None:
    memory, swap, reservation = host.memory, host.memory_swap, host.memory_reservation
    if memory and memory < MINIMUM_MEMORY:
        raise InvalidRequest("Minimum memory limit allowed is 6MB")
    if swap < -1:
        raise InvalidRequest(f"invalid memory swap limit {swap}")
    if swap > 0 and not memory:
        raise InvalidRequest(
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        )
    if 0 < swap < memory:
        raise InvalidRequest(
            "Minimum memoryswap limit should be larger than memory limit, see usage"
        )
    if reservation and reservation < MINIMUM_MEMORY:
        raise InvalidRequest("Minimum memory reservation allowed is 6MB")
    if memory and reservation > memory:
        raise InvalidRequest(
            "Minimum memory limit can not be less than memory reservation limit, see usage"
        )
    if host.memory_swappiness is not None and not -1 <= host.memory_swappiness <= 100:
        raise InvalidRequest(
            f"Invalid value: {host.memory_swappiness}, valid memory swappiness range is 0-100"
        )


def _check_cpu(host: HostConfig, cpus: int) -> None:
    if host.nano_cpus and (host.cpu_period or host.cpu_quota):
        option = "Period" if host.cpu_period else "Quota"
        raise InvalidRequest(f"Conflicting options: Nano CPUs and CPU {option} cannot both be set")
    if host.nano_cpus < 0 or host.nano_cpus > cpus * 1_000_000_000:
        raise InvalidRequest(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if 0 < host.nano_cpus < 10_000_000:
        raise InvalidRequest(
            f"range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available"
        )
    if host.cpu_shares < 0:
        raise InvalidRequest(
            f"invalid CPU shares ({host.cpu_shares}): value must be a positive integer"
        )
    if host.cpu_period and not 1000 <= host.cpu_period <= 1_000_000:
        raise InvalidRequest(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        )
    if host.cpu_quota > 0 and host.cpu_quota < 1000:
        raise InvalidRequest("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    _check_set(host.cpuset_cpus, cpus, "cpus", "CPUs")


def _check_set(text: str, count: int, name: str, names: str) -> None:
    if not text:
        return
    if not _SET.fullmatch(text):
        raise InvalidRequest(f"Invalid value {text} for cpuset {name}")
    for part in text.split(","):
        low, _, high = part.partition("-")
        if int(high or low) < int(low):
            raise InvalidRequest(f"Invalid value {text} for cpuset {name}")
        if int(high or low) >= count:
            there = f"0-{count - 1}" if count > 1 else "0"
            raise InvalidRequest(
                f"Requested {names} are not available - requested {text}, available: {there}"
            )


def check_restart_policy(policy: RestartPolicy, *, auto_remove: bool) -> None:
    if policy.name not in ("", "no", "always", "on-failure", "unless-stopped"):
        raise InvalidRequest(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', "
            "'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retry_count < 0:
        raise InvalidRequest("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retry_count and policy.name != "on-failure":
        raise InvalidRequest(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        )
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidRequest("can't create 'AutoRemove' container with restart policy")


def _check_network(request: CreateRequest) -> None:
    mode = request.host.network_mode
    for link in request.host.links:
        parse_link(link)
    kind = mode.partition(":")[0]
    if request.host.links and kind in ("host", "container"):
        raise InvalidRequest(
            f"conflicting options: {kind} type networking can't be used with links."
            " This would result in undefined behavior"
        )
    shared = mode == "host" or mode.startswith("container:")
    if mode == "container:":
        raise InvalidRequest("invalid network mode: invalid container format container:<name|id>")
    if shared and set(request.endpoints) - {mode}:
        raise InvalidRequest(NO_NETWORK_BESIDE)
    if "none" in request.endpoints and len(request.endpoints) > 1:
        raise InvalidRequest(NONE_IS_ALONE)
    if mode.startswith("container:"):
        if request.config.hostname:
            raise InvalidRequest("conflicting options: hostname and the network mode")
        if request.host.port_bindings or request.host.publish_all_ports:
            raise InvalidRequest(
                "conflicting options: port publishing and the container type network mode"
            )
        if request.config.exposed_ports:
            raise InvalidRequest(
                "conflicting options: port exposing and the container type network mode"
            )
        if request.host.dns:
            raise InvalidRequest("conflicting options: dns and the network mode")
        if request.host.extra_hosts:
            raise InvalidRequest(
                "conflicting options: custom host-to-IP mapping and the network mode"
            )
    for port, wanted in request.host.port_bindings.items():
        parse_port(port)
        for published in wanted:
            _check_published(port, published.host_ip, published.host_port)
    if "host" in request.endpoints and mode != "host":
        raise InvalidRequest(NOT_TO_HOST)
    for settings in request.endpoints.values():
        check_endpoint(settings)


def check_endpoint(settings: EndpointSettings) -> None:
    for link in settings.links:
        parse_link(link)
    for address in settings.link_local_ips:
        _check_address(address, "invalid endpoint settings: invalid IP address")
        if not ipaddress.ip_address(address).is_link_local:
            raise InvalidRequest(f"invalid endpoint settings: {address} is no link-local address")
    if settings.mac_address:
        check_mac(settings.mac_address)
    endpoint_options.interface_name(settings.driver_opts)
    endpoint_options.sysctls(settings.driver_opts)


def wished_addresses(settings: EndpointSettings) -> dict[int, str]:
    return {4: settings.ipv4_address, 6: settings.ipv6_address}


def check_connect(record: Record, network: Network) -> None:
    """Whether the container may join this network too."""
    mode = record.host.network_mode
    if mode == "host" or mode.startswith("container:"):
        raise InvalidRequest(NO_NETWORK_BESIDE)
    if network.name == "host":
        raise InvalidRequest(NOT_TO_HOST)
    if network.name == "none" or any(each.network == "none" for each in record.attachments):
        raise InvalidRequest(NONE_IS_ALONE)


def _check_published(port: str, host_ip: str, host_port: str) -> None:
    if host_port:
        _, protocol = _ports(host_port, least=0)
        if protocol:
            raise _no_port(host_port)
    if host_ip:
        _check_address(host_ip.strip("[]"), "invalid host IP address")


def _check_address(text: str, complaint: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidRequest(f"{complaint}: {text}") from None


def check_mac(text: str) -> None:
    if not re.fullmatch(r"[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}", text):
        raise InvalidRequest(f"invalid MAC address: {text}")
    if int(text[:2], 16) & 1:
        raise InvalidRequest(f"invalid MAC address: {text} is one of a group of machines")


def each_port(text: str) -> Sequence[str]:
    """("80-81/udp") -> ["80/udp", "81/udp"]: what is exposed may be a range, as clients read it in
    a file. A single port stays as it is written."""
    ports, protocol = _ports(text)
    return [f"{port}/{protocol or 'tcp'}" for port in ports] if "-" in text else [text]


def parse_port(text: str) -> tuple[int, str]:
    """("80/tcp") -> (80, "tcp"). A range is refused: the API has one entry a port."""
    ports, protocol = _ports(text)
    if "-" in text:
        raise _no_port(text)
    return ports[0], protocol or "tcp"


def _ports(text: str, *, least: int = 1) -> tuple[range, str]:
    """Of one port or several, and the protocol, if there is one."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise _no_port(text)
    low, high = int(match[1]), int(match[2] or match[1])
    if not least <= low <= high <= 65535:
        raise _no_port(text)
    return range(low, high + 1), (match[3] or "").lower()


def _no_port(text: str) -> InvalidRequest:
    return InvalidRequest(f'invalid port specification: "{text}"')


def _check_modes(host: HostConfig) -> None:
    checks = (
        ("IPC mode", host.ipc_mode, ("", "private", "shareable", "host", "none"), True),
        ("PID mode", host.pid_mode, ("", "host"), True),
        ("UTS mode", host.uts_mode, ("", "host"), False),
        ("cgroup namespace mode", host.cgroupns_mode, ("", "private", "host"), False),
    )
    for name, mode, fixed, joins in checks:
        joined = joins and mode.startswith("container:") and mode != "container:"
        if mode not in fixed and not joined:
            raise InvalidRequest(f"invalid {name}: {mode}")


def check_remapped(host: HostConfig) -> None:
    """What a container whose users are remapped can't have of the host."""
    if host.privileged:
        raise InvalidRequest(
            "privileged mode is incompatible with user namespaces. You must run the container in"
            " the host namespace when running privileged mode"
        )
    if host.network_mode == "host":
        raise InvalidRequest(
            "cannot share the host's network namespace when user namespaces are enabled"
        )
    if host.pid_mode == "host":
        raise InvalidRequest("cannot share the host PID namespace when user namespaces are enabled")


def _check_sysctls(host: HostConfig) -> None:
    for name in host.sysctls:
        if "/" in name or ".." in name or not re.fullmatch(r"[a-zA-Z0-9_.:@-]+", name):
            raise InvalidRequest(f"invalid sysctl name: {name!r}")
        in_net, in_ipc = name.startswith("net."), _is_ipc_sysctl(name)
        if not in_net and not in_ipc:
            raise InvalidRequest(
                f"sysctl '{name}' is not allowed: it is not in a namespace of the container"
            )
        if re.fullmatch(r"net\.(ipv4|ipv6|mpls)\.[a-z]+\.eth\d+\..+", name):
            raise InvalidRequest(
                f"interface specific sysctl setting {name!r} must be supplied using driver option"
                " 'com.docker.network.endpoint.sysctls'"
            )
        if in_net and host.network_mode == "host":
            raise InvalidRequest(f"sysctl '{name}' not allowed in host network namespace")
        if in_ipc and host.ipc_mode == "host":
            raise InvalidRequest(f"sysctl '{name}' not allowed in host ipc namespace")
        if in_ipc and host.ipc_mode.startswith("container:"):
            raise InvalidRequest(f"sysctl '{name}' not allowed in another container's namespace")


def _is_ipc_sysctl(name: str) -> bool:
    return name in _SYSCTLS_IPC or name.startswith(("kernel.shm", "fs.mqueue."))


def _check_ulimits(host: HostConfig) -> None:
    seen = set()
    for ulimit in host.ulimits:
        if not ULIMITS.fullmatch(ulimit.name):
            raise InvalidRequest(f"invalid ulimit type: {ulimit.name}")
        if ulimit.name in seen:
            raise InvalidRequest(f"ulimit {ulimit.name} is given twice")
        seen.add(ulimit.name)
        unlimited = ulimit.hard == -1
        if not unlimited and (ulimit.soft > ulimit.hard or ulimit.soft == -1):
            raise InvalidRequest(
                f"ulimit soft limit must be less than or equal to hard limit: "
                f"{ulimit.soft} > {ulimit.hard}"
            )
        if min(ulimit.soft, ulimit.hard) < -1:
            raise InvalidRequest(f"invalid ulimit {ulimit.name}: {ulimit.soft}:{ulimit.hard}")


def _check_dns(host: HostConfig) -> None:
    for server in host.dns:
        _check_address(server, "bad DNS server address")
    for option in (*host.dns_options, *host.dns_search):
        if not option or any(letter.isspace() for letter in option):
            raise InvalidRequest(f"invalid DNS option or search domain: {option!r}")
    for entry in host.extra_hosts:
        parse_extra_host(entry)


def parse_extra_host(entry: str) -> tuple[str, str]:
    """("name:address") -> (name, address); "host-gateway" stays as it is."""
    separator = "=" if "=" in entry else ":"
    name, found, address = entry.partition(separator)
    if not found or not name or any(letter.isspace() for letter in entry):
        raise InvalidRequest(f'bad format for add-host: "{entry}"')
    address = address.strip("[]")
    if address != "host-gateway":
        _check_address(address, "invalid IP address in add-host")
    return name, address


def parse_link(text: str) -> tuple[str, str]:
    """("container:alias") -> (alias, container)"""
    name, _, alias = text.partition(":")
    name = name.removeprefix("/")
    if not name:
        raise InvalidRequest(f"bad format for links: {text}")
    return alias.rpartition("/")[2] or name, name


def parse_security_options(options: tuple[str, ...]) -> dict[str, str]:
    """{"no-new-privileges": "true", "seccomp": ..., "systempaths": "unconfined", ...}"""
    parsed: dict[str, str] = {}
    for option in options:
        separator = "=" if "=" in option else ":"
        key, _, value = option.partition(separator)
        match key:
            case "no-new-privileges" | "writable-cgroups":
                if value not in ("", "true", "false"):
                    raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
                parsed[key] = value or "true"
            case "seccomp":
                if not value:
                    raise InvalidRequest(f'invalid --security-opt 1: "{option}"')
                parsed[key] = value
            case "systempaths" if value == "unconfined":
                parsed[key] = value
            case "apparmor" if value:
                parsed[key] = value
            case "label" if value == "disable":
                parsed[key] = value
            case "label":
                raise Unsupported("cannot set SELinux labels: this engine does not use SELinux")
            case _:
                raise InvalidRequest(f'invalid --security-opt 2: "{option}"')
    return parsed


def parse_signal(text: str) -> int:
    """A signal's number from "15", "TERM", "SIGTERM" or "RTMIN+3"."""
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and len(name) < 4 and 0 < int(name) <= 64:
        return int(name)
    if name.isdecimal() and int(name):
        raise InvalidRequest(f"the linux daemon does not support signal {name}")
    for base, start in (("RTMIN", 34), ("RTMAX", 64)):
        offset = name.removeprefix(base)
        if offset != name and re.fullmatch(r"([+-]\d{1,2})?", offset):
            number = start + int(offset or "0")
            if 34 <= number <= 64:
                return number
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise InvalidRequest(f"invalid signal: {text}") from None


def check_exec(config: ExecConfig) -> None:
    if not config.cmd:
        raise InvalidRequest("No exec command specified")
    for text in (*config.cmd, *config.env, config.user, config.working_dir):
        if "\0" in text:
            raise InvalidRequest(f"invalid value {text!r}: it holds a NUL character")
    for variable in config.env:
        if not variable or variable.startswith("="):
            raise InvalidRequest(f"invalid environment variable: {variable}")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidRequest(f"Cwd must be an absolute path: {config.working_dir!r}")
