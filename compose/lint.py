"""pure: what can be read in a project, but will hurt. Each finding has a code, a place and a hint.

A project says what it doesn't want to hear: `x-lint: {ignore: [no-limit]}` at the top, or in a
service.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.load.defaults import shared_namespaces
from compose.model.mount import MountType
from compose.model.project import Project, dotted
from compose.model.service import Condition, Service

WARNING, NOTE = "warning", "note"


@dataclass(frozen=True, slots=True)
class Finding:
    code: str
    level: str  # warning: mend it; note: worth a thought
    problem: Problem

    def __str__(self) -> str:
        return f"{self.level}[{self.code}]: {self.problem}"


@dataclass(frozen=True, slots=True)
class Rule:
    code: str
    level: str
    find: Callable[[Project, Service], Iterator[Problem]]


def lint(project: Project) -> list[Finding]:
    """In the order of the services."""
    everywhere = _ignored(project.extensions)
    found = []
    for service in project.services.values():
        ignored = everywhere | _ignored(service.extensions)
        found += [
            Finding(rule.code, rule.level, problem)
            for rule in RULES
            if rule.code not in ignored
            for problem in rule.find(project, service)
        ]
    return found


def _ignored(extensions: object) -> frozenset[str]:
    own = extensions.get("x-lint") if hasattr(extensions, "get") else None
    codes = own.get("ignore") if isinstance(own, dict) else None
    return frozenset(code for code in codes if isinstance(code, str)) if codes else frozenset()


def _unmet(project: Project, service: Service) -> Iterator[Problem]:
    """What `up` would refuse: a port or a name asked for twice, a file that isn't there."""
    own = dotted(("services", service.name))
    for problem in project.unmet:
        if problem.path.startswith((f"{own}.", f"{own}[")):
            yield problem


def _latest(project: Project, service: Service) -> Iterator[Problem]:
    if service.build or not service.image or service.image.startswith("rootfs:"):
        return
    name, _, digest = service.image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    if not digest and tag in ("", "latest"):
        said = "has no tag, which means latest" if not tag else "is whatever is newest"
        yield project.problem(
            f"the image {service.image} {said}: another day, another image",
            "services", service.name, "image",
            hint=f"name a version, as in {name.removesuffix(':latest')}:1.2.3",
        )  # fmt: skip


def _unpinned(project: Project, service: Service) -> Iterator[Problem]:
    is_pulled = service.image and not service.build and not service.image.startswith("rootfs:")
    if is_pulled and "@" not in service.image:
        yield project.problem(
                f"the image {service.image} isn't pinned: its tag can be moved",
                "services", service.name, "image",
                hint="pycompose lock writes the digests down; or write image: name@sha256:...",
            )  # fmt: skip


def _no_healthcheck(project: Project, service: Service) -> Iterator[Problem]:
    if service.healthcheck is not None or service.provider is not None:
        return
    needed = any(
        service.name in other.depends_on
        and other.depends_on[service.name].condition is not Condition.COMPLETED
        for other in project.services.values()
    )
    if service.ports or needed:
        why = "others wait for it" if needed else "it publishes ports"
        yield project.problem(
            f"{service.name} has no healthcheck here, though {why}: nobody sees when it hangs",
            "services", service.name,
            hint="add healthcheck: {test: ...}, unless its image has one",
        )  # fmt: skip


_SECRET = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|CREDENTIAL", re.I)
_NO_SECRET = re.compile(r"_(FILE|PATH|URL|URI|NAME|ID|TTL|EXPIR\w*|LENGTH|ENABLED)$", re.I)


def _secret_in_environment(project: Project, service: Service) -> Iterator[Problem]:
    for name, value in service.environment.items():
        if value and _SECRET.search(name) and not _NO_SECRET.search(name):
            yield project.problem(
                f"{name} looks like a secret: whoever may inspect the container reads it",
                "services", service.name, "environment", name,
                hint=f"use secrets:, and {name}_FILE where the image knows it",
            )  # fmt: skip


def _privileged(project: Project, service: Service) -> Iterator[Problem]:
    if service.privileged:
        yield project.problem(
            f"{service.name} is privileged: it can do on this machine whatever root can",
            "services", service.name, "privileged",
            hint="give it the capabilities (cap_add) and devices that it needs",
        )  # fmt: skip
    for capability in service.cap_add:
        if capability.upper().removeprefix("CAP_") in ("ALL", "SYS_ADMIN", "SYS_MODULE"):
            yield project.problem(
                f"the capability {capability} is as much as privileged",
                "services", service.name, "cap_add",
                hint="find out which capability it really needs",
            )  # fmt: skip


def _unconfined(project: Project, service: Service) -> Iterator[Problem]:
    for index, option in enumerate(service.security_opt):
        if option.replace(":", "=", 1) in ("seccomp=unconfined", "apparmor=unconfined"):
            yield project.problem(
                f"{option} takes a wall away", "services", service.name, "security_opt", index,
                hint="give it a profile of its own instead",
            )  # fmt: skip


