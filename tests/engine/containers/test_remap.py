"""Containers whose users are subordinate ids of the host's: root inside is nobody out here."""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    ExecConfig,
    HostConfig,
    MountRequest,
    PlacedFile,
    ResourceUpdate,
)
from engine.containers.remap import COUNT, FIRST, read_id_maps
from engine.errors import EngineError, InvalidRequest, Unsupported
from engine.runtime.id_maps import IdMaps, Range
from tests.engine.containers.conftest import Engine, unframed
from tests.engine.containers.test_copies import contents
from tests.engine.images.archives import chunks, docker_archive, entry, tar

START = 300_000
MAPS = IdMaps((Range(0, START, 65_536),), (Range(0, START, 65_536),))


# --- whose ids --------------------------------------------------------------------------------


def test_ranges_are_those_of_the_user_and_the_group(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("ann:x:1000:1000::/:\n")
    (tmp_path / "group").write_text("staff:x:50:\n")
    (tmp_path / "subuid").write_text("bob:1:1\n1000:200000:1000\nann:400000:500\n")
    (tmp_path / "subgid").write_text("staff:700000:65536\nann:1:2\n")
    found = read_id_maps("ann:staff", kernel=(6, 1), etc=tmp_path)
    assert found == IdMaps(
        (Range(0, 200_000, 1000), Range(1000, 400_000, 500)), (Range(0, 700_000, 65_536),)
    )
    assert read_id_maps("1000:50", kernel=(6, 1), etc=tmp_path) == found
    assert read_id_maps("", kernel=(4, 0)) is None
    assert (found.uid(1001), found.uid(9999)) == (400_001, 200_000)
    assert (found.inside_uid(400_001), found.inside_uid(0)) == (1001, 65534)


def test_default_gets_ranges_that_nobody_has(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("ann:200000:65536")
    found = read_id_maps("default", kernel=(6, 1), etc=tmp_path)
    assert found == IdMaps((Range(0, 265_536, COUNT),), (Range(0, FIRST, COUNT),))
    assert read_id_maps("default", kernel=(6, 1), etc=tmp_path) == found
    assert (tmp_path / "subuid").read_text() == "ann:200000:65536\ndockremap:265536:65536\n"


@pytest.mark.parametrize(
    ("wanted", "kernel", "kind", "words"),
    [
        ("eve", (6, 1), InvalidRequest, "subuid has no range for 'eve'; add one, as in \"eve:"),
        ("root", (6, 1), InvalidRequest, "ids that it can't"),
        ("root", (5, 15), Unsupported, "from Linux 5.19 on, and this is 5.15"),
    ],
)
def test_what_cannot_be_remapped_is_refused(
    tmp_path: Path, wanted: str, kernel: tuple[int, int], kind: type[EngineError], words: str
) -> None:
    (tmp_path / "subuid").write_text("root:0:65536\n")
    with pytest.raises(kind, match=words):
        read_id_maps(wanted, kernel=kernel, etc=tmp_path)


# --- containers -------------------------------------------------------------------------------


def remap(engine: Engine) -> None:
    parts = engine.containers._parts
    engine.containers._parts = replace(parts, machine=replace(parts.machine, ids=MAPS))


@pytest.fixture
def remapped(engine: Engine) -> Engine:
    """Its containers run on rootfs:/, what is hidden of which lies on a tmpfs."""
    if engine.containers._parts.machine.kernel < (6, 3):
        pytest.skip("tmpfs has idmapped mounts from Linux 6.3 on")
    remap(engine)
    return engine


@pytest.mark.kernel
async def test_layers_are_shown_to_root_inside(engine: Engine) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox (Debian: apt-get install busybox-static)")
    remap(engine)
    base = tar([entry("bin/busybox", Path(busybox).read_bytes(), mode=0o755)])
    top = tar([entry("etc/mine", b"mine", uid=12, gid=13, mode=0o600)])
    await engine.images.load(chunks(docker_archive([base, top], ["box:1"])))
    await engine.images.load(chunks(docker_archive([base], ["base:1"])))
    script = (
        "stat -c %u:%g /bin/busybox /etc/mine; echo more >> /etc/mine && cat /etc/mine; echo;"
        " stat -c %u:%g /base/bin/busybox /box/etc/mine"
    )
    mounts = tuple(
        MountRequest("image", f"/{name}", source=f"{name}:1") for name in ("base", "box")
    )
    config = ContainerConfig(image="box:1", cmd=("/bin/busybox", "sh", "-c", script))
    identifier = (
        await engine.containers.create(CreateRequest(config, HostConfig(mounts=mounts)))
    ).id
    await engine.containers.start(identifier)
    await engine.containers.wait(identifier)
    assert await engine.output(identifier) == "0:0\n12:13\nminemore\n\n0:0\n12:13\n"
    upper = engine.folder / f"data/containers/{identifier}/rootfs/upper/etc/mine"
    assert (upper.stat().st_uid, upper.stat().st_gid) == (12, 13)


async def run_inside(engine: Engine, identifier: str, *command: str, user: str = "") -> str:
    wish = ExecConfig(command, attach_stdout=True, attach_stderr=True, user=user)
    made = await engine.containers.exec_create(identifier, wish)
    streams = await engine.containers.exec_start(made.id, detach=False, tty=False)
    assert streams is not None
    text = b"".join([piece async for piece in streams])
    assert engine.containers.exec_inspect(made.id).exit_code == 0, text
    return unframed([text])


@pytest.mark.kernel
async def test_root_inside_is_nobody_outside(remapped: Engine) -> None:
    identifier = await remapped.run("sleep", "1000")
    status = Path(f"/proc/{remapped.get(identifier).state.pid}/status").read_text()
    assert f"Uid:\t{START}\t{START}\t{START}\t{START}\n" in status
    assert f"Gid:\t{START}\t{START}\t{START}\t{START}\n" in status
    assert await run_inside(remapped, identifier, "id", "-u") == "0\n"
    script = "import os; open('/dev/stdout', 'w').write(str(os.fstat(1).st_uid))"
    assert await run_inside(remapped, identifier, "python3", "-c", script, user="7") == "7"


@pytest.mark.kernel
async def test_exec_gets_into_one_that_has_all_its_processes(remapped: Engine) -> None:
    identifier = await remapped.run("sleep", "1000", host=HostConfig(pids_limit=1))
    assert await run_inside(remapped, identifier, "id", "-u", user="7") == "7\n"


@pytest.mark.kernel
async def test_files_of_the_host_are_not_its_roots(remapped: Engine, tmp_path: Path) -> None:
    """What a bind shows belongs to who it belongs to: not even root inside may write it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    tmp_path.chmod(0o755)
    script = (
        "cat /host/secret || echo hidden; echo x > /host/new || echo kept; chown 0 /host ||"
        " echo owned; echo x > /host/open/mine"
    )
    host = HostConfig(binds=(f"{tmp_path}:/host",))
    code, said = await remapped.finish("sh", "-c", f"({script}) 2>/dev/null", host=host)
    assert (code, said.split()) == (0, ["hidden", "kept", "owned"])
    assert (tmp_path / "open/mine").stat().st_uid == START
    assert sorted(os.listdir(tmp_path)) == ["open", "secret"]


@pytest.mark.kernel
async def test_volumes_and_layers_keep_the_ids_of_inside(remapped: Engine) -> None:
    host = HostConfig(binds=("data:/srv/deep/data",), tmpfs={"/fast": ""})
    script = (
        "touch /made /srv/deep/data/made; chown 5:6 /made; mkdir /fast/x;"
        " stat -c %u:%g /srv /srv/deep/data /fast/x /etc/hosts /usr /dev/null; sleep 1000"
    )
    identifier = await remapped.run("sh", "-c", script, host=host, working_dir="/work/here")
    owners = await run_inside(
        remapped, identifier, "sh", "-c",
        "until test -e /fast/x; do :; done; stat -c %u:%g /srv /srv/deep/data /fast/x /etc/hosts"
        " /usr /dev/null /work /made",
    )  # fmt: skip
    assert owners.split() == ["0:0"] * 7 + ["5:6"]
    # On disk as for any other container, so either kind of daemon can go on with it.
    found = (remapped.folder / "data/volumes/data/_data/made").stat()
    assert (found.st_uid, found.st_gid) == (0, 0)
    # Copies, while it runs and at rest.
    await remapped.containers.write_archive(
        identifier, "/", chunks(tar([entry("srv/deep/data/in", b"in", uid=8, gid=9)]))
    )
    seen = await run_inside(remapped, identifier, "stat", "-c", "%u:%g", "/srv/deep/data/in")
    assert seen == "8:9\n"
    await remapped.containers.kill(identifier)
    await remapped.containers.wait(identifier)
    assert await contents(remapped, identifier, "/srv/deep/data/in") == {"in": b"in"}


@pytest.mark.kernel
async def test_files_with_contents_have_the_owners_of_inside(remapped: Engine) -> None:
    file = PlacedFile("/run/secrets/a", 8, 9, 0o440)
    config = ContainerConfig(image="rootfs:/", cmd=("sleep", "1000"))
    asked = CreateRequest(config, files={file: b"one"})
    identifier = (await remapped.containers.create(asked)).id
    await remapped.containers.start(identifier)
    look = ("sh", "-c", "stat -c '%u:%g %a' /run/secrets/a; cat /run/secrets/a")
    assert await run_inside(remapped, identifier, *look, user="8") == "8:9 440\none"
    await remapped.containers.update(identifier, ResourceUpdate(), files={file: b"two"})
    assert await run_inside(remapped, identifier, *look, user="8") == "8:9 440\ntwo"


@pytest.mark.kernel
async def test_capabilities_are_over_its_own_only(remapped: Engine) -> None:
    host = HostConfig(
        cap_add=("NET_ADMIN", "SYS_ADMIN"),
        security_opt=("seccomp=unconfined",),
        sysctls={"kernel.msgmax": "9000", "net.ipv4.ip_forward": "1"},
    )
    script = (
        "cat /proc/sys/kernel/msgmax; mount -t tmpfs none /mnt && echo mounted;"
        "umount /etc/hosts || echo stays; mknod /disk b 254 0 || echo no disk;"
        "hostname other && hostname"
    )
    code, said = await remapped.finish("sh", "-c", f"({script}) 2>/dev/null", host=host)
    assert said.split("\n") == ["9000", "mounted", "stays", "no disk", "other", ""]
    assert code == 0


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["network_mode", "ipc_mode"])
async def test_who_shares_a_namespace_shares_its_users(remapped: Engine, kind: str) -> None:
    """Over a namespace only the root of its own users has capabilities."""
    donor = await remapped.run("sleep", "1000", host=HostConfig(ipc_mode="shareable"))
    wanted: dict[str, Any] = {kind: f"container:{donor}"}
    host = HostConfig(
        cap_add=("NET_ADMIN", "SYS_ADMIN"), security_opt=("seccomp=unconfined",), **wanted
    )
    script = (
        "readlink /proc/self/ns/user; ip link set lo mtu 1400 && cat /sys/class/net/lo/mtu;"
        "hostname other && hostname; mknod /disk b 254 0 2>/dev/null || echo no disk"
    )
    code, said = await remapped.finish("sh", "-c", script, host=host)
    place = os.readlink(f"/proc/{remapped.get(donor).state.pid}/ns/user")
    # Its own or the other's: /sys shows the network namespace that it was mounted from.
    assert (code, said.split("\n")[0], said.split("\n")[2:]) == (
        0, place, ["other", "no disk", ""],
    )  # fmt: skip


@pytest.mark.kernel
async def test_container_may_ask_for_the_hosts_users(remapped: Engine) -> None:
    for host, words in (
        (HostConfig(privileged=True), "privileged mode is incompatible with user namespaces"),
        (HostConfig(network_mode="host"), "share the host's network namespace when user"),
        (HostConfig(pid_mode="host"), "share the host PID namespace when user namespaces"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            await remapped.create("true", host=host)
    host = HostConfig(userns_mode="host", privileged=True)
    code, said = await remapped.finish("cat", "/proc/self/uid_map", host=host)
    assert (code, said.split()) == (0, ["0", "0", "4294967295"])


@pytest.mark.kernel
async def test_it_is_adopted_by_a_daemon_that_remaps_nobody(remapped: Engine) -> None:
    identifier = await remapped.run("sleep", "1000")
    await remapped.stop()
    await remapped.open()
    assert await run_inside(remapped, identifier, "id", "-u") == "0\n"
    await remapped.containers.write_archive(
        identifier, "/", chunks(tar([entry("in", b"in", uid=8, gid=9)]))
    )
    assert await run_inside(remapped, identifier, "stat", "-c", "%u:%g", "/in") == "8:9\n"
