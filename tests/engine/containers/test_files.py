from engine.containers.files import copied_resolv_conf, hosts_text, served_resolv_conf
from engine.networks.model import DnsOptions, Endpoint

HOST = """\
# made by hand
nameserver 127.0.0.53
nameserver 9.9.9.9 ; far
search example.org corp
options edns0 trust-ad
"""


def test_served_names_come_from_the_network_s_server() -> None:
    assert served_resolv_conf(HOST, DnsOptions()) == (
        "nameserver 127.0.0.11\nsearch example.org corp\noptions edns0 trust-ad ndots:0\n"
    )


def test_a_copy_leaves_out_servers_that_only_the_host_reaches() -> None:
    copied = copied_resolv_conf(HOST, DnsOptions(), shares_network=False)
    assert copied == "nameserver 9.9.9.9\nsearch example.org corp\noptions edns0 trust-ad\n"
    shared = copied_resolv_conf(HOST, DnsOptions(), shares_network=True)
    assert "127.0.0.53" in shared


def test_what_was_asked_for_wins() -> None:
    wanted = DnsOptions(("1.1.1.1",), ("ndots:3",), (".",))
    copied = copied_resolv_conf(HOST, wanted, shares_network=False)
    assert copied == "nameserver 1.1.1.1\noptions ndots:3\n"
    assert served_resolv_conf(HOST, wanted) == "nameserver 127.0.0.11\noptions ndots:3\n"


def test_resolver_at_loopback_is_replaced_by_public_ones() -> None:
    local = "nameserver 127.0.0.53\nnameserver ::1\n"
    copied = copied_resolv_conf(local, DnsOptions(), shares_network=False)
    assert copied == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_a_full_name_is_also_found_by_its_first_part() -> None:
    endpoint = Endpoint("e", "n", "net", "c", "web", ipv4_address="172.18.0.2")
    text = hosts_text("web.example.org", "", [endpoint], [], gateway="")
    assert text.endswith("172.18.0.2\tweb.example.org web\n")


def test_hosts_has_the_container_and_the_extra_names() -> None:
    endpoint = Endpoint("e", "n", "net", "c", "web", ipv4_address="172.18.0.2")
    extra = [("db", "10.0.0.1"), ("host.docker.internal", "host-gateway")]
    text = hosts_text("web", "example.org", [endpoint], extra, gateway="172.17.0.1")
    assert text.startswith("127.0.0.1\tlocalhost\n")
    assert text.endswith(
        "10.0.0.1\tdb\n172.17.0.1\thost.docker.internal\n172.18.0.2\tweb.example.org web\n"
    )
