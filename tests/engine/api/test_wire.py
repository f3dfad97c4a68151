from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api.fields import Fields
from engine.api.shown import config_json, host_config_json, mount_request_json
from engine.api.wire import (
    read_config,
    read_create,
    read_endpoint,
    read_exec,
    read_host_config,
    read_network,
    read_update,
)
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    Device,
    EndpointSettings,
    HealthCheck,
    HostConfig,
    LogConfig,
    MountRequest,
    PublishedPort,
    ResourceUpdate,
    RestartPolicy,
    Ulimit,
)
from engine.errors import InvalidRequest
from engine.networks.model import AddressPool, NetworkSpec

NEWEST = (1, 51)


def create(document: dict[str, object], version: tuple[int, int] = NEWEST) -> CreateRequest:
    return read_create(document, name="/web", version=version)


def test_the_least_request_has_dockers_defaults() -> None:
    assert create({"Image": "x"}) == CreateRequest(
        ContainerConfig(image="x"),
        HostConfig(network_mode="bridge", log_config=LogConfig("")),
        name="web",
    )


def test_an_empty_body_is_no_request() -> None:
    with pytest.raises(InvalidRequest, match="config cannot be empty"):
        create({})


def test_a_command_may_be_one_string() -> None:
    config = create({"Cmd": "a b", "Entrypoint": ["c"]}).config
    assert (config.cmd, config.entrypoint) == (("a b",), ("c",))


def test_no_entrypoint_is_not_the_same_as_none_given() -> None:
    assert create({"Image": "x", "Entrypoint": []}).config.entrypoint == ()
    assert create({"Image": "x", "Entrypoint": None}).config.entrypoint is None


def test_several_endpoints_came_with_1_44() -> None:
    document: dict[str, object] = {"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}}
    assert create(document).endpoints == {"a": EndpointSettings(), "b": EndpointSettings()}
    with pytest.raises(InvalidRequest, match="endpoints: a, b"):
        create(document, (1, 43))


def test_an_endpoint_is_read() -> None:
    document = {
        "Aliases": ["db"],
        "IPAMConfig": {"IPv4Address": "10.0.0.5"},
        "MacAddress": "02:42:0a:00:00:05",
        "DriverOpts": {"a": "b"},
        "GwPriority": 3,
    }
    assert read_endpoint(Fields(document)) == EndpointSettings(
        aliases=("db",),
        ipv4_address="10.0.0.5",
        mac_address="02:42:0a:00:00:05",
        driver_opts={"a": "b"},
        gateway_priority=3,
        given=("IPAMConfig", "Aliases", "DriverOpts"),
    )


def test_what_is_shown_of_a_config_reads_as_the_same_config() -> None:
    config = ContainerConfig(
        image="x", hostname="h", domainname="d", user="u", attach_stdin=True,
        exposed_ports=("80/tcp",),
        tty=True, open_stdin=True, stdin_once=True, env=("A=1", "B"), cmd=("a",), entrypoint=("b",),
        healthcheck=HealthCheck(("CMD", "x"), 1, 2, 3, 4, 5), volumes=("/v",), working_dir="/w",
        labels={"a": "b"}, stop_signal="SIGINT", stop_timeout=3, shell=("/bin/sh",),
        on_build=("RUN x",), network_disabled=True, mac_address="02:00:00:00:00:01",
    )  # fmt: skip
    assert read_config(Fields(as_client(config_json(config)))) == config


def test_what_is_shown_of_a_host_config_reads_as_the_same() -> None:
    host = HostConfig(
        binds=("/a:/b:ro",),
        mounts=(
            MountRequest("bind", "/t", "/s", read_only=True, create_mountpoint=True),
            MountRequest("volume", "/v", "v", no_copy=True, volume_labels={"a": "b"}, subpath="s"),
            MountRequest("tmpfs", "/m", tmpfs_size=5, tmpfs_mode=0o700, tmpfs_options=(("ro",),)),
        ),
        tmpfs={"/x": "size=1m"}, volumes_from=("c",), network_mode="net",
        port_bindings={"80/tcp": (PublishedPort("", "8080"), PublishedPort("::1", ""))},
        links=("a:b",), dns=("1.1.1.1",), extra_hosts=("a:1.2.3.4",),
        restart_policy=RestartPolicy("on-failure", 3), auto_remove=True,
        log_config=LogConfig("json-file", {"max-size": "1m"}), console_size=(24, 80),
        cap_add=("ALL",), privileged=True, security_opt=("no-new-privileges",), masked_paths=(),
        sysctls={"net.a": "1"}, shm_size=5, init=False, memory=1 << 30, memory_swappiness=0,
        nano_cpus=5, pids_limit=-1, ulimits=(Ulimit("nofile", 1, 2),), runtime="pyengine",
        devices=(Device("/dev/a", "/dev/b", "r"),), device_requests=({"Driver": "nvidia"},),
        blkio_weight=10, annotations={"a": "b"}, oom_kill_disable=False, group_add=("5",),
    )  # fmt: skip
    assert read_host_config(Fields(as_client(host_config_json(host)))) == host


def as_client(document: object) -> dict[str, object]:
    """What comes out of the wire again."""
    from engine.api.answer import encode
    from engine.api.request import parse_json

    read = parse_json(encode(document))
    assert isinstance(read, dict)
    return read


texts = st.text(alphabet="abc/:", max_size=4)


@settings(deadline=None, max_examples=60)
def mounts(kind: str, **options: st.SearchStrategy[object]) -> st.SearchStrategy[MountRequest]:
    common = {"target": texts, "source": texts, "read_only": st.booleans()}
    return st.builds(MountRequest, type=st.just(kind), **common, **options)


@given(
    st.one_of(
        mounts("bind", propagation=texts),
        mounts(
            "volume", no_copy=st.booleans(),
            volume_labels=st.dictionaries(texts, texts, max_size=2),
        ),
        mounts("tmpfs", tmpfs_size=st.integers(0, 1 << 40), tmpfs_mode=st.integers(0, 0o7777)),
    )
)  # fmt: skip
def test_every_mount_reads_back(mount: MountRequest) -> None:
    host = Fields(as_client({"Mounts": [mount_request_json(mount)]}))
    assert read_host_config(host).mounts == (mount,)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"Env": "A=1"}, "Env"),
        ({"Env": [1]}, "Env"),
        ({"Tty": "yes"}, "Tty"),
        ({"Labels": ["a=b"]}, "Labels"),
        ({"Labels": {"a": 1}}, "Labels"),
        ({"ExposedPorts": ["80"]}, "ExposedPorts"),
        ({"StopTimeout": "10"}, "StopTimeout"),
        ({"Healthcheck": {"Interval": "1s"}}, "Healthcheck.Interval"),
        ({"HostConfig": []}, "HostConfig"),
        ({"HostConfig": {"Memory": "1g"}}, "HostConfig.Memory"),
        ({"HostConfig": {"Memory": 1.5}}, "HostConfig.Memory"),
        ({"HostConfig": {"Memory": True}}, "HostConfig.Memory"),
        ({"HostConfig": {"Binds": {}}}, "HostConfig.Binds"),
        ({"HostConfig": {"ConsoleSize": [1]}}, "HostConfig.ConsoleSize"),
        ({"HostConfig": {"ConsoleSize": [-1, 5]}}, "HostConfig.ConsoleSize"),
        ({"HostConfig": {"PortBindings": {"80/tcp": {}}}}, "HostConfig.PortBindings.80/tcp"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}}, "HostPort"),
        ({"HostConfig": {"RestartPolicy": {"MaximumRetryCount": "3"}}}, "MaximumRetryCount"),
        ({"HostConfig": {"Mounts": [{"ReadOnly": 1}]}}, r"HostConfig.Mounts\[0\].ReadOnly"),
        (
            {"HostConfig": {"Mounts": [{"Type": "tmpfs", "TmpfsOptions": {"Mode": 65536}}]}},
            "TmpfsOptions.Mode",
        ),
        ({"HostConfig": {"Ulimits": [{"Soft": "1"}]}}, r"HostConfig.Ulimits\[0\].Soft"),
        ({"NetworkingConfig": {"EndpointsConfig": {"a": 1}}}, "EndpointsConfig.a"),
    ],
)
def test_a_wrong_type_is_refused_by_the_fields_name(
    document: dict[str, object], named: str
) -> None:
    """isolation 57"""
    with pytest.raises(InvalidRequest, match=named):
        create(document)


