"""The aiohttp server: listens on addresses, finds the handler in the table, answers refusals."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import grp
import ipaddress
import logging
import os
import re
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, assert_never
from urllib.parse import unquote

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from engine.api import tls
from engine.api.answer import API_VERSION, OLDEST_API_VERSION, plain_refusal, refusal
from engine.api.listener import Listener
from engine.api.parts import Engine
from engine.api.request import Request, Version
from engine.api.routes import ROUTES, Route
from engine.api.status import status_of
from engine.api.upgrade import Access, Connection, Taken
from engine.errors import EngineError, Failure, Forbidden, InvalidRequest, NotFound
from engine.kernel.libc import told
from engine.settings import Address, TcpAddress, UnixAddress

log = logging.getLogger(__name__)

_VERSIONED = re.compile(r"/v([0-9]{1,3})(?:\.([0-9]{1,4}))?(?=/)")
_PARAMETER = re.compile(r"\{([a-z]+)(:\.\*)?\}")
BACKLOG = 4096  # the kernel takes less where somaxconn is less
LARGEST_LINE = 32 << 10  # of the request line, and of one header field
# Seconds for requests to end in when the daemon stops; aiohttp waits twice. What they began is
# brought to its end, or not, by the containers themselves.
PATIENCE = 1.0


def parse_version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor)


NEWEST = parse_version(API_VERSION)
OLDEST = parse_version(OLDEST_API_VERSION)


class Router:
    """(method, path) -> route and parameters. Each part of the table is tried in its order."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            pattern = re.compile(_PARAMETER.sub(_group, route.path))
            first = route.path.split("/")[1]
            first = "" if first.startswith("{") else first  # fits every path
            self._routes.setdefault((route.method, first), []).append((pattern, route))

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        first = path.split("/", 2)[1] if path.startswith("/") else ""
        for start in (first, ""):
            for pattern, route in self._routes.get((method, start), ()):
                if found := pattern.fullmatch(path):
                    return route, found.groupdict()
        return None


def _group(parameter: re.Match[str]) -> str:
    """{id} is one segment, {name:.*} any number: image names hold slashes."""
    return f"(?P<{parameter[1]}>{'.+' if parameter[2] else '[^/]+'})"


class Server:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._router = Router(ROUTES)
        self._listening: list[Listener] = []
        self._paths: list[tuple[str, int]] = []  # sockets of ours with their inodes
        settings: dict[str, Any] = {
            "access_log": None,
            "logger": log,
            "max_line_size": LARGEST_LINE,
            "max_field_size": LARGEST_LINE,
            "auto_decompress": False,
            "keepalive_timeout": 600.0,
        }
        loop = asyncio.get_running_loop()
        self._manager = web.Server(self._answer, **settings)
        self._make = functools.partial(make_connection, self._manager, loop, settings)
        self._speaking: set[asyncio.Task[None]] = set()  # connections with TLS

    async def listen(self, addresses: Sequence[Address]) -> None:
        """Raises Failure where an address can't be had; then none is left listening."""
        for address in addresses:
            match address:
                case UnixAddress():
                    group = self._engine.settings.group
                    endpoint = await asyncio.to_thread(bind_unix, address, group)
                    path = str(address.path)
                    self._paths.append((path, os.lstat(path).st_ino))
                    make = functools.partial(self._make, Access.LOCAL)
                    server = Listener(endpoint, make, backlog=BACKLOG)
                case TcpAddress():
                    server = await self._listen_tcp(address)
                case _:
                    assert_never(address)
            self._listening.append(server)
            log.info("listening on %s", address)

    async def _listen_tcp(self, address: TcpAddress) -> Listener:
        settings = self._engine.settings.tls
        make: Callable[[], asyncio.Protocol]
        if settings is None:
            make = functools.partial(self._make, Access.OPEN)
        else:
            context = await asyncio.to_thread(tls.server_context, settings)
            speak = functools.partial(self._speak_tls, context=context)
            make = functools.partial(_make_streams, speak)
        return Listener(bind_tcp(address), make, backlog=BACKLOG)

    async def _speak_tls(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        context: ssl.SSLContext,
    ) -> None:
        verified = context.verify_mode is ssl.CERT_REQUIRED
        access = Access.CERTIFIED if verified else Access.OPEN
        task = asyncio.current_task()
        assert task is not None
        self._speaking.add(task)
        try:
            await tls.serve(reader, writer, context, functools.partial(self._make, access))
        finally:
            self._speaking.discard(task)

    async def close(self) -> None:
        """Takes no more requests, ends the streams, lets the others come to their end."""
        for server in self._listening:
            server.close()
        for path, inode in self._paths:
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(path).st_ino == inode:
                    os.unlink(path)
        for connection in self._manager.connections:
            if isinstance(connection, Connection):
                connection.hang_up()
        await self._manager.shutdown(PATIENCE)
        for task in self._speaking:
            task.cancel()

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        """The outermost loop of a request: whatever goes wrong becomes an answer."""
        connection = http.protocol
        assert isinstance(connection, Connection)
        try:
            return await self._route(http)
        except EngineError as error:
            status = status_of(error)
            log.log(_level(status), "%s %s: %d %s", http.method, _printable(http.raw_path), status,
                    error)  # fmt: skip
            return refusal(status, str(error))
        except RequestPayloadError:
            return _last(refusal(400, "malformed request body"))
        except ConnectionError:
            return Taken()  # nobody is there to be answered
        except OSError as error:  # the disk is full, most of all
            log.exception("%s %s failed", http.method, _printable(http.raw_path))
            return _last(refusal(500, told(error)))
        except Exception:
            log.exception("%s %s failed", http.method, _printable(http.raw_path))
            return _last(refusal(500, "internal error: the engine's log says more"))
        finally:
            connection.settle()

    async def _route(self, http: web.BaseRequest) -> web.StreamResponse:
        connection = http.protocol
        assert isinstance(connection, Connection)
        if connection.access is not Access.LOCAL:
            refuse_browsers(http, names=connection.access is Access.CERTIFIED)
        if http.version < (1, 0):
            raise InvalidRequest("malformed request")
        path, _, query = http.raw_path.partition("?")
        version = NEWEST
        if found := _VERSIONED.match(path):
            version = (int(found[1]), int(found[2] or 0))
            path = path[found.end() :]
            if version < OLDEST:
                return plain_refusal(400, too_old(version))
            if version > NEWEST:
                raise InvalidRequest(too_new(version))
        chosen = self._router.find(http.method, path)
        if chosen is None or version < chosen[0].since:
            raise NotFound("page not found")
        route, raw = chosen
        try:
            parameters = {key: unquote(text, errors="strict") for key, text in raw.items()}
        except UnicodeDecodeError:
            raise InvalidRequest("invalid path: it is no UTF-8") from None
        if any("\0" in text for text in parameters.values()):
            raise InvalidRequest("invalid path: it holds a NUL")
        request = Request(http, parameters, version, query)
        return await route.handler(request, self._engine)