def _host_namespaces(project: Project, service: Service) -> Iterator[Problem]:
    for attribute, value in (("network_mode", service.network_mode), ("pid", service.pid),
                             ("ipc", service.ipc)):  # fmt: skip
        if value == "host":
            yield project.problem(
                f"{attribute}: host takes the container's walls away",
                "services", service.name, attribute,
                hint="publish the ports that it needs"
                if attribute == "network_mode"
                else f"leave {attribute} out unless it looks after this machine",
            )  # fmt: skip


def _engine_socket(project: Project, service: Service) -> Iterator[Problem]:
    for index, mount in enumerate(service.volumes):
        if mount.type is MountType.BIND and mount.source.endswith(("/docker.sock", "/engine.sock")):
            yield project.problem(
                "who has the engine's socket has this machine",
                "services", service.name, "volumes", index,
                hint="leave it out, or put a proxy that allows little in between",
            )  # fmt: skip


def _host_folder(project: Project, service: Service) -> Iterator[Problem]:
    for index, mount in enumerate(service.volumes):
        risky = ("/", "/etc", "/usr", "/boot", "/root", "/proc", "/sys", "/dev", "/var", "/home")
        if mount.type is MountType.BIND and mount.source in risky and not mount.read_only:
            yield project.problem(
                f"{service.name} may change {mount.source} of this machine",
                "services", service.name, "volumes", index,
                hint="add :ro, or mount less",
            )  # fmt: skip


def _no_limit(project: Project, service: Service) -> Iterator[Problem]:
    limits = service.deploy.limits if service.deploy else None
    if not service.mem_limit and not (limits and limits.memory) and service.provider is None:
        yield project.problem(
            f"{service.name} may use all of this machine's memory",
            "services", service.name,
            hint="add mem_limit: 512m, or deploy: resources: limits: memory",
        )  # fmt: skip


def _unhealthy_dependency(project: Project, service: Service) -> Iterator[Problem]:
    for name, dependency in service.depends_on.items():
        other = project.services.get(name)
        checked = other is not None and other.healthcheck and not other.healthcheck.disable
        is_implied = ("services", service.name, "depends_on") not in project.positions
        if dependency.condition is Condition.STARTED and checked and not is_implied:
            yield project.problem(
                f"{service.name} starts as soon as {name} does, though {name} says when it's ready",
                "services", service.name, "depends_on", name,
                hint="write condition: service_healthy",
            )  # fmt: skip


def _no_restart(project: Project, service: Service) -> Iterator[Problem]:
    policy = service.deploy.restart_policy if service.deploy else None
    is_job = any(
        service.name in other.depends_on
        and other.depends_on[service.name].condition is Condition.COMPLETED
        for other in project.services.values()
    )
    if not service.restart and policy is None and not is_job and service.provider is None:
        yield project.problem(
            f"{service.name} stays down when it crashes, or this machine restarts",
            "services", service.name,
            hint='add restart: unless-stopped; or restart: "no", if that is meant',
        )  # fmt: skip


def _open_ports(project: Project, service: Service) -> Iterator[Problem]:
    for index, port in enumerate(service.ports):
        known = {5432, 3306, 6379, 27017, 9200, 11211, 5984, 1433, 2375}
        if port.published and port.host_ip in ("", "0.0.0.0", "::") and port.target in known:
            yield project.problem(
                f"port {port.published} is open to the whole network, and it is a database's",
                "services", service.name, "ports", index,
                hint=f'write "127.0.0.1:{port.published}:{port.target}", or publish none',
            )  # fmt: skip


def _links(project: Project, service: Service) -> Iterator[Problem]:
    if service.links:
        yield project.problem(
            "links belong to a time before networks", "services", service.name, "links",
            hint="services reach each other by name; use depends_on for the order",
        )  # fmt: skip


def _joined(project: Project, service: Service) -> Iterator[Problem]:
    if service.container_name and not list(shared_namespaces(service)):
        yield project.problem(
            "with a container_name there is one container only, and one project on this machine",
            "services", service.name, "container_name",
            hint="leave it out: others reach the service by its name",
        )  # fmt: skip


RULES = (
    Rule("cannot-run", WARNING, _unmet),
    Rule("latest-image", WARNING, _latest),
    Rule("secret-in-environment", WARNING, _secret_in_environment),
    Rule("privileged", WARNING, _privileged),
    Rule("unconfined", WARNING, _unconfined),
    Rule("host-namespace", WARNING, _host_namespaces),
    Rule("engine-socket", WARNING, _engine_socket),
    Rule("host-folder", WARNING, _host_folder),
    Rule("depends-on-started", WARNING, _unhealthy_dependency),
    Rule("open-database", WARNING, _open_ports),
    Rule("no-healthcheck", WARNING, _no_healthcheck),
    Rule("no-limit", WARNING, _no_limit),
    Rule("no-restart", NOTE, _no_restart),
    Rule("unpinned-image", NOTE, _unpinned),
    Rule("container-name", NOTE, _joined),
    Rule("links", NOTE, _links),
)
