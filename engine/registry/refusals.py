"""Pure: what a registry or a token server refuses -> our error, in the words that Docker uses."""

import json

from engine.errors import EngineError, Failure, Forbidden, NotFound, Unauthorized
from engine.oci.reference import DEFAULT_DOMAIN, Reference
from engine.registry.challenges import Challenge

LONGEST_TEXT = 1000


def pull_refusal(
    status: int,
    reason: str,
    body: bytes,
    challenges: tuple[Challenge, ...],
    reference: Reference,
    *,
    after: float = 0,
) -> EngineError:
    """Of a manifest or a list of tags. `challenges` came with a 401; `after`: seconds that the
    registry wants us to wait."""
    code, message = first_error(body)
    if any(one.parameters.get("error") == "insufficient_scope" for one in challenges):
        # What a registry says of a repository that isn't there, to whom may not know that.
        code, message = "DENIED", "requested access to the resource is denied"
    elif not code:
        code, message = _BY_STATUS.get(status, ("", message))
    said = f"{code.lower().replace('_', ' ')}: {message}"
    match code:
        case "DENIED":
            return _denied(reference, said)
        case "MANIFEST_UNKNOWN":
            return NotFound(f"manifest for {reference.familiar} not found: {said}")
        case "NAME_UNKNOWN":
            return NotFound(f"repository {reference.familiar_name} not found: {said}")
        case "UNAUTHORIZED":
            return Unauthorized(f"{said} (log in: docker login{_registry(reference)})")
        case "TOOMANYREQUESTS":
            return Failure(f"{said} ({patience(after, reference)})")
        case "":
            return Failure(f"received unexpected HTTP status: {status} {reason}".rstrip())
    return Failure(said)


def patience(after: float, reference: Reference) -> str:
    """What to do where a registry limits how often one may ask."""
    wait = f"try again in {after:.0f} seconds" if after else "try again later"
    return f"{wait}; who logs in may ask more often: docker login{_registry(reference)}"


def push_refusal(status: int, reason: str, body: bytes, reference: Reference) -> EngineError:
    code, message = first_error(body)
    if not code:
        code, message = _BY_STATUS.get(status, ("", message))
    said = f"{code.lower().replace('_', ' ')}: {message}"
    match code:
        case "DENIED" | "UNAUTHORIZED":
            kind = Forbidden if code == "DENIED" else Unauthorized
            return kind(
                f"{said} (log in as somebody who may push to {reference.familiar_name}: "
                f"docker login{_registry(reference)})"
            )
        case "":
            return Failure(f"received unexpected HTTP status: {status} {reason}".rstrip())
    return Failure(said)


def no_credentials(origin: str) -> str:
    host = origin.partition("://")[2]
    return f'Get "{origin}/v2/": no basic auth credentials (log in first: docker login {host})'


def _registry(reference: Reference) -> str:
    return "" if reference.domain == DEFAULT_DOMAIN else f" {reference.domain}"


def token_refusal(
    status: int, reason: str, body: bytes, reference: Reference | None
) -> EngineError:
    code, message = first_error(body)
    if status == 401:
        return Unauthorized(f"unauthorized: {message or 'incorrect username or password'}")
    if status == 403:
        said = f"denied: {message or 'requested access is denied'}"
        return Forbidden(said) if reference is None else _denied(reference, said)
    return Failure(f"the token server answered {status} {reason}: {message or code}".rstrip(": "))


def first_error(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in the body; empty where it has none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    errors = document.get("errors")
    first = errors[0] if isinstance(errors, list) and errors else document
    if not isinstance(first, dict):
        return "", ""
    return _text(first, "code").upper(), _text(first, "message") or _text(first, "details")


_BY_STATUS = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    404: ("MANIFEST_UNKNOWN", "manifest unknown"),
    429: ("TOOMANYREQUESTS", "too many requests"),
}


def _denied(reference: Reference, said: str) -> NotFound:
    return NotFound(
        f"pull access denied for {reference.familiar_name}, repository does not exist or may "
        f"require 'docker login': {said}"
    )


def _text(document: dict[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        return ""
    return "".join(sign for sign in value[:LONGEST_TEXT] if sign.isprintable())
