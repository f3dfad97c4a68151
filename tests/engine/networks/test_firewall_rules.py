"""The whole ruleset as text: a change of the firewall is a change of this."""

import subprocess
from collections import Counter
from shutil import which

import pytest

from engine.networks.firewall_rules import (
    PublishedPort,
    Spot,
    make_tables,
    name_service_table,
    port_maps,
    slots,
)
from engine.networks.model import (
    OPTION_GATEWAY_MODE,
    OPTION_ICC,
    OPTION_MASQUERADE,
    OPTION_TRUSTED,
    AddressPool,
    Network,
)
from engine.networks.netlink_socket import NETFILTER, NetlinkSocket
from engine.networks.nft import Family, Table
from engine.networks.nft_message import create_table, transaction
from engine.networks.nft_text import text


def network(name: str, subnet: str, subnet6: str = "", **fields: object) -> Network:
    pools = [AddressPool(subnet, subnet.replace(".0/", ".1/").split("/")[0])]
    if subnet6:
        pools.append(AddressPool(subnet6, subnet6.replace("::/", "::1/").split("/")[0]))
    return Network(name * 64, name, "bridge", 0, tuple(pools), f"br-{name}", **fields)  # type: ignore[arg-type]


def example() -> tuple[Table, ...]:
    modes = {OPTION_GATEWAY_MODE[4]: "nat-unprotected", OPTION_GATEWAY_MODE[6]: "routed"}
    networks = [
        network("a", "172.18.0.0/16", "fd00:a::/64", options={OPTION_TRUSTED: "eth0"}),
        network("b", "172.19.0.0/16", "fd00:b::/64", internal=True),
        network("c", "10.5.0.0/24", options={OPTION_ICC: "false", OPTION_MASQUERADE: "false"}),
        network("r", "10.6.0.0/24", "fd00:6::/64", options=modes),
        Network("h", "host", "host", 0, (), ""),
    ]
    ports = [
        PublishedPort("tcp", "0.0.0.0", 8080, "172.18.0.2", 80),
        PublishedPort("udp", "127.0.0.1", 5353, "172.18.0.3", 53),
        PublishedPort("tcp", "::", 8080, "fd00:a::2", 80),
        PublishedPort("udp", "2001:db8::1", 5353, "fd00:a::3", 53),
        PublishedPort("tcp", "::", 0, "fd00:6::2", 443),
    ]
    return make_tables("0badcafe", networks, ports, guarded={4: ["eth0", "eth1"], 6: ["eth0"]})


GOLDEN = """\
table ip pycompose-0badcafe {
	set bridges {
		type ifname
		elements = { br-a, br-b, br-c, br-r }
	}
	set subnets {
		type ipv4_addr
		flags interval
		elements = { 10.5.0.0/24, 10.6.0.0/24, 172.18.0.0/16, 172.19.0.0/16 }
	}
	set internal {
		type ifname
		elements = { br-b }
	}
	set masqueraded {
		type ifname
		elements = { br-a, br-r }
	}
	set within {
		type ifname . ifname
		elements = { br-a . br-a, br-b . br-b, br-r . br-r }
	}
	set trusted {
		type ifname . ifname
		elements = { eth0 . br-a }
	}
	set routed {
		type ifname
	}
	set unprotected {
		type ifname
		elements = { br-r }
	}
	set guarded {
		type ifname
		elements = { eth0, eth1 }
	}
	set opened {
		type ipv4_addr . inet_proto . inet_service
	}
	map published_at {
		type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
		elements = { 127.0.0.1 . udp . 5353 : 172.18.0.3 . 53 }
	}
	map published {
		type inet_proto . inet_service : ipv4_addr . inet_service
		elements = { tcp . 8080 : 172.18.0.2 . 80 }
	}
	map shared_at {
		type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service
	}
	map shared {
		type inet_proto . inet_service . mark : ipv4_addr . inet_service
	}
	chain loopback_guard {
		type filter hook prerouting priority -300; policy accept;
		iifname != "lo" ip daddr 127.0.0.0/8 drop
		iifname != "lo" ip saddr 127.0.0.0/8 drop
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
		fib daddr type local dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 60 map @shared_at
		fib daddr type local dnat ip to meta l4proto . th dport map @published
		fib daddr type local dnat ip to meta l4proto . th dport . numgen random mod 60 map @shared
	}
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
		fib daddr type local dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 60 map @shared_at
		fib daddr type local dnat ip to meta l4proto . th dport map @published
		fib daddr type local dnat ip to meta l4proto . th dport . numgen random mod 60 map @shared
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		ip saddr 127.0.0.0/8 oifname @bridges masquerade
		iifname @masqueraded oifname != @bridges masquerade
		ip saddr @subnets oifname @bridges ct status dnat masquerade
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname . oifname @within accept
		iifname @internal drop
		oifname @internal drop
		oifname @bridges ct state established,related accept
		oifname @bridges ct status dnat accept
		oifname @routed meta l4proto icmp accept
		oifname @routed ip daddr . meta l4proto . th dport @opened accept
		iifname . oifname @trusted ip daddr . meta l4proto . th dport @opened accept
		iifname != @bridges oifname @unprotected accept
		oifname @bridges drop
		iifname @bridges ct state invalid drop
		iifname @guarded oifname @guarded drop
	}
	chain input {
		type filter hook input priority 0; policy accept;
		iifname @internal ct state established,related accept
		iifname @internal drop
	}
}
"""  # noqa: E501

