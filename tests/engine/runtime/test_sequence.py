"""What will be done to make a container, before anything is: the steps as text."""

from __future__ import annotations

import json

import pytest

from engine.kernel import mount, namespaces
from engine.oci.rootfs import Rootfs
from engine.runtime import sequence
from engine.runtime.seccomp import compile_filter, parse_profile
from engine.runtime.sequence import SpecError, mount_options
from tests.engine.runtime.laboratory import spec


def described(built: dict[str, object], **changes: object) -> list[str]:
    arguments: dict[str, object] = {
        "container_id": "0123456789abcdef",
        "rootfs": Rootfs(("/layer", "/base"), "/upper", "/work", False),
        "hook": "/run/x",
        "user": "web",
        "groups": (),
        "seccomp": b"12345678",
        "last_capability": 40,
    }
    steps = sequence.container_sequence(built, **(arguments | changes))  # type: ignore[arg-type]
    return [step.describe() for step in steps]


def small(**changes: object) -> dict[str, object]:
    built = spec("echo", "x", container_id="0123456789abcdef", **changes)  # type: ignore[arg-type]
    built["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/data", "type": "bind", "source": "/d", "options": ["rbind"]},
    ]
    linux = built["linux"]
    assert isinstance(linux, dict)
    linux |= {"maskedPaths": ["/proc/kcore"], "readonlyPaths": ["/proc/sys"]}
    return built


def test_steps_come_in_the_order_that_works() -> None:
    steps = described(small())
    devices = [step for step in steps if step.startswith(("make device", "link"))]
    assert len(devices) == 11
    assert [step for step in steps if step not in devices] == [
        "make a mount namespace",
        "open /dev/null",
        "take /d",
        "cut the mounts off from the host's",
        "mount the root file system of 2 layers",
        "clear the places of file systems",
        "make /etc/mtab",
        "mount proc at /proc",
        "bind /data",
        "make file /.dockerenv",
        "use the container's null device",
        "set sysctl net.ipv4.ip_unprivileged_port_start",
        "make /proc/sys read-only",
        "mask /proc/kcore",
        "set oom_score_adj 0",
        "switch the root",
        "set the host name 0123456789ab",
        "make a session keyring",
        "close all descriptors",
        "find user web",
        "make working directory /",
        "give the standard streams to the user",
        "limit the bounding set to 0xa80425fb",
        "load the seccomp filter of 1 instructions",
        "become the user",
        "wait for the network",
        "execute echo",
    ]


def test_working_directory_is_made_before_the_root_is_read_only() -> None:
    steps = described(small() | {"root": {"path": "rootfs", "readonly": True}})
    after = steps.index("switch the root") + 1
    assert steps[after : after + 2] == ["make working directory /", "make the root read-only"]


def test_filter_is_last_when_new_privileges_are_forbidden() -> None:
    assert described(small(no_new_privileges=True))[-5:] == [
        "become the user",
        "forbid new privileges",
        "load the seccomp filter of 1 instructions",
        "wait for the network",
        "execute echo",
    ]


def test_apparmor_profile_is_applied_while_the_host_s_proc_is_there() -> None:
    built = small()
    process = built["process"]
    assert isinstance(process, dict)
    steps = described(built | {"process": process | {"apparmorProfile": "docker-default"}})
    assert steps.index("apply AppArmor profile 'docker-default'") == (
        steps.index("switch the root") - 1
    )


@pytest.mark.parametrize("forbids", [False, True])
def test_an_exec_is_seen_in_the_container_last_of_all(forbids: bool) -> None:
    process = small(no_new_privileges=forbids)["process"]
    assert isinstance(process, dict)
    steps = described_exec({**process, "terminal": True}, seccomp_of({}))
    born = steps.index("enter the PID namespace")
    assert steps[born - 1 : born + 2] == [
        "become the user",
        "enter the PID namespace",
        "take the terminal",
    ]


def test_an_exec_that_may_not_fork_is_seen_at_once() -> None:
    process = small()["process"]
    assert isinstance(process, dict)
    rules = [{"names": ["clone"], "action": "SCMP_ACT_ERRNO"}]
    steps = described_exec({**process, "terminal": True}, seccomp_of({"syscalls": rules}))
    assert steps[:4] == [
        "enter the PID namespace",
        "use the container's null device",
        "open a terminal",
        "take the terminal",
    ]


def described_exec(process: dict[str, object], program: bytes) -> list[str]:
    walked = sequence.exec_sequence(
        process, container_id="c", user="", groups=(), seccomp=program, last_capability=40
    )
    return [step.describe() for step in walked]


