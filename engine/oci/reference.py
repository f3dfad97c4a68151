"""Pure: names of images, from what people type to what a registry is asked for.

`nginx` means `docker.io/library/nginx:latest`; shown to people it is `nginx:latest` again, the
*familiar* form. Grammar and error texts are those of the distribution project.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from engine.errors import InvalidRequest
from engine.oci.digest import Digest, parse_digest

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    rf"(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_HOST = re.compile(_DOMAIN)
_TAG_ALONE = re.compile(_TAG)
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 255
_MOST_PORT = 65535
# Longer than any valid reference: keeps hostile input away from the regular expressions.
_LONGEST_REFERENCE = 1024


@dataclass(frozen=True, slots=True)
class Reference:
    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        rest = self.path.removeprefix("library/")
        short = rest if "/" not in rest else self.path
        first, slash, _ = short.partition("/")
        # `a.b/c` alone would be repository c at host a.b.
        return self.name if slash and _looks_like_host(first) else short

    @property
    def familiar(self) -> str:
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")

    def with_default_tag(self) -> "Reference":
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def without_digest(self) -> "Reference":
        return replace(self, digest="")

    def with_digest(self, digest: Digest) -> "Reference":
        return replace(self, tag="", digest=digest)


@lru_cache(maxsize=256)
def parse_reference(text: str) -> Reference:
    """A normalised reference; tag and digest only as given. Raises InvalidRequest."""
    if len(text) > _LONGEST_REFERENCE:
        raise InvalidRequest("invalid reference format")
    if _IDENTIFIER.fullmatch(text):
        raise InvalidRequest(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    repository = remainder.partition("@")[0].partition(":")[0]
    if repository.lower() != repository:
        raise InvalidRequest(
            f"invalid reference format: repository name ({repository}) must be lowercase"
        )
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidRequest("invalid reference format")
    if len(match["domain"]) + 1 + len(match["path"]) > _LONGEST_NAME:
        raise InvalidRequest(f"repository name must not be more than {_LONGEST_NAME} characters")
    digest = match["digest"] or ""
    if digest:
        parse_digest(digest)
    return Reference(match["domain"], match["path"], match["tag"] or "", digest)


def parse_tag(text: str) -> str:
    if not _TAG_ALONE.fullmatch(text):
        raise InvalidRequest("invalid tag format")
    return text


def _split_domain(text: str) -> tuple[str, str]:
    """What stands before the first slash is a host if it looks like one: a dot, a port,
    `localhost`, or a capital letter (repository names have none)."""
    first, slash, rest = text.partition("/")
    is_host = bool(slash) and _looks_like_host(first)
    domain, remainder = (first, rest) if is_host else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder


def _looks_like_host(first: str) -> bool:
    return any(sign in first for sign in ".:") or first == "localhost" or first != first.lower()


def is_address(text: str) -> bool:
    """Whether it can be the address of a registry: a name or number, with or without a port."""
    if _HOST.fullmatch(text) is None:
        return False
    _, colon, port = text.rpartition("]")[2].rpartition(":")
    return not colon or int(port) <= _MOST_PORT
