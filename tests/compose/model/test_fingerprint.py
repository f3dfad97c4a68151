import hashlib
from dataclasses import replace
from pathlib import Path

from compose.model.build import Build
from compose.model.deploy import Deploy
from compose.model.fingerprint import encode, network_hash, service_hash, volume_hash
from compose.model.project import Project
from compose.model.resources import Network, Volume
from compose.model.service import Attachment, Dependency, Service

WEB = Service("web", image="nginx", environment={"B": "2", "A": "<1>"})


def test_a_service_hashes_as_its_canonical_json() -> None:
    text = (
        b'{"command":null,"entrypoint":null,'
        b'"environment":{"A":"\\u003c1\\u003e","B":"2"},"image":"nginx"}'
    )
    assert encode(WEB.to_document()) == text
    assert service_hash(WEB) == hashlib.sha256(text).hexdigest()


def test_files_of_labels_are_hashed_and_not_shown() -> None:
    """Docker Compose 2.40, for `label_file: l.txt` (L=1, M=two) in /tmp/shop."""
    service = Service(
        "lab",
        image="bb",
        command=("sleep", "100"),
        networks={"default": Attachment()},
        labels={"k": "v", "L": "1", "M": "two"},
        label_file=("/tmp/shop/l.txt",),
    )
    assert service_hash(service) == (
        "9ba6ef37788523150a9bf3a6ef40e805c7f4962526a0c1625774e71776361cf3"
    )
    shown = Project("cf", Path("/"), services={"lab": service}).to_document()["services"]
    assert shown == {"lab": replace(service, label_file=()).to_document()}


def test_what_does_not_shape_a_container_is_left_out() -> None:
    other = replace(
        WEB,
        build=Build("/x"),
        pull_policy="always",
        scale=3,
        depends_on={"db": Dependency("db")},
        profiles=("dev",),
    )
    assert service_hash(other) == service_hash(WEB)
    assert service_hash(replace(WEB, deploy=Deploy(replicas=2))) == service_hash(
        replace(WEB, deploy=Deploy(replicas=5))
    )


def test_what_shapes_a_container_changes_the_hash() -> None:
    assert service_hash(replace(WEB, user="me")) != service_hash(WEB)


def test_networks_and_volumes_hash_by_what_the_engine_is_told() -> None:
    network = Network("a", "p_a")
    assert network_hash(network) == network_hash(replace(network, key="b"))
    assert network_hash(network) != network_hash(replace(network, internal=True))
    volume = Volume("a", "p_a")
    assert volume_hash(volume) == volume_hash(replace(volume, driver="local"))
    assert volume_hash(volume) != volume_hash(replace(volume, driver="nfs"))


def test_volume_hashes_are_those_of_docker_compose() -> None:
    """As Docker Compose 2.40.3 labels the volume `data: {}` of project xside."""
    assert volume_hash(Volume("data", "xside_data")) == (
        "75990848508da456c254fcf372c785d4a218f6ded9be2140d3afdb4369fd3a42"
    )
