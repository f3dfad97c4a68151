"""How many replicas, with what resources, replaced in what manner."""

from collections.abc import Mapping
from dataclasses import field

from compose.dataclass import dataclass
from compose.model.document import Document, documents, filled, mapping, number
from compose.model.units import Bytes, Duration, format_duration


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """`gpus` and `deploy.resources.reservations.devices`."""

    capabilities: tuple[str, ...] = ()
    driver: str = ""
    count: int | None = None  # -1: all
    device_ids: tuple[str, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(
            capabilities=list(self.capabilities),
            driver=self.driver,
            count=self.count,
            device_ids=list(self.device_ids),
            options=mapping(self.options),
        )


@dataclass(frozen=True, slots=True)
class GenericResource:
    kind: str
    value: int

    def to_document(self) -> Document:
        return {"discrete_resource_spec": {"kind": self.kind, "value": self.value}}


@dataclass(frozen=True, slots=True)
class Resource:
    cpus: float | None = None
    memory: Bytes | None = None
    pids: int | None = None
    devices: tuple[DeviceRequest, ...] = ()
    generic_resources: tuple[GenericResource, ...] = ()

    def to_document(self) -> Document:
        return filled(
            cpus=number(self.cpus),
            memory=str(self.memory) if self.memory else None,
            pids=self.pids,
            devices=documents(self.devices),
            generic_resources=documents(self.generic_resources),
        )


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    condition: str = ""  # none, on-failure, any
    delay: Duration | None = None
    max_attempts: int | None = None
    window: Duration | None = None

    def to_document(self) -> Document:
        document = filled(condition=self.condition)
        if self.delay is not None:
            document["delay"] = format_duration(self.delay)
        if self.max_attempts is not None:
            document["max_attempts"] = self.max_attempts
        if self.window is not None:
            document["window"] = format_duration(self.window)
        return document


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    parallelism: int | None = None  # 0: all at once
    delay: Duration | None = None
    failure_action: str = ""  # continue, rollback, pause
    monitor: Duration | None = None
    max_failure_ratio: float = 0.0
    order: str = ""  # start-first, stop-first

    def to_document(self) -> Document:
        document: Document = {}
        if self.parallelism is not None:
            document["parallelism"] = self.parallelism
        return document | filled(
            delay=format_duration(self.delay) if self.delay else None,
            failure_action=self.failure_action,
            monitor=format_duration(self.monitor) if self.monitor else None,
            max_failure_ratio=number(self.max_failure_ratio),
            order=self.order,
        )


@dataclass(frozen=True, slots=True)
class Placement:
    constraints: tuple[str, ...] = ()
    spread: tuple[str, ...] = ()  # preferences[].spread
    max_replicas_per_node: int | None = None

    def to_document(self) -> Document:
        return filled(
            constraints=list(self.constraints),
            preferences=[{"spread": spread} for spread in self.spread],
            max_replicas_per_node=self.max_replicas_per_node,
        )


@dataclass(frozen=True, slots=True)
class Deploy:
    mode: str = ""
    replicas: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    update_config: UpdateConfig | None = None
    rollback_config: UpdateConfig | None = None
    limits: Resource | None = None
    reservations: Resource | None = None
    restart_policy: RestartPolicy | None = None
    placement: Placement = field(default_factory=Placement)
    endpoint_mode: str = ""

    def to_document(self) -> Document:
        document = filled(mode=self.mode)
        if self.replicas is not None:
            document["replicas"] = self.replicas
        document |= filled(labels=mapping(self.labels))
        for name, config in (
            ("update_config", self.update_config),
            ("rollback_config", self.rollback_config),
        ):
            if config is not None:
                document[name] = config.to_document()
        resources: Document = {}
        if self.limits is not None:
            resources["limits"] = self.limits.to_document()
        if self.reservations is not None:
            resources["reservations"] = self.reservations.to_document()
        document["resources"] = resources
        if self.restart_policy is not None:
            document["restart_policy"] = self.restart_policy.to_document()
        document["placement"] = self.placement.to_document()
        return document | filled(endpoint_mode=self.endpoint_mode)