def _last(response: web.Response) -> web.Response:
    """After an answer to a body that wasn't read to its end nothing can follow."""
    response.force_close()
    return response


def _level(status: int) -> int:
    """Of what is told of a refusal. Clients ask all day for things that aren't there."""
    if status >= 500:
        return logging.WARNING
    return logging.INFO if status == 400 else logging.DEBUG


def _printable(text: str) -> str:
    return repr(text[:200])


def too_new(version: Version) -> str:
    given = f"{version[0]}.{version[1]}"
    return f"client version {given} is too new. Maximum supported API version is {API_VERSION}"


def too_old(version: Version) -> str:
    given = f"{version[0]}.{version[1]}"
    return (
        f"client version {given} is too old. Minimum supported API version is "
        f"{OLDEST_API_VERSION}, please upgrade your client to a newer version"
    )


def refuse_browsers(http: web.BaseRequest, *, names: bool) -> None:
    """On TCP a web page could send requests here, across sites or by rebinding its own name: so
    it has to be addressed by numbers, but where a certificate of ours vouches for the name."""
    if "Origin" in http.headers or http.headers.get("Sec-Fetch-Site", "none") != "none":
        raise Forbidden("requests of web pages are not accepted")
    if names:
        return
    host = http.headers.get("Host", "").strip()
    name = host.rpartition(":")[0] if re.search(r":[0-9]*$", host) else host
    name = name.removeprefix("[").removesuffix("]")
    if name == "localhost":
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise InvalidRequest(
            f"invalid Host header {host[:100]!r}: it has to be localhost or an IP address"
        ) from None


def make_connection(
    manager: web.Server,
    loop: asyncio.AbstractEventLoop,
    settings: Mapping[str, Any],
    access: Access,
) -> Connection:
    # A socket of this machine always tells that the other end is gone.
    by_asking = access is not Access.LOCAL
    connection = Connection(manager, loop=loop, tcp_keepalive=by_asking, **settings)
    connection.access = access
    return connection


def _make_streams(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> asyncio.StreamReaderProtocol:
    """As asyncio.start_server does it."""
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), speak)


def group_id(name: str) -> int | None:
    """None without a name where there is no group docker. Raises Failure."""
    if name.isascii() and name.isdecimal():
        return int(name)
    try:
        return grp.getgrnam(name or "docker").gr_gid
    except KeyError:
        if not name:
            return None
        raise Failure(f"cannot give the socket to the group {name!r}: there is no such") from None


def bind_tcp(address: TcpAddress) -> socket.socket:
    """Raises Failure."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise Failure(f"cannot listen on {address}: {told(error)}") from error


def bind_unix(address: UnixAddress, group: str = "") -> socket.socket:
    """A bound socket of mode 0660. Raises Failure."""
    owner = group_id(group)
    path = str(address.path)
    folder = address.path.parent
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    found = folder.stat()
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise Failure(
            f"cannot listen on {address}: everyone may write to {folder}, and could put another "
            f"socket there; choose another folder, or chmod o-w {folder}"
        )
    _remove_stale(address)
    endpoint = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Made with its mode: between bind and chmod others could connect.
    before = os.umask(0o117)
    try:
        endpoint.bind(path)
    except OSError as error:
        endpoint.close()
        raise Failure(f"cannot listen on {address}: {error.strerror}") from error
    finally:
        os.umask(before)
    if owner is not None:
        try:
            os.chown(path, -1, owner, follow_symlinks=False)
        except OSError as error:
            endpoint.close()
            os.unlink(path)
            raise Failure(
                f"cannot give {address} to the group {group or owner}: {error.strerror}"
            ) from error
    return endpoint


def _remove_stale(address: UnixAddress) -> None:
    """Remove a socket that nobody listens on; refuse any other file, and a living socket."""
    path = str(address.path)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Failure(f"cannot listen on {address}: there is a file of this name")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise Failure(f"cannot listen on {address}: {error.strerror}") from error
    raise Failure(f"cannot listen on {address}: another program serves it")
