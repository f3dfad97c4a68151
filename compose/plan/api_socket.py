"""pure: `use_api_socket`: the engine's socket and the user's credentials, lent to a container."""

from __future__ import annotations

from dataclasses import field, replace

from compose.dataclass import dataclass
from compose.model.service import Service
from compose.plan.actions import CreateContainer, FileCopy

SOCKET = "/var/run/docker.sock"
CONFIG_FOLDER = "/run/secrets/docker"
VARIABLE = "DOCKER_CONFIG"


@dataclass(frozen=True, slots=True)
class ApiSocket:
    """`path`: on the engine's machine. `config`: a config.json with the user's credentials."""

    path: str
    config: bytes = field(repr=False)


def lend(action: CreateContainer, service: Service, socket: ApiSocket | None) -> CreateContainer:
    if not service.use_api_socket or socket is None:
        return action
    host, environment = action.body["HostConfig"], action.body["Env"]
    assert isinstance(host, dict)
    assert isinstance(environment, list)
    mount = {"Type": "bind", "Source": socket.path, "Target": SOCKET}
    body = {**action.body, "HostConfig": {**host, "Mounts": [*host.get("Mounts", ()), mount]}}
    # Who sets the variable keeps a configuration of their own.
    if VARIABLE in service.environment:
        return replace(action, body=body)
    body["Env"] = [*environment, f"{VARIABLE}={CONFIG_FOLDER}"]
    file = FileCopy(f"{CONFIG_FOLDER}/config.json", socket.config, uid=0, gid=0, mode=0o444)
    return replace(action, body=body, files=(*action.files, file))
