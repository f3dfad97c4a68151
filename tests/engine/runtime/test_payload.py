"""Who the payload is, what it may do, what it sees of its process. Numbers: the isolation list."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from engine.runtime import capabilities, seccomp
from engine.runtime.handle import StartFailed
from engine.runtime.users import Identity
from tests.engine.runtime.laboratory import Laboratory, exec_request, unframe

pytestmark = pytest.mark.kernel

DOCKER_CAPABILITIES = 0xA80425FB
ROOT = Identity(0, 0, (0,), "/root")


def status_of(text: bytes) -> dict[str, str]:
    return {
        name: value.strip() for name, _, value in (line.partition(":") for line in _lines(text))
    }


def _lines(text: bytes) -> list[str]:
    return text.decode().splitlines()


async def test_default_capabilities_are_dockers_in_all_five_sets(lab: Laboratory) -> None:
    status = status_of((await lab.run("cat", "/proc/self/status")).stdout)
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[name], 16) == DOCKER_CAPABILITIES
    assert int(status["CapInh"], 16) == 0  # CVE-2022-24769
    assert int(status["CapAmb"], 16) == 0


async def test_a_user_has_no_capabilities_but_the_same_bounding_set(lab: Laboratory) -> None:
    status = status_of((await lab.run("cat", "/proc/self/status", user="1234:5678")).stdout)
    assert status["Uid"].split() == ["1234"] * 4
    assert status["Gid"].split() == ["5678"] * 4
    assert status["Groups"].split() == ["5678"]  # never the daemon's: CVE-2022-36109
    assert int(status["CapPrm"], 16) == int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == DOCKER_CAPABILITIES


async def test_no_signal_is_ignored_or_blocked(lab: Laboratory) -> None:
    status = status_of((await lab.run("cat", "/proc/self/status")).stdout)
    assert int(status["SigIgn"], 16) == 0
    assert int(status["SigBlk"], 16) == 0


async def test_descriptors_are_exactly_three(lab: Laboratory) -> None:
    # The fourth is the listing itself.
    for init in (False, True):
        ran = await lab.run("ls", "/proc/self/fd", init=init)
        assert ran.stdout.split() == [b"0", b"1", b"2", b"3"]
    first = await lab.run("ls", "/proc/1/fd", init=True, capability_names=_ALL)
    assert first.stdout.split() == [b"0", b"1", b"2"], first


_ALL = (*capabilities.DEFAULT, "CAP_SYS_PTRACE")


async def test_process_attributes_are_those_of_a_fresh_process(lab: Laboratory) -> None:
    script = (
        "umask; cat /proc/self/oom_score_adj; cut -d' ' -f5-6,19,40,41 /proc/$$/stat;"
        " cat /proc/self/personality; cat /proc/self/timerslack_ns"
    )
    umask, oom, numbers, personality, slack = _lines((await lab.run("sh", "-c", script)).stdout)
    assert umask == "0022"
    assert oom == "0"
    # Group, session, the niceness of whoever runs this, real time priority, policy.
    assert numbers.split() == ["1", "1", str(os.nice(0)), "0", "0"]
    assert int(personality, 16) == 0
    assert slack == "50000"


async def test_environment_is_what_was_given_and_home(lab: Laboratory) -> None:
    ran = await lab.run("/usr/bin/env", env=("A=1", "B=x=y", "A=2"), user="daemon")
    assert set(_lines(ran.stdout)) == {
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "A=2",
        "B=x=y",
        "HOME=/usr/sbin",
    }


async def test_home_that_was_given_stays(lab: Laboratory) -> None:
    assert b"HOME=/x\n" in (await lab.run("/usr/bin/env", env=("HOME=/x",))).stdout


async def test_named_user_gets_the_groups_of_the_group_file(lab: Laboratory) -> None:
    request = lab.request("id", user="sync", groups=("audio", "4242"))
    ran = await lab.run_request(request)
    assert b"uid=4(sync) gid=65534(nogroup)" in ran.stdout
    assert b"29(audio)" in ran.stdout
    assert b"4242" in ran.stdout


@pytest.mark.parametrize(
    ("user", "text"),
    [
        ("nouser", "unable to find user nouser: no matching entries in passwd file"),
        ("0:nogroupx", "unable to find group nogroupx: no matching entries in group file"),
        ("4294967295", "uids and gids must be in range 0-2147483647"),
    ],
)
async def test_unknown_user_cannot_start(lab: Laboratory, user: str, text: str) -> None:
    shim = await lab.launch(lab.request("true", user=user))
    with pytest.raises(StartFailed) as caught:
        await shim.go()
    assert str(caught.value).endswith(text)


@pytest.mark.parametrize(
    ("arguments", "text", "code"),
    [
        (("nosuch",), 'exec: "nosuch": executable file not found in $PATH', 127),
        (("/no/such",), 'exec: "/no/such": stat /no/such: no such file or directory', 127),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied', 126),
        (("/etc",), 'exec: "/etc": is a directory: permission denied', 126),
    ],
)
async def test_command_that_cannot_run(
    lab: Laboratory, arguments: tuple[str, ...], text: str, code: int
) -> None:
    shim = await lab.launch(lab.request(*arguments))
    with pytest.raises(StartFailed) as caught:
        await shim.go()
    assert str(caught.value).endswith(text)
    assert caught.value.exit_code == code
    running = await lab.start("sleep", "100")
    with pytest.raises(StartFailed) as caught:
        await running.exec(exec_request(*arguments))
    assert str(caught.value).startswith("OCI runtime exec failed: exec failed: ")
    assert str(caught.value).endswith(text)
    assert caught.value.exit_code == code


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"no program", b"exec format error"),
        (b"", b"exec format error"),
        (b"#!/no/such", b"no such file or directory"),
        (b"#!/etc", b"permission denied"),
    ],
)
async def test_command_that_the_kernel_does_not_take_ends_with_its_reason(
    lab: Laboratory, content: bytes, text: bytes
) -> None:
    said = b"exec /program: " + text + b"\n"
    for by_script in (True, False):
        request = lab.request("/program")
        _put_program(request.rootfs.upper, content)
        ran = await lab.run_request(request, by_script=by_script)
        assert (ran.status.code, ran.stdout, ran.stderr) == (1, b"", said)
    request = lab.request("sleep", "100")
    _put_program(request.rootfs.upper, content)
    running = await lab.start_request(request)
    for identity in (ROOT, None):  # by a script and by the interpreter
        process = await running.exec(replace(exec_request("/program"), identity=identity))
        assert process.reader is not None
        assert process.writer is not None
        assert unframe(await process.reader.read()) == (b"", said)
        process.writer.close()
        assert (await process.exited).code == 1


def _put_program(layer: str, content: bytes) -> None:
    place = Path(layer, "program")
    place.write_bytes(content)
    place.chmod(0o755)


async def test_working_directory_is_made(lab: Laboratory) -> None:
    ran = await lab.run("sh", "-c", "pwd; stat -c %a .", cwd="/not/yet/there")
    assert ran.stdout == b"/not/yet/there\n755\n"


async def test_working_directory_is_made_in_a_root_that_is_read_only(lab: Laboratory) -> None:
    command = "pwd; touch x 2>/dev/null || echo sealed"
    ran = await lab.run("sh", "-c", command, cwd="/not/yet/there", read_only=True)
    assert ran.stdout == b"/not/yet/there\nsealed\n"


async def test_working_directory_is_made_where_a_dangling_link_leads(lab: Laboratory) -> None:
    for number, directory in enumerate(("/link/below", "/link", "/up")):
        request = lab.request("sh", "-c", "pwd -P; stat -c %a .", cwd=directory)
        layer = Path(request.rootfs.upper)
        (layer / "link").symlink_to(f"/not/yet/{number}")
        (layer / "up").symlink_to(f"../../../..{lab.folder}/outside")
        ran = await lab.run_request(request)
        wanted = (f"/not/yet/{number}/below", f"/not/yet/{number}", f"{lab.folder}/outside")
        assert ran.stdout.decode() == f"{wanted[number]}\n755\n"
    assert not (lab.folder / "outside").exists()


async def test_working_directory_cannot_be_a_descriptor(lab: Laboratory) -> None:
    # CVE-2024-21626
    for number in range(3, 20):
        shim = await lab.launch(lab.request("true", cwd=f"/proc/self/fd/{number}"))
        with pytest.raises(StartFailed):
            await shim.go()


async def test_no_new_privileges_holds_for_exec_too(lab: Laboratory) -> None:
    ran = await lab.run("cat", "/proc/self/status", no_new_privileges=True)
    assert status_of(ran.stdout)["NoNewPrivs"] == "1"
    ran = await lab.run("cat", "/proc/self/status")
    assert status_of(ran.stdout)["NoNewPrivs"] == "0"


@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("user", ["", "1000:1000"])
async def test_seccomp_filter_is_on(
    lab: Laboratory, no_new_privileges: bool, init: bool, user: str
) -> None:
    program = seccomp.compile_filter(
        seccomp.default_profile(), frozenset(capabilities.DEFAULT), kernel=(6, 18)
    )
    ran = await lab.run(
        "sh",
        "-c",
        "grep Seccomp: /proc/self/status; unshare -U true || echo no",
        seccomp=program,
        no_new_privileges=no_new_privileges,
        init=init,
        user=user,
    )
    assert ran.stdout == b"Seccomp:\t2\nno\n"
    shim = await lab.start("sleep", "100", seccomp=program, init=init)
    process = await shim.exec(
        exec_request("grep", "Seccomp:", "/proc/self/status", seccomp=program)
    )
    assert process.reader is not None
    assert unframe(await process.reader.read())[0] == b"Seccomp:\t2\n"
    assert process.writer is not None
    process.writer.close()


async def test_limits_are_set(lab: Laboratory) -> None:
    limit = {"type": "RLIMIT_NOFILE", "soft": 64, "hard": 128}
    ran = await lab.run("sh", "-c", "ulimit -Sn; ulimit -Hn", rlimits=(limit,))
    assert ran.stdout == b"64\n128\n"
