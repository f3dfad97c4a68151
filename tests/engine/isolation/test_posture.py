"""What a container is given and what it isn't, seen through the API. Numbers in parentheses are
isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import os

import pytest

from tests.engine.apparmor import needs_apparmor, profile
from tests.engine.isolation.conftest import Prison

pytestmark = pytest.mark.kernel


@needs_apparmor
def test_apparmor_profile_holds_for_all_that_runs(prison: Prison) -> None:
    """(19)"""
    look = ("sh", "-c", "cat /proc/self/attr/current; echo x >/srv/x || echo x >/mnt/x && echo ok")
    with profile() as own:
        name = prison.run("sleep", "1000", SecurityOpt=[f"apparmor={own}"])
        for code, said in (
            prison.finish(*look, SecurityOpt=[f"apparmor={own}"]),
            prison.execute(name, *look),
        ):
            assert (code, said.splitlines()[0]) == (0, b"pycompose-test (enforce)")
            assert b"/srv/x: Permission denied" in said
            assert b"ok\n" in said
    free = prison.finish(*look, SecurityOpt=["apparmor=unconfined"])
    assert free == (0, b"unconfined\nok\n")
    status, answer = prison.start(prison.create("true", SecurityOpt=["apparmor=nosuch"]))
    assert (status, "nosuch" in str(answer)) == (500, True)


def test_no_ipv6_on_a_network_that_has_none(prison: Prison) -> None:
    """(18): CVE-2024-32473, CVE-2020-13401: no address of its own, no advertisement believed."""
    script = "cat /proc/net/if_inet6; cat /proc/sys/net/ipv6/conf/eth0/addr_gen_mode"
    code, said = prison.finish("sh", "-c", script, NetworkMode="bridge")
    if b"addr_gen_mode: No such file" in said:
        pytest.skip("this kernel has no IPv6")
    assert code == 0, said
    *addresses, mode = said.decode().splitlines()
    assert mode == "1"  # none is made, neither by itself nor from an advertisement
    assert [line.split()[-1] for line in addresses if line.split()[-1] != "lo"] == []
    prison.run("sleep", "1000", NetworkMode="bridge")
    look = "grep -H . /proc/sys/net/ipv6/conf/*/accept_ra"
    settings = prison.host.run("sh", "-c", look).stdout.split()
    bridges = [line for line in settings if "/br-" in line or "/docker0" in line or "/pyc" in line]
    assert bridges
    assert all(line.endswith(":0") for line in bridges), bridges


# Root of a container owns, and so may change, what lies behind streams and masks.
NULLS = "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 /proc/keys /proc/timer_list /dev/null"
CHANGE = (
    f"for path in {NULLS}; do test -c $path && stat -Lc %d:%i $path; chmod 666 $path;"
    " chown 0:0 $path; done 2>/dev/null >>/dev/shm/found; true"
)


@pytest.mark.parametrize("replaced", ["", "rm /dev/null", "rm /dev/null; mkfifo /dev/null"])
def test_no_file_of_the_host_is_within_reach_of_a_stream_or_a_mask(
    prison: Prison, replaced: str
) -> None:
    """(87): the host's null device keeps its mode, owner and times whatever a container does."""
    before = os.stat("/dev/null")
    name = prison.run("sh", "-c", f"{CHANGE}; {replaced}\nsleep 1000")
    own = {f"{before.st_dev}:{before.st_ino}"}
    for detached in (False, True):
        status, made = prison.daemon.call(
            "POST",
            f"/containers/{name}/exec",
            {"Cmd": ["sh", "-c", f"{CHANGE}; kill $$"], "AttachStdout": not detached},
        )
        assert (status, isinstance(made, dict)) == (201, True)
        body = {"Detach": detached}
        assert prison.daemon.call("POST", f"/exec/{made['Id']}/start", body)[0] == 200
    found = prison.execute(name, "cat", "/dev/shm/found")[1].decode().split()
    assert found
    assert not own & {*found}
    after = os.stat("/dev/null")
    assert (after.st_ctime_ns, after.st_mode) == (before.st_ctime_ns, before.st_mode)


def test_a_mask_is_not_the_host_s_null_device_though_it_may_be_mounted_anew(
    prison: Prison,
) -> None:
    """(87): with CAP_SYS_ADMIN a mask could be made writable again."""
    before = os.stat("/dev/null").st_ctime_ns
    script = (
        "mount -o remount,bind,rw /proc/keys && chmod 666 /proc/keys && stat -c %t:%T /proc/keys"
    )
    ran = prison.finish("sh", "-c", script, CapAdd=["SYS_ADMIN"])
    assert ran == (0, b"1:3\n")
    assert os.stat("/dev/null").st_ctime_ns == before
