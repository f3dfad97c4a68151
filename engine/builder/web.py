"""Web servers as builds reach them: through the daemon's proxies, with certificates that the system
trusts. For threads; urllib3 is what dulwich speaks HTTP with as well."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import Failure
from engine.proxies import Proxies

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

PATIENCE = 60.0  # seconds without a byte
_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)


def basic(account: str) -> str:
    """The value of an Authorization header for `user:password`."""
    return "Basic " + base64.b64encode(account.encode(errors="surrogateescape")).decode()


def pool(url: str, proxies: Proxies, headers: Mapping[str, str]) -> PoolManager:
    """What asks this address, with these headers each time."""
    import urllib3  # where it is needed: 100 ms

    timeout = urllib3.Timeout(connect=30, read=PATIENCE)
    proxy = urllib.parse.urlsplit(proxies.of(url))
    if not proxy.hostname:
        return urllib3.PoolManager(headers=headers, timeout=timeout, retries=False)
    account, at, host = proxy.netloc.rpartition("@")
    told = {"Proxy-Authorization": basic(urllib.parse.unquote(account))} if at else {}
    return urllib3.ProxyManager(
        f"{proxy.scheme}://{host}",
        proxy_headers=told, headers=headers, timeout=timeout, retries=False,
    )  # fmt: skip


@contextmanager
def opened(url: str, proxies: Proxies, headers: Mapping[str, str]) -> Iterator[BaseHTTPResponse]:
    """The answer, its body still to be read. `headers` are for this origin alone; a redirect must
    lead to the web. Raises Failure."""
    here, sent = url, dict(headers)
    for _ in range(_MAX_REDIRECTS + 1):
        if _origin(here) != _origin(url):
            sent = {}
        with pool(here, proxies, {"Accept-Encoding": "identity", **sent}) as manager:
            answer = manager.request("GET", here, preload_content=False, redirect=False)
            try:
                if answer.status not in _REDIRECTS or not answer.headers.get("Location"):
                    yield answer
                    return
                target = urllib.parse.urljoin(here, answer.headers["Location"])
            finally:
                answer.close()
        if urllib.parse.urlsplit(target).scheme not in ("http", "https"):
            raise Failure(f"cannot download {url}: it leads to {target}")
        here = target
    raise Failure(f"cannot download {url}: stopped after {_MAX_REDIRECTS} redirects")


def reason(error: BaseException) -> str:
    """What is at the bottom of it, as the system says it."""
    while True:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        deeper = getattr(error, "reason", None) or error.__cause__ or error.__context__
        if not isinstance(deeper, BaseException):
            return str(deeper or error)
        error = deeper


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc
