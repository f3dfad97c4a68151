"""Pure: build arguments that mean something to the builder itself ("BuildKit built-in build args"
of the reference)."""

from collections.abc import Mapping

from engine.builder.dockerfile import is_own_syntax
from engine.errors import InvalidRequest

EPOCH = "SOURCE_DATE_EPOCH"
CHECKS = "BUILDKIT_DOCKERFILE_CHECK"  # what a `check` directive says, and wins over it
HOSTNAME = "BUILDKIT_SANDBOX_HOSTNAME"  # of the containers that run RUN
# No ARG has to declare them. Names and caches that travel with an image aren't this builder's.
OWN_ARGS = frozenset(
    (
        *("BUILDKIT_BUILD_NAME", "BUILDKIT_CACHE_MOUNT_NS", "BUILDKIT_CONTEXT_KEEP_GIT_DIR"),
        *("BUILDKIT_INLINE_CACHE", "BUILDKIT_MULTI_PLATFORM", "BUILDKIT_SYNTAX"),
        *(CHECKS, EPOCH, HOSTNAME),
    )
)


def check_build_args(args: Mapping[str, str | None]) -> None:
    syntax = args.get("BUILDKIT_SYNTAX") or ""
    if syntax and not is_own_syntax(syntax):
        raise InvalidRequest(
            f"cannot read the syntax {syntax} of BUILDKIT_SYNTAX: this engine reads Dockerfiles "
            "itself, as docker/dockerfile:1 says"
        )


def epoch_of(args: Mapping[str, str | None], declared: Mapping[str, str]) -> int | None:
    """Seconds since 1970 that nothing in the image is to be newer than; None for no limit.
    `declared`: ARGs before the first FROM. Raises InvalidRequest."""
    given = args.get(EPOCH)
    text = declared.get(EPOCH, "") if given is None else given
    if not text:
        return None
    if not text.isdecimal() or len(text) > 11:
        raise InvalidRequest(f"invalid {EPOCH}: {text!r} has to be seconds since 1970")
    return int(text)
