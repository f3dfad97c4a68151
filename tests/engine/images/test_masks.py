"""What a container on `rootfs:/` sees of this machine, through a real overlay over a real `/`."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Failure
from engine.images import masks as module
from engine.images.masks import Masks, directory_mask, host_mask, make_mask
from tests.engine.images.archives import in_overlay

pytestmark = pytest.mark.kernel


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    folder = tmp_path / "engine"
    (folder / "images").mkdir(parents=True)
    (folder / "token").write_text("secret of the engine")
    return folder


@pytest.fixture
def masks(engine: Path) -> Iterator[Masks]:
    made = Masks(engine / "images", [engine])
    yield made
    made.retire()


def see(masks: Masks, scratch: Path, program: str) -> object:
    """What a Python program in the root of the image prints, decoded. It runs in the overlay,
    chrooted, so what it reads is what a container could."""
    text = f"import os, json, stat\nos.chroot('.')\nos.chdir('/')\n{program}"
    lowers = masks.lowers("/")
    printed = in_overlay(lowers, scratch, sys.executable, "-I", "-c", text)
    decoded: object = json.loads(printed)
    return decoded


def test_only_programs_are_shared(masks: Masks, tmp_path: Path) -> None:
    seen = see(masks, tmp_path, "print(json.dumps(os.listdir('/')))")
    assert isinstance(seen, list)
    assert {"usr", "bin", "etc", "tmp", "root", "home", "var", "proc"} <= set(seen)
    hidden = set(os.listdir("/")) - set(seen)
    assert not hidden & {"usr", "bin", "etc", "lib"}
    own = {"boot", "dev", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp"}
    empty = see(
        masks, tmp_path,
        f"print(json.dumps([n for n in {sorted(own - {'run'})!r} if os.listdir('/' + n)]))",
    )  # fmt: skip
    assert empty == []


def test_no_file_that_users_of_the_host_can_not_read(masks: Masks, tmp_path: Path) -> None:
    """Everything that is left of /etc is readable for all, on the host as inside."""
    program = """
found = []
for folder, _, names in os.walk('/etc'):
    for name in names:
        mode = os.lstat(folder + '/' + name).st_mode
        if not stat.S_ISLNK(mode) and not mode & 0o004: found.append(folder + '/' + name)
print(json.dumps([found, os.path.exists('/etc/shadow'), os.path.exists('/etc/passwd'),
                  [oct(os.stat(n).st_mode) for n in ('/tmp', '/root', '/etc', '/var/tmp')]]))
"""
    assert see(masks, tmp_path, program) == [
        [], False, True, ["0o41777", "0o40700", oct(os.stat("/etc").st_mode), "0o41777"],
    ]  # fmt: skip


def test_the_engines_own_folder_is_not_there(masks: Masks, engine: Path, tmp_path: Path) -> None:
    places = [str(engine / "token"), str(engine), "/var/lib/pycompose", "/var/log/dpkg.log"]
    program = f"""
found = []
for path in {places!r}:
    try: found.append(os.listdir(path) if os.path.isdir(path) else open(path).read())
    except OSError: pass
print(json.dumps(found))
"""
    assert see(masks, tmp_path, program) == []


def test_the_runtime_finds_mount_points(masks: Masks, tmp_path: Path) -> None:
    program = """
print(json.dumps([[stat.S_ISREG(os.lstat('/etc/' + n).st_mode), os.path.getsize('/etc/' + n)]
                  for n in ('hosts', 'hostname', 'resolv.conf')]))
"""
    assert see(masks, tmp_path, program) == [[True, 0]] * 3


@pytest.mark.skipif(not Path("/var/lib/dpkg/status").exists(), reason="no dpkg here")
def test_package_managers_know_what_is_installed(masks: Masks, tmp_path: Path) -> None:
    program = "print(json.dumps(os.path.getsize('/var/lib/dpkg/status')))"
    assert see(masks, tmp_path, program) == os.path.getsize("/var/lib/dpkg/status")
    program = "print(json.dumps(sorted(os.listdir('/var/lib'))))"
    shown = see(masks, tmp_path, program)
    assert isinstance(shown, list)
    assert set(shown) <= {"apt", "dpkg", "misc", "pacman", "rpm", "ucf"}


def test_writes_do_not_reach_the_host(masks: Masks, tmp_path: Path) -> None:
    program = """
for path in ('/etc/written-by-test', '/usr/written-by-test', '/root/x', '/etc/shadow'):
    open(path, 'w').write('x')
