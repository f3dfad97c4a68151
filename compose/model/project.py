"""A project: what the user's files declare, whole and checked."""

from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem
from compose.model.document import Document, mapping
from compose.model.resources import ConfigFile, Model, Network, Secret, Volume
from compose.model.service import Service
from compose.position import Position

Place = tuple[str | int, ...]  # ("services", "web", "ports", 0)


@dataclass(frozen=True, slots=True)
class Project:
    name: str
    working_dir: Path
    files: tuple[Path, ...] = ()  # absolute, the base first
    services: Mapping[str, Service] = field(default_factory=dict)  # those that are on
    disabled: frozenset[str] = frozenset()  # known, but off: by profile, or not selected
    # Not selected, but what is selected is built on their images.
    bases: Mapping[str, Service] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)  # only what the services use
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    configs: Mapping[str, ConfigFile] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    models: Mapping[str, Model] = field(default_factory=dict)
    extensions: Mapping[str, object] = field(default_factory=dict)  # x-*, plain JSON data
    environment: Mapping[str, str] = field(default_factory=dict)  # what ${NAME} was looked up in
    environment_files: tuple[Path, ...] = ()  # given by --env-file
    watched_files: tuple[
        Path, ...
    ] = ()  # every file that was read: a change in one means load again
    profiles: tuple[str, ...] = ()  # active
    # Image as the services name it -> what it is to mean here: an image's id, or name@digest.
    pins: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[Problem, ...] = ()
    unmet: tuple[
        Problem, ...
    ] = ()  # must be put right before a container can be made (missing files, clashing ports)
    separator: str = "-"  # in names of containers and images; --compatibility: "_", as of old
    positions: Mapping[Place, Position] = field(default_factory=dict, compare=False, repr=False)

    def at(self, *place: str | int) -> Position | None:
        """Where `place` was written; for a default, where the nearest thing around it was."""
        for end in range(len(place), 0, -1):
            position = self.positions.get(place[:end])
            if position is not None:
                return position
        return None

    def problem(self, what: str, *place: str | int, hint: str = "") -> Problem:
        """A problem with the value at `place`."""
        return Problem(what, at=self.at(*place), path=dotted(place), hint=hint)

    def container_name(self, service: Service, number: int) -> str:
        return service.container_name or self.joined(service.name, str(number))

    def image_name(self, service: Service) -> str:
        """As the files name it, or what an image built for the service is called."""
        return service.image or self.joined(service.name)

    def joined(self, *parts: str) -> str:
        return self.separator.join((self.name, *parts))

    def to_document(self) -> Document:
        """The canonical form, as `config --format json` prints it (before `$` is doubled)."""
        document: Document = {
            "name": self.name,
            "services": mapping(self.services, _written),
        }
        if self.networks:
            document["networks"] = mapping(self.networks, Network.to_document)
        if self.volumes:
            document["volumes"] = mapping(self.volumes, Volume.to_document)
        if self.secrets:
            document["secrets"] = mapping(self.secrets, Secret.to_document)
        if self.configs:
            document["configs"] = mapping(self.configs, ConfigFile.to_document)
        if self.models:
            document["models"] = mapping(self.models, Model.to_document)
        document |= self.extensions
        return {key: document[key] for key in sorted(document)}


def _written(service: Service) -> Document:
    """Its labels say what its label_file does."""
    return (replace(service, label_file=()) if service.label_file else service).to_document()


def dotted(place: Place) -> str:
    """services.web.ports[0]; a key that isn't a plain word is quoted."""
    text = ""
    for step in place:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step and all(letter.isalnum() or letter in "_-" for letter in step):
            text += f".{step}" if text else step
        else:
            text += f'["{step}"]'
    return text
