"""Files from http and https URLs, for ADD and for a context from afar. Nothing else is fetched."""

import email.utils
import hashlib
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.builder import web
from engine.builder.access import Access
from engine.builder.remote import is_url
from engine.errors import Failure, InvalidRequest

_CHUNK = 1 << 18


def file_name(url: str) -> str:
    """The last part of its path; "" where it ends in a slash."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def download(url: str, path: Path, access: Access) -> int:
    """To a file. When it was last changed, in seconds since 1970; 0 where the server doesn't say.
    Blocks; for a thread. Raises InvalidRequest, Failure."""
    with open(path, "wb") as stream:
        return receive(url, stream.write, access)


def receive(url: str, put: Callable[[bytes], object], access: Access) -> int:
    """The same; what comes is put, piece by piece."""
    if not is_url(url) or not urllib.parse.urlsplit(url).hostname:
        raise InvalidRequest(f"cannot fetch {url!r}: only http and https URLs can be")
    from urllib3.exceptions import HTTPError  # where it is needed: 100 ms

    try:
        with web.opened(url, access.proxies, _who(url, access)) as answer:
            if answer.status != 200:
                raise Failure(f"cannot download {url}: {answer.status} {answer.reason}")
            for chunk in answer.stream(_CHUNK, decode_content=False):
                if access.stopped.is_set():
                    raise Failure(f"the download of {url} was cancelled")
                put(chunk)
            return _seconds(answer.headers.get("Last-Modified", ""))
    except (HTTPError, ValueError) as error:
        raise Failure(f"cannot download {url}: {web.reason(error)}") from error


def _who(url: str, access: Access) -> Mapping[str, str]:
    """What the secrets HTTP_AUTH_TOKEN_<host> and HTTP_AUTH_HEADER_<host> of a build say."""
    host = urllib.parse.urlsplit(url).hostname or ""
    if header := access.secret(f"HTTP_AUTH_HEADER_{host}"):
        return {"Authorization": header}
    if token := access.secret(f"HTTP_AUTH_TOKEN_{host}"):
        return {"Authorization": f"Bearer {token}"}
    return {}


def _seconds(stamp: str) -> int:
    try:
        return max(0, int(email.utils.parsedate_to_datetime(stamp).timestamp()))
    except (TypeError, ValueError):
        return 0


def digest(path: Path) -> str:
    """`sha256:` and the rest, as --checksum says it."""
    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
