"""What builds fetch: through proxies, over SSH, with submodules, as somebody."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from engine.builder.remote import (
    GitAddress,
    GitServer,
    parse_git_address,
    parse_git_server,
    submodule_url,
)
from engine.errors import InvalidRequest
from tests.engine.builder.conftest import Builds, import_busybox
from tests.host import Host
from tests.proxy import Proxy, proxying

with_git = pytest.mark.skipif(shutil.which("git") is None, reason="there is no git program here")
# What sshd would run: the last word, by a shell.
SSH = """#!/bin/sh
echo "$*" >> {log}
for word; do :; done
exec sh -c "$word"
"""


@contextlib.contextmanager
def web(password: str = "") -> Iterator[int]:
    """A port of 127.0.0.1 with a file, and with a redirect to it from `/moved`."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", "http://files.example/file")
                self.end_headers()
                return
            said = self.headers.get("Authorization", "")
            content = f"{self.headers['Host']} {said}".strip().encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def with_proxy(host: Host, routes: dict[str, int]) -> Iterator[tuple[Builds, Proxy]]:
    """An engine that knows the way to nothing but a proxy."""
    with proxying(routes, host.call) as proxy:
        daemon = host.daemon("proxied", "--http-proxy", f"http://u:p@{proxy.address}")
        import_busybox(daemon)
        yield Builds(daemon), proxy
        for name in ("far", "busybox:test"):
            daemon.call("DELETE", f"/images/{name}?force=1")
        daemon.call("POST", "/build/prune?all=1")
        assert daemon.stop() == 0


@pytest.mark.kernel
def test_files_come_through_the_proxy(builder_host: Host) -> None:
    with web() as port, with_proxy(
        builder_host, {"files.example": port, "other.example": port}
    ) as (builds, proxy):  # fmt: skip
        text = "FROM busybox:test\nADD http://files.example/file /a\n"
        builds.ok(f"{text}ADD http://other.example/moved /b\n", t="far")
        assert builds.run("far", "cat", "/a", "/b") == "files.example" * 2
        source = "http://files.example/file"
        _, said = builds.daemon.call("POST", f"/images/create?fromSrc={source}")
        assert "cannot read the tar" in str(said)  # the server's word is no tar
        assert [target for _, target, _ in proxy.seen] == [
            "http://files.example/file",
            "http://other.example/moved",
            "http://files.example/file",
            source,
        ]
        assert {who for *_, who in proxy.seen} == {"Basic dTpw"}  # u:p
        _, info = builds.daemon.call("GET", "/info")
        assert isinstance(info, dict)
        assert info["HttpProxy"] == f"http://xxxxx:xxxxx@{proxy.address}"


@pytest.mark.kernel
def test_a_secret_for_a_host_stays_with_it(builder_host: Host) -> None:
    with web() as port, with_proxy(
        builder_host, {"files.example": port, "other.example": port}
    ) as (builds, _):  # fmt: skip
        value = base64.b64encode(b'{"HTTP_AUTH_TOKEN_other.example": "c2VjcmV0"}').decode()
        builds.headers["X-Pycompose-Build-Secrets"] = value
        text = "FROM busybox:test\nADD http://other.example/file /a\n"
        builds.ok(f"{text}ADD http://other.example/moved /b\n", t="far")
        assert builds.run("far", "cat", "/a") == "other.example Bearer secret"
        assert builds.run("far", "cat", "/b") == "files.example"


