"""The OCI distribution protocol, as far as a pull needs it: manifests, blobs, tags. `upload.py` has
what a push needs.

What comes back from `manifest` and `document` was checked against its digest; what `blob` yields is
still to be checked by who stores it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from engine.errors import Failure, InvalidRequest
from engine.oci.digest import Digest, digest_of, is_digest
from engine.oci.document import MAX_DOCUMENT, parse_object, texts_field
from engine.oci.manifest import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Descriptor,
    Index,
    Manifest,
    parse_manifest,
)
from engine.oci.reference import Reference
from engine.proxies import Proxies
from engine.registry.challenges import parse_challenges
from engine.registry.connection import NO_HEADERS, Connection
from engine.registry.credentials import Credentials
from engine.registry.endpoints import domain_of, endpoints, search_endpoint
from engine.registry.refusals import patience, pull_refusal
from engine.registry.retries import PAUSES, PROGRESS, next_pause, pauses_for
from engine.registry.search import CATALOG_SCOPE, Found, search, split_term
from engine.registry.transport import Answer, Interrupted, Transport
from engine.registry.upload import Destination
from engine.settings import Registries

log = logging.getLogger(__name__)

MAX_CONFIG = 8 << 20
MAX_TAGS = 10_000
_ACCEPT = {"Accept": ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))}
# Said by servers that don't know what they serve.
_NO_TYPE = frozenset({"application/json", "application/octet-stream", "text/plain"})
_NEXT_PAGE = re.compile(r'<([^<>]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True, slots=True)
class Received:
    """A manifest or an index, with the bytes that its digest is of."""

    content: bytes
    digest: Digest
    manifest: Manifest | Index


class RegistryClient:
    """One for a daemon. Opens nothing before it is asked for something."""

    def __init__(
        self,
        registries: Registries,
        proxies: Proxies | None = None,
        *,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self.registries = registries
        self._pauses = pauses_for(registries.attempts, pauses)
        self._transport = Transport(registries, proxies or Proxies())

    async def close(self) -> None:
        await self._transport.close()

    def repositories(
        self, reference: Reference, credentials: Credentials
    ) -> tuple[Repository, ...]:
        """The places where to look for it, in order."""
        return tuple(
            Repository(
                Connection(
                    self._transport,
                    endpoint,
                    credentials,
                    reference,
                    scopes=(f"repository:{reference.path}:pull",),
                ),
                reference,
                self._pauses,
            )
            for endpoint in endpoints(reference.domain, self.registries)
        )

    def destination(
        self, reference: Reference, credentials: Credentials, sources: Sequence[str]
    ) -> Destination:
        """Where to push to. `sources`: repositories of that registry that have some of it."""
        *_, endpoint = endpoints(reference.domain, self.registries)
        scopes = (
            f"repository:{reference.path}:pull,push",
            *(f"repository:{source}:pull" for source in sources),
        )
        connection = Connection(self._transport, endpoint, credentials, scopes=scopes)
        return Destination(connection, reference, self._pauses)

    async def search(self, term: str, credentials: Credentials, *, limit: int) -> list[Found]:
        """Raises EngineError where nobody can be asked."""
        domain, wanted = split_term(term)
        endpoint = search_endpoint(domain, self.registries)
        connection = Connection(self._transport, endpoint, credentials, scopes=(CATALOG_SCOPE,))
        return await search(connection, domain, wanted, limit)

    async def log_in(self, address: str, credentials: Credentials) -> str:
        """A token to keep instead of the password, where the registry gives one. Raises EngineError
        where it doesn't take these credentials."""
        *_, endpoint = endpoints(domain_of(address), self.registries)
        connection = Connection(self._transport, endpoint, credentials, wants_identity=True)
        async with connection.get("") as answer:
            if answer.status != 200:
                raise Failure(
                    f"login attempt to {answer.origin}/v2/ failed with status: "
                    f"{answer.status} {answer.reason}"
                )
        return connection.identity_token


