"""What the specification fills in where the files say nothing. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from compose.model.resources import Network
from compose.model.service import Attachment, Condition, Dependency, Service

DEFAULT_NETWORK = "default"
SERVICE_PREFIX = "service:"
_NAMESPACES = ("network_mode", "ipc", "pid", "uts", "cgroup")


def with_defaults(service: Service) -> Service:
    """The default network, implied dependencies, replicas as `scale` says."""
    networks, deploy = service.networks, service.deploy
    if not networks and not service.network_mode and service.provider is None:
        networks = {DEFAULT_NETWORK: Attachment()}
    if deploy is not None and service.scale is not None and deploy.replicas is None:
        deploy = replace(deploy, replicas=service.scale)
    implied = {dependency.service: dependency for dependency in implied_dependencies(service)}
    depends_on = {**implied, **service.depends_on} if implied else service.depends_on
    return replace(service, networks=networks, deploy=deploy, depends_on=depends_on)


def implied_dependencies(service: Service) -> Iterator[Dependency]:
    """Dependencies that other attributes bring along."""
    for link in service.links:
        yield Dependency(link.partition(":")[0], Condition.STARTED, restart=True)
    for _, name in shared_namespaces(service):
        yield Dependency(name, Condition.STARTED, restart=True)
    for source in service.volumes_from:
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
