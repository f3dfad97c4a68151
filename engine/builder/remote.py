"""Pure: addresses of what a build fetches. Sources: the reference, "Adding files from a Git
repository", and Docker's docs on contexts, "URL fragments" and "URL queries"."""

import re
import urllib.parse
from dataclasses import dataclass, replace

from engine.errors import InvalidRequest, Unsupported

_SCP = re.compile(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:(?!//).+")
_WEB = ("http://", "https://")
_QUERY = ("ref", "tag", "branch", "commit", "checksum", "subdir", "keep-git-dir", "submodules")


@dataclass(frozen=True, slots=True)
class GitAddress:
    url: str
    ref: str = ""  # a branch, a tag, a commit, or refs/...; "" for the default branch
    folder: str = ""  # only what is in it
    checksum: str = ""  # of the commit, or its beginning
    keep_git: bool = False

    def keeping_git(self) -> "GitAddress":
        return replace(self, keep_git=True)


def is_url(text: str) -> bool:
    return text.startswith(_WEB)


def is_git(text: str) -> bool:
    if text.startswith(("git://", "ssh://", "github.com/")) or _SCP.fullmatch(text):
        return True
    return is_url(text) and urllib.parse.urlsplit(text).path.endswith(".git")


def is_remote(text: str) -> bool:
    return is_url(text) or is_git(text)


def parse_git_address(text: str) -> GitAddress:
    """Raises Unsupported for what isn't HTTP, InvalidRequest for what is no address."""
    if text.startswith("github.com/"):
        text = f"https://{text}"
    if not is_url(text):
        raise Unsupported(
            f"cannot fetch {text}: this engine has no SSH and no git protocol; "
            "say the repository's https:// address, or send the files themselves"
        )
    parts = urllib.parse.urlsplit(text)
    if not parts.hostname:
        raise InvalidRequest(f"cannot fetch {text!r}: it names no host")
    ref, _, folder = parts.fragment.partition(":")
    fields = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    for key in fields:
        if key not in _QUERY:
            raise InvalidRequest(f"cannot fetch {text}: unexpected query {key!r}")
    if fields and parts.fragment:
        raise InvalidRequest(f"cannot fetch {text}: it says both a fragment and a query")
    for key, prefix in (("ref", ""), ("branch", "refs/heads/"), ("tag", "refs/tags/")):
        ref = prefix + fields[key] if fields.get(key) else ref
    if fields.get("submodules", "").lower() in ("true", "1"):
        raise Unsupported(f"cannot fetch {text}: submodules are not followed")
    return GitAddress(
        url=urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
        ref=ref or fields.get("commit", ""),
        folder=(folder or fields.get("subdir", "")).strip("/"),
        checksum=fields.get("checksum", "") or fields.get("commit", ""),
        keep_git=fields.get("keep-git-dir", "").lower() in ("true", "1"),
    )