GOLDEN_IPV6 = """\
table ip6 pycompose-0badcafe {
	set bridges {
		type ifname
		elements = { br-a, br-b, br-r }
	}
	set subnets {
		type ipv6_addr
		flags interval
		elements = { fd00:6::/64, fd00:a::/64, fd00:b::/64 }
	}
	set internal {
		type ifname
		elements = { br-b }
	}
	set masqueraded {
		type ifname
		elements = { br-a }
	}
	set within {
		type ifname . ifname
		elements = { br-a . br-a, br-b . br-b, br-r . br-r }
	}
	set trusted {
		type ifname . ifname
		elements = { eth0 . br-a }
	}
	set routed {
		type ifname
		elements = { br-r }
	}
	set unprotected {
		type ifname
	}
	set guarded {
		type ifname
		elements = { eth0 }
	}
	set opened {
		type ipv6_addr . inet_proto . inet_service
		elements = { fd00:6::2 . tcp . 443 }
	}
	map published_at {
		type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service
		elements = { 2001:db8::1 . udp . 5353 : fd00:a::3 . 53 }
	}
	map published {
		type inet_proto . inet_service : ipv6_addr . inet_service
		elements = { tcp . 8080 : fd00:a::2 . 80 }
	}
	map shared_at {
		type ipv6_addr . inet_proto . inet_service . mark : ipv6_addr . inet_service
	}
	map shared {
		type inet_proto . inet_service . mark : ipv6_addr . inet_service
	}
	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at
		fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 60 map @shared_at
		fib daddr type local dnat ip6 to meta l4proto . th dport map @published
		fib daddr type local dnat ip6 to meta l4proto . th dport . numgen random mod 60 map @shared
	}
	chain output {
		type nat hook output priority -100; policy accept;
		ip6 daddr ::1 accept
		fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at
		fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 60 map @shared_at
		fib daddr type local dnat ip6 to meta l4proto . th dport map @published
		fib daddr type local dnat ip6 to meta l4proto . th dport . numgen random mod 60 map @shared
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		iifname @masqueraded oifname != @bridges masquerade
		ip6 saddr @subnets oifname @bridges ct status dnat masquerade
	}
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname . oifname @within accept
		iifname @internal drop
		oifname @internal drop
		oifname @bridges ct state established,related accept
		oifname @bridges ct status dnat accept
		oifname @routed meta l4proto ipv6-icmp accept
		oifname @routed ip6 daddr . meta l4proto . th dport @opened accept
		iifname . oifname @trusted ip6 daddr . meta l4proto . th dport @opened accept
		iifname != @bridges oifname @unprotected accept
		oifname @bridges drop
		iifname @bridges ct state invalid drop
		iifname @guarded oifname @guarded drop
	}
	chain input {
		type filter hook input priority 0; policy accept;
		iifname @internal ct state established,related accept
		iifname @internal icmpv6 type nd-neighbor-solicit accept
		iifname @internal icmpv6 type nd-neighbor-advert accept
		iifname @internal drop
	}
}
"""  # noqa: E501


def test_rulesets_are_as_agreed() -> None:
    assert [text(table) for table in example()] == [GOLDEN, GOLDEN_IPV6]


def test_shared_port_leads_to_all_equally_often() -> None:
    spot = Spot("tcp", "127.0.0.1", 80)
    members = [PublishedPort("tcp", "127.0.0.1", 80, f"10.0.0.{n}", 8, True) for n in (2, 3, 4)]
    found = slots(spot, members)
    assert found["127.0.0.1", "tcp", 80, 4] == ("10.0.0.3", 8)
    assert Counter(found.values()) == {
        ("10.0.0.2", 8): 20,
        ("10.0.0.3", 8): 20,
        ("10.0.0.4", 8): 20,
    }
    assert port_maps(Family.IPV4, members)[2].elements == found
    assert slots(spot, []) == {}


def test_host_without_ipv6_networks_gets_no_table_for_them() -> None:
    (table,) = make_tables("0badcafe", [network("a", "172.18.0.0/16")])
    assert text(table).startswith("table ip pycompose-0badcafe")


def test_name_service_is_redirected_for_its_address_only() -> None:
    assert (
        text(name_service_table(40000, 40001))
        == """\
table ip pycompose-dns {
	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:40000
		ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:40001
	}
}
"""
    )


@pytest.mark.kernel
@pytest.mark.parametrize(
    "table",
    [*example(), name_service_table(40000, 40001)],
    ids=["host", "host IPv6", "names"],
)
def test_kernel_holds_what_the_text_says(own_network: None, table: Table) -> None:
    nft = which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if nft is None:
        pytest.skip("no nft program here to list the rules with")
    with NetlinkSocket.open(NETFILTER) as netfilter:
        netfilter.batch(transaction(create_table(table)))
    listed = subprocess.run([nft, "-y", "list", "ruleset"], capture_output=True, text=True)
    assert plain(listed.stdout) == plain(text(table))


def plain(rules: str) -> list[str]:
    """Without layout, quotes and order of elements."""
    words = rules.replace('"', "").replace(",", " ").split()
    plain: list[str] = []
    inside = False
    for word in words:
        if word == "elements":
            inside, elements = True, []
        elif inside and word == "}":
            inside = False
            plain.extend(sorted(" ".join(elements).split()))
        elif inside:
            elements.append(word)
        else:
            plain.append(word)
    return plain
