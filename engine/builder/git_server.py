"""Commits of git repositories on servers, by dulwich over http(s), ssh and git's own protocol.

Of this machine's users nothing is used: no keys, no settings, no credentials. Who one is comes with
the build: a lent SSH agent, the secrets GIT_AUTH_TOKEN and GIT_AUTH_HEADER, or the address itself.
Imported where it is needed: dulwich takes 200 ms.
"""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from dulwich.client import (
    GitClient,
    HttpGitClient,
    HTTPUnauthorized,
    SSHGitClient,
    SSHVendor,
    SubprocessWrapper,
    TCPGitClient,
    default_user_agent_string,
)
from dulwich.config import ConfigFile
from dulwich.errors import GitProtocolError, NotGitRepository
from dulwich.object_store import peel_sha
from dulwich.objects import Commit, ObjectID
from dulwich.repo import Repo
from urllib3.exceptions import HTTPError

from engine.builder import web
from engine.builder.access import Access
from engine.builder.remote import GitServer, parse_git_server, shown
from engine.errors import Failure, InvalidRequest, NotFound


def fetch(url: str, ref: str, folder: Path, access: Access, *, is_own: bool) -> tuple[Repo, Commit]:
    """A repository in `folder`, which is made, that has the commit of `ref` and all that is in it.
    `is_own`: the build itself names it, so secrets that name no host are meant for it. Raises
    NotFound, Failure."""
    server = parse_git_server(url)

    def progress(_: bytes) -> None:
        if access.stopped.is_set():
            raise Failure(f"the clone of {shown(url)} was cancelled")

    folder.mkdir(parents=True)
    repo = Repo.init(str(folder))
    ssh = _Ssh(access)
    try:
        client, path = _client(server, access, ssh, is_own=is_own)
        advertised = {
            bytes(name): bytes(sha)
            for name, sha in client.get_refs(path).refs.items()
            if sha is not None
        }
        wanted = ObjectID(_wanted(url, ref, advertised))

        def want(refs: object, depth: int | None = None) -> list[ObjectID]:
            return [wanted]

        try:
            client.fetch(path, repo, want, progress=progress, depth=1)
        except GitProtocolError:
            # A commit that no name leads to: some servers give it only with all the rest.
            client.fetch(path, repo, progress=progress)
        _, commit = peel_sha(repo.object_store, wanted)
        if not isinstance(commit, Commit):
            raise InvalidRequest(f"cannot fetch {shown(url)}: {ref} is no commit")
    except BaseException as error:
        repo.close()
        if isinstance(error, _REFUSED):
            raise Failure(f"cannot fetch {shown(url)}: {_reason(error, server, access)}") from error
        raise
    finally:
        ssh.close()
    return repo, commit


_REFUSED = (HTTPUnauthorized, GitProtocolError, NotGitRepository, HTTPError, KeyError, OSError)


def _reason(error: BaseException, server: GitServer, access: Access) -> str:
    if isinstance(error, HTTPUnauthorized):
        return (
            "it wants to know who asks; say so by a secret of the build, GIT_AUTH_TOKEN, or by "
            "user:password@ in the address"
        )
    if server.scheme == "ssh" and isinstance(error, FileNotFoundError):
        return "there is no ssh program on the engine's machine"
    if server.scheme == "ssh" and not access.agent:
        return f"{str(error).strip()}; no SSH agent was lent to this build (--ssh default)"
    return web.reason(error) if isinstance(error, HTTPError | OSError) else str(error)


def _client(
    server: GitServer, access: Access, ssh: "_Ssh", *, is_own: bool
) -> tuple[GitClient, bytes]:
    """And the path to ask it for."""
    path = os.fsencode(server.path)
    match server.scheme:
        case "ssh":
            return SSHGitClient(
                server.host,
                server.port,
                server.user or None,
                vendor=ssh,
                config=ConfigFile(),
            ), path
        case "git":
            return TCPGitClient(server.host, server.port), path
    url = server.web_url
    headers = {"User-agent": default_user_agent_string(), **_who(server, access, is_own=is_own)}
    pool = web.pool(url, access.proxies, headers)
    return HttpGitClient(url, pool_manager=pool, config=ConfigFile()), b""


def _who(server: GitServer, access: Access, *, is_own: bool) -> Mapping[str, str]:
    """As BuildKit does it: a secret may name its host."""

    def secret(name: str) -> str:
        return access.secret(f"{name}.{server.host}", *([name] if is_own else []))

    if header := secret("GIT_AUTH_HEADER"):
        return {"Authorization": header}
    if token := secret("GIT_AUTH_TOKEN"):
        return {"Authorization": web.basic(f"x-access-token:{token}")}
    if server.user or server.password:
        return {"Authorization": web.basic(f"{server.user}:{server.password}")}
    return {}


class _Ssh(SSHVendor):
    """The machine's ssh, with no keys but those of the lent agent. The key of a server is believed
    when it is met first, as BuildKit does, and has to be the same from then on."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._running: list[subprocess.Popen[bytes]] = []

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def run_command(
        self,
        host: str,
        command: bytes,
        username: str | None = None,
        port: int | None = None,
        password: str | None = None,
        key_filename: str | None = None,
        ssh_command: str | None = None,
        protocol_version: int | None = None,
    ) -> SubprocessWrapper:
        known = self._access.known_hosts
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "30",
            "ServerAliveInterval": "15",
            "IdentityFile": "none",
            "IdentityAgent": f'"{self._access.agent}"' if self._access.agent else "none",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": f'"{known}"',
            "SetEnv": f"GIT_PROTOCOL=version={protocol_version or 0}",
        }
        process = subprocess.Popen(
            [
                *("ssh", "-x", "-T", "-F", "none"),
                *(word for name, value in options.items() for word in ("-o", f"{name}={value}")),
                *(("-p", str(port)) if port else ()),
                *(("-l", username) if username else ()),
                *("--", host, os.fsdecode(command)),
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/"},
        )
        self._running.append(process)
        return SubprocessWrapper(process)


def _wanted(url: str, ref: str, advertised: Mapping[bytes, bytes]) -> bytes:
    """The hash that a ref means. Raises NotFound."""
    text = ref.encode()
    names = (text, b"refs/heads/" + text, b"refs/tags/" + text) if ref else (b"HEAD",)
    for name in names:
        if name in advertised:
            return advertised[name]
    if len(text) == 40 and not text.strip(b"0123456789abcdef"):
        return text
    raise NotFound(f"cannot fetch {shown(url)}: there is no {ref or 'HEAD'} in it")
