from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from engine.config_file import merged, read_config_file
from engine.errors import InvalidRequest
from engine.options import make_settings, parse_pool_option
from engine.proxies import Proxies
from engine.settings import PoolOfSubnets, Settings, Tls
from tests.host import ROOT

FULL = {
    "hosts": ["unix:///run/x.sock", "tcp://127.0.0.1:2375"],
    "insecure-tcp": False,
    "data-root": "/data",
    "exec-root": "/run/x",
    "tls": True,
    "tlsverify": True,
    "tlscacert": "/ca.pem",
    "tlscert": "/cert.pem",
    "tlskey": "/key.pem",
    "group": "docker",
    "debug": True,
    "log-level": "warning",
    "labels": ["place=cellar"],
    "live-restore": True,
    "storage-driver": "overlay2",
    "registry-mirrors": ["https://mirror.example/"],
    "insecure-registries": ["reg.example:5000", "10.0.0.0/8"],
    "proxies": {"http-proxy": "http://proxy.example:3128", "no-proxy": ".example.org"},
    "max-concurrent-downloads": 7,
    "max-concurrent-uploads": 2,
    "max-download-attempts": 9,
    "log-driver": "local",
    "log-opts": {"max-size": "1m"},
    "builder": {"gc": {"enabled": True, "defaultKeepStorage": "20GB"}},
    "default-address-pools": [{"base": "10.10.0.0/16", "size": 24}],
    "mtu": 1400,
    "dns": ["10.0.0.53"],
    "dns-opts": ["ndots:2"],
    "dns-search": ["example.org"],
    "userns-remap": "default",
}


def settings(folder: Path, document: object) -> Settings:
    file = folder / "daemon.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    given = read_config_file(file, is_required=True)
    return make_settings(given, uid=0, environment={}, places={key: str(file) for key in given})


def test_every_setting_of_the_schema_is_one_of_the_daemon(tmp_path: Path) -> None:
    schema = json.loads((ROOT / "schemas/daemon.schema.json").read_text())
    assert FULL.keys() == schema["properties"].keys()
    made = settings(tmp_path, FULL)
    assert [str(host) for host in made.hosts] == FULL["hosts"]
    assert (made.data_root, made.exec_root) == (Path("/data"), Path("/run/x"))
    assert made.tls == Tls(Path("/cert.pem"), Path("/key.pem"), Path("/ca.pem"), verify=True)
    assert made.group == "docker"
    assert (made.log_level, made.labels) == ("warning", ("place=cellar",))
    assert made.registries.mirrors == ("https://mirror.example",)
    assert made.registries.insecure == ("reg.example:5000", "10.0.0.0/8")
    assert (made.registries.downloads, made.registries.uploads) == (7, 2)
    assert made.registries.attempts == 9
    assert made.proxies == Proxies("http://proxy.example:3128", none_for=".example.org")
    assert made.build_cache == 20 << 30
    assert (made.containers.log_driver, made.containers.log_options) == (
        "local", {"max-size": "1m"},
    )  # fmt: skip
    assert made.networks.pools == (PoolOfSubnets(IPv4Network("10.10.0.0/16"), 24),)
    assert made.networks.mtu == 1400
    assert made.containers.dns == ("10.0.0.53",)
    assert made.containers.dns_options == ("ndots:2",)
    assert made.containers.dns_search == ("example.org",)
    assert made.containers.userns_remap == "default"


@pytest.mark.parametrize("document", ["", "  \n", "{}"])
def test_an_empty_file_says_nothing(tmp_path: Path, document: str) -> None:
    assert settings(tmp_path, document) == make_settings({}, uid=0, environment={})


def test_the_usual_file_need_not_be_there(tmp_path: Path) -> None:
    assert read_config_file(tmp_path / "none", is_required=False) == {}
    with pytest.raises(InvalidRequest, match="there is no such file"):
        read_config_file(tmp_path / "none", is_required=True)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("{", "{file}: this is not JSON: Expecting property name"),
        ("[]", "{file}: [] is no object"),
        ('{"dns": [], "dns": []}', "{file}: this is not JSON: the key 'dns' is there twice"),
        ({"registry-mirors": []},
         "{file}: there is no setting 'registry-mirors'\n  hint: did you mean 'registry-mirrors'?"),
        ({"hosts": "unix:///x"}, '{file}: hosts: "unix:///x" is no list'),
        ({"log-opts": {"max-file": 3}}, "{file}: log-opts: max-file: 3 is no text"),
        ({"default-address-pools": [{"base": "10.0.0.0/8"}]},
         "{file}: default-address-pools: 0: 'size' is a required property"),
        ({"storage-driver": "btrfs"}, '{file}: storage-driver: "btrfs" is not supported\n'
         "  hint: Layers are always put together by overlayfs: overlay2."),
        ({"mtu": True}, "{file}: mtu: true is no whole number"),
        ({"registry-mirrors": ["mirror"]},
         "{file}: registry-mirrors: cannot use 'mirror' as a mirror: "),
        ({"insecure-registries": ["http://x"]}, "{file}: insecure-registries: cannot use"),
        ({"data-root": "data"}, "{file}: data-root: cannot use --data-root 'data'"),
        ({"hosts": ["tcp://0.0.0.0:1"]}, "{file}: hosts: cannot listen on tcp://0.0.0.0:1: "),
        ({"dns": ["x"]}, "{file}: dns: x is not an ip address"),
        ({"live-restore": False}, "{file}: live-restore: cannot turn it off: containers always"),
        ({"default-address-pools": [{"base": "10.0.0.0/16", "size": 8}]},
         "{file}: default-address-pools: cannot take subnets of 8 bits from 10.0.0.0/16: "),
        ({"max-concurrent-downloads": 0}, "{file}: max-concurrent-downloads: cannot use 0: "),
        ({"labels": ["x"]}, "{file}: labels: bad attribute format: x"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_file_and_key(
    tmp_path: Path, document: object, text: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settings(tmp_path, document)
    assert str(refused.value).startswith(text.replace("{file}", str(tmp_path / "daemon.json")))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        settings(tmp_path, {"hosts": 1, "mtu": "x", "bip": ""})
    assert str(refused.value).count("daemon.json: ") == 3


def test_nothing_is_said_twice(tmp_path: Path) -> None:
    """In the words of dockerd."""
    options = {"hosts": ["unix:///a"], "mtu": 1}
    with pytest.raises(InvalidRequest) as refused:
        merged(options, {"hosts": ["unix:///b", "unix:///c"], "mtu": 2, "dns": []}, Path("/f"))
    assert str(refused.value) == (
        "unable to configure the daemon with file /f: the following directives are specified both "
        "as a flag and in the configuration file: hosts: (from flag: [unix:///a], from file: "
        "[unix:///b unix:///c]), mtu: (from flag: 1, from file: 2)"
    )
    assert merged({"mtu": 1}, {"dns": []}, Path("/f")) == {"mtu": 1, "dns": []}


@pytest.mark.parametrize("text", ["10.0.0.0/8", "base=10.0.0.0/8", "base=x,size=y", "size=1,x=2"])
def test_an_option_that_is_no_pool_is_refused(text: str) -> None:
    assert parse_pool_option("base=10.0.0.0/8,size=24") == {"base": "10.0.0.0/8", "size": 24}
    with pytest.raises(InvalidRequest, match="cannot"):
        parse_pool_option(text)
