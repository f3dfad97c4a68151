from engine.networks.resolver_config import ResolverConfig, parse_resolver_config


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
