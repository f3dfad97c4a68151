"""Files from http and https URLs, for ADD and for a context from afar. Nothing else is fetched."""

import hashlib
import http.client
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from engine.errors import Failure, InvalidRequest, Unsupported

_CHUNK = 1 << 18
_PATIENCE = 60  # seconds without a byte
_SCHEMES = ("http", "https")


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


def is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def is_git(text: str) -> bool:
    path = urllib.parse.urlsplit(text).path
    return text.startswith(("git://", "git@", "ssh://", "github.com/")) or path.endswith(".git")


def file_name(url: str) -> str:
    """The last part of its path; "" where it ends in a slash."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2])
    return "" if name in (".", "..") or "/" in name or "\0" in name else name


def download(url: str, path: Path, is_cancelled: Callable[[], bool]) -> None:
    """Blocks; for a thread. Raises InvalidRequest, Unsupported, Failure."""
    if is_git(url):
        raise Unsupported(f"cannot fetch {url}: this engine has no git; send the files themselves")
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
    try:
        with opener.open(url, timeout=_PATIENCE) as answer, open(path, "wb") as stream:
            while chunk := answer.read(_CHUNK):
                if is_cancelled():
                    raise Failure(f"the download of {url} was cancelled")
                stream.write(chunk)
    except (urllib.error.URLError, http.client.HTTPException, ValueError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise Failure(f"cannot download {url}: {reason}") from error


def digest(path: Path) -> str:
    """`sha256:` and the rest, as --checksum says it."""
    with open(path, "rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
