"""Mount calls, each in a child with a mount namespace of its own."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.kernel import mount, namespaces
from engine.kernel.libc import AT_FDCWD, KernelError

pytestmark = pytest.mark.kernel


def in_own_mounts(test: Callable[[], None]) -> None:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            namespaces.unshare(namespaces.CLONE_NEWNS)
            mount.set_propagation("/", mount.MS_PRIVATE)
            test()
            code = 0
        except BaseException:  # noqa: BLE001 - the child's only way to tell
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_file_system_takes_options_and_attributes(tmp_path: Path) -> None:
    def check() -> None:
        made = mount.make_filesystem(
            "tmpfs", "scratch", (("size", "1m"), ("mode", "700")), mount.MOUNT_ATTR_NODEV
        )
        mount.move_mount(made, mount.open_by_name(str(tmp_path)))
        lines = Path("/proc/self/mounts").read_text().splitlines()
        (line,) = [line for line in lines if line.split()[1] == str(tmp_path)]
        assert line.startswith(f"scratch {tmp_path} tmpfs rw,nodev,relatime,size=1024k,mode=700")

    in_own_mounts(check)


def test_refusal_says_call_option_and_the_kernels_reason() -> None:
    with pytest.raises(KernelError) as caught:
        mount.make_filesystem("tmpfs", "", (("size", "much"),), 0)
    assert "fsconfig(tmpfs, size=much" in str(caught.value)
    assert caught.value.errno == errno.EINVAL
    with pytest.raises(KernelError, match="nosuchfs"):
        mount.make_filesystem("nosuchfs", "", (), 0)


def test_kernel_is_asked_which_file_systems_it_has() -> None:
    assert mount.knows_filesystem("tmpfs")
    assert not mount.knows_filesystem("nosuchfs")


def test_recursive_read_only_reaches_what_is_below(tmp_path: Path) -> None:
    def check() -> None:
        (tmp_path / "a").mkdir()
        for _ in range(2):
            made = mount.make_filesystem("tmpfs", "", (), 0)
            mount.move_mount(made, mount.open_by_name(str(tmp_path / "a")))
        (tmp_path / "b").mkdir()
        tree = mount.clone_tree(AT_FDCWD, str(tmp_path), recursive=True)
        mount.mount_setattr(tree, set_attributes=mount.MOUNT_ATTR_RDONLY, recursive=True)
        mount.move_mount(tree, mount.open_by_name(str(tmp_path / "b")))
        for path in (tmp_path / "b" / "file", tmp_path / "b" / "a" / "file"):
            with pytest.raises(OSError, match="Read-only"):
                path.touch()
        (tmp_path / "a" / "file").touch()

    in_own_mounts(check)


def test_paths_do_not_leave_the_root(tmp_path: Path) -> None:
    (tmp_path / "root" / "etc").mkdir(parents=True)
    (tmp_path / "root" / "etc" / "passwd").write_text("inside")
    (tmp_path / "root" / "link").symlink_to("/etc/passwd")
    (tmp_path / "root" / "up").symlink_to("../../../../etc/passwd")
    root = os.open(tmp_path / "root", os.O_PATH)
    for path in ("link", "up", "../../etc/passwd", "/etc/passwd"):
        found = mount.open_in_root(root, path, os.O_RDONLY)
        assert os.read(found, 100) == b"inside"
        os.close(found)
    with pytest.raises(KernelError):
        mount.open_in_root(root, "missing")
    os.close(root)
    slash = os.open("/", os.O_PATH)
    with pytest.raises(KernelError) as caught:
        mount.open_in_root(slash, f"/proc/self/fd/{slash}")
    assert caught.value.errno == errno.ELOOP
    os.close(slash)


def test_type_of_a_file_system() -> None:
    proc = os.open("/proc", os.O_PATH)
    assert mount.filesystem_type(proc) == mount.PROC_SUPER_MAGIC
    os.close(proc)
