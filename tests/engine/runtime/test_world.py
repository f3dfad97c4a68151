"""What a spare builds beforehand, and that nobody can tell it from what a start builds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.oci.rootfs import Rootfs
from engine.runtime import sequence, world
from engine.runtime.steps import Step
from tests.engine.runtime.laboratory import Laboratory, Ran, spec
from tests.engine.runtime.test_spares import spare


def walked(*mounts: dict[str, object], **changes: object) -> tuple[Step, ...]:
    built = spec("echo", "x", container_id="0123456789abcdef", **changes)  # type: ignore[arg-type]
    built["mounts"] = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
        *mounts,
    ]
    linux = built["linux"]
    assert isinstance(linux, dict)
    linux |= {"maskedPaths": ["/proc/kcore", "/data/x"], "readonlyPaths": ["/proc/sys"]}
    return sequence.container_sequence(
        built,
        container_id="0123456789abcdef",
        rootfs=Rootfs(("/layer", "/base"), "/upper", "/work", False),
        hook="/run/x",
        user="",
        groups=(),
        seccomp=b"",
        last_capability=40,
    )


def described(steps: Sequence[Step]) -> list[str]:
    return [s.describe() for s in steps if not s.describe().startswith(("make device", "link"))]


def test_world_is_what_needs_nothing_of_the_container() -> None:
    bind: dict[str, object] = {
        "destination": "/data",
        "type": "bind",
        "source": "/d",
        "options": ["rbind"],
    }
    parts = world.apart(walked(bind))
    assert parts is not None
    assert described(parts.world) == [
        "open /dev/null",
        "mount proc at /proc",
        "mount tmpfs at /dev",
        "use the container's null device",
        "set sysctl net.ipv4.ip_unprivileged_port_start",
        "make /proc/sys read-only",
        "mask /proc/kcore",
    ]
    assert len(parts.world) == 7 + 11  # devices and links
    assert described(parts.rest)[:11] == [
        "make a mount namespace",
        "take /d",
        "cut the mounts off from the host's",
        "mount the root file system of 2 layers",
        "mount /proc, /dev",
        "make /etc/mtab",
        "bind /data",
        "make file /.dockerenv",
        "use the container's null device",
        "mask /data/x",
        "set oom_score_adj 0",
    ]


@pytest.mark.parametrize("target", ["/proc", "/sys/firmware", "/data/../dev/shm"])
def test_there_is_none_where_something_else_is_put_into_it(target: str) -> None:
    bind: dict[str, object] = {
        "destination": target,
        "type": "bind",
        "source": "/d",
        "options": ["rbind"],
    }
    assert world.apart(walked(bind)) is None


def test_a_spare_can_do_without_its_world_but_not_undo_settings() -> None:
    plain, other = walked(), walked(sysctl={"net.core.somaxconn": "77"})
    parts, others = world.apart(plain), world.apart(other)
    assert parts is not None
    assert others is not None
    assert world.is_harmless(parts.world, other)
    assert not world.is_harmless(others.world, plain)


# --- in a container ---------------------------------------------------------------------------

LOOK = "cat /proc/self/mountinfo; echo --; ls -lR /dev /proc/scsi /proc/bus; cat /proc/keys; id"


def mount_table(ran: Ran, identifier: str) -> list[list[str]]:
    """Without what is another in each mount namespace."""
    lines = ran.stdout.decode().replace(identifier, "ID").split("--\n")[0].splitlines()
    return sorted([*line.split()[3:-1]] for line in lines)


def listing(ran: Ran) -> list[list[str]]:
    """Without times."""
    lines = ran.stdout.decode().split("--\n")[1].splitlines()
    return [[word for word in line.split() if ":" not in word] for line in lines]


@pytest.mark.kernel
async def test_container_in_a_spare_sees_what_any_other_sees(lab: Laboratory) -> None:
    request = lab.request("sh", "-c", LOOK)
    anew = await lab.run_request(request)
    identifier = await spare(lab)
    assert world.is_possible() == bool(lab.spawner._spares._taken[identifier].mould.world)
    there = await lab.run_request(lab.request("sh", "-c", LOOK, container_id=identifier))
    assert lab.shims[-1].is_spare
    assert mount_table(there, identifier) == mount_table(anew, request.container_id)
    assert listing(there) == listing(anew)
    assert b"crw-rw-rw-" in there.stdout


@pytest.mark.kernel
async def test_settings_of_another_container_are_not_inherited(lab: Laboratory) -> None:
    look = ("cat", "/proc/sys/net/core/somaxconn")
    before = (await lab.run(*look)).stdout
    await lab.run(*look, sysctl={"net.core.somaxconn": "77"})
    lab.spawner._spares._rest()
    for _ in range(3):
        identifier = await spare(lab)
        ran = await lab.run_request(lab.request(*look, container_id=identifier))
        assert ran.stdout == before != b"77\n"
        await lab.run(*look, sysctl={"net.core.somaxconn": "77"})
