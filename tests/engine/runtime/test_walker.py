"""The program that walks a script, by itself: no container is needed, nor root."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.kernel.libc import AT_FDCWD
from engine.runtime import channel, first, script, walker
from engine.runtime.cgroups import Setting
from engine.runtime.script import Call, Expect, Refusal, Script

MARK = b"and on\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "walker"
    path.write_bytes(walker.program(platform.machine()))
    path.chmod(0o755)
    return path


PLACE = 77  # of the script, of which a byte tells


def walk(program: Path, to: Script) -> subprocess.CompletedProcess[bytes]:
    with placed(to):
        return subprocess.run(
            [walker.NAME, chr(PLACE)], executable=program, pass_fds=[PLACE], capture_output=True
        )


@contextlib.contextmanager
def placed(to: Script) -> Iterator[None]:
    document = to.written().document()
    os.dup2(document, PLACE)
    os.close(document)
    try:
        yield
    finally:
        os.close(PLACE)


def hear(program: Path, to: Script) -> channel.Message:
    """What it says to its standard output."""
    ours, theirs = channel.pair()
    with ours, theirs, placed(to):
        argv = [walker.NAME, chr(PLACE)]
        subprocess.run(argv, executable=program, pass_fds=[PLACE], stdout=theirs)
        message = channel.receive(ours)
    assert message is not None
    return message


def writes(to: Script, text: bytes) -> None:
    to.call("write", 1, to.text(text), len(text))


def test_calls_follow_each_other(program: Path) -> None:
    to = Script(2)
    writes(to, b"one ")
    writes(to, b"two")
    to.call("exit_group", 7)
    done = walk(program, to)
    assert (done.stdout, done.returncode) == (b"one two", 7)


def test_a_result_becomes_an_argument(program: Path, tmp_path: Path) -> None:
    to = Script(2)
    path, flags = to.text(os.fsencode(tmp_path / "made")), os.O_CREAT | os.O_WRONLY
    to.call("openat", AT_FDCWD, path, flags, 0o640, into=(1, 0))
    to.call("write", -1, to.text(MARK), len(MARK))
    to.call("exit_group", 0)
    assert walk(program, to).returncode == 0
    assert (tmp_path / "made").read_bytes() == MARK


def test_what_fails_goes_another_way_and_may_come_back(program: Path) -> None:
    to = Script(2)
    say = Call("write", (1, to.text(b"failed "), 7))
    to.call("chdir", to.text(b"/none/such"), otherwise=to.aside(say, then=to.after(1)))
    writes(to, MARK)
    to.call("chdir", to.text(b"/none/such"))  # or just on
    to.call("chdir", to.text(b"/none/such"), otherwise=to.end(3))
    writes(to, b"never")
    done = walk(program, to)
    assert (done.stdout, done.returncode) == (b"failed " + MARK, 3)


@pytest.mark.parametrize(("value", "mask", "fits"), [(0x1234, 0xFFFF, True), (0x34, 0xFF, True),
                                                    (0x34, 0xFFFF, False)])  # fmt: skip
def test_what_stands_in_memory_decides(program: Path, value: int, mask: int, fits: bool) -> None:
    to = Script(2)
    word = to.words(0x561234)
    to.expect(word, value, mask=mask, otherwise=to.end(1))
    to.unlike(word, 0x99, mask=0xFF, otherwise=to.end(2))
    to.call("exit_group", 0)
    assert walk(program, to).returncode == (0 if fits else 1)


@pytest.mark.parametrize(("limit", "written"), [
    (Setting("none", "7"), None),
    (Setting("none", "7", instead=()), ("", "")),
    (Setting("none", "7", instead=(Setting("one", "8"),)), ("8", "")),
    (Setting("one", "7", instead=(Setting("other", "8"),)), ("7", "")),
    (Setting("none", "7", instead=(Setting("nor this", "8", instead=()), Setting("other", "9"))),
     ("", "9")),
], ids=["needed", "left out", "another", "there", "two"])  # fmt: skip
def test_a_limit_that_this_kernel_has_not_is_another_or_none(
    program: Path, tmp_path: Path, limit: Setting, written: tuple[str, str] | None
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).touch()
    to = Script(2)
    first.write_limit(to, str(tmp_path), limit)
    writes(to, MARK)
    to.call("exit_group", 0)
    assert walk(program, to).stdout == (b"" if written is None else MARK)
    found = tuple((tmp_path / name).read_text() for name in ("one", "other"))
    assert found == (written or ("", ""))


def test_part_of_a_word_can_be_taken_from_one_place_to_another(program: Path) -> None:
    to = Script(2)
    found = to.words(0x561207)
    to.copy(found, (1, 0), mask=0xFF)
    to.call("exit_group", 0)
    assert walk(program, to).returncode == 7


def test_errno_can_be_asked_for(program: Path) -> None:
    to = Script(2)
    result = to.words(0)
    absent = to.aside(Expect(result, -errno.ENOENT, to.end(4)), then=to.after(2))
    to.call("chdir", to.text(b"/none/such"), into=result, otherwise=absent)
    writes(to, b"left out")
    writes(to, MARK)
    to.call("exit_group", 0)
    done = walk(program, to)
    assert (done.stdout, done.returncode) == (MARK, 0)


def test_the_supervisor_hears_why(program: Path) -> None:
    to = Script(1)
    refusal = Refusal("cannot go", 126, ((errno.ENOENT, 127),))
    to.must(refusal, "chdir", to.text(b"/none/such"))
    assert hear(program, to).body == {
        "state": "refused", "text": "cannot go", "code": 126, "codes": {"2": 127},
        "result": -errno.ENOENT,
    }  # fmt: skip


def test_a_descriptor_travels(program: Path) -> None:
    to = Script(1)
    header, descriptor = to.bring({"state": "here"}, -1)
    to.call("openat", AT_FDCWD, to.text(b"/etc/passwd"), os.O_RDONLY, 0, into=descriptor)
    to.call("sendmsg", 1, header, 0)
    to.call("exit_group", 0)
    (found,) = hear(program, to).descriptors
    assert os.readlink(f"/proc/self/fd/{found}") == "/etc/passwd"
    os.close(found)


BORN = """
import os
from engine.kernel.machine_code import Memory
from engine.runtime import walker
from engine.runtime.script import Script

