import json
from dataclasses import replace

from engine.containers.create import with_defaults
from engine.containers.model import ContainerConfig, HostConfig, MountPoint, Record, Ulimit
from engine.containers.spec import (
    DEFAULT_PATH,
    Machine,
    Surroundings,
    apparmor_profile,
    bind_mount,
    environment,
    make_spec,
    tmpfs_mount,
)
from engine.runtime import capabilities

MACHINE = Machine(4, capabilities.NAMES, (6, 1))
ARMED = replace(MACHINE, has_apparmor=True, has_default_profile=True)


def record(host: HostConfig | None = None, **config: object) -> Record:
    return Record(
        id="ab" * 32, name="web", created=1, image_id="sha256:0",
        config=ContainerConfig(hostname="abababababab", **config),  # type: ignore[arg-type]
        host=host or HostConfig(), path="sleep", args=("1000",),
        hostname_path="/d/hostname", hosts_path="/d/hosts", resolv_conf_path="/d/resolv.conf",
    )  # fmt: skip


def spec(host: HostConfig | None = None, **around: object) -> dict[str, object]:
    return make_spec(record(host), MACHINE, Surroundings(mounts=[], **around))  # type: ignore[arg-type]


def section(document: object, *keys: str) -> object:
    for key in keys:
        assert isinstance(document, dict)
        document = document[key]
    return document


def test_default_container() -> None:
    made = spec()
    mounts = made.pop("mounts")
    assert isinstance(mounts, list)
    assert ["{destination} {type} {source}".format(**mount) + " " + ",".join(mount["options"])
            for mount in mounts] == [
        "/proc proc proc nosuid,noexec,nodev",
        "/dev tmpfs tmpfs nosuid,strictatime,mode=755,size=65536k",
        "/dev/pts devpts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
        "/sys sysfs sysfs nosuid,noexec,nodev,ro",
        "/sys/fs/cgroup cgroup cgroup ro,nosuid,noexec,nodev",
        "/dev/mqueue mqueue mqueue nosuid,noexec,nodev",
        "/dev/shm tmpfs shm nosuid,noexec,nodev,mode=1777,size=67108864",
        "/etc/resolv.conf bind /d/resolv.conf rbind,rprivate",
        "/etc/hostname bind /d/hostname rbind,rprivate",
        "/etc/hosts bind /d/hosts rbind,rprivate",
    ]  # fmt: skip
    bounding = section(made, "process", "capabilities", "bounding")
    assert isinstance(bounding, list)
    assert capabilities.mask(bounding) == 0xA80425FB
    assert section(made, "process", "capabilities", "inheritable") == []
    assert section(made, "process", "capabilities", "ambient") == []
    assert section(made, "process", "env") == [f"PATH={DEFAULT_PATH}", "HOSTNAME=abababababab"]
    assert section(made, "process", "noNewPrivileges") is False
    assert section(made, "hostname") == "abababababab"
    assert section(made, "linux", "namespaces") == [
        {"type": kind} for kind in ("mount", "network", "pid", "ipc", "uts", "cgroup")
    ]
    assert section(made, "linux", "cgroupsPath") == "/pycompose/" + "ab" * 32
    assert section(made, "linux", "sysctl") == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
    assert section(made, "linux", "readonlyPaths") == [
        "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
    ]  # fmt: skip
    masked = section(made, "linux", "maskedPaths")
    assert isinstance(masked, list)
    assert {"/proc/kcore", "/proc/keys", "/proc/interrupts", "/sys/firmware"} <= set(masked)
    assert list(section(made, "linux", "resources") or ()) == ["devices"]  # type: ignore[call-overload]
    json.dumps(made)


def test_privileged_sees_everything_and_is_filtered_by_nothing() -> None:
    made = spec(HostConfig(privileged=True))
    assert section(made, "linux", "maskedPaths") == []
    assert section(made, "linux", "readonlyPaths") == []
    rules = section(made, "linux", "resources", "devices")
    assert rules == [{"allow": True, "type": "a", "access": "rwm"}]
    assert section(made, "process", "capabilities", "effective") == list(capabilities.NAMES)
    mounts = section(made, "mounts")
    assert isinstance(mounts, list)
    assert "rw" in next(mount for mount in mounts if mount["destination"] == "/sys")["options"]


