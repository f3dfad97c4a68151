"""What the engine is told for what the files say."""

from __future__ import annotations

import pytest

from compose.model.build import Ulimit
from compose.model.deploy import Deploy, Resource, RestartPolicy
from compose.model.health import HealthCheck
from compose.model.mount import (
    BindOptions,
    FileReference,
    Mount,
    MountType,
    TmpfsOptions,
    VolumeOptions,
)
from compose.model.port import Port
from compose.model.project import Project
from compose.model.resources import ConfigFile, Volume
from compose.model.service import Attachment, Dependency, Device, Logging, Service
from compose.model.units import Bytes, Duration
from compose.plan.actions import CreateContainer, Existing, Share
from compose.plan.container import Replica, make_creation
from tests.compose.projects import make_project, make_service

PARENT = Existing("p" * 64, "parent")


def creation(project: Project, name: str = "web", places_files: bool = False) -> CreateContainer:
    replica = Replica(
        number=1,
        name=f"demo-{name}-1",
        created_as=f"demo-{name}-1",
        image_id="sha256:1",
        record="{}",
        config_hash="c" * 64,
        image_volumes=("/var/cache",),
        inherited={"/var/cache": "v" * 64},
        replaces="",
        seccomp_profiles={"/project/policy.json": '{"a":1}'},
        parents=lambda _: PARENT,
        places_files=places_files,
        api_socket=None,
    )
    return make_creation(project, project.services[name], replica)


def host_config(service: Service) -> dict[str, object]:
    found = creation(make_project(service, volumes={"data": Volume("data", "demo_data")}))
    config = found.body["HostConfig"]
    assert isinstance(config, dict)
    return config


def test_the_process_is_told_as_written() -> None:
    service = make_service(
        "web", command=("serve",), entrypoint=(), environment={"A": "1", "B": None}, user="7:8",
        working_dir="/srv", hostname="h", tty=True, stdin_open=True, stop_signal="SIGINT",
        stop_grace_period=Duration(1_500_000_000),
    )  # fmt: skip
    body = creation(make_project(service)).body
    expected = {
        "Cmd": ["serve"], "Entrypoint": [""], "Env": ["A=1", "B"], "User": "7:8",
        "WorkingDir": "/srv", "Hostname": "h", "Tty": True, "OpenStdin": True,
        "StopSignal": "SIGINT", "StopTimeout": 2,
    }  # fmt: skip
    assert {key: body[key] for key in expected} == expected


def test_the_images_own_command_is_not_overridden() -> None:
    body = creation(make_project(make_service("web", command=None))).body
    assert "Cmd" not in body
    assert "Entrypoint" not in body


def test_the_labels_are_those_of_docker_compose_and_ours() -> None:
    service = make_service(
        "web", labels={"mine": "1"}, depends_on={"db": Dependency("db", restart=True)}
    )
    labels = creation(make_project(service, make_service("db"))).body["Labels"]
    assert isinstance(labels, dict)
    assert labels == {
        "mine": "1",
        "com.docker.compose.project": "demo",
        "com.docker.compose.project.working_dir": "/project",
        "com.docker.compose.project.config_files": "/project/compose.yaml",
        "com.docker.compose.service": "web",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.config-hash": "c" * 64,
        "com.docker.compose.image": "sha256:1",
        "com.docker.compose.depends_on": "db:service_started:true",
        "com.docker.compose.version": "0.1.0",
        "io.pycompose.service": "{}",
    }


def test_limits_of_deploy_and_of_the_service_mean_the_same() -> None:
    limits = Resource(cpus=0.5, memory=Bytes(1 << 26), pids=9)
    deployed = host_config(make_service("web", deploy=Deploy(limits=limits)))
    plain = host_config(make_service("web", cpus=0.5, mem_limit=Bytes(1 << 26), pids_limit=9))
    wanted = {"NanoCpus": 500_000_000, "Memory": 1 << 26, "PidsLimit": 9}
    assert {key: deployed[key] for key in wanted} == wanted
    assert {key: plain[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({"restart": "always"}, {"Name": "always"}),
        ({"restart": "on-failure:3"}, {"Name": "on-failure", "MaximumRetryCount": 3}),
        ({"restart": "no"}, {"Name": "no"}),
        ({}, None),
        (
            {"restart": "no", "deploy": Deploy(restart_policy=RestartPolicy("any"))},
            {"Name": "always"},
        ),
        (
            {"deploy": Deploy(restart_policy=RestartPolicy("on-failure", max_attempts=2))},
            {"Name": "on-failure", "MaximumRetryCount": 2},
        ),
    ],
)
def test_restart_policies(fields: dict[str, object], policy: object) -> None:
    assert host_config(make_service("web", **fields)).get("RestartPolicy") == policy


