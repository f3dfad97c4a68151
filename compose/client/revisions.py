"""The history of a project, kept by its engine so that everybody who uses the engine sees it.

Pycompose's own engine has calls for it. Any other keeps each revision in a label of an empty
volume: the only thing of Docker's that holds a text, outlives containers and can be listed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from compose.client import fields
from compose.client.errors import NotFound
from compose.client.transport import Transport
from compose.client.volumes import VolumeDetails, Volumes
from compose.tasks import Together

PROJECT = "io.pycompose.revision.project"
NUMBER = "io.pycompose.revision"
CONTENT = "io.pycompose.revision.content"
KEPT = 20  # volumes of a project

Document = Mapping[str, object]


class Revisions(Protocol):
    async def add(self, project: str, document: Document) -> int:
        """The number it was given."""

    async def list(self, project: str) -> list[Document]:
        """The oldest first; `model` may be missing in them."""

    async def get(self, project: str, number: int) -> Document:
        """Raises NotFound."""

    async def remove(self, project: str) -> None: ...

    async def announce(self, project: str, summary: str) -> None:
        """Say on the engine's events what is about to be done, where it takes such words."""


class OwnRevisions:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def add(self, project: str, document: Document) -> int:
        answer = await self._transport.json("POST", _path(project), body=document)
        return fields.number(fields.mapping(answer, "a revision"), "Number")

    async def list(self, project: str) -> list[Document]:
        answer = await self._transport.json("GET", _path(project))
        rows = fields.mapping(answer, "the revisions").get("Revisions")
        return [fields.mapping(row, "a revision") for row in fields.items(rows, "Revisions")]

    async def get(self, project: str, number: int) -> Document:
        answer = await self._transport.json("GET", f"{_path(project)}/{number}")
        return fields.mapping(answer, "a revision")

    async def remove(self, project: str) -> None:
        await self._transport.json("DELETE", _path(project))

    async def announce(self, project: str, summary: str) -> None:
        path = f"/pycompose/projects/{project}/plans"
        await self._transport.json("POST", path, body={"summary": summary})


def _path(project: str) -> str:
    return f"/pycompose/projects/{project}/revisions"


class VolumeRevisions:
    def __init__(self, volumes: Volumes) -> None:
        self._volumes = volumes

    async def add(self, project: str, document: Document) -> int:
        there = await self._all(project)
        number = max(there, default=0) + 1
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        content = json.dumps({**document, "number": number, "time": now}, separators=(",", ":"))
        labels = {PROJECT: project, NUMBER: str(number), CONTENT: content}
        await self._volumes.create({"Name": f"{project}_revision-{number}", "Labels": labels})
        await self._remove(there[old] for old in sorted(there)[: len(there) + 1 - KEPT])
        return number

    async def list(self, project: str) -> list[Document]:
        there = await self._all(project)
        return [_content(there[number]) for number in sorted(there)]

    async def get(self, project: str, number: int) -> Document:
        there = await self._all(project)
        if number not in there:
            raise NotFound(404, f"project {project} has no revision {number}", "GET /volumes")
        return _content(there[number])

    async def remove(self, project: str) -> None:
        await self._remove((await self._all(project)).values())

    async def announce(self, project: str, summary: str) -> None:
        """Docker's events are Docker's alone."""

    async def _all(self, project: str) -> dict[int, VolumeDetails]:
        rows = await self._volumes.list(filters={"label": [f"{PROJECT}={project}"]})
        numbers = ((row.labels.get(NUMBER, ""), row) for row in rows)
        return {int(number): row for number, row in numbers if number.isdigit()}

    async def _remove(self, volumes: Iterable[VolumeDetails]) -> None:
        async with Together() as group:
            for volume in volumes:
                group.create_task(self._remove_one(volume.name))

    async def _remove_one(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            await self._volumes.remove(name)


def _content(volume: VolumeDetails) -> Document:
    try:
        content: object = json.loads(volume.labels.get(CONTENT, ""))
    except ValueError:
        content = None
    return fields.mapping(content, f"revision in volume {volume.name}")