def test_each_namespace_of_the_host_is_shared_alone() -> None:
    def kinds(host: HostConfig, **around: object) -> set[str]:
        found = section(spec(host, **around), "linux", "namespaces")
        assert isinstance(found, list)
        return {entry["type"] + entry.get("path", "") for entry in found}

    every = {"mount", "network", "pid", "ipc", "uts", "cgroup"}
    assert kinds(HostConfig(pid_mode="host"), pid_path="") == every - {"pid"}
    assert kinds(HostConfig(network_mode="host"), network_path="") == every - {"network"}
    assert kinds(HostConfig(ipc_mode="host")) == every - {"ipc"}
    assert kinds(HostConfig(uts_mode="host")) == every - {"uts"}
    assert kinds(HostConfig(cgroupns_mode="host")) == every - {"cgroup"}
    joined = kinds(HostConfig(), network_path="/proc/7/ns/net")
    assert joined == every - {"network"} | {"network/proc/7/ns/net"}


def test_privileged_containers_share_the_cgroup_namespace_on_v1_alone() -> None:
    privileged, usual = HostConfig(privileged=True), HostConfig()

    def mode(host: HostConfig, *, unified: bool) -> str:
        return with_defaults(host, MACHINE, unified=unified).cgroupns_mode

    assert mode(privileged, unified=False) == "host"
    assert mode(privileged, unified=True) == "private"
    assert mode(usual, unified=False) == mode(usual, unified=True) == "private"
    assert mode(replace(privileged, cgroupns_mode="host"), unified=True) == "host"


def test_limits_reach_the_spec() -> None:
    host = HostConfig(
        memory=64 << 20, memory_swap=128 << 20, nano_cpus=1_500_000_000, cpu_shares=512,
        cpuset_cpus="0-1", pids_limit=100, oom_score_adj=-5, memory_swappiness=0,
        ulimits=(Ulimit("nofile", 1024, -1),),
    )  # fmt: skip
    made = spec(host)
    assert section(made, "linux", "resources", "memory") == {
        "limit": 64 << 20, "swap": 128 << 20, "swappiness": 0,
    }  # fmt: skip
    assert section(made, "linux", "resources", "cpu") == {
        "shares": 512, "period": 100_000, "quota": 150_000, "cpus": "0-1",
    }  # fmt: skip
    assert section(made, "linux", "resources", "pids") == {"limit": 100}
    assert section(made, "process", "oomScoreAdj") == -5
    assert section(made, "process", "rlimits") == [
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}
    ]


def test_a_mount_of_one_s_own_replaces_a_standard_one() -> None:
    own = tmpfs_mount("/dev/shm", ("size=1m",), read_only=False)
    hosts = bind_mount(MountPoint("bind", "/etc/hosts", source="/h"), "/h")
    made = make_spec(record(), MACHINE, Surroundings(mounts=[own, hosts]))
    mounts = section(made, "mounts")
    assert isinstance(mounts, list)
    destinations = [mount["destination"] for mount in mounts]
    assert len(destinations) == len(set(destinations))
    assert destinations[-2:] == ["/dev/shm", "/etc/hosts"]


def test_read_only_is_recursive() -> None:
    point = MountPoint("bind", "/x", source="/a", read_only=True, propagation="rprivate")
    assert bind_mount(point, "/a")["options"] == ["rbind", "rro", "rprivate"]


def test_tmpfs_is_hardened_unless_undone() -> None:
    mount = tmpfs_mount("/x", ("exec", "size=1m"), read_only=True)
    assert mount["options"] == ["nosuid", "nodev", "size=1m", "ro"]


def test_environment_keeps_order_and_lets_the_later_win() -> None:
    container = record(env=("A=1", "PATH=/bin", "GONE", "HOSTNAME"), tty=True)
    assert environment(container, ["A=2", "B=x=y"]) == ["PATH=/bin", "TERM=xterm", "A=2", "B=x=y"]


def test_apparmor_profile_is_the_one_asked_for_or_docker_s() -> None:
    def profile(*options: str, machine: Machine = ARMED, privileged: bool = False) -> str:
        host = HostConfig(security_opt=options)
        return apparmor_profile(host, machine, privileged=privileged)

    assert profile() == "docker-default"
    assert profile("apparmor=mine") == profile("apparmor:mine", privileged=True) == "mine"
    assert profile("apparmor=unconfined") == profile(privileged=True) == ""
    assert profile(machine=replace(ARMED, has_default_profile=False)) == ""
    assert profile("apparmor=mine", machine=MACHINE) == ""


def test_cgroups_are_writable_on_request() -> None:
    def access(*options: str) -> object:
        mounts = spec(HostConfig(security_opt=options))["mounts"]
        assert isinstance(mounts, list)
        return next(m["options"][0] for m in mounts if m["type"] == "cgroup")

    assert access() == "ro"
    assert access("writable-cgroups=true") == "rw"
