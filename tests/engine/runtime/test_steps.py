"""The world that the steps build: mounts, devices, masks, and images that set traps."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from engine.runtime import capabilities
from engine.runtime.handle import StartFailed
from tests.engine.runtime.laboratory import MASKED, READ_ONLY, Laboratory

pytestmark = pytest.mark.kernel


def bind(source: Path | str, target: str, *options: str) -> dict[str, object]:
    return {
        "type": "bind",
        "source": str(source),
        "destination": target,
        "options": list(options or ("rbind", "rprivate")),
    }


async def test_mount_table_is_dockers_and_names_no_path_of_the_host(lab: Laboratory) -> None:
    ran = await lab.run("cat", "/proc/self/mountinfo")
    table: dict[str, tuple[str, str]] = {}
    for line in ran.stdout.decode().splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split()
        assert len(fields) == 6, f"a propagation tag: {line}"
        table.setdefault(fields[4], (right.split()[0], fields[5]))
    hardened = "nosuid,nodev,noexec,relatime"
    assert table["/"] == ("overlay", "rw,relatime")
    assert table["/proc"] == ("proc", f"rw,{hardened}")
    assert table["/dev"] == ("tmpfs", "rw,nosuid")
    assert table["/dev/pts"] == ("devpts", "rw,nosuid,noexec,relatime")
    assert table["/sys"] == ("sysfs", f"ro,{hardened}")
    assert table["/sys/fs/cgroup"][1] == f"ro,{hardened}"
    assert table["/dev/mqueue"] == ("mqueue", f"rw,{hardened}")
    assert table["/dev/shm"] == ("tmpfs", f"rw,{hardened}")
    assert str(lab.folder).encode() not in ran.stdout


async def test_masks_and_read_only_paths_hold(lab: Laboratory) -> None:
    script = (
        f"for p in {' '.join(MASKED)}; do"
        " [ -d $p ] && ls -A $p; [ -f $p ] && echo file $p; [ -c $p ] && cat $p; done;"
        f" for p in {' '.join(READ_ONLY)}; do [ -w $p ] && echo writable $p; done;"
        " umount /proc/kcore /proc/sys 2>/dev/null && echo unmounted;"
        " echo b > /proc/sysrq-trigger && echo rebooted"
    )
    ran = await lab.run("sh", "-c", script)
    assert ran.stdout == b""


async def test_devices_are_the_six_and_their_links(lab: Laboratory) -> None:
    ran = await lab.run("sh", "-c", "cd /dev; stat -c '%n %F %t:%T %a' *; readlink fd ptmx stdin")
    lines = set(ran.stdout.decode().splitlines())
    for name, numbers in (
        *(("null", "1:3"), ("zero", "1:5"), ("full", "1:7")),
        *(("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")),
    ):
        assert f"{name} character special file {numbers} 666" in lines
    assert {"/proc/self/fd", "pts/ptmx", "/proc/self/fd/0"} <= lines
    assert not any(line.startswith("console") for line in lines)


async def test_any_node_can_be_made_and_none_other_opened(lab: Laboratory) -> None:
    # The first loop device: refused before its driver is asked, so it needn't be there.
    ran = await lab.run("sh", "-c", "mknod /disk b 7 0 && head -c1 /disk")
    assert b"Operation not permitted" in ran.stderr


async def test_writes_stay_in_the_upper_layer(lab: Laboratory) -> None:
    name = f"/pycompose-{os.getpid()}"
    request = lab.request("sh", "-c", f"echo x > {name}; cat {name}")
    assert (await lab.run_request(request)).stdout == b"x\n"
    assert not os.path.exists(name)
    assert os.path.exists(request.rootfs.upper + name)


async def test_read_only_root_refuses_writes(lab: Laboratory) -> None:
    ran = await lab.run("sh", "-c", "echo x > /file; echo y > /dev/shm/file", read_only=True)
    assert b"Read-only file system" in ran.stderr
    assert ran.stderr.count(b"Read-only") == 1


async def test_file_and_directory_binds(lab: Laboratory) -> None:
    source = lab.folder / "source"
    source.mkdir()
    (source / "inside").write_text("seen")
    ran = await lab.run(
        "sh",
        "-c",
        "cat /new/place/inside /new/file; echo w > /new/place/written; echo n > /ro/x",
        mounts=(
            bind(source, "/new/place"),
            bind(source / "inside", "/new/file"),
            bind(source, "/ro", "rbind", "rro"),
        ),
    )
    assert ran.stdout == b"seenseen"
    assert (source / "written").read_text() == "w\n"
    assert b"Read-only" in ran.stderr


async def test_read_only_bind_is_so_all_the_way_down(lab: Laboratory) -> None:
    source = lab.folder / "source"
    source.mkdir()
    ran = await lab.run(
        "sh",
        "-c",
        "echo x > /ro/proc/file; grep ' /ro' /proc/self/mountinfo | grep -c ' ro,'",
        mounts=(
            bind(source, "/outer"),
            bind("/dev", "/ro", "rbind", "rro"),
        ),
    )
    count = len(
        [
            line
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if line.split()[4].startswith("/dev") and " /dev" in line
        ]
    )
    assert int(ran.stdout) == count


async def test_shared_bind_hands_later_mounts_on(lab: Laboratory) -> None:
    """rslave: what the host mounts there afterwards shows inside."""
    source = lab.folder / "source"
    (source / "below").mkdir(parents=True)
    subprocess.run(["mount", "--bind", source, source], check=True)
    try:
        subprocess.run(["mount", "--make-shared", source], check=True)
        request = lab.request(
            "sh",
            "-c",
            "read x; ls /slave/below /private/below",
            mounts=(
                bind(source, "/slave", "rbind", "rslave"),
                bind(source, "/private", "rbind", "rprivate"),
            ),
            open_stdin=True,
        )
        shim = await lab.launch(request)
        reader, writer = await shim.attach(stdin=True, stdout=True, stderr=True)
        await shim.go()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "below"], check=True)
        (source / "below" / "late").touch()
        writer.write(b"\n")
        output = await reader.read()
        writer.close()
        await shim.exited
        await shim.release()
        subprocess.run(["umount", source / "below"], check=True)
        assert output.count(b"late") == 1
    finally:
        subprocess.run(["umount", source], check=True)


async def test_tmpfs_takes_its_options(lab: Laboratory) -> None:
    mount = {
        "type": "tmpfs",
        "source": "tmpfs",
        "destination": "/scratch",
        "options": ["nosuid", "nodev", "noexec", "size=1m", "mode=1770"],
    }
    ran = await lab.run(
        "sh", "-c", "grep /scratch /proc/mounts; stat -c %a /scratch", mounts=(mount,)
    )
    assert b"rw,nosuid,nodev,noexec,relatime,size=1024k,mode=1770" in ran.stdout
    assert ran.stdout.endswith(b"1770\n")


@pytest.mark.parametrize("target", ["/", "/..", "relative", "/proc", "/proc/1/x", "/proc/sys"])
async def test_mounts_over_root_and_proc_are_refused(lab: Laboratory, target: str) -> None:
    # CVE-2019-16884
    with pytest.raises(StartFailed, match=r"mount|cannot bind /proc/1/x"):
        await lab.run("true", mounts=(bind(lab.folder, target),))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [("/etc/passwd", "/etc", "a file to /etc: a directory lies there"),
     ("/etc", "/etc/passwd", "a directory to /etc/passwd: a file lies there")],
)  # fmt: skip
async def test_file_on_directory_is_refused_in_words(
    lab: Laboratory, source: str, target: str, reason: str
) -> None:
    # Clients take "is a directory" for a command that cannot run.
    with pytest.raises(StartFailed, match=f"cannot bind {reason}"):
        await lab.run("true", mounts=(bind(Path(source), target),))


# --- traps in images --------------------------------------------------------------------------


async def test_link_out_of_the_root_leads_back_into_it(lab: Laboratory) -> None:
    victim = lab.folder / "victim"
    victim.mkdir()
    source = lab.folder / "source"
    source.mkdir()
    (source / "mark").touch()
    request = lab.request(
        "sh",
        "-c",
        f"ls {victim}/made/deep {victim}/nothere/sub; readlink /link",
        mounts=(bind(source, "/link/made/deep"), bind(source, "/dangling/sub")),
    )
    layer = Path(request.rootfs.upper)
    (layer / "link").symlink_to(victim)
    (layer / "dangling").symlink_to(f"../../../..{victim}/nothere")
    ran = await lab.run_request(request)
    assert list(victim.iterdir()) == []
    assert ran.stdout.count(b"mark") == 2
    assert ran.stdout.decode().splitlines()[-1] == str(victim)


@pytest.mark.parametrize("name", ["proc", "sys", "dev"])
async def test_system_directory_that_is_a_link_touches_nothing_outside(
    lab: Laboratory, name: str
) -> None:
    # CVE-2026-41579. As in Docker, a directory takes the place of the link.
    victim = lab.folder / "victim"
    victim.mkdir()
    request = lab.request("sh", "-c", f"mountpoint /{name}; ls {victim}")
    layer = Path(request.rootfs.upper)
    (layer / name).symlink_to(victim)
    assert (await lab.run_request(request)).stdout.decode() == f"/{name} is a mountpoint\n"
    assert list(victim.iterdir()) == []
    found = os.lstat(layer / name)
    assert stat.S_ISDIR(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o755


async def test_false_null_device_masks_nothing_by_itself(lab: Laboratory) -> None:
    """CVE-2025-31133: the mask is the host's null device, whatever the image has at /dev/null."""
    request = lab.request("sh", "-c", "cat /proc/keys; stat -c %t:%T /proc/keys")
    layer = Path(request.rootfs.upper)
    (layer / "dev").mkdir()
    (layer / "dev" / "null").symlink_to("/proc/sys/kernel/core_pattern")
    assert (await lab.run_request(request)).stdout == b"1:3\n"


