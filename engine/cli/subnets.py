"""pure: the subnets of `network create`, with what belongs to each."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from compose.errors import UsageError

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def pools(
    subnets: Sequence[str],
    ranges: Sequence[str],
    gateways: Sequence[str],
    auxiliary: Mapping[str, str],
) -> list[dict[str, object]]:
    """IPAM.Config of the API: each range and address with the subnet that holds it."""
    if not subnets and (ranges or gateways or auxiliary):
        raise UsageError("an address or a range needs the --subnet that it is in")
    configs: dict[Subnet, dict[str, object]] = {}
    for text in subnets:
        network = _network("--subnet", text)
        if other := next((other for other in configs if _overlap(other, network)), None):
            raise UsageError(f"the subnets {other} and {network} overlap")
        configs[network] = {"Subnet": text}
    single = (("--ip-range", "IPRange", ranges), ("--gateway", "Gateway", gateways))
    for option, key, texts in single:
        for text in texts:
            config = configs[_holder(configs, option, text)]
            if key in config:
                raise UsageError(f"{option} is given twice for {config['Subnet']}")
            config[key] = text
    for name, text in auxiliary.items():
        config = configs[_holder(configs, "--aux-address", text)]
        known = config.setdefault("AuxiliaryAddresses", {})
        assert isinstance(known, dict)
        known[name] = text
    return [*configs.values()]


def _network(option: str, text: str) -> Subnet:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise UsageError(f"cannot use {option} {text!r}: {error}") from None


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def _holder(configs: Mapping[Subnet, object], option: str, text: str) -> Subnet:
    address = _network(option, text)
    for network in configs:
        if _overlap(network, address):
            return network
    raise UsageError(f"no --subnet holds {option} {text}")
