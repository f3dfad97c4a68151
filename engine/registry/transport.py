"""HTTP as registries need it. The only place that opens connections to them.

TLS is verified; plain HTTP only where it is allowed; proxies only as the daemon was told, and no
cookies or netrc of the environment. Redirects are followed here, by hand: an Authorization header
never reaches another origin than the one it is meant for, and https never becomes http.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from engine import VERSION
from engine.errors import Failure
from engine.proxies import Proxies
from engine.registry.certificates import Certificates
from engine.registry.endpoints import may_be_plain
from engine.settings import Registries

MAX_REDIRECTS = 10
CHUNK = 1 << 17
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ALERT = re.compile(r"V\d+_ALERT_(\w*CERTIFICATE\w*|UNKNOWN_CA|ACCESS_DENIED)")
_ACCOUNT = re.compile(r"://[^/@\s]*@")  # of a proxy: nobody is told
# Seconds. There is no limit for a whole transfer: layers are large and lines are slow.
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)


class Interrupted(Failure):
    """The connection or the server gave out: another try may do better."""

    def __init__(self, text: str, *, after: float = 0.0) -> None:
        """`after`: seconds that the server wants us to wait."""
        super().__init__(text)
        self.after = after


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent. It may be asked for again: a request that is refused is sent a second time."""

    size: int
    open: Callable[[], AsyncGenerator[bytes, None]]