async def test_console_of_an_image_is_not_followed(lab: Laboratory) -> None:
    # CVE-2025-52565
    target = lab.folder / "victim"
    target.touch()
    source = lab.folder / "dev"
    source.mkdir()
    (source / "console").symlink_to(target)
    mount = bind(source, "/dev", "rbind")
    with pytest.raises(StartFailed, match="/dev/pts"):
        await lab.run("true", terminal=True, mounts=(mount,))


@pytest.mark.parametrize("kind", ["fifo", "link", "device"])
async def test_account_file_that_is_a_trap_is_not_read(lab: Laboratory, kind: str) -> None:
    # CVE-2024-9676
    request = lab.request("true", user="somebody")
    layer = Path(request.rootfs.upper)
    (layer / "etc").mkdir()
    passwd = layer / "etc" / "passwd"
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "device":
        os.mknod(passwd, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    else:
        passwd.symlink_to("/proc/self/fd/3")
    with pytest.raises(StartFailed, match=r"passwd|somebody"):
        await lab.run_request(request)


async def test_escape_by_chroot_fails(lab: Laboratory) -> None:
    program = (
        "import os\n"
        "os.mkdir('/jail'); fd = os.open('/', os.O_RDONLY); os.chroot('/jail'); os.fchdir(fd)\n"
        "for _ in range(64): os.chdir('..')\n"
        "os.chroot('.')\n"
        f"print(os.path.exists('{lab.folder}'), os.path.exists('/jail'))\n"
    )
    ran = await lab.run("/usr/bin/python3", "-c", program)
    # The lower directory is `/`, so the first is seen through the overlay; the second only if
    # this still is the overlay.
    assert ran.stdout == b"True True\n"
    assert not os.path.exists("/jail")


async def test_no_container_reaches_the_interpreter(lab: Laboratory) -> None:
    """CVE-2019-5736: what stays as PID 1 is a sealed program that holds nothing of the host's."""
    script = (
        "readlink /proc/1/exe; wc -c < /proc/1/exe; ls /proc/1/fd; "
        "cmp /proc/1/environ /proc/$$/environ"
    )
    ran = await lab.run("sh", "-c", script, init=True)
    exe, size, *rest = ran.stdout.split(b"\n")
    assert exe == b"/memfd:pycompose-init (deleted)"
    assert int(size) < 1000
    assert rest == [b"0", b"1", b"2", b""]
    # Not while it runs (ETXTBSY), nor by a descriptor that was open before it ran.
    ran = await lab.run(
        "sh",
        "-c",
        "echo x > /proc/1/exe",
        init=True,
        capability_names=(*capabilities.DEFAULT, "CAP_SYS_PTRACE"),
    )
    assert ran.status.code != 0