def test_an_exec_needs_a_command() -> None:
    for document in ({}, {"Cmd": []}, {"Cmd": None}):
        with pytest.raises(InvalidRequest, match="No exec command specified"):
            read_exec(document)
    assert read_exec({"Cmd": ["a"], "Tty": True, "ConsoleSize": [1, 2]}).console_size == (1, 2)


def test_an_update_changes_only_what_is_not_zero() -> None:
    sent = {"Memory": 0, "CpuShares": 5, "CpusetCpus": "", "RestartPolicy": {"Name": ""}}
    assert read_update(sent) == ResourceUpdate(cpu_shares=5)
    assert read_update({"RestartPolicy": {"Name": "always"}}) == ResourceUpdate(
        restart_policy=RestartPolicy("always")
    )


def test_an_update_may_take_limits_away() -> None:
    assert read_update({"PidsLimit": 0, "BlkioWeight": 0}) == ResourceUpdate(pids_limit=0)
    assert read_update({"PidsLimit": None, "KernelMemory": 5}) == ResourceUpdate()
    assert read_update({"BlkioWeight": 300}).blkio_weight == 300


def test_a_network_is_read() -> None:
    document = {
        "Name": "n",
        "Internal": True,
        "EnableIPv6": True,
        "IPAM": {"Config": [{"Subnet": "10.1.0.0/16", "IPRange": "10.1.2.0/24"}]},
        "Labels": {"a": "b"},
    }
    assert read_network(document) == NetworkSpec(
        name="n",
        internal=True,
        enable_ipv6=True,
        pools=(AddressPool(subnet="10.1.0.0/16", ip_range="10.1.2.0/24"),),
        labels={"a": "b"},
    )


def test_a_network_may_be_a_template_or_be_made_from_one() -> None:
    assert read_network({"Name": "n", "ConfigOnly": True}).config_only
    assert read_network({"Name": "n", "ConfigFrom": {"Network": "conf"}}).config_from == "conf"
