from engine.networks.container_files import (
    ResolverConfig,
    hosts_text,
    parse_resolver_config,
    resolver_text,
)
from engine.networks.model import DnsOptions, Endpoint

HOST = ResolverConfig(("192.0.2.53",), ("corp.test",), ("timeout:2",))


def test_host_file_is_read_as_the_manual_says() -> None:
    text = """\
# written by hand
nameserver 192.0.2.53   ; the first
nameserver nonsense
domain one.test
search two.test three.test
options timeout:2 rotate
"""
    assert parse_resolver_config(text) == ResolverConfig(
        ("192.0.2.53",), ("two.test", "three.test"), ("timeout:2", "rotate")
    )


def test_own_name_service_is_the_only_server() -> None:
    assert (
        resolver_text(HOST, DnsOptions(servers=("192.0.2.1",)), own_server=True)
        == """\
nameserver 127.0.0.11
search corp.test
options timeout:2 ndots:0
"""
    )


def test_default_network_uses_the_host_resolvers() -> None:
    assert (
        resolver_text(HOST, DnsOptions(), own_server=False)
        == """\
nameserver 192.0.2.53
search corp.test
options timeout:2
"""
    )


def test_wishes_of_the_container_win() -> None:
    wishes = DnsOptions(("192.0.2.1",), ("ndots:3",), (".",))
    assert (
        resolver_text(HOST, wishes, own_server=False)
        == """\
nameserver 192.0.2.1
options ndots:3
"""
    )
    assert "options ndots:3\n" in resolver_text(HOST, wishes, own_server=True)


def test_resolver_at_loopback_is_not_handed_on() -> None:
    local = ResolverConfig(("127.0.0.53", "::1"))
    assert (
        resolver_text(local, DnsOptions(), own_server=False)
        == """\
nameserver 8.8.8.8
nameserver 8.8.4.4
"""
    )


def test_hosts_file_names_the_container_and_the_host() -> None:
    place = Endpoint("e", "n", "net", "c", "web", ipv4_address="172.18.0.2", gateway="172.18.0.1")
    extra = (("db", "192.0.2.9"), ("host.docker.internal", "host-gateway"))
    text = hosts_text("web", (place,), extra_hosts=extra, domainname="test")
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith("""\
192.0.2.9\tdb
172.18.0.1\thost.docker.internal
172.18.0.2\tweb.test web
""")
