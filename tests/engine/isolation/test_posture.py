"""What a container is given and what it isn't, seen through the API. Numbers in parentheses are
isolation requirements (docs/isolation.md)."""

from __future__ import annotations

import pytest

from tests.engine.isolation.conftest import Prison

pytestmark = pytest.mark.kernel


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
