"""Pure: networks <-> their JSON documents on disk."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar, cast

from engine.networks.model import AddressPool, Network

T = TypeVar("T")


def network_document(network: Network) -> dict[str, object]:
    return dataclasses.asdict(network)


def parse_network(document: object) -> Network:
    """Raises ValueError for what isn't a network's document."""
    if not isinstance(document, dict) or not isinstance(document.get("pools"), list):
        raise ValueError("not a network")
    pools, unused = (
        tuple(_parse(AddressPool, pool) for pool in cast("list[object]", document.get(name, [])))
        for name in ("pools", "unused")
    )
    return _parse(Network, document, pools=pools, unused=unused)


def _parse(kind: type[T], document: object, **given: object) -> T:
    """The fields of dataclass `kind` that `document` has, each of its type. A field that only a
    later version knows is left out."""
    if not isinstance(document, dict):
        raise ValueError(f"{document!r} is not an object")
    values = dict(given)
    for each in dataclasses.fields(kind):  # type: ignore[arg-type]
        if each.name in document and each.name not in given:
            value = document[each.name]
            if value is None and each.default is None:
                continue
            expected = each.type if each.type in (str, int, bool) else dict
            words = value.values() if isinstance(value, dict) else ()
            if type(value) is not expected or not all(isinstance(word, str) for word in words):
                raise ValueError(f"{each.name}: {value!r}")
            values[each.name] = value
    try:
        return cast(Callable[..., T], kind)(**values)
    except TypeError as error:
        raise ValueError(str(error)) from error
