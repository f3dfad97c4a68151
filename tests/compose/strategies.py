"""Projects and states of an engine, drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import strategies as st

from compose.model.deploy import Deploy, UpdateConfig
from compose.model.port import Port
from compose.model.project import Project
from compose.model.service import Attachment, Condition, Dependency, Service
from compose.plan.observed import Observed
from tests.compose.projects import check, make_project, make_service

NAMES = ("api", "cache", "db", "web", "worker")
NETWORKS = ("back", "front")
UPDATES = (
    None,
    UpdateConfig(parallelism=2),
    UpdateConfig(order="start-first"),
    UpdateConfig(order="start-first", failure_action="rollback"),
)


@st.composite
def services(draw: st.DrawFn, name: str, earlier: tuple[str, ...], port: int) -> Service:
    needed = draw(st.lists(st.sampled_from(earlier), unique=True)) if earlier else []
    depends_on = {
        other: Dependency(
            other,
            draw(st.sampled_from([Condition.STARTED, Condition.HEALTHY])),
            restart=draw(st.booleans()),
            required=draw(st.booleans()),
        )
        for other in needed
    }
    replicas = draw(st.integers(0, 3))
    ports = (Port(80, str(port)),) if replicas == 1 and draw(st.booleans()) else ()
    networks = draw(st.lists(st.sampled_from(NETWORKS), unique=True, min_size=1))
    return make_service(
        name,
        depends_on=depends_on,
        environment=draw(st.dictionaries(st.sampled_from("AB"), st.sampled_from("12"))),
        networks={key: Attachment() for key in networks},
        healthcheck=check("true"),
        scale=replicas,
        mem_limit=draw(st.sampled_from([0, 32 << 20, 64 << 20])),
        pids_limit=draw(st.sampled_from([0, 50])),
        restart=draw(st.sampled_from(["", "always"])),
        deploy=Deploy(update_config=draw(st.sampled_from(UPDATES))),
        ports=ports,
    )


@st.composite
def projects(draw: st.DrawFn) -> Project:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=len(NAMES)))
    ports = draw(st.permutations([8000 + index for index in range(len(names))]))
    made: list[Service] = []
    for index, name in enumerate(names):
        made.append(draw(services(name, tuple(names[:index]), ports[index])))
    project = make_project(*made)
    internal = draw(st.booleans())
    return replace(
        project,
        networks={
            key: replace(network, internal=internal) for key, network in project.networks.items()
        },
    )


@st.composite
def disturbed(draw: st.DrawFn) -> Callable[[Observed], Observed]:
    """Something happened to the containers since: some died, some were paused or removed."""
    fates = draw(
        st.lists(
            st.sampled_from(["stay", "stay", "die", "pause", "vanish", "edit", "rename"]),
            max_size=15,
        )
    )

    def disturb(observed: Observed) -> Observed:
        containers = []
        for index, container in enumerate(observed.containers):
            fate = fates[index] if index < len(fates) else "stay"
            if fate == "die":
                container = replace(container, state="exited", exit_code=1, health="")
            elif fate == "pause":
                container = replace(container, state="paused")
            elif fate == "edit":
                if container.limits is None:
                    container = replace(container, edited="memory")
                elif "Memory" in container.limits:
                    limits = {**container.limits, "Memory": 7 << 20, "MemorySwap": 9 << 20}
                    container = replace(container, limits=limits)
            elif fate == "rename":
                container = replace(container, name=f"called-{index}")
            if fate != "vanish":
                containers.append(container)
        return replace(observed, containers=tuple(containers))

    return disturb