class Repository:
    """One repository at one endpoint, for one pull."""

    def __init__(
        self, connection: Connection, reference: Reference, pauses: Sequence[float]
    ) -> None:
        self.endpoint = connection.endpoint
        self._connection = connection
        self._reference = reference
        self._pauses = pauses

    async def manifest(self, name: str, descriptor: Descriptor | None = None) -> Received:
        """By tag or digest; `descriptor` is what an index said of it. Raises EngineError."""
        content, media_type = await self.written(name)
        digest = digest_of(content)
        if descriptor is not None:
            media_type = descriptor.media_type
            if descriptor.size != len(content):
                raise Failure(f"manifest {name} has {len(content)} bytes, not {descriptor.size}")
        elif media_type in _NO_TYPE:
            media_type = ""
        try:
            return Received(content, digest, parse_manifest(content, media_type))
        except InvalidRequest as error:
            raise Failure(f"cannot pull {self._reference.familiar}: {error}") from error

    async def written(self, name: str) -> tuple[bytes, str]:
        """A manifest or index as it stands, whatever it is of, and its media type. Raises
        EngineError."""
        content, answer = await self._document(f"manifests/{name}", _ACCEPT)
        if is_digest(name) and digest_of(content) != name:
            raise Failure(f"manifest verification failed for digest {name}")
        return content, answer.header("Content-Type").partition(";")[0].strip().lower()

    async def document(self, descriptor: Descriptor) -> bytes:
        """A small blob, whole."""
        if descriptor.size > MAX_CONFIG:
            raise Failure(f"cannot pull a configuration of {descriptor.size} bytes")
        content = bytearray()
        async with contextlib.aclosing(self.blob(descriptor)) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > descriptor.size:
                    break
        if len(content) != descriptor.size or digest_of(bytes(content)) != descriptor.digest:
            raise Failure(f"image config verification failed for digest {descriptor.digest}")
        return bytes(content)

    async def blob(self, descriptor: Descriptor) -> AsyncGenerator[bytes, None]:
        """Its bytes. After an interruption it goes on where it stopped, a few times."""
        position = mark = failures = 0
        while True:
            try:
                async with contextlib.aclosing(self._piece(descriptor, position)) as chunks:
                    async for chunk in chunks:
                        position += len(chunk)
                        yield chunk
                if position >= descriptor.size:
                    return
                raise Interrupted(f"blob {descriptor.digest}: unexpected EOF")
            except Interrupted as error:
                if position - mark >= PROGRESS:
                    failures, mark = 0, position
                pause = next_pause(self._pauses, failures, error.after)
                if pause is None:
                    raise
                log.info("%s; trying again at byte %d", error, position)
                await asyncio.sleep(pause)
                failures += 1

    async def tags(self) -> tuple[str, ...]:
        found: list[str] = []
        path = "tags/list"
        while path:
            body, answer = await self._document(path)
            following = _NEXT_PAGE.search(answer.header("Link"))
            try:
                page = texts_field(parse_object(body, "list of tags"), "tags")
            except InvalidRequest as error:
                raise Failure(f"cannot list the tags of {self._reference}: {error}") from error
            found += page
            if len(found) > MAX_TAGS:
                raise Failure(f"{self._reference.familiar_name} has more than {MAX_TAGS} tags")
            # Only its query counts: a link must not lead to another repository.
            query = following[1].partition("?")[2] if following and page else ""
            path = f"tags/list?{query}" if query else ""
        return tuple(found)

    async def _piece(self, descriptor: Descriptor, position: int) -> AsyncGenerator[bytes, None]:
        headers = {"Range": f"bytes={position}-"} if position else {}
        async with self._get(f"blobs/{descriptor.digest}", headers) as answer:
            if answer.status >= 500 or answer.status == 429:
                hint = ""
                if answer.status == 429:
                    hint = f" ({patience(answer.retry_after, self._reference)})"
                raise Interrupted(
                    f"blob {descriptor.digest}: received unexpected HTTP status: "
                    f"{answer.status} {answer.reason}{hint}",
                    after=answer.retry_after,
                )
            if answer.status not in (200, 206):
                raise Failure(
                    f"error pulling image: download failed: blob {descriptor.digest}: "
                    f"{answer.status} {answer.reason}"
                )
            ahead = position if answer.status == 200 else 0
            if answer.status == 206 and not _starts_at(answer, position):
                raise Failure(f"blob {descriptor.digest}: the registry sent another range")
            async with contextlib.aclosing(answer.chunks()) as chunks:
                async for chunk in chunks:
                    fresh = chunk[ahead:]
                    ahead = max(0, ahead - len(chunk))
                    if fresh:
                        yield fresh

    def _get(
        self, path: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> AbstractAsyncContextManager[Answer]:
        return self._connection.get(f"{self._reference.path}/{path}", headers)

    async def _document(
        self, path: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> tuple[bytes, Answer]:
        """A document and the head of its answer. A registry that says when to come again, soon, is
        asked again then."""
        failures = 0
        while True:
            async with self._get(path, headers) as answer:
                body = await answer.read(MAX_DOCUMENT)
            if answer.status == 200:
                return body, answer
            pause = next_pause(self._pauses, failures, answer.retry_after)
            if not answer.retry_after or pause is None:
                break
            log.info("%s: asked to wait %.0f seconds", self.endpoint.host, pause)
            await asyncio.sleep(pause)
            failures += 1
        challenges = parse_challenges(answer.headers("WWW-Authenticate"))
        raise pull_refusal(
            answer.status,
            answer.reason,
            body,
            challenges,
            self._reference,
            after=answer.retry_after,
        )


def _starts_at(answer: Answer, position: int) -> bool:
    return answer.header("Content-Range").startswith(f"bytes {position}-")