os.unlink('/usr/bin/env'); os.unlink('/etc/shadow')
print(json.dumps(os.path.exists('/etc/shadow')))
"""
    assert see(masks, tmp_path, program) is False
    assert not os.path.exists("/etc/written-by-test")
    assert not os.path.exists("/usr/written-by-test")
    assert not os.path.exists("/root/x")
    assert os.path.exists("/usr/bin/env")
    assert os.path.getsize("/etc/shadow") > 1


@pytest.fixture
def fake_host(tmp_path: Path) -> Path:
    """A small root directory, to change at will."""
    root = tmp_path / "host"
    for name in ("etc/ssl/private", "etc/app", "usr/bin", "usr/local/etc", "var/lib/dpkg", "data"):
        (root / name).mkdir(parents=True)
    (root / "etc/ssl/private").chmod(0o710)
    (root / "etc/app").chmod(0o751)
    for name, mode in (("etc/shadow", 0o640), ("etc/passwd", 0o644), ("etc/app/key", 0o600),
                       ("etc/ssl/private/key", 0o644), ("usr/local/etc/token", 0o600),
                       ("data/x", 0o644), ("swapfile", 0o600)):  # fmt: skip
        (root / name).write_text(name)
        (root / name).chmod(mode)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    return root


def look(root: Path, private: list[str], tmp_path: Path) -> list[str]:
    mask = host_mask(str(root), private)
    layer = tmp_path / f"mask-{mask.key}"
    make_mask(mask, layer)
    printed = in_overlay([str(layer), str(root)], tmp_path, "find", ".", "-printf", "%P %y %m\n")
    return printed.splitlines()


def test_modes_of_the_host_decide_what_is_hidden(fake_host: Path, tmp_path: Path) -> None:
    seen = look(fake_host, [], tmp_path)
    assert "etc/passwd f 644" in seen
    assert "etc/resolv.conf f 644" in seen
    assert "etc/app d 751" in seen
    assert "var/lib/dpkg d 755" in seen
    names = {line.split()[0] for line in seen}
    for hidden in ("etc/shadow", "etc/ssl/private", "etc/app/key", "usr/local/etc/token", "data",
                   "swapfile"):  # fmt: skip
        assert hidden not in names


def test_private_folders_are_hidden_wherever_they_are(fake_host: Path, tmp_path: Path) -> None:
    (fake_host / "usr/engine/data").mkdir(parents=True)
    seen = look(fake_host, [str(fake_host / "usr/engine/data")], tmp_path)
    assert "usr/engine d 755" in seen
    assert not any(line.startswith("usr/engine/data") for line in seen)


def test_another_directory_hides_only_the_engine(fake_host: Path) -> None:
    inside = str(fake_host / "data")
    mask = directory_mask(str(fake_host), [inside, "/elsewhere"])
    assert [entry.path for entry in mask.entries if entry.kind == "whiteout"] == ["data"]
    assert directory_mask(str(fake_host), ["/elsewhere"]).entries == ()


def test_secrets_that_come_later_are_hidden_too(fake_host: Path, tmp_path: Path) -> None:
    """passwd(1) writes a new shadow file beside the old one, while containers run."""
    mask = host_mask(str(fake_host), [])
    layer = tmp_path / "mask"
    make_mask(mask, layer)
    (fake_host / "etc/nshadow").write_text("new hashes")
    (fake_host / "etc/ssh").mkdir()
    (fake_host / "etc/ssh/ssh_host_rsa_key").write_text("key")
    printed = in_overlay([str(layer), str(fake_host)], tmp_path, "find", "etc", "-printf", "%P\n")
    assert not {"nshadow", "ssh", "ssh/ssh_host_rsa_key", "shadow"} & set(printed.split())


def test_a_change_on_the_host_is_noticed(fake_host: Path) -> None:
    mask = host_mask(str(fake_host), [])
    assert mask.is_current()
    (fake_host / "etc/app/new").write_text("x")
    assert not mask.is_current()
    again = host_mask(str(fake_host), [])
    assert again.key == mask.key  # all may read the new file: the layer stays the same
    (fake_host / "etc/app/new").chmod(0o600)
    assert host_mask(str(fake_host), []).key != mask.key


def test_a_mask_is_made_once(masks: Masks) -> None:
    first = masks.lowers("/")
    assert masks.lowers("/") == first
    assert stat.S_IMODE(os.stat(os.path.dirname(first[0])).st_mode) == 0o700
    masks.retire()
    assert not os.path.exists(first[0])


def test_a_folder_of_somebody_else_is_not_used(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In /dev/shm anybody may make a folder of the name that we'd use."""
    if os.stat("/var/tmp").st_dev != os.stat("/").st_dev:
        pytest.skip("/var/tmp is not on the file system of /: no other folder is needed")
    engine = Path(tempfile.mkdtemp(dir="/var/tmp"))
    request.addfinalizer(lambda: shutil.rmtree(engine))
    (engine / "images").mkdir()
    (engine / "token").write_text("secret of the engine")
    made = Masks(engine / "images", [engine])
    shared = Path(made.lowers("/")[0]).parent
    made.retire()
    shared.mkdir(mode=0o700)
    try:
        os.chown(shared, 12345, 12345)
        monkeypatch.setattr(module, "MEMORY_FOLDERS", (shared.parent,))
        with pytest.raises(Failure, match="cannot hide what is private"):
            Masks(engine / "images", [engine]).lowers("/")
        assert os.listdir(shared) == []
    finally:
        shared.rmdir()


def test_masks_leave_no_mount(masks: Masks) -> None:
    before = subprocess.run(["cat", "/proc/self/mountinfo"], capture_output=True, check=True)
    masks.lowers("/")
    after = subprocess.run(["cat", "/proc/self/mountinfo"], capture_output=True, check=True)
    assert before.stdout == after.stdout