def test_mounts_of_every_kind() -> None:
    config = host_config(
        make_service(
            "web",
            volumes=(
                Mount(MountType.BIND, "/a", "/host/a", read_only=True),
                Mount(MountType.BIND, "/z", "/host/z", bind=BindOptions("rshared", selinux="Z")),
                Mount(MountType.BIND, "/b", "/host/b", bind=BindOptions(create_host_path=False)),
                Mount(MountType.BIND, "/c", "/host/c", bind=BindOptions(recursive="disabled")),
                Mount(MountType.VOLUME, "/d", "data", volume=VolumeOptions(nocopy=True)),
                Mount(MountType.VOLUME, "/anonymous"),
                Mount(MountType.TMPFS, "/t", tmpfs=TmpfsOptions(Bytes(1024), 0o700)),
            ),
            tmpfs=("/run", "/tmp:size=1m,mode=1777"),
        )
    )
    assert config["Binds"] == ["/host/a:/a:ro", "/host/z:/z:rw,Z,rshared"]
    assert config["Mounts"] == [
        {"Type": "bind", "Target": "/b", "Source": "/host/b"},
        {"Type": "bind", "Target": "/c", "Source": "/host/c",
         "BindOptions": {"CreateMountpoint": True, "NonRecursive": True}},
        {"Type": "volume", "Target": "/d", "Source": "demo_data",
         "VolumeOptions": {"NoCopy": True}},
        {"Type": "volume", "Target": "/anonymous"},
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o700}},
        {"Type": "volume", "Source": "v" * 64, "Target": "/var/cache"},
    ]  # fmt: skip
    assert config["Tmpfs"] == {"/run": "", "/tmp": "size=1m,mode=1777"}


def test_ports_are_exposed_and_bound() -> None:
    service = make_service(
        "web", expose=("9000-9001", "53/udp"),
        ports=(Port(80, "8080", host_ip="127.0.0.1"), Port(80), Port(53, "53", protocol="udp")),
    )  # fmt: skip
    body = creation(make_project(service)).body
    assert sorted(body["ExposedPorts"]) == ["53/udp", "80/tcp", "9000/tcp", "9001/tcp"]  # type: ignore[call-overload]
    assert host_config(service)["PortBindings"] == {
        "80/tcp": [
            {"HostIp": "127.0.0.1", "HostPort": "8080"},
            {"HostIp": "", "HostPort": ""},
        ],
        "53/udp": [{"HostIp": "", "HostPort": "53"}],
    }


def test_the_network_of_the_highest_priority_comes_first() -> None:
    service = make_service(
        "web",
        networks={
            "back": Attachment(aliases=("store",), ipv4_address="10.0.0.5"),
            "front": Attachment(priority=10, interface_name="eth7"),
        },
    )
    made = creation(make_project(service))
    assert dict(made.endpoints) == {
        "demo_front": {
            "Aliases": ["demo-web-1", "web"],
            "DriverOpts": {"com.docker.network.endpoint.ifname": "eth7"},
        },
        "demo_back": {
            "Aliases": ["demo-web-1", "web", "store"],
            "IPAMConfig": {"IPv4Address": "10.0.0.5"},
        },
    }
    assert list(made.endpoints) == ["demo_front", "demo_back"]
    assert host_config(service)["NetworkMode"] == "demo_front"


def test_modes_of_other_services_become_shares() -> None:
    service = make_service("web", network_mode="service:vpn", pid="service:vpn", ipc="host",
                           volumes_from=("db:ro", "container:old"))  # fmt: skip
    made = creation(make_project(service, make_service("vpn"), make_service("db")))
    assert made.shares == (
        Share("NetworkMode", PARENT), Share("PidMode", PARENT),
        Share("VolumesFrom", PARENT, ":ro"),
    )  # fmt: skip
    config = made.body["HostConfig"]
    assert isinstance(config, dict)
    assert (config["IpcMode"], config["VolumesFrom"]) == ("host", ["old"])
    assert "NetworkMode" not in config


