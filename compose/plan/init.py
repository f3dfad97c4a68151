"""pure: `pre_start`, containers that do something before a service's own start.

Each has the networks and volumes of the container that it makes ready, and ends before that one
starts. Where it fails it is kept, so that its log can be read; `down` and the next try remove it.
"""

from __future__ import annotations

from dataclasses import replace

from compose.model.project import Project
from compose.model.service import Attachment, Hook, Service
from compose.plan import names
from compose.plan.actions import ContainerRef, CreateContainer, Share
from compose.plan.container import Replica, make_creation
from compose.plan.observed import Observed

HOOK = "pre_start"


def make_init_containers(
    project: Project,
    service: Service,
    observed: Observed,
    container: ContainerRef,
    subject: str,
    *,
    is_first: bool,
) -> tuple[CreateContainer, ...]:
    """Those that run before `container` starts, in order. `is_first`: no other container of the
    service runs or is started before it; what isn't `per_replica` is done for that one only."""
    return tuple(
        _make(project, service, observed, container, f"{subject} {HOOK}[{index}]", hook)
        for index, hook in enumerate(service.pre_start)
        if is_first or hook.per_replica
    )


def _make(
    project: Project,
    service: Service,
    observed: Observed,
    container: ContainerRef,
    slot: str,
    hook: Hook,
) -> CreateContainer:
    like = replace(
        service,
        image=hook.image or service.image,
        # Its image's own entry point, unless it is the service's image.
        entrypoint=None if hook.image else service.entrypoint,
        command=hook.command,
        user=hook.user or ("" if hook.image else service.user),
        working_dir=hook.working_dir or ("" if hook.image else service.working_dir),
        privileged=hook.privileged or service.privileged,
        environment={**service.environment, **hook.environment},
        networks={key: Attachment() for key in service.networks},
        container_name="",
        hostname="",
        healthcheck=None,
        ports=(),
        volumes=(),
        volumes_from=(),
        tmpfs=(),
        restart="no",
        tty=False,
        stdin_open=False,
        scale=None,
        deploy=replace(service.deploy, restart_policy=None) if service.deploy else None,
        ipc="",
        pid="",
    )
    name = (
        f"{project.name}-{slot.replace('.', '-').replace(' ', '-').replace('[', '-').rstrip(']')}"
    )
    action = make_creation(
        project,
        like,
        Replica(
            number=1,
            name=name,
            created_as=name,
            image_id="",
            record="",
            config_hash="",
            image_volumes=(),
            inherited={},
            replaces="",
            seccomp_profiles=observed.profiles,
            parents=lambda _: container,
            places_files=observed.is_ours,
            api_socket=observed.api_socket,
        ),
    )
    labels = action.body["Labels"]
    assert isinstance(labels, dict)
    for label in (names.NUMBER, names.SERVICE_RECORD, names.CONFIG_HASH, names.IMAGE):
        labels.pop(label, None)
    labels |= {names.ONE_OFF: "True", names.HOOK: HOOK}
    endpoints = {
        network: {key: value for key, value in endpoint.items() if key != "Aliases"}
        for network, endpoint in action.endpoints.items()
    }
    shares = (*action.shares, Share("VolumesFrom", container))
    return replace(action, slot=slot, body=action.body, endpoints=endpoints, shares=shares)
