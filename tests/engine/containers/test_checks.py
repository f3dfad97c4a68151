import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.containers import checks
from engine.containers.create import merged_config
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    EndpointSettings,
    HealthCheck,
    HostConfig,
    LogConfig,
    PublishedPort,
    RestartPolicy,
    Ulimit,
)
from engine.containers.sizes import parse_size
from engine.errors import EngineError, InvalidRequest, Unsupported
from engine.oci.image_config import ImageConfig

REFUSED: list[tuple[ContainerConfig | HostConfig, str]] = [
    (HostConfig(memory=6 * 1024 * 1024 - 1), "Minimum memory limit allowed is 6MB"),
    (HostConfig(memory=-1), "Minimum memory limit"),
    (HostConfig(memory_swap=1 << 30), "always set the Memory limit when using Memoryswap"),
    (HostConfig(memory=1 << 30, memory_swap=1 << 29), "memoryswap limit should be larger"),
    (HostConfig(memory=1 << 30, memory_reservation=1 << 31), "memory reservation limit"),
    (HostConfig(memory_swappiness=101), "valid memory swappiness range is 0-100"),
    (HostConfig(nano_cpus=5_000_000_000), "as there are only 4 CPUs available"),
    (HostConfig(nano_cpus=1), "range of CPUs"),
    (HostConfig(nano_cpus=10**9, cpu_quota=5000), "Nano CPUs and CPU Quota cannot both be set"),
    (HostConfig(cpu_period=999), "CPU cfs period"),
    (HostConfig(cpu_quota=999), "CPU cfs quota"),
    (HostConfig(cpuset_cpus="0-4"), "Requested CPUs are not available"),
    (HostConfig(cpuset_mems="9"), "Requested memory nodes are not available - requested 9, avail"),
    (HostConfig(cpuset_cpus="1-0"), "Invalid value 1-0 for cpuset cpus"),
    (HostConfig(cpuset_cpus="0-99999999999"), "Invalid value"),
    (HostConfig(oom_score_adj=1001), r"range for oom score adj is \[-1000, 1000\]"),
    (HostConfig(shm_size=-1), "SHM size can not be less than 0"),
    (HostConfig(restart_policy=RestartPolicy("sometimes")), "unknown policy 'sometimes'"),
    (HostConfig(restart_policy=RestartPolicy("always", 3)), "only be used with 'on-failure'"),
    (
        HostConfig(restart_policy=RestartPolicy("always"), auto_remove=True),
        "can't create 'AutoRemove' container with restart policy",
    ),
    (HostConfig(ulimits=(Ulimit("odd", 1, 1),)), "invalid ulimit type: odd"),
    (HostConfig(ulimits=(Ulimit("nofile", 2, 1),)), "soft limit must be less than or equal"),
    (HostConfig(sysctls={"kernel.panic": "1"}), "sysctl 'kernel.panic' is not allowed"),
    (HostConfig(sysctls={"net/../kernel": "1"}), "invalid sysctl name"),
    (HostConfig(sysctls={"net.x": "1"}, network_mode="host"), "not allowed in host network"),
    (HostConfig(sysctls={"fs.mqueue.x": "1"}, ipc_mode="host"), "not allowed in host ipc"),
    (HostConfig(sysctls={"net.ipv4.conf.eth0.forwarding": "1"}), "interface specific sysctl"),
    (HostConfig(links=("a",), network_mode="container:b"), "can't be used with links"),
    (ContainerConfig(mac_address="01:00:5e:00:00:01"), "group of machines"),
    (HostConfig(extra_hosts=("name",)), "bad format for add-host"),
    (HostConfig(extra_hosts=("name:nowhere",)), "invalid IP address in add-host"),
    (HostConfig(dns=("nowhere",)), "bad DNS server address"),
    (HostConfig(security_opt=("odd=1",)), "invalid --security-opt"),
    (HostConfig(pid_mode="odd"), "invalid PID mode: odd"),
    (HostConfig(ipc_mode="container:"), "invalid IPC mode"),
    (HostConfig(runtime="kata"), "unknown or invalid runtime name: kata"),
    (HostConfig(log_config=LogConfig("json-file", {"odd": "1"})), "unknown log opt 'odd'"),
    (HostConfig(log_config=LogConfig(options={"max-size": "x"})), "invalid size: 'x'"),
    (HostConfig(port_bindings={"80/odd": ()}), "invalid port specification"),
    (HostConfig(port_bindings={"80": (PublishedPort("", "9-8"),)}), "invalid port specification"),
    (HostConfig(port_bindings={"80": (PublishedPort("", "70000"),)}), "invalid port spec"),
    (HostConfig(port_bindings={"80": (PublishedPort("here", "1"),)}), "invalid host IP address"),
    (HostConfig(network_mode="container:x", dns=("1.1.1.1",)), "network mode"),
    (ContainerConfig(working_dir="relative"), "needs to be an absolute path"),
    (ContainerConfig(env=("=x",)), "invalid environment variable: =x"),
    (ContainerConfig(stop_signal="NOSUCH"), "invalid signal: NOSUCH"),
    (ContainerConfig(hostname="x" * 65), "invalid hostname"),
    (ContainerConfig(hostname="a\nb"), "invalid hostname"),
    (ContainerConfig(exposed_ports=("0/tcp",)), "invalid port specification"),
    (ContainerConfig(exposed_ports=("9-8",)), "invalid port specification"),
    (ContainerConfig(exposed_ports=("9-70000",)), "invalid port specification"),
    (ContainerConfig(cmd=("a\0b",)), "NUL"),
    (ContainerConfig(cmd=("\udc80",)), "Unicode"),
    (ContainerConfig(healthcheck=HealthCheck(interval=1)), "cannot be less than 1ms"),
    (ContainerConfig(healthcheck=HealthCheck(retries=-1)), "cannot be negative"),
    (ContainerConfig(healthcheck=HealthCheck(("ODD", "x"))), "unknown type 'ODD'"),
    (ContainerConfig(mac_address="12:34"), "invalid MAC address"),
]


