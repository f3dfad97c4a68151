"""frozen: what the user asks of a plan besides what the files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from compose.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class PlanOptions:
    services: frozenset[str] = frozenset()  # named by the user; empty: all
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    renew_anonymous_volumes: bool = False
    no_deps: bool = False
    no_start: bool = False
    remove_orphans: bool = False
    ignore_orphans: bool = False
    scale: Mapping[str, int] = field(default_factory=dict)
    heal: bool = False  # restart what is unhealthy
    settled: frozenset[str] = frozenset()  # containers whose end is as it should be
    timeout: int | None = None  # seconds for each container to stop; None: its own
    pull: str = ""  # always, missing, never: instead of each service's pull_policy
    pulled: frozenset[str] = frozenset()  # images that have been pulled or built a moment ago
    build: str = ""  # always, never; "": where the image is missing
    no_cache: bool = False
    check_only: bool = False  # what Dockerfiles say is looked at, and nothing is built
    pull_bases: bool = False  # of builds: also those that are there
    build_args: Mapping[str, str] = field(default_factory=dict)  # besides those of the files

    def names(self, service: str) -> bool:
        """Whether the user means this service, and not only needs it for another one."""
        return not self.services or service in self.services


@dataclass(frozen=True, slots=True)
class DownOptions:
    services: frozenset[str] = frozenset()
    by_name: bool = False  # all that has the project's name, whatever the files declare
    volumes: bool = False
    remove_orphans: bool = False
    images: str = ""  # local, all
    timeout: int | None = None