def git(folder: Path, *words: str) -> str:
    names = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "protocol.file.allow=always",
    )
    done = subprocess.run(
        ["git", *names, *words], cwd=folder, capture_output=True, text=True, check=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"},
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repositories(tmp_path: Path) -> Path:
    """`main` with the submodule `lib`, which has one itself; none is what its branch is at."""
    for name, below in (("deep", ""), ("lib", "deep"), ("main", "lib")):
        folder = tmp_path / name
        folder.mkdir()
        git(folder, "init", "-q", "-b", "main")
        (folder / name).write_text(name)
        if below:
            git(folder, "submodule", "add", "-q", f"../{below}", f"sub/{below}")
        git(folder, "add", ".")
        git(folder, "commit", "-qm", "one")
        (tmp_path / name / "newer").write_text("newer")
    for name in ("deep", "lib"):
        git(tmp_path / name, "add", ".")
        git(tmp_path / name, "commit", "-qm", "two")
    return tmp_path


@pytest.mark.kernel
@with_git
def test_repositories_over_ssh_with_their_submodules(
    builder_host: Host, repositories: Path
) -> None:
    programs = builder_host.folder / "programs"
    programs.mkdir()
    ssh, log = programs / "ssh", builder_host.folder / "ssh.log"
    ssh.write_text(SSH.format(log=log))
    ssh.chmod(0o755)
    search = {"PATH": f"{programs}:{os.environ['PATH']}"}
    daemon = builder_host.daemon("over-ssh", env=search)
    import_busybox(daemon)
    builds = Builds(daemon)
    text = f"""\
FROM busybox:test
ADD ssh://git@code.example:2222{repositories}/main /with
ADD git@code.example:{repositories}/main?submodules=false /without
"""
    agent = str(builder_host.folder / "agent.sock")
    builds.ok(text, t="far", ssh={"default": agent})
    found = builds.run(
        "far", "cat", "/with/main", "/with/sub/lib/lib", "/with/sub/lib/sub/deep/deep"
    )
    assert found == "mainlibdeep"
    assert builds.run("far", "ls", "/with/sub/lib") == "lib\nsub\n"  # at the commit it names
    assert builds.run("far", "ls", "/without/sub/lib") == ""
    asked = log.read_text().splitlines()
    assert all("-F none" in line and f'IdentityAgent="{agent}"' in line for line in asked)
    words = f"-p 2222 -l git -- code.example git-upload-pack '{repositories}/main'"
    assert any(line.endswith(words) for line in asked)
    # Without an agent it is said what is missing.
    ssh.write_text("#!/bin/sh\necho 'Permission denied (publickey).' >&2\nexit 255\n")
    refused = builds.build("FROM busybox:test\nADD git@code.example:none /x\n")
    assert "Permission denied" in refused.error
    assert "no SSH agent was lent to this build" in refused.error
    for name in ("far", "busybox:test"):
        daemon.call("DELETE", f"/images/{name}?force=1")
    daemon.call("POST", "/build/prune?all=1")


def test_servers_of_repositories() -> None:
    assert parse_git_address("git@h:a/b.git#v1:d") == GitAddress("git@h:a/b.git", "v1", "d")
    assert parse_git_server("git@h:a/b.git") == GitServer("ssh", "h", None, "a/b.git", "git")
    assert parse_git_server("ssh://h:22/~me/r") == GitServer("ssh", "h", 22, "~me/r")
    web_one = parse_git_server("https://me:to%40ken@h:8443/r.git")
    assert (web_one.web_url, web_one.user, web_one.password) == (
        "https://h:8443/r.git", "me", "to@ken"
    )  # fmt: skip
    for text in ("/etc", "file:///etc", "-oProxyCommand=x", "ext::sh", "https://", "ssh://h:x/r"):
        with pytest.raises(InvalidRequest):
            parse_git_server(text)
    with pytest.raises(InvalidRequest) as refused:
        parse_git_address("https://me:token@h/r.git?odd=1")
    assert "token" not in str(refused.value)


@pytest.mark.parametrize(
    ("parent", "text", "expected"),
    [
        ("https://h/a/b.git", "https://o/x", "https://o/x"),
        ("https://h/a/b.git", "../x.git", "https://h/a/x.git"),
        ("https://h/a/b.git/", "../../c/x", "https://h/c/x"),
        ("https://h/a/b", "./x", "https://h/a/b/x"),
        ("git@h:a/b.git", "../x", "git@h:a/x"),
        ("git@h:b.git", "../x", "git@h:x"),
    ],
)
def test_addresses_of_submodules(parent: str, text: str, expected: str) -> None:
    assert submodule_url(parent, text) == expected
