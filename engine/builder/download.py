"""Files from http and https URLs, for ADD and for a context from afar. Nothing else is fetched."""

import email.utils
import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from engine.builder.remote import is_url
from engine.errors import Failure, InvalidRequest

_CHUNK = 1 << 18
_PATIENCE = 60  # seconds without a byte
_SCHEMES = ("http", "https")
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """A redirect must not lead to a file of the host, nor to anything but the web."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: object,
        code: int,
        msg: str,
        headers: object,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in _SCHEMES:
            raise Failure(f"cannot download {req.full_url}: it leads to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def file_name(url: str) -> str:
    """The last part of its path; "" where it ends in a slash."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def secret_headers(url: str, secrets: Mapping[str, bytes]) -> Mapping[str, str]:
    """What the secrets HTTP_AUTH_TOKEN_<host> and HTTP_AUTH_HEADER_<host> of a build say."""
    host = urllib.parse.urlsplit(url).hostname or ""
    token = secrets.get(f"HTTP_AUTH_TOKEN_{host}")
    header = secrets.get(f"HTTP_AUTH_HEADER_{host}")
    if header is not None:
        return {"Authorization": header.decode(errors="replace").strip()}
    if token is not None:
        return {"Authorization": f"Bearer {token.decode(errors='replace').strip()}"}
    return {}


def download(
    url: str,
    path: Path,
    is_cancelled: Callable[[], bool],
    *,
    headers: Mapping[str, str] = NO_HEADERS,
) -> int:
    """When it was last changed, in seconds since 1970; 0 where the server doesn't say. `headers`
    are for this host alone. Blocks; for a thread. Raises InvalidRequest, Failure."""
    if not is_url(url) or not urllib.parse.urlsplit(url).hostname:
        raise InvalidRequest(f"cannot fetch {url!r}: only http and https URLs can be")
    # Without file:, ftp: and data:, which build_opener would add; the environment's proxy counts.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _WebOnly(),
    ):
        opener.add_handler(handler)
    request = urllib.request.Request(url)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    try:
        with opener.open(request, timeout=_PATIENCE) as answer, open(path, "wb") as stream:
            while chunk := answer.read(_CHUNK):
                if is_cancelled():
                    raise Failure(f"the download of {url} was cancelled")
                stream.write(chunk)
            return _seconds(answer.headers.get("Last-Modified", ""))
    except (urllib.error.URLError, http.client.HTTPException, ValueError, TimeoutError) as error:
        raise Failure(f"cannot download {url}: {_reason(error)}") from error


def _reason(error: Exception) -> object:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return reason.strerror or reason if isinstance(reason, OSError) else reason


def _seconds(stamp: str) -> int:
    try:
        return max(0, int(email.utils.parsedate_to_datetime(stamp).timestamp()))
    except (TypeError, ValueError):
        return 0


def digest(path: Path) -> str:
    """`sha256:` and the rest, as --checksum says it."""
    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
