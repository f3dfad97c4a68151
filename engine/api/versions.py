"""Pure: what a request to create a container means to those who speak an older version of the API.

The newest version is the rule; here is what was added, or meant something else, before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.api.request import Version
from engine.containers.model import (
    CreateRequest,
    EndpointSettings,
    HostConfig,
    MountRequest,
)
from engine.errors import InvalidRequest


def as_understood(asked: CreateRequest, version: Version) -> CreateRequest:
    """Without what `version` doesn't know. Raises InvalidRequest where leaving it out would run
    something else than was asked for."""
    if version < (1, 44) and len(asked.endpoints) > 1:
        raise InvalidRequest(
            "Container cannot be created with multiple network endpoints: "
            f"{', '.join(sorted(asked.endpoints))}"
        )
    config = asked.config
    if version < (1, 44) and config.healthcheck is not None:
        config = replace(config, healthcheck=replace(config.healthcheck, start_interval=0))
    return replace(
        asked,
        config=config,
        platform=asked.platform if version >= (1, 41) else "",
        host=_host(asked.host, version),
        endpoints=_endpoints(asked.endpoints, version),
    )


def _host(host: HostConfig, version: Version) -> HostConfig:
    for mount in host.mounts:
        _refuse_newer(mount, version)
    if version < (1, 25):
        host = replace(host, auto_remove=False)  # such clients remove it themselves
    if version < (1, 40):
        host = replace(host, kernel_memory_tcp=0, ipc_mode=host.ipc_mode or "shareable")
    if version < (1, 42):
        host = replace(
            host,
            console_size=(0, 0),
            mounts=tuple(replace(mount, create_mountpoint=False) for mount in host.mounts),
        )
    if version < (1, 43):
        host = replace(host, annotations={})
    return host


def _refuse_newer(mount: MountRequest, version: Version) -> None:
    if version < (1, 44) and mount.read_only_force_recursive:
        raise InvalidRequest("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if version < (1, 45) and mount.type == "volume" and mount.subpath:
        raise InvalidRequest("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 48) and mount.type == "image":
        raise InvalidRequest('Mount type "Image" needs API v1.48 or newer')


def _endpoints(
    endpoints: Mapping[str, EndpointSettings], version: Version
) -> dict[str, EndpointSettings]:
    found = dict(endpoints)
    if version < (1, 44):
        found = {name: replace(one, mac_address="") for name, one in found.items()}
    if version < (1, 48):
        found = {name: replace(one, gateway_priority=0) for name, one in found.items()}
    return found
