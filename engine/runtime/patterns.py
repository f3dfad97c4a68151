"""Scripts that are written once for all containers that differ in nothing but their id, as those of
a service do, or of the same command line: to write one takes longer than to start the container.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict

from engine.runtime import channel
from engine.runtime.request import LaunchRequest
from engine.runtime.script import Written
from engine.runtime.users import Identity

_MOST = 32  # of some 80 KB
_TEXT = ("utf-8", "surrogateescape")
_SHORT = 12  # characters of an id that are a host name
# In the place of an id, and of as many characters; an id has others.
NO_ID = "_pycompose_" + "-" * 53
_NO_ID, _NO_SHORT_ID = NO_ID.encode(), b"_pycompose.."


class Patterns:
    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, Identity], Written] = {}  # by last use

    def script(
        self,
        request: LaunchRequest,
        identity: Identity,
        write: Callable[[LaunchRequest], Written],
    ) -> Written:
        """As `write` would write it. Whatever that raises."""
        identifier = request.container_id
        text = _text(request)
        if _NO_ID in text or _NO_SHORT_ID in text or len(identifier) != len(_NO_ID):
            return write(request)
        key = (_without(text, identifier), request.seccomp, identity)
        pattern = self._known.pop(key, None)
        if pattern is None:
            written = write(request)
            pattern = written._replace(data=_without(written.data, identifier))
            while len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
        self._known[key] = pattern
        return with_id(pattern, identifier)


def _text(request: LaunchRequest) -> bytes:
    """All of it but the filter."""
    rootfs = request.rootfs
    return channel.encode(
        {
            "spec": request.spec,
            "user": [request.user, *request.groups],
            "rootfs": [rootfs.lowers, rootfs.upper, rootfs.work, rootfs.read_only],
            "exec_dir": request.exec_dir,
            "log": asdict(request.log),
            "flags": [request.open_stdin, request.stdin_once, request.init, request.dns],
        }
    )


def are_told_apart(texts: Iterable[str]) -> bool:
    """Whether none of them has something in it that stands for an id."""
    return _NO_SHORT_ID.decode() not in (joined := "\0".join(texts)) and NO_ID not in joined


def without_id(text: str, identifier: str) -> str:
    return _without(text.encode(*_TEXT), identifier).decode(*_TEXT)


def with_id(pattern: Written, identifier: str) -> Written:
    return pattern._replace(data=_with(pattern.data, identifier))


def _without(text: bytes, identifier: str) -> bytes:
    long, short = identifier.encode(), identifier[:_SHORT].encode()
    return text.replace(long, _NO_ID).replace(short, _NO_SHORT_ID)


def _with(text: bytes, identifier: str) -> bytes:
    long, short = identifier.encode(), identifier[:_SHORT].encode()
    return text.replace(_NO_ID, long).replace(_NO_SHORT_ID, short)