def check(part: ContainerConfig | HostConfig) -> None:
    is_host = isinstance(part, HostConfig)
    request = CreateRequest(ContainerConfig(), part) if is_host else CreateRequest(part)
    checks.check_request(request, cpus=4)


@pytest.mark.parametrize(("part", "text"), REFUSED)
def test_nonsense_is_refused_in_docker_s_words(
    part: ContainerConfig | HostConfig, text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text):
        check(part)


@pytest.mark.parametrize(
    "host",
    [
        HostConfig(device_requests=({"Driver": "nvidia"},)),
        HostConfig(storage_opt={"size": "1g"}),
        HostConfig(userns_mode="private"),
        HostConfig(security_opt=("label=type:x",)),
    ],
)
def test_what_this_engine_cannot_do_is_said(host: HostConfig) -> None:
    with pytest.raises(Unsupported, match="cannot"):
        check(host)


def test_what_is_usual_passes() -> None:
    host = HostConfig(
        memory=1 << 30, nano_cpus=1_500_000_000, cpuset_cpus="0,2-3", pids_limit=-1,
        ulimits=(Ulimit("nofile", -1, -1),), extra_hosts=("h:host-gateway", "v6=[::1]"),
        sysctls={"net.core.somaxconn": "1024"}, security_opt=("no-new-privileges:true",),
        port_bindings={"80/tcp": (PublishedPort("[::1]", "8000-8010"),), "53/udp": ()},
        log_config=LogConfig("local", {}), restart_policy=RestartPolicy("on-failure", 3),
    )  # fmt: skip
    request = CreateRequest(ContainerConfig(), host, {"front": EndpointSettings(links=("a:b",))})
    checks.check_request(request, cpus=4)


def test_a_range_of_exposed_ports_is_each_of_them() -> None:
    wanted = ContainerConfig(exposed_ports=("81-82/UDP", "80"))
    check(wanted)
    image = ImageConfig(exposed_ports=("80", "90/tcp"))
    assert merged_config(wanted, image).exposed_ports == ("80", "90/tcp", "81/udp", "82/udp")


@pytest.mark.parametrize(
    ("text", "number"),
    [("15", 15), ("TERM", 15), ("sigkill", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63)],
)
def test_signals_by_name_and_number(text: str, number: int) -> None:
    assert checks.parse_signal(text) == number


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (
        checks.parse_signal, parse_size, checks.parse_port, checks.parse_extra_host,
        checks.parse_link, lambda given: checks.parse_security_options((given,)),
    ):  # fmt: skip
        with contextlib.suppress(EngineError):
            parse(text)
