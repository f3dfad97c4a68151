"""The OCI distribution protocol, as far as a push needs it: blobs there or sent, and manifests.

A blob of some size is sent as one PATCH: where that breaks, the registry says how far it came, and
the rest follows. A small one travels with the request that ends it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path

from engine.errors import Failure
from engine.oci.digest import Digest
from engine.oci.document import MAX_DOCUMENT
from engine.oci.manifest import Descriptor
from engine.oci.reference import Reference
from engine.registry.connection import NO_BODY, NO_HEADERS, Connection
from engine.registry.refusals import push_refusal
from engine.registry.retries import PROGRESS, next_pause
from engine.registry.transport import Answer, Body, Interrupted

log = logging.getLogger(__name__)

SMALL = 1 << 20  # bytes
CHUNK = 1 << 19
_OCTETS = {"Content-Type": "application/octet-stream"}
_RECEIVED = re.compile(r"(?:bytes=)?0-(\d{1,18})")


class Destination:
    """One repository, for one push."""

    def __init__(
        self, connection: Connection, reference: Reference, pauses: Sequence[float]
    ) -> None:
        self._connection = connection
        self._reference = reference
        self._pauses = pauses

    async def has_blob(self, digest: Digest) -> bool:
        path = f"{self._reference.path}/blobs/{digest}"
        async with self._connection.get(path, method="HEAD") as answer:
            return answer.status == 200

    async def mount(self, digest: Digest, source: str) -> bool:
        """Whether the registry now shows here what the repository `source` of it has."""
        path = f"{self._reference.path}/blobs/uploads/?mount={digest}&from={source}"
        url = await self._connection.address(path)
        async with self._connection.send("POST", url) as answer:
            if answer.status == 201:
                return True
            # It began an upload instead, which nobody wants.
            begun = self._connection.location(answer) if answer.status == 202 else ""
        if begun:
            async with self._connection.send("DELETE", begun):
                pass
        return False

    async def upload(
        self, descriptor: Descriptor, path: Path, tell: Callable[[int], object]
    ) -> None:
        """The content of a file; `tell` hears how many bytes are sent. Raises EngineError."""
        failures = position = mark = 0
        url = ""
        while True:
            try:
                if url:
                    url, position = await self._received(url)
                    if position - mark >= PROGRESS:
                        failures, mark = 0, position
                if not url:
                    url, position = await self._begin(), 0
                if descriptor.size > SMALL:
                    if position < descriptor.size:
                        url = await self._append(url, path, position, descriptor.size, tell)
                    await self._end(url, descriptor, NO_BODY)
                else:
                    await self._end(url, descriptor, _content(path, 0, descriptor.size, tell))
                return
            except Interrupted as error:
                pause = next_pause(self._pauses, failures, error.after)
                if pause is None:
                    raise
                log.info("%s; trying again", error)
                await asyncio.sleep(pause)
                failures += 1

    async def put(self, descriptor: Descriptor, content: bytes) -> None:
        """A small blob that is at hand. Raises EngineError."""
        await self._end(await self._begin(), descriptor, _bytes(content))

    async def put_manifest(self, name: str, content: bytes, media_type: str) -> None:
        url = await self._connection.address(f"{self._reference.path}/manifests/{name}")
        headers = {"Content-Type": media_type}
        body = _bytes(content)
        async with self._connection.send("PUT", url, headers=headers, body=body) as answer:
            await self._check(answer, 201, 200, 202)

    async def _begin(self) -> str:
        url = await self._connection.address(f"{self._reference.path}/blobs/uploads/")
        async with self._connection.send("POST", url) as answer:
            await self._check(answer, 202)
            return self._connection.location(answer)

    async def _received(self, url: str) -> tuple[str, int]:
        """Where to go on, and from which byte; "": the registry has forgotten what it got."""
        async with self._connection.send("GET", url) as answer:
            found = _RECEIVED.fullmatch(answer.header("Range").strip())
            if answer.status != 204 or not answer.header("Location") or found is None:
                return "", 0
            last = int(found[1])
            # "0-0" is said of one byte and of none.
            return self._connection.location(answer), last + 1 if last else 0

    async def _append(
        self, url: str, path: Path, position: int, size: int, tell: Callable[[int], object]
    ) -> str:
        headers = {**_OCTETS, **({"Content-Range": f"{position}-{size - 1}"} if position else {})}
        body = _content(path, position, size, tell)
        async with self._connection.send("PATCH", url, headers=headers, body=body) as answer:
            self._still_known(answer)
            await self._check(answer, 202, 204)
            return self._connection.location(answer)

    async def _end(self, url: str, descriptor: Descriptor, body: Body) -> None:
        joint = "&" if "?" in url else "?"
        url = f"{url}{joint}digest={descriptor.digest.replace(':', '%3A')}"
        headers: Mapping[str, str] = _OCTETS if body.size else NO_HEADERS
        async with self._connection.send("PUT", url, headers=headers, body=body) as answer:
            self._still_known(answer)
            await self._check(answer, 201, 204)

    def _still_known(self, answer: Answer) -> None:
        """A registry that has forgotten an upload, or what came of it, is asked where to go on."""
        if answer.status in (404, 416):
            raise Interrupted(f"{answer.origin} does not know the upload: {answer.status}")

    async def _check(self, answer: Answer, *wanted: int) -> None:
        if answer.status in wanted:
            return
        body = await answer.read(MAX_DOCUMENT)
        if answer.status >= 500 or answer.status == 429:
            raise Interrupted(
                f"received unexpected HTTP status: {answer.status} {answer.reason}",
                after=answer.retry_after,
            )
        raise push_refusal(answer.status, answer.reason, body, self._reference)


def _bytes(content: bytes) -> Body:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield content

    return Body(len(content), pieces)


def _content(path: Path, position: int, end: int, tell: Callable[[int], object]) -> Body:
    """A file from that byte on. Nothing is held open from piece to piece: a request that fails
    leaves its body where it is."""

    async def pieces() -> AsyncGenerator[bytes, None]:
        sent = position
        while sent < end:
            chunk = await asyncio.to_thread(_read, path, sent, min(CHUNK, end - sent))
            yield chunk
            sent += len(chunk)
            tell(sent)

    return Body(end - position, pieces)


def _read(path: Path, position: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as stream:
        stream.seek(position)
        chunk = stream.read(size)
    if not chunk:
        raise Failure(f"cannot send {path}: it has become shorter")
    return chunk
