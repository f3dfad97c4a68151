"""What handlers work on: the parts of the running engine."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.api.summaries import Summaries
from engine.builder.build import Builder
from engine.containers.operations import Containers
from engine.events import EventLog
from engine.images.operations import Images
from engine.networks.operations import Networks
from engine.revisions import Revisions
from engine.settings import Settings
from engine.volumes.operations import Volumes


@dataclass(frozen=True, slots=True)
class Engine:
    id: str  # of this engine, the same over restarts
    settings: Settings
    events: EventLog
    containers: Containers
    images: Images
    volumes: Volumes
    networks: Networks
    builder: Builder
    revisions: Revisions
    summaries: Summaries = field(default_factory=Summaries)
