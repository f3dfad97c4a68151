"""Pure: addresses of what a build fetches. Sources: the reference, "Adding files from a Git
repository", and Docker's docs on contexts, "URL fragments" and "URL queries"."""

import re
import urllib.parse
from dataclasses import dataclass, replace

from engine.errors import InvalidRequest

# user@host:path, as scp has it.
_SCP = re.compile(r"(?P<user>[A-Za-z0-9._-]+)@(?P<host>[A-Za-z0-9.-]+):(?!//)(?P<path>.+)")
_WEB = ("http://", "https://")
_SCHEMES = (*_WEB, "ssh://", "git://")
_QUERY = ("ref", "tag", "branch", "commit", "checksum", "subdir", "keep-git-dir", "submodules")


@dataclass(frozen=True, slots=True)
class GitAddress:
    url: str
    ref: str = ""  # a branch, a tag, a commit, or refs/...; "" for the default branch
    folder: str = ""  # only what is in it
    checksum: str = ""  # of the commit, or its beginning
    keep_git: bool = False
    submodules: bool = True  # theirs too

    def keeping_git(self) -> "GitAddress":
        return replace(self, keep_git=True)


@dataclass(frozen=True, slots=True)
class GitServer:
    """Where a repository is, in parts."""

    scheme: str  # http, https, ssh or git
    host: str
    port: int | None
    path: str
    user: str = ""
    password: str = ""

    @property
    def web_url(self) -> str:
        """Of http and https, without the account."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{host}{port}{self.path}"


def is_url(text: str) -> bool:
    return text.startswith(_WEB)


def is_git(text: str) -> bool:
    if text.startswith(("git://", "ssh://", "github.com/")) or _SCP.fullmatch(text):
        return True
    return is_url(text) and urllib.parse.urlsplit(text).path.endswith(".git")


def is_remote(text: str) -> bool:
    return is_url(text) or is_git(text)


def parse_git_address(text: str) -> GitAddress:
    """Raises InvalidRequest for what is no address."""
    if text.startswith("github.com/"):
        text = f"https://{text}"
    url, _, fragment = text.partition("#")
    url, _, query = url.partition("?")
    parse_git_server(url)
    ref, _, folder = fragment.partition(":")
    fields = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    for key in fields:
        if key not in _QUERY:
            raise InvalidRequest(f"cannot fetch {shown(text)}: unexpected query {key!r}")
    if fields and fragment:
        raise InvalidRequest(f"cannot fetch {shown(text)}: it says both a fragment and a query")
    for key, prefix in (("ref", ""), ("branch", "refs/heads/"), ("tag", "refs/tags/")):
        ref = prefix + fields[key] if fields.get(key) else ref
    return GitAddress(
        url=url,
        ref=ref or fields.get("commit", ""),
        folder=(folder or fields.get("subdir", "")).strip("/"),
        checksum=fields.get("checksum", "") or fields.get("commit", ""),
        keep_git=fields.get("keep-git-dir", "").lower() in ("true", "1"),
        submodules=fields.get("submodules", "").lower() not in ("false", "0"),
    )


def parse_git_server(url: str) -> GitServer:
    """Raises InvalidRequest for what is no address of a server."""
    if (scp := _SCP.fullmatch(url)) and not url.startswith(_SCHEMES):
        return GitServer("ssh", scp["host"], None, scp["path"], scp["user"])
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidRequest(f"cannot fetch {shown(url)!r}: it is no address") from None
    if not url.startswith(_SCHEMES) or not parts.hostname:
        raise InvalidRequest(f"cannot fetch {shown(url)!r}: it names no host")
    user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
    path = parts.path
    if parts.scheme == "ssh" and path.startswith("/~"):
        path = path[1:]  # a home there
    return GitServer(parts.scheme, parts.hostname, port, path, user, password)


def submodule_url(parent: str, text: str) -> str:
    """gitmodules(5), "url": what begins with ./ or ../ is relative to the repository's own."""
    if not text.startswith(("./", "../")):
        return text
    base = parent.rstrip("/")
    while text.startswith(("./", "../")):
        first, _, text = text.partition("/")
        if first == "..":
            above, slash, _ = base.rpartition("/")
            base = above if slash else base.partition(":")[0] + ":"
    return base + text if base.endswith(":") else f"{base}/{text}"


def shown(url: str) -> str:
    """Without a password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:xxxxx@", url)
