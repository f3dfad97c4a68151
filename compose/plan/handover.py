"""pure: how a container takes over from the one that it replaces.

`order: start-first` (Compose specification, deploy.md): the new one is up before the old one is
stopped. On pycompose's engine both have the published ports meanwhile.
"""

from __future__ import annotations

from compose.model.deploy import UpdateConfig
from compose.model.service import Service
from compose.plan import names
from compose.plan.observed import ObservedContainer

MONITOR = 5.0  # seconds, as on Swarm
GRACE = 10.0  # seconds that a container has to end where nothing is said


def update_config(service: Service) -> UpdateConfig | None:
    return service.deploy.update_config if service.deploy else None


def starts_first(service: Service) -> bool:
    """Where it is updated, or where that is taken back."""
    deploy = service.deploy
    configs = (deploy.update_config, deploy.rollback_config) if deploy else ()
    return any(config is not None and config.order == "start-first" for config in configs)


def shares_ports(service: Service) -> bool:
    """Whether its containers, or those that replace each other, may have the same ports."""
    return starts_first(service) or is_one_of_several(service) or is_open_to_all(service)


def is_one_of_several(service: Service) -> bool:
    """Whether each of its containers is to have the same port."""
    has_fixed = any(len(port.host_ports) == 1 and port.host_ports[0] for port in service.ports)
    return service.replicas > 1 and has_fixed


def is_open_to_all(service: Service) -> bool:
    """Whether its ports may be those of whatever else says so, too."""
    return service.labels.get(names.SHARED_PORTS) == "true"


def monitor(config: UpdateConfig | None) -> float:
    """Seconds for which what has no health check has to live to count as up."""
    return config.monitor / 1e9 if config and config.monitor else MONITOR  # 0 too, as on Swarm


def handover_labels(service: Service) -> dict[str, str]:
    if not service.ports or not shares_ports(service):
        return {}
    check, grace = service.healthcheck, service.stop_grace_period
    drain = GRACE if grace is None else grace / 1e9
    labels = {names.SHARED_PORTS: "true", names.DRAIN: f"{drain:g}"}
    if check is None or check.is_disabled:  # if the image has one, that counts
        labels[names.OPENS_AFTER] = f"{monitor(update_config(service)):g}"
    return labels


def stop_first_cause(service: Service, old: ObservedContainer, *, is_ours: bool) -> str:
    """Why its successor can't start beside it, although that is asked for; "" if it can."""
    if service.ports and not is_ours:
        return "only pycompose's own engine lets two containers have one port"
    if old.ports and not old.shares_ports:
        return "it was made before it was to share its ports"
    if any(each.ipv4_address or each.ipv6_address for each in service.networks.values() if each):
        return "it has an address of its own"
    if service.mac_address or any(each.mac_address for each in service.networks.values() if each):
        return "it has a MAC address of its own"
    return ""
