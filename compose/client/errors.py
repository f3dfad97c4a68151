"""What goes wrong between pycompose and an engine.

ClientError
├── Unreachable       nothing answers there; says what to do
├── BadAddress        the address can't be used at all
├── Incompatible      something answers, but not an Engine API that we speak
├── BadAnswer         an answer without a field that the API promises
└── ApiError          the engine refused: status and its own words
    ├── NotFound      404
    └── Conflict      409
"""

from __future__ import annotations

from compose.errors import EngineError


class ClientError(EngineError):
    """Base; `what` is one sentence, `hint` says what to do and may be empty."""

    def __init__(self, what: str, *, hint: str = "") -> None:
        super().__init__(f"{what}\n  hint: {hint}" if hint else what)
        self.what = what
        self.hint = hint


class BadAddress(ClientError): ...


class Unreachable(ClientError): ...


class Incompatible(ClientError): ...


class BadAnswer(ClientError): ...


class ApiError(ClientError):
    """The engine's refusal. `message` is its own text, `request` the call that it refused."""

    def __init__(self, status: int, message: str, request: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.request = request


class NotFound(ApiError): ...


class Conflict(ApiError): ...


def api_error(status: int, message: str, request: str) -> ApiError:
    kind = {404: NotFound, 409: Conflict}.get(status, ApiError)
    return kind(status, message, request)


def code_of_refusal(message: str) -> int | None:
    """The shell's codes for a command that isn't there or may not be run, as the engine tells it;
    None: it refused for another reason."""
    if "unable to start container process: exec:" not in message:
        return None
    return 126 if "permission denied" in message else 127
