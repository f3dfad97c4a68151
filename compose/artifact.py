"""Projects in registries: an OCI artifact in Docker Compose's form, which both give and take.

A manifest of the type `application/vnd.docker.compose.project`; a layer for each Compose file, for
each file that is extended and for each env_file. The first kind are documents of one file here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from compose.bundle import Kind, Piece
from compose.client.credentials import CredentialStore, registry_of
from compose.client.errors import ClientError
from compose.dataclass import dataclass

if TYPE_CHECKING:
    from engine.registry.artifacts import Artifacts

TYPE = "application/vnd.docker.compose.project"
# In manifests of OCI 1.0, which have no type, the config's says it.
CONFIG_TYPE = "application/vnd.docker.compose.config.empty.v1+json"
FILE_TYPE = "application/vnd.docker.compose.file+yaml"
ENV_FILE_TYPE = "application/vnd.docker.compose.envfile"
VERSION = "com.docker.compose.version"
FILE = "com.docker.compose.file"
EXTENDED = "com.docker.compose.extends"
ENV_FILE = "com.docker.compose.envfile"
FORM = "2.40.3"  # of Docker Compose, whose form this is
MAIN = "compose.yaml"
_PLAIN_NAME = re.compile(r"[\w-][\w.-]{0,200}")


@dataclass(frozen=True, slots=True)
class Place:
    """A name in a registry, and how one gets there."""

    name: str
    environment: Mapping[str, str]
    insecure: tuple[str, ...] = ()  # hosts that may be spoken to without TLS


async def digest(place: Place) -> str:
    """What the name stands for now. Raises ClientError."""
    async with _opened(place) as (there, _):
        return await there.digest()


async def files(place: Place, digest: str) -> dict[str, bytes]:
    """The files of a project's folder, by their names. Raises ClientError."""
    from engine.oci.digest import parse_digest

    async with _opened(place) as (there, _):
        blobs = await there.pull(parse_digest(digest), (TYPE, CONFIG_TYPE))
    found = {MAIN: b""}
    for blob in blobs:
        if blob.media_type == FILE_TYPE and EXTENDED not in blob.annotations:
            found[MAIN] += (b"\n---\n" if found[MAIN] else b"") + blob.content
        elif blob.media_type in (FILE_TYPE, ENV_FILE_TYPE):
            key = FILE if blob.media_type == FILE_TYPE else ENV_FILE
            name = blob.annotations.get(key, "")
            if not _PLAIN_NAME.fullmatch(name) or name in found:
                raise ClientError(f"a file in it is called {name!r}")
            found[name] = blob.content
    return found


async def publish(
    place: Place, pieces: Sequence[Piece], images: Sequence[str] = (), *, is_old: bool = False
) -> str:
    """The digest that it got. `images` go with it: an index beside it lists them. `is_old`: in the
    form of OCI 1.0. Raises ClientError."""
    from engine.registry.artifacts import EMPTY_TYPE, Blob

    version = {VERSION: FORM}
    blobs = []
    for piece in pieces:
        told = {**version, ENV_FILE if piece.kind is Kind.ENVIRONMENT else FILE: piece.name}
        if piece.kind is Kind.EXTENDED:
            told[EXTENDED] = "true"
        kind = ENV_FILE_TYPE if piece.kind is Kind.ENVIRONMENT else FILE_TYPE
        blobs.append(Blob(kind, piece.content, told))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    async with _opened(place) as (there, other):
        config = Blob(CONFIG_TYPE if is_old else EMPTY_TYPE, b"{}")
        told = {"org.opencontainers.image.created": now}
        made = await there.push("" if is_old else TYPE, config, blobs, told)
        copied = [await there.copy(await other(image)) for image in images]
        if copied:
            await there.push_index(made, copied, version)
    return made.digest


@asynccontextmanager
async def _opened(
    place: Place,
) -> AsyncIterator[tuple[Artifacts, Callable[[str], Awaitable[Artifacts]]]]:
    """What stands at the place, and how to get to another name."""
    from engine.errors import EngineError
    from engine.registry.artifacts import named, registry

    store = CredentialStore(place.environment)

    async def other(name: str) -> Artifacts:
        return named(client, name, await store.known(registry_of(name)))

    try:
        async with registry(place.environment, place.insecure) as client:
            yield await other(place.name), other
    except EngineError as error:
        raise ClientError(str(error)) from error