def seccomp_of(more: dict[str, object]) -> bytes:
    profile = parse_profile(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **more}))
    return compile_filter(profile, frozenset(), kernel=(6, 1))


def test_unconfined_loads_no_filter() -> None:
    assert not any("seccomp" in step for step in described(small(), seccomp=b""))


def test_namespaces_are_new_or_joined() -> None:
    built = small(namespaces={"network": "/proc/7/ns/net", "pid": "/proc/7/ns/pid", "ipc": "host"})
    found = sequence.enclosure(built)
    assert found.new == namespaces.CLONE_NEWUTS
    assert found.pid == "/proc/7/ns/pid"
    assert "join namespace /proc/7/ns/net" in described(built)


def test_cgroup_namespace_is_left_to_a_step_for_the_cgroup_is_entered_first() -> None:
    built = small(namespaces={"cgroup": ""})
    assert not sequence.enclosure(built).new & namespaces.CLONE_NEWCGROUP
    assert described(built)[:2] == ["make a mount namespace", "make a cgroup namespace"]


def test_bind_of_dev_leaves_devices_alone() -> None:
    built = small()
    mounts = built["mounts"]
    assert isinstance(mounts, list)
    mounts.append({"destination": "/dev", "type": "bind", "source": "/dev", "options": ["rbind"]})
    assert not any(step.startswith("make device") for step in described(built))


@pytest.mark.parametrize(
    ("section", "value", "text"),
    [
        ("hooks", {"prestart": [{}]}, "'hooks' is not supported"),
        ("mounts", [{"destination": "/", "type": "tmpfs"}], "invalid mount destination '/'"),
        ("mounts", [{"destination": "x", "type": "tmpfs"}], "invalid mount destination 'x'"),
        ("mounts", [{"destination": "/x"}], "it has no type"),
        (
            "mounts",
            [{"destination": "/x", "type": "bind", "source": "rel"}],
            "not an absolute path",
        ),
        ("process", {"args": []}, "there is no command"),
        ("process", {"args": ["x"], "selinuxLabel": "p"}, "'selinuxLabel' is not supported"),
        ("process", {"args": ["x"], "cwd": "rel"}, "not an absolute"),
        ("process", {"args": ["x"], "env": ["novalue"]}, "not NAME=value"),
        ("process", {"args": ["x"], "rlimits": [{"type": "RLIMIT_X"}]}, "unknown limit"),
        ("process", {"args": ["x"], "capabilities": {"bounding": ["CAP_X"]}}, "unknown capability"),
        ("linux", {"namespaces": []}, "a container needs a new mount namespace"),
        ("linux", {"namespaces": [{"type": "time"}]}, "'time' namespaces are not supported"),
        (
            "linux",
            {"namespaces": [{"type": "mount"}, {"type": "user"}]},
            "a user namespace needs both",
        ),
        (
            "linux",
            {"namespaces": [{"type": "mount"}], "uidMappings": [{"containerID": 0}]},
            "there is no user namespace to have them",
        ),
    ],
)
def test_what_is_wrong_or_not_supported_is_refused(section: str, value: object, text: str) -> None:
    with pytest.raises(SpecError, match=text):
        described(small() | {section: value})


@pytest.mark.parametrize("name", ["", "a/b", "..", "net..x", ".hidden"])
def test_sysctl_names_stay_in_their_place(name: str) -> None:
    with pytest.raises(SpecError, match="invalid name"):
        described(small(sysctl={name: "1"}))


def test_option_words_are_sorted_by_what_they_act_on() -> None:
    options = mount_options(("rbind", "ro", "rnosuid", "rslave", "noatime", "dev", "size=1m"))
    assert options.bind
    assert options.recursive_bind
    assert options.set_attributes == mount.MOUNT_ATTR_RDONLY | mount.MOUNT_ATTR_NOATIME
    assert options.clear == mount.MOUNT_ATTR_NODEV | mount.MOUNT_ATTR_ATIME
    assert options.recursive_set == mount.MOUNT_ATTR_NOSUID
    assert options.propagation == mount.MS_SLAVE
    assert options.propagation_recursive
    assert options.rest == (("size", "1m"),)


def test_a_later_word_wins() -> None:
    options = mount_options(("ro", "rw", "nosuid"))
    assert options.set_attributes == mount.MOUNT_ATTR_NOSUID
    assert options.clear == mount.MOUNT_ATTR_RDONLY