def test_security_options() -> None:
    config = host_config(
        make_service(
            "web", read_only=True, privileged=True, cap_add=("NET_ADMIN",), cap_drop=("ALL",),
            security_opt=("no-new-privileges:true", "seccomp=policy.json",
                          "systempaths=unconfined"),
        )
    )  # fmt: skip
    expected = {
        "ReadonlyRootfs": True, "Privileged": True, "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true", 'seccomp={"a":1}'],
        "MaskedPaths": [], "ReadonlyPaths": [],
    }  # fmt: skip
    assert {key: config[key] for key in expected} == expected


def test_checks_are_in_nanoseconds_and_can_be_turned_off() -> None:
    health = HealthCheck(("CMD", "x"), interval=Duration(5), retries=3)
    body = creation(make_project(make_service("web", healthcheck=health))).body
    assert body["Healthcheck"] == {"Test": ["CMD", "x"], "Interval": 5, "Retries": 3}
    off = make_service("web", healthcheck=HealthCheck(disable=True))
    assert creation(make_project(off)).body["Healthcheck"] == {"Test": ["NONE"]}


def test_the_rest() -> None:
    config = host_config(
        make_service(
            "web", init=False, logging=Logging("json-file", {"max-size": "1m"}),
            ulimits={"nofile": Ulimit(1, 2)}, sysctls={"a": "1"}, shm_size=Bytes(5),
            devices=(Device("/dev/a", "/dev/b"), Device("vendor/class=x")),
            extra_hosts={"h": ("1.2.3.4", "::1")}, dns=("9.9.9.9",), memswap_limit=Bytes(-1),
        )
    )  # fmt: skip
    expected = {
        "Init": False,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m"}},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}],
        "Sysctls": {"a": "1"},
        "ShmSize": 5,
        "Devices": [
            {"PathOnHost": "/dev/a", "PathInContainer": "/dev/b", "CgroupPermissions": "rwm"}
        ],
        "DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["vendor/class=x"]}],
        "ExtraHosts": ["h:1.2.3.4", "h:::1"],
        "Dns": ["9.9.9.9"],
        "MemorySwap": -1,
    }
    assert {key: config[key] for key in expected} == expected


def test_a_config_file_is_bound_and_a_content_copied_but_by_our_engine_both_are_placed() -> None:
    def project(**fields: object) -> Project:
        return make_project(
            make_service("web", configs=(FileReference("file"), FileReference("text")), **fields),
            configs={
                "file": ConfigFile("file", "f", file="/project/f", content=b"f", digest="d"),
                "text": ConfigFile("text", "t", inline="t", content=b"t", digest="e"),
            },
        )

    copied = creation(project())
    config = copied.body["HostConfig"]
    assert isinstance(config, dict)
    bound = {"Type": "bind", "Source": "/project/f", "Target": "/file", "ReadOnly": True}
    assert bound in config["Mounts"]
    assert [file.path for file in copied.files] == ["/text"]
    ours = creation(project(), places_files=True)
    assert [(file.path, file.content) for file in ours.files] == [("/file", b"f"), ("/text", b"t")]
    config = ours.body["HostConfig"]
    assert isinstance(config, dict)
    assert [mount["Type"] for mount in config["Mounts"]] == ["volume"]


def test_a_script_stays_one_and_a_large_file_is_bound() -> None:
    large = ConfigFile("large", "l", file="/project/l", content=bytes(2 << 20), digest="d")
    script = ConfigFile("run", "r", file="/project/r", content=b"#!", digest="e", executable=True)
    project = make_project(
        make_service("web", configs=(FileReference("large"), FileReference("run"))),
        configs={"large": large, "run": script},
    )
    made = creation(project, places_files=True)
    assert [(file.path, file.mode) for file in made.files] == [("/run", 0o555)]
    config = made.body["HostConfig"]
    assert isinstance(config, dict)
    assert "/project/l" in [mount["Source"] for mount in config["Mounts"]]
