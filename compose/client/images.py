"""/images: inspect, pull with progress, list, remove."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping

from compose.client import fields
from compose.client.containers import Filters, encode_filters
from compose.client.credentials import CredentialStore
from compose.client.errors import ClientError, NotFound
from compose.client.proxies import ProxyVariables
from compose.client.transport import Query, Transport
from compose.dataclass import dataclass

NOBODY = "e30="  # {}: Docker wants the header of a push in any case
# Only pycompose's own engine reads it: the classic build call knows no secrets.
SECRETS_HEADER = "X-Pycompose-Build-Secrets"


@dataclass(frozen=True, slots=True)
class ImageDetails:
    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    volumes: tuple[str, ...]  # paths of its VOLUME lines
    has_healthcheck: bool
    created: str
    tagged: str  # when the engine last gave it a name; "" if it doesn't say
    size: int
    system: str  # GOOS
    architecture: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Progress:
    """A step of a pull or a push. `layer` is empty for the whole; `total` 0: not known."""

    status: str
    layer: str
    current: int
    total: int


class Images:
    def __init__(
        self, transport: Transport, credentials: CredentialStore, proxies: ProxyVariables
    ) -> None:
        self._proxies = proxies
        self._transport = transport
        self._credentials = credentials

    async def inspect(self, reference: str) -> ImageDetails:
        answer = await self._transport.json("GET", f"/images/{reference}/json")
        image = fields.mapping(answer, "an image")
        config = fields.child(image, "Config")
        check = fields.texts(fields.child(config, "Healthcheck"), "Test")
        return ImageDetails(
            id=fields.text(image, "Id"),
            tags=fields.texts(image, "RepoTags"),
            digests=fields.texts(image, "RepoDigests"),
            volumes=tuple(sorted(fields.child(config, "Volumes"))),
            has_healthcheck=bool(check) and check[0] != "NONE",
            created=fields.text(image, "Created", ""),
            tagged=fields.text(fields.child(image, "Metadata"), "LastTagTime", ""),
            size=fields.number(image, "Size", 0),
            system=fields.text(image, "Os", ""),
            architecture=fields.text(image, "Architecture", ""),
            labels=fields.text_map(config, "Labels"),
        )

    async def find(self, reference: str) -> ImageDetails | None:
        try:
            return await self.inspect(reference)
        except NotFound:
            return None

    async def list(self, *, filters: Filters | None = None) -> tuple[Mapping[str, object], ...]:
        """Undecoded rows of the list."""
        answer = await self._transport.json(
            "GET", "/images/json", query={"filters": encode_filters(filters)}
        )
        return tuple(fields.mapping(row, "an image") for row in fields.items(answer, "images"))

    async def pull(self, reference: str, *, platform: str = "") -> AsyncIterator[Progress]:
        """With the user's credentials for its registry. Raises ClientError where it fails."""
        name, tag = split_reference(reference)
        credentials = await self._credentials.header(reference)
        headers = {"X-Registry-Auth": credentials} if credentials else {}
        query = {"fromImage": name, "tag": tag, "platform": platform or None}
        async with self._transport.stream(
            "POST", "/images/create", query=query, headers=headers
        ) as answer:
            async for message in answer.objects():
                yield _progress(fields.mapping(message, "progress of a pull"))

    async def push(self, reference: str) -> AsyncIterator[Progress]:
        """The same the other way."""
        name, tag = split_reference(reference)
        headers = {"X-Registry-Auth": await self._credentials.header(reference) or NOBODY}
        async with self._transport.stream(
            "POST", f"/images/{name}/push", query={"tag": tag}, headers=headers
        ) as answer:
            async for message in answer.objects():
                yield _progress(fields.mapping(message, "progress of a push"))

    async def prune(self, filters: Filters) -> None:
        """Those that lost their name, and that nothing uses."""
        query: Query = {"filters": encode_filters({"dangling": ["true"], **filters})}
        await self._transport.json("POST", "/images/prune", query=query)

    async def digest(self, reference: str) -> str:
        """The digest that its registry has for it now; nothing is pulled."""
        credentials = await self._credentials.header(reference)
        answer = await self._transport.json(
            "GET",
            f"/distribution/{reference}/json",
            headers={"X-Registry-Auth": credentials} if credentials else {},
        )
        descriptor = fields.child(fields.mapping(answer, "an image of a registry"), "Descriptor")
        return fields.text(descriptor, "digest")

    async def build(
        self,
        reference: str,
        query: Query,
        context: AsyncIterator[bytes] | None,
        *,
        secrets: Mapping[str, bytes],
    ) -> AsyncIterator[str]:
        """The lines that the build writes. Without a context the query says where it comes from.
        Raises ClientError where it fails, with what the failed step wrote."""
        headers = {"X-Registry-Config": await self._credentials.all_header()}
        if secrets:
            encoded = {name: base64.b64encode(value).decode() for name, value in secrets.items()}
            headers[SECRETS_HEADER] = _encoded(encoded)
        rest = ""
        async with self._transport.stream(
            "POST", "/build", query=self._proxies.in_query(query), body=context, headers=headers
        ) as answer:
            async for message in answer.objects():
                progress = fields.mapping(message, "progress of a build")
                if failure := fields.failure(progress):
                    raise ClientError(f"the build of {reference} failed: {failure}")
                *lines, rest = (rest + fields.text(progress, "stream", "")).split("\n")
                for line in lines:
                    yield line
        if rest:
            yield rest

    async def keep_context(
        self, context_id: str, source: str, tar: Callable[[], AsyncIterator[bytes]]
    ) -> None:
        """Sends a build context to pycompose's own engine, unless it has it already."""
        try:
            await self._transport.json("GET", f"/build/contexts/{context_id}")
        except NotFound:
            async with self._transport.stream(
                "PUT", f"/build/contexts/{context_id}", query={"source": source}, body=tar()
            ) as answer:
                await answer.read()

    async def remove(self, reference: str, *, force: bool = False) -> None:
        await self._transport.json("DELETE", f"/images/{reference}", query={"force": force})


def split_reference(reference: str) -> tuple[str, str]:
    """Name, and the tag or digest: without either the API would pull every tag there is."""
    name, at, digest = reference.partition("@")
    if at:
        return name, digest
    head, colon, tag = reference.rpartition(":")
    if colon and "/" not in tag:
        return head, tag
    return reference, "latest"


def whole_reference(reference: str) -> str:
    """With the registry, `library/` and the tag that are meant where none are written; a digest
    needs no tag."""
    name, at, digest = reference.partition("@")
    head, tag = split_reference(name)
    first, slash, rest = head.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", head
    elif first == "index.docker.io":
        first = "docker.io"
    if first == "docker.io" and "/" not in rest:
        rest = f"library/{rest}"
    return f"{first}/{rest}@{digest}" if at else f"{first}/{rest}:{tag}"


def _progress(message: Mapping[str, object]) -> Progress:
    if failure := fields.failure(message):
        raise ClientError(failure)
    detail = fields.child(message, "progressDetail")
    return Progress(
        status=fields.text(message, "status", ""),
        layer=fields.text(message, "id", ""),
        current=fields.number(detail, "current", 0),
        total=fields.number(detail, "total", 0),
    )


def _encoded(document: Mapping[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()