class Answer:
    """The head of an answer, its body still to be read."""

    def __init__(self, response: aiohttp.ClientResponse, *, is_elsewhere: bool = False) -> None:
        self._request = _request(response.method, response.url)
        self._response = response
        self.is_elsewhere = is_elsewhere  # another origin than was asked: it redirected
        self.status = response.status
        self.reason = response.reason or ""
        self.url = response.url
        self.origin = str(response.url.origin())

    def header(self, name: str) -> str:
        return self._response.headers.get(name, "")

    @property
    def retry_after(self) -> float:
        """Seconds (RFC 9110, 10.2.3); 0 where it doesn't say."""
        text = self.header("Retry-After").strip()
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return float(text)
        try:
            when = parsedate_to_datetime(text)
            return max(0.0, (when - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):  # no date, or one of no zone
            return 0.0

    def headers(self, name: str) -> list[str]:
        return self._response.headers.getall(name, [])

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Raises Interrupted where it ends early."""
        try:
            async for chunk in self._response.content.iter_chunked(CHUNK):
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(self._request, error) from error

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises Failure where it has more than `limit` bytes."""
        gathered = bytearray()
        async for chunk in self.chunks():
            gathered += chunk
            if len(gathered) > limit:
                raise Failure(f"{self._request}: the answer has more than {limit} bytes")
        return bytes(gathered)


class Transport:
    def __init__(self, registries: Registries, proxies: Proxies) -> None:
        self._registries = registries
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None
        self._certificates = Certificates(registries.certificates)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def get(
        self,
        url: str,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> AsyncIterator[Answer]:
        """Follows redirects; `method` may be HEAD. Raises Failure, and Interrupted where nobody
        answers."""
        start = here = URL(url, encoded=True)
        for _ in range(MAX_REDIRECTS + 1):
            if here.origin() != start.origin():
                authorization = ""  # for good: the way may lead back, but then others chose it
            async with self._send(method, here, headers or {}, authorization, None) as response:
                if response.status not in _REDIRECTS or "Location" not in response.headers:
                    yield Answer(response, is_elsewhere=here.origin() != start.origin())
                    return
                here = self._target(here, response.headers["Location"])
        raise Failure(f"{_request(method, start)}: stopped after {MAX_REDIRECTS} redirects")

    @asynccontextmanager
    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        authorization: str,
        body: Body,
    ) -> AsyncIterator[Answer]:
        """Follows no redirect: a body is meant for this host alone."""
        here = URL(url, encoded=True)
        length = {**headers, "Content-Length": str(body.size)}
        # aiohttp reads and ends it in a task of its own, which may outlive the answer for a moment.
        sent = body.open() if body.size else None
        async with self._send(method, here, length, authorization, sent) as response:
            yield Answer(response)

    def location(self, answer: Answer) -> str:
        """Where the answer says to go on. Raises Failure where that is nowhere to go."""
        location = answer.header("Location")
        if not location:
            raise Failure(f"{answer.origin} does not say where to send the content")
        return str(self._target(answer.url, location))

    @asynccontextmanager
    async def post(self, url: str, form: Mapping[str, str]) -> AsyncIterator[Answer]:
        """Follows no redirect: what is in the form is meant for this host alone."""
        here = URL(url, encoded=True)
        async with self._send("POST", here, {}, "", form) as response:
            yield Answer(response)

    def allow(self, url: str, *, coming_from: str) -> None:
        """Raises Failure where `coming_from` must not send anybody to `url`."""
        self._allow(URL(url, encoded=True), URL(coming_from))

    def _allow(self, url: URL, coming_from: URL) -> None:
        if url.scheme == "https" and url.host:
            return
        plain = url.scheme == "http" and coming_from.scheme == "http" and url.host
        if not plain or not may_be_plain(url.authority, self._registries):
            raise Failure(
                f"cannot follow {coming_from.origin()} to {_shown(url)}: it has to be https"
            )

    def _target(self, here: URL, location: str) -> URL:
        try:
            target = here.join(URL(location, encoded=True))
            if target.raw_user or target.raw_password:
                target = target.with_user(None)
        except ValueError as error:
            raise Failure(f"{_request('GET', here)}: invalid redirect: {error}") from None
        self._allow(target, here)
        return target

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        authorization: str,
        form: Mapping[str, str] | AsyncGenerator[bytes, None] | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # Digests are those of the bytes sent: nothing may compress them on the way.
        sent = {**headers, "Accept-Encoding": "identity"}
        if authorization:
            sent["Authorization"] = authorization
        async with contextlib.AsyncExitStack() as opened:
            try:
                response = await opened.enter_async_context(
                    self._opened().request(
                        method,
                        url,
                        headers=sent,
                        data=form,
                        ssl=await self._tls(url),
                        proxy=self._proxies.of(str(url)) or None,
                        allow_redirects=False,
                    )
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise _failed(_request(method, url), error) from error
            except ValueError as error:  # what can't be sent as a header, or as an address
                raise Failure(f"{_request(method, url)}: {error}") from None
            yield response

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=_TIMEOUT,
                headers={"User-Agent": f"pyengine/{VERSION}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session

    async def _tls(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme != "https":
            return True
        # Where plain HTTP is allowed, a certificate that nobody vouches for is still better.
        is_verified = not may_be_plain(url.authority, self._registries)
        host = url.authority.lower()
        return await asyncio.to_thread(self._certificates.context, host, is_verified=is_verified)


def _shown(url: URL) -> str:
    """Without the query: signed addresses have secrets there."""
    return f"{url.scheme}://{url.host_port_subcomponent or ''}{url.raw_path}"


def _request(method: str, url: URL) -> str:
    return f'{method.capitalize()} "{_shown(url)}"'


def _failed(request: str, error: Exception) -> Failure:
    # A certificate doesn't get better by waiting, nor a proxy that doesn't want to.
    final = isinstance(
        error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientHttpProxyError
    ) or bool(_alert(error) or _unproven(error))
    return (Failure if final else Interrupted)(f"{request}: {_reason(error)}")


def _is_plain_http(error: aiohttp.ClientSSLError) -> bool:
    """What answered speaks something else than TLS, as OpenSSL has it."""
    return getattr(error.os_error, "reason", "") in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def _reason(error: Exception) -> str:
    """In the words of Docker, which clients and people search for."""
    if alert := _alert(error):
        return f"remote error: tls: {alert}"
    if unproven := _unproven(error):
        return f"tls: failed to verify certificate: {unproven}"
    match error:
        case aiohttp.ClientHttpProxyError():
            return f"the proxy refuses: {error.status} {error.message}"
        case aiohttp.ClientProxyConnectionError():
            return f"proxyconnect tcp: dial tcp {error.host}:{error.port}: {_words(error.os_error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"dial tcp: lookup {error.host}: {_lookup(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return f"tls: failed to verify certificate: {error.certificate_error}"
        case aiohttp.ClientSSLError() if _is_plain_http(error):
            return "http: server gave HTTP response to HTTPS client"
        case aiohttp.ClientSSLError():
            return f"tls: {error.os_error.strerror or error.os_error}"
        case aiohttp.ClientConnectorError():
            return f"dial tcp {error.host}:{error.port}: connect: {_words(error.os_error)}"
        case TimeoutError():
            return "net/http: timeout awaiting response"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return "unexpected EOF"
        case OSError():
            return _words(error)
    return _ACCOUNT.sub("://xxxxx:xxxxx@", str(error)) or type(error).__name__


def _alert(error: BaseException | None) -> str:
    """What the other side says of our certificate, "certificate required"; else nothing."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and (found := _ALERT.search(str(error))):
            return found[1].lower().replace("_", " ")
        error = error.__cause__
    return ""


def _unproven(error: BaseException | None) -> str:
    """Why a certificate isn't believed, also inside of the tunnel of an https:// proxy: that error
    comes wrapped in others, which tell the proxy's password."""
    while error is not None:
        if reason := getattr(error, "verify_message", ""):  # of ssl.SSLCertVerificationError
            return str(reason)
        error = error.__cause__ or error.__context__
    return ""


def _lookup(error: OSError) -> str:
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return "temporary failure in name resolution"
    return "no such host"


def _words(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else str(error)).lower()
