"""pure: names and labels as Docker Compose gives them: both tools see each other's stacks."""

from __future__ import annotations

from collections.abc import Mapping

from compose.model.service import Dependency

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
NUMBER = "com.docker.compose.container-number"
ONE_OFF = "com.docker.compose.oneoff"
CONFIG_HASH = "com.docker.compose.config-hash"
IMAGE = "com.docker.compose.image"
HOOK = "com.docker.compose.hook"  # which one, on the container of a pre_start hook
DEPENDS_ON = "com.docker.compose.depends_on"
WORKING_DIR = "com.docker.compose.project.working_dir"
CONFIG_FILES = "com.docker.compose.project.config_files"
ENVIRONMENT_FILE = "com.docker.compose.project.environment_file"
VERSION = "com.docker.compose.version"
REPLACES = "com.docker.compose.replace"
SLUG = "com.docker.compose.slug"
NETWORK = "com.docker.compose.network"
VOLUME = "com.docker.compose.volume"

# The resolved model of a container or network, as JSON: what "has it changed?" is answered from.
SERVICE_RECORD = "io.pycompose.service"
NETWORK_RECORD = "io.pycompose.network"
VOLUME_RECORD = "io.pycompose.volume"
# Which limits were changed since by somebody else: set by pycompose's engine.
EDITED = "io.pycompose.edited"

# What pycompose's engine reads of a container: whether its published ports may be those of others
# that say so too, after how many seconds of life it is given work that others can do (where no
# health check tells), and how many it may take, at its end, for what it is in the middle of.
SHARED_PORTS = "io.pycompose.shared-ports"
OPENS_AFTER = "io.pycompose.opens-after"
DRAIN = "io.pycompose.drain"


def temporary_name(old_id: str, final: str) -> str:
    """What a replacement is called until the one that it replaces has gone."""
    return f"{old_id[:12]}_{final}"


def outgoing_name(old_id: str, final: str) -> str:
    """What the replaced one is called from then until its replacement runs."""
    return f"{final}_{old_id[:12]}"


def number_of(labels: Mapping[str, str]) -> int:
    """Which of its service's containers has these labels; 0 where they don't say."""
    text = labels.get(NUMBER, "")
    return int(text) if text.isdigit() else 0


def slot(service: str, number: int) -> str:
    """How users read of a container: web.1"""
    return f"{service}.{number}"


def write_dependencies(dependencies: Mapping[str, Dependency]) -> str:
    return ",".join(
        f"{name}:{dependency.condition}:{str(dependency.restart).lower()}"
        for name, dependency in sorted(dependencies.items())
    )


def parse_dependencies(label: str) -> dict[str, bool]:
    """Service -> whether its restart restarts this one; other tools may write only the name."""
    found: dict[str, bool] = {}
    for entry in filter(None, label.split(",")):
        name, *rest = entry.split(":")
        found[name] = rest[-1:] == ["true"]
    return found
