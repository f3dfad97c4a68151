"""What the engine says when it refuses.

    EngineError
    ├── InvalidRequest    400  the request can't be right, whatever the state
    ├── Unauthorized      401  a registry wants to know who asks
    ├── Forbidden         403  never allowed on this object
    ├── NotFound          404  no such container, image, network, volume, exec
    ├── Conflict          409  not in this state, or the name is taken
    ├── Unsupported       501  this engine or this kernel has no such feature
    ├── Unavailable       503  a part that isn't running here (swarm)
    └── Failure           500  the kernel or the disk refused; the text says which call

Statuses are assigned in `engine/api/status.py` and nowhere else.
"""

import contextlib
from collections.abc import Iterator

NO_SWARM_MANAGER = (
    'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect '
    "this node to swarm and try again."
)


class EngineError(Exception):
    """Base of all refusals; `str(error)` is the text that clients get as `message`."""


class InvalidRequest(EngineError): ...


class Unauthorized(EngineError): ...


class Forbidden(EngineError): ...


class NotFound(EngineError): ...


class Conflict(EngineError): ...


class Unsupported(EngineError): ...


class Unavailable(EngineError): ...


class Failure(EngineError): ...


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """An error inside says what it is about, ahead of what it is, as Docker's do."""
    try:
        yield
    except EngineError as error:
        raise type(error)(f"{what}: {error}") from error
