import json
from dataclasses import replace

import pytest

from engine.networks.model import AddressPool, Network
from engine.networks.stored import network_document, parse_network

NETWORK = Network(
    "a" * 64, "front", "bridge", 12, (AddressPool("10.5.0.0/24", "10.5.0.1"),), "br-aaaaaaaaaaaa",
    unused=(AddressPool("fd00:1::/64"),), internal=True, labels={"x": "y"},
)  # fmt: skip


def document() -> dict[str, object]:
    """As it comes from disk."""
    return dict(json.loads(json.dumps(network_document(NETWORK))))


def test_network_is_read_as_it_was_written() -> None:
    assert parse_network(document()) == NETWORK
    assert parse_network({**document(), "of a later version": 1}) == NETWORK
    of_before = {key: value for key, value in document().items() if key != "unused"}
    assert parse_network(of_before) == replace(NETWORK, unused=())


@pytest.mark.parametrize(
    "change",
    [{"name": 1}, {"labels": {"x": 1}}, {"pools": {}}, {"pools": [1]}, {"internal": "yes"}],
)
def test_document_that_is_no_network_is_refused(change: dict[str, object]) -> None:
    (name,) = change
    with pytest.raises(ValueError, match=f"{name}|not a network|not an object"):
        parse_network({**document(), **change})


def test_document_without_a_name_is_refused() -> None:
    without = {key: value for key, value in document().items() if key != "name"}
    with pytest.raises(ValueError, match="name"):
        parse_network(without)
