"""Challenges of registries and the answers to them: basic, bearer tokens, OAuth 2 refresh tokens.

A token is for one repository at one endpoint, and is forgotten with the pull.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from yarl import URL

from engine.errors import Failure, InvalidRequest
from engine.oci.document import parse_object, text_field
from engine.oci.reference import Reference
from engine.registry.challenges import Challenge, parse_challenges
from engine.registry.credentials import Credentials
from engine.registry.refusals import no_credentials, token_refusal
from engine.registry.transport import Answer, Transport

LARGEST_TOKEN = 1 << 20
CLIENT = "pycompose"


class Authorizer:
    """Keeps the Authorization of one repository, and gets a new one when that is refused."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        reference: Reference | None,
        scopes: Sequence[str] = (),
        *,
        wants_identity: bool = False,
    ) -> None:
        """`reference`: what is to be pulled; None: something else is wanted, which a refusal
        doesn't name. `scopes` are those of a token; none: it is only asked who one is.
        `wants_identity`: a token server that gives tokens for keeps is asked for one."""
        self._transport = transport
        self._credentials = credentials
        self._reference = reference
        self._scopes = tuple(scopes)
        self._wants_identity = wants_identity
        self.identity_token = ""
        self._renewing = asyncio.Lock()
        self.header = ""

    async def renew(self, refused: str, answer: Answer) -> str:
        """What to send instead of `refused`, to which `answer` was given. Raises EngineError."""
        challenges = parse_challenges(answer.headers("WWW-Authenticate"))
        async with self._renewing:
            if self.header == refused:  # else another request got a new one meanwhile
                self.header = await self._respond(challenges, answer)
            return self.header

    async def _respond(self, challenges: Sequence[Challenge], answer: Answer) -> str:
        schemes = {challenge.scheme: challenge for challenge in challenges}
        if (bearer := schemes.get("bearer")) is not None:
            token = self._credentials.registry_token or await self._token(bearer, answer.origin)
            return f"Bearer {token}"
        if "basic" in schemes:
            if header := self._credentials.basic():
                return header
            raise Failure(no_credentials(answer.origin))
        raise Failure(f'Get "{answer.origin}/v2/": the registry asks for unknown authentication')

    async def _token(self, challenge: Challenge, origin: str) -> str:
        """Distribution's token authentication; the scope is ours, whatever was asked for."""
        realm = challenge.parameters.get("realm", "")
        service = challenge.parameters.get("service")
        query = {"service": service} if service else {}
        # distribution, "token authentication": a refresh token comes with the answer.
        kept = {"offline_token": "true", "client_id": CLIENT} if self._wants_identity else {}
        try:
            address = URL(realm).with_user(None)
            url = str(address.update_query({**query, **kept}).extend_query({"scope": self._scopes}))
        except ValueError:
            raise Failure(f"{origin} names an invalid token server {realm[:200]!r}") from None
        self._transport.allow(url, coming_from=origin)
        if self._credentials.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": self._credentials.identity_token,
                "client_id": CLIENT,
                **query,
                **({"scope": " ".join(self._scopes)} if self._scopes else {}),
            }
            async with self._transport.post(str(address), form) as answer:
                return await self._read(answer)
        authorization = self._credentials.basic()
        async with self._transport.get(url, authorization=authorization) as answer:
            return await self._read(answer)

    async def _read(self, answer: Answer) -> str:
        body = await answer.read(LARGEST_TOKEN)
        if answer.status != 200:
            raise token_refusal(answer.status, answer.reason, body, self._reference)
        token, self.identity_token = _parse_tokens(body)
        return token


def _parse_tokens(body: bytes) -> tuple[str, str]:
    """The token, and one for keeps, if it came."""
    try:
        document = parse_object(body, "answer of the token server", limit=LARGEST_TOKEN)
        token = text_field(document, "token") or text_field(document, "access_token")
        identity = text_field(document, "refresh_token")
    except InvalidRequest as error:
        raise Failure(str(error)) from None
    if not token.isprintable() or not token.isascii():
        raise Failure("the token server gave an invalid token")
    if not token:
        raise Failure("authorization server did not include a token in the response")
    return token, identity
