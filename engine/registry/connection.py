"""One endpoint and what was found out about it: its scheme, and who one has to be there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import MappingProxyType

from yarl import URL

from engine.errors import EngineError
from engine.oci.reference import Reference
from engine.registry.auth import Authorizer
from engine.registry.credentials import ANONYMOUS, Credentials
from engine.registry.endpoints import Endpoint
from engine.registry.transport import Answer, Body, Transport

log = logging.getLogger(__name__)
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


async def _no_pieces() -> AsyncGenerator[bytes, None]:
    return
    yield b""


NO_BODY = Body(0, _no_pieces)


class Connection:
    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        credentials: Credentials,
        reference: Reference | None = None,
        *,
        scopes: Sequence[str] = (),
        wants_identity: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        # A mirror is told nothing of the user.
        known = ANONYMOUS if endpoint.is_mirror else credentials
        self._authorizer = Authorizer(
            transport, known, reference, scopes, wants_identity=wants_identity
        )
        self._found = ""
        self._finding = asyncio.Lock()

    @asynccontextmanager
    async def get(
        self,
        path: str,
        headers: Mapping[str, str] = NO_HEADERS,
        *,
        method: str = "GET",
        api: str = "v2",
    ) -> AsyncIterator[Answer]:
        """Of `/v2/path`; a challenge is answered once."""
        url = await self.address(path, api)

        def ask(authorization: str) -> AbstractAsyncContextManager[Answer]:
            return self._transport.get(
                url, method=method, headers=headers, authorization=authorization
            )

        sent = self._authorizer.header
        async with ask(sent) as answer:
            # Elsewhere a 401 is none of the registry's challenges.
            if answer.status != 401 or answer.is_elsewhere:
                yield answer
                return
            header = await self._authorizer.renew(sent, answer)
        async with ask(header) as answer:
            yield answer

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] = NO_HEADERS,
        body: Body = NO_BODY,
    ) -> AsyncIterator[Answer]:
        """To a whole address, of ours or where the registry wants an upload to go: only the
        registry itself learns who one is."""

        def ask(authorization: str) -> AbstractAsyncContextManager[Answer]:
            return self._transport.send(
                method, url, headers=headers, authorization=authorization, body=body
            )

        is_elsewhere = URL(url, encoded=True).origin() != URL(await self._base()).origin()
        sent = "" if is_elsewhere else self._authorizer.header
        async with ask(sent) as answer:
            if answer.status != 401 or is_elsewhere:
                yield answer
                return
            header = await self._authorizer.renew(sent, answer)
        async with ask(header) as answer:
            yield answer

    async def address(self, path: str, api: str = "v2") -> str:
        return f"{await self._base()}/{api}/{path}"

    @property
    def identity_token(self) -> str:
        """What the token server gave instead of a password, if it was asked and did."""
        return self._authorizer.identity_token

    def location(self, answer: Answer) -> str:
        return self._transport.location(answer)

    async def _base(self) -> str:
        """The address of the endpoint: with TLS if it speaks that, else as far as allowed."""
        async with self._finding:
            *others, last = (f"{scheme}://{self.endpoint.host}" for scheme in self.endpoint.schemes)
            for base in others if not self._found else ():
                try:
                    async with self._transport.get(f"{base}/v2/"):
                        self._found = base
                        break
                except EngineError as error:
                    log.debug("%s", error)
            self._found = self._found or last
            return self._found
