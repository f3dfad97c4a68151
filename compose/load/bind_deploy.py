"""`deploy` and what belongs to it, out of the tree."""

from compose.load.fields import Fields
from compose.model.deploy import (
    Deploy,
    DeviceRequest,
    GenericResource,
    Placement,
    Resource,
    RestartPolicy,
    UpdateConfig,
)


def bind_deploy(fields: Fields) -> Deploy:
    resources = fields.inner("resources")
    placement = fields.inner("placement")
    return Deploy(
        mode=fields.text("mode"),
        replicas=fields.count("replicas"),
        labels=fields.pairs("labels"),
        update_config=fields.one("update_config", _update_config),
        rollback_config=fields.one("rollback_config", _update_config),
        limits=resources.one("limits", _resource) if resources else None,
        reservations=resources.one("reservations", _resource) if resources else None,
        restart_policy=fields.one("restart_policy", _restart_policy),
        placement=_placement(placement) if placement else Placement(),
        endpoint_mode=fields.text("endpoint_mode"),
    )


def _update_config(fields: Fields) -> UpdateConfig:
    return UpdateConfig(
        parallelism=fields.count("parallelism"),
        delay=fields.duration("delay"),
        failure_action=fields.choice("failure_action", ("continue", "rollback", "pause")),
        monitor=fields.duration("monitor"),
        max_failure_ratio=fields.share("max_failure_ratio") or 0.0,
        order=fields.text("order"),
    )


def _resource(fields: Fields) -> Resource:
    return Resource(
        cpus=fields.share("cpus"),
        memory=fields.size("memory"),
        pids=fields.whole("pids"),
        devices=tuple(_reserved_device(entry) for entry in fields.each("devices")),
        generic_resources=tuple(
            GenericResource(spec.text("kind"), spec.whole_or("value", 0))
            for entry in fields.each("generic_resources")
            if (spec := entry.inner("discrete_resource_spec")) is not None
        ),
    )


def _reserved_device(fields: Fields) -> DeviceRequest:
    if "capabilities" not in fields:
        fields.required("capabilities", "say what the device can do, as in [gpu]")
    return bind_device_request(fields)


def bind_device_request(fields: Fields) -> DeviceRequest:
    if "count" in fields and "device_ids" in fields:
        fields.add("count", '"count" and "device_ids" exclude each other', "keep one of the two")
    # Neither said: every device that has the capabilities.
    everything = fields.text("count").lower() == "all" or not (
        "count" in fields or "device_ids" in fields
    )
    count = -1 if everything else fields.whole("count")
    return DeviceRequest(
        capabilities=fields.texts("capabilities"),
        driver=fields.text("driver"),
        count=count,
        device_ids=fields.texts("device_ids"),
        options=fields.pairs("options"),
    )


# Swarm's words, and those of `restart` that Compose takes for them.
_CONDITIONS = ("none", "on-failure", "any", "no", "always", "unless-stopped")


def _restart_policy(fields: Fields) -> RestartPolicy:
    return RestartPolicy(
        condition=fields.choice("condition", _CONDITIONS),
        delay=fields.duration("delay"),
        max_attempts=fields.count("max_attempts"),
        window=fields.duration("window"),
    )


def _placement(fields: Fields) -> Placement:
    return Placement(
        constraints=fields.texts("constraints"),
        spread=tuple(entry.text("spread") for entry in fields.each("preferences")),
        max_replicas_per_node=fields.count("max_replicas_per_node"),
    )
