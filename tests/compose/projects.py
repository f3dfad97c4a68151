"""Projects made by hand, for tests that need no files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from compose.model.health import HealthCheck
from compose.model.project import Place, Project
from compose.model.resources import ConfigFile, Network, Secret, Volume
from compose.model.service import Attachment, Condition, Dependency, Service
from compose.model.units import Duration
from compose.plan.observed import Observed, ObservedImage
from compose.position import Position
from tests.compose.engines import IMAGE

SECOND = 10**9


def make_service(name: str, **fields: object) -> Service:
    """On the default network, stopped without delay."""
    defaults: dict[str, object] = {
        "image": IMAGE,
        "command": ("sleep", "1000"),
        "stop_grace_period": Duration(0),
    }
    if "network_mode" not in fields:
        defaults["networks"] = {"default": Attachment()}
    return Service(name, **{**defaults, **fields})  # type: ignore[arg-type]


def make_project(
    *services: Service,
    name: str = "demo",
    networks: Mapping[str, Network] | None = None,
    volumes: Mapping[str, Volume] | None = None,
    configs: Mapping[str, ConfigFile] | None = None,
    secrets: Mapping[str, Secret] | None = None,
    disabled: frozenset[str] = frozenset(),
    positions: Mapping[Place, Position] | None = None,
) -> Project:
    used = {key for service in services for key in service.networks}
    return Project(
        name,
        Path("/project"),
        files=(Path("/project/compose.yaml"),),
        services={service.name: service for service in services},
        disabled=disabled,
        networks={key: Network(key, f"{name}_{key}") for key in sorted(used)} | (networks or {}),
        volumes=volumes or {},
        configs=configs or {},
        secrets=secrets or {},
        positions=positions or {},
    )


def needs(**conditions: Condition) -> dict[str, Dependency]:
    return {name: Dependency(name, condition) for name, condition in conditions.items()}


def check(*command: str, retries: int = 100, start_period: float = 0) -> HealthCheck:
    """Probes every 100 ms."""
    return HealthCheck(
        ("CMD", *command),
        interval=Duration(SECOND // 10),
        timeout=Duration(SECOND * 5),
        retries=retries,
        start_period=Duration(int(start_period * SECOND)),
        start_interval=Duration(SECOND // 10),
    )


def nothing() -> Observed:
    """An engine that has the test image, and nothing else."""
    return Observed(images={IMAGE: ObservedImage("sha256:" + "1" * 64)})
