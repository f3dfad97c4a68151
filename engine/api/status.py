"""Refusals -> HTTP answers. The only place that knows which error has which status."""

from __future__ import annotations

from engine.errors import (
    Conflict,
    EngineError,
    Failure,
    Forbidden,
    InvalidRequest,
    NotFound,
    Unauthorized,
    Unavailable,
    Unsupported,
)

STATUS: tuple[tuple[type[EngineError], int], ...] = (
    (InvalidRequest, 400),
    (Unauthorized, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Unsupported, 501),
    (Unavailable, 503),
    (Failure, 500),
)


def status_of(error: EngineError) -> int:
    for kind, status in STATUS:
        if isinstance(error, kind):
            return status
    return 500
