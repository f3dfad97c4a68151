"""What the specification fills in where the files say nothing. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from compose.model.deploy import Deploy
from compose.model.resources import Network
from compose.model.service import Attachment, Condition, Dependency, Service

DEFAULT_NETWORK = "default"
SERVICE_PREFIX = "service:"
_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def with_defaults(given: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a service, and the default network, implied dependencies, replicas as
    `scale` says."""
    filled = dict(given)
    if not (given.get("networks") or given.get("network_mode") or given.get("provider")):
        filled["networks"] = {DEFAULT_NETWORK: Attachment()}
    deploy: Deploy | None = given.get("deploy")
    scale: int | None = given.get("scale")
    if deploy is not None and scale is not None and deploy.replicas is None:
        filled["deploy"] = replace(deploy, replicas=scale)
    implied = {dependency.service: dependency for dependency in implied_dependencies(given)}
    if implied:
        filled["depends_on"] = {**implied, **given.get("depends_on", {})}
    return filled


def implied_dependencies(given: Mapping[str, Any]) -> Iterator[Dependency]:
    """Dependencies that other attributes bring along."""
    for link in given.get("links", ()):
        yield Dependency(link.partition(":")[0], Condition.STARTED, restart=True)
    for attribute in _NAMESPACES:
        value: str = given.get(attribute, "")
        if value.startswith(SERVICE_PREFIX):
            name = value.removeprefix(SERVICE_PREFIX)
            yield Dependency(name, Condition.STARTED, restart=True)
    for source in given.get("volumes_from", ()):
        if not source.startswith("container:"):
            yield Dependency(source.partition(":")[0], Condition.STARTED)


def shared_namespaces(service: Service) -> Iterator[tuple[str, str]]:
    """Attribute and service of each `service:x`."""
    for attribute in _NAMESPACES:
        value: str = getattr(service, attribute)
        if value.startswith(SERVICE_PREFIX):
            yield attribute, value.removeprefix(SERVICE_PREFIX)


def with_default_network(
    networks: Mapping[str, Network], services: Iterable[Service], project_name: str
) -> dict[str, Network]:
    """The implicit network, if a service is on it and no file declares it."""
    found = dict(networks)
    if DEFAULT_NETWORK not in found and any(DEFAULT_NETWORK in s.networks for s in services):
        found[DEFAULT_NETWORK] = Network(DEFAULT_NETWORK, f"{project_name}_{DEFAULT_NETWORK}")
    return found
