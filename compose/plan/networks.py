"""pure: the rules of networks: missing ones are made, changed ones made anew."""

from __future__ import annotations

from compose import VERSION
from compose.dataclass import dataclass
from compose.model.document import Document
from compose.model.fingerprint import network_hash
from compose.model.project import Project
from compose.model.resources import Network
from compose.plan import names
from compose.plan.diff import summary
from compose.plan.observed import Observed, ObservedNetwork
from compose.plan.record import network_record, parse_record, record_differences, write_record

Body = dict[str, object]


@dataclass(frozen=True, slots=True)
class NetworkDecision:
    """`cause` empty: it stays. `exists`: it has to be removed first."""

    network: Network
    cause: str
    exists: bool

    @property
    def is_rebuilt(self) -> bool:
        return bool(self.cause) and self.exists


def decide_network(project: Project, network: Network, observed: Observed) -> NetworkDecision:
    found = observed.networks.get(network.name)
    if network.external or network.name in ("bridge", "host", "none"):
        return NetworkDecision(network, "", exists=found is not None)
    if found is None:
        return NetworkDecision(network, "missing", exists=False)
    if found.project != project.name:
        return NetworkDecision(network, "", exists=True)  # preflight has a word on it
    return NetworkDecision(network, changed_network(network, found), exists=True)


def changed_network(network: Network, found: ObservedNetwork) -> str:
    record = parse_record(found.record)
    if record is not None:
        return summary(record_differences(record, network_record(network)))
    # Another tool made it. Its hash is over its own idea of the defaults, so that a different
    # one proves nothing: what is known to differ would be in a record.
    return ""


def network_body(project: Project, network: Network) -> Body:
    record = network_record(network)
    body: Body = {
        "Name": network.name,
        "Driver": network.driver or "bridge",
        "Options": dict(network.driver_opts),
        "Internal": network.internal,
        "Attachable": network.attachable,
        "CheckDuplicate": True,
        "Labels": {**network.labels, **_labels(project, network, record)},
    }
    if network.enable_ipv4 is not None:
        body["EnableIPv4"] = network.enable_ipv4
    if network.enable_ipv6 is not None:
        body["EnableIPv6"] = network.enable_ipv6
    ipam = network.ipam
    if ipam.driver or ipam.config or ipam.options:
        body["IPAM"] = {
            "Driver": ipam.driver or "default",
            "Options": dict(ipam.options),
            "Config": [
                {
                    name: value
                    for name, value in (
                        ("Subnet", pool.subnet),
                        ("Gateway", pool.gateway),
                        ("IPRange", pool.ip_range),
                        ("AuxiliaryAddresses", dict(pool.aux_addresses)),
                    )
                    if value
                }
                for pool in ipam.config
            ],
        }
    return body


def _labels(project: Project, network: Network, record: Document) -> dict[str, str]:
    return {
        names.PROJECT: project.name,
        names.NETWORK: network.key,
        names.CONFIG_HASH: network_hash(network),
        names.VERSION: VERSION,
        names.NETWORK_RECORD: write_record(record),
    }