walker.keep()
memory = Memory(16384)
for number in range(3):
    to = Script(2, at=memory.address, records=8192)
    to.call("write", 1, to.text(b"child "), 6)
    to.call("exit_group", number)
    written = to.written()
    memory.view[: len(written.records)] = written.records
    memory.view[written.room : written.room + len(written.data)] = written.data
    pid, pidfd = walker.bear(memory.address, cgroup=-1)
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    print(ended.si_pid == pid, ended.si_status, flush=True)
"""


def test_one_is_born_on_its_parents_memory() -> None:
    ran = subprocess.run([sys.executable, "-c", BORN], capture_output=True, text=True)
    assert ran.stderr == ""
    lines = ran.stdout.splitlines()
    assert lines == ["child True 0", "child True 1", "child True 2"]


def test_a_script_that_is_too_long_is_none() -> None:
    to = Script(2)
    for _ in range(3001):
        to.call("getpid")
    with pytest.raises(script.Unscriptable):
        to.written()


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_executable_is_well_formed(machine: str, number: int) -> None:
    content = walker.program(machine)
    kind, found, _, entry, segments = struct.unpack_from("<2HI2Q", content, 16)
    assert (content[:5], kind, found, segments) == (b"\x7fELF\x02", 2, number, 64)
    loaded = struct.unpack_from("<2I6Q", content, segments)
    assert loaded[5] == len(content) < 4096
    assert loaded[3] < entry < loaded[3] + len(content)


CALLED = """
from engine.runtime import first, join, lead_in, rehearsal, script, syscalls
from engine.runtime.cgroup_tree import Cgroup, Hierarchy, Tree
from engine.runtime.users import Identity

script._NUMBERS = {}
script._NUMBERS.update({name: 1 for name in syscalls.AARCH64 if name in syscalls.X86_64})
trees = (Tree("/sys/fs/cgroup/pids", ("pids",), unified=False),)
walked, somebody = rehearsal.WALKED, Identity(1000, 1000, (1000,), "/")
part = {"terminal": False, "open_stdin": True}
for hierarchy in (Hierarchy(trees, ""), Hierarchy((Tree("/sys/fs/cgroup", (), unified=True),), "")):
    cgroup = Cgroup(hierarchy, "/a/b")
    first.script_of(walked, somebody, cgroup, part, [])
    lead_in.pattern(cgroup)
"""


def test_all_that_scripts_call_is_there_on_every_machine() -> None:
    subprocess.run([sys.executable, "-c", CALLED], check=True)
