"""Files from elsewhere than the request: named and kept contexts, repositories, images, agents."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from dulwich.objects import Blob, Commit, Tree
from dulwich.repo import BaseRepo, MemoryRepo, Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

from engine.builder.remote import GitAddress, is_git, parse_git_address
from engine.errors import InvalidRequest
from tests.engine.builder.conftest import Builds, context_of
from tests.host import Host, UnixConnection

ONE, TWO = "1" * 64, "2" * 64


def keep(builds: Builds, context_id: str, files: dict[str, str], source: str = "") -> int:
    connection = UnixConnection(builds.daemon.socket, 60)
    try:
        path = f"/build/contexts/{context_id}?source={source}"
        headers = {"Content-Type": "application/x-tar"}
        connection.request("PUT", path, context_of(files), headers)  # type: ignore[arg-type]
        return connection.getresponse().status
    finally:
        connection.close()


def is_kept(builds: Builds, context_id: str) -> bool:
    return builds.daemon.call("GET", f"/build/contexts/{context_id}")[0] == 204


@pytest.mark.kernel
def test_a_kept_context_serves_many_builds(builds: Builds) -> None:
    assert not is_kept(builds, ONE)
    assert keep(builds, ONE, {"a": "kept", "Dockerfile": "not read"}, "here") == 201
    assert is_kept(builds, ONE)
    text = "FROM busybox:test\nCOPY a /a\nRUN --mount=target=/ctx cat /ctx/a > /b\n"
    first = builds.ok(text, t="of-kept", context=ONE)
    assert builds.run("of-kept", "cat", "/a", "/b") == "keptkept"
    assert builds.ok(text, t="of-kept", context=ONE).id == first.id
    # Content counts, not the id that the client gave it.
    assert keep(builds, TWO, {"a": "kept", "more": "x"}, "here") == 201
    assert not is_kept(builds, ONE)  # a newer one of the same source
    assert builds.ok("FROM busybox:test\nCOPY a /a\n", context=TWO).output.count("Using cache") == 1
    assert builds.build(text, context=ONE).status == 404
    assert builds.build(text, context="../../x").status == 400
    assert builds.daemon.call("POST", "/build/prune?all=1")[0] == 200
    assert not is_kept(builds, TWO)


@pytest.mark.kernel
def test_what_is_sent_again_is_not_read_again(builds: Builds) -> None:
    """The kept tree is what its own tar was, to the last byte, with what was ignored left out."""
    kept = builds.daemon.data_root / "builder/contexts"
    text = "FROM busybox:test\nCOPY . /c\n"
    files = {"a": "one", "b": "b", ".dockerignore": "b\nDockerfile\n.dockerignore\n"}
    first = builds.ok(text, files, t="sent-again")
    (folder,) = kept.iterdir()
    assert [path.name for path in (folder / "tree").iterdir()] == ["a"]
    unpacked = (folder / "tree/a").stat().st_ino
    assert builds.ok(text, files, t="sent-again").id == first.id
    assert (folder / "tree/a").stat().st_ino == unpacked
    # Another content takes its place; another Dockerfile of the same files is another context.
    other = builds.ok(text, {**files, "a": "two"}, t="sent-again")
    assert other.id != first.id
    assert [path.name for path in kept.iterdir()] != [folder.name]
    assert len(list(kept.iterdir())) == 1
    builds.ok("", {"D2": text, **files}, t="sent-otherwise", dockerfile="D2")
    assert builds.run("sent-otherwise", "ls", "/c") == "D2\na\n"
    assert len(list(kept.iterdir())) == 2
    assert builds.daemon.call("POST", "/build/prune?all=1")[0] == 200
    assert list(kept.iterdir()) == []


@pytest.mark.kernel
def test_builds_at_once_leave_each_other_what_was_sent(builds: Builds) -> None:
    """Without a tag they have one source, where the newest context takes the others' place."""
    texts = [f"FROM busybox:test\nLABEL number={number}\n" for number in range(12)]
    with ThreadPoolExecutor(6) as threads:
        for built in threads.map(builds.build, texts):
            assert not built.error


def test_named_contexts(builds: Builds) -> None:
    keep(builds, ONE, {"file": "named", "tool/in": "tool"})
    builds.ok("FROM busybox:test\nRUN echo other > /of\n", t="other-image")
    text = """\
FROM busybox:test AS replaced
RUN exit 1
FROM busybox:1.99
COPY --from=files file /file
COPY --from=Other /of /of
COPY --from=replaced /of /stage
RUN --mount=from=files,source=tool,target=/t cat /t/in > /tool
FROM files AS whole
"""
    contexts = {
        "files": f"kept:{ONE}",
        "other": "docker-image://other-image",
        "replaced": "docker-image://other-image:latest",
        "docker.io/library/busybox:1.99": "docker-image://busybox:test",
    }
    builds.ok(text.rpartition("FROM")[0], t="named", contexts=contexts)
    found = builds.run("named", "cat", "/file", "/of", "/stage", "/tool")
    assert found == "namedother\nother\ntool"
    whole = builds.ok(text, t="whole", contexts=contexts)
    layers = builds.image(whole.id)["RootFS"]
    assert len(layers["Layers"]) == 1  # type: ignore[call-overload,arg-type,index]
    for value in ("oci-layout:///x", "/etc", "kept:x"):
        assert builds.build(text, contexts={"files": value}).status in (400, 404)
    builds.daemon.call("POST", "/build/prune?all=1")


@pytest.fixture(scope="module")
def repository(builder_host: Host, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Address and the hash of the first of its two commits; `dir` and `link` in both."""
    folder = tmp_path_factory.mktemp("repository")
    with Repo.init(str(folder)) as repo:
        (folder / "dir").mkdir()
        (folder / "dir/run").write_text("#!/bin/sh\necho ran\n")
        (folder / "dir/run").chmod(0o755)
        (folder / "dir/Dockerfile").write_text("FROM busybox:test\nCOPY . /all\n")
        (folder / "link").symlink_to("dir/run")
        work = repo.get_worktree()
        work.stage(["dir/run", "dir/Dockerfile", "link"])
        who = b"a <a@example.org>"
        first = work.commit(message=b"one", committer=who, author=who)
        repo.refs[b"refs/tags/v1"] = first  # type: ignore[index]
        (folder / "dir/run").write_text("#!/bin/sh\necho newer\n")
        work.stage(["dir/run"])
        work.commit(message=b"two", committer=who, author=who)

        with serving(builder_host, repo) as address:
            yield address, first.decode()


@contextlib.contextmanager
def serving(host: Host, repo: BaseRepo) -> Iterator[str]:
    """The address of a repository, inside of the host's network."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    served = make_wsgi_chain(DictBackend({"/r.git": repo}))  # type: ignore[dict-item]
    server = host.call(
        lambda: make_server("127.0.0.1", 0, served, handler_class=Quiet)  # type: ignore[arg-type]
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/r.git"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.kernel
def test_repositories(builds: Builds, repository: tuple[str, str]) -> None:
    address, first = repository
    builds.ok(
        f"""\
FROM busybox:test
ADD {address} /head
ADD --checksum={first[:12]} {address}#v1:dir /v1
ADD --keep-git-dir=true {address}?ref={first} /commit
COPY --from=named dir/run /named
""",
        t="cloned",
        contexts={"named": f"{address}?tag=v1"},
    )
    script = "/head/dir/run; /v1/run; /head/link; cat /commit/.git/HEAD; sh /named; ls -a /head"
    assert builds.run("cloned", "sh", "-c", script).split() == [
        *("newer", "ran", "newer", first, "ran"),
        *(".", "..", "dir", "link"),
    ]  # fmt: skip
    builds.ok("", t="from-git", remote=f"{address}#v1:dir")
    assert builds.run("from-git", "/all/run") == "ran\n"
    builds.daemon.call("DELETE", "/images/cloned?force=1")
    builds.daemon.call("POST", "/build/prune?all=1")  # a .git counts as torn at the end
    for wrong, reason in (
        (f"{address}#none", "there is no none in it"),
        (f"{address}#:none", "there is no folder none in it"),
        (f"{address}?checksum=123", "not 123"),
        (f"{address}x.git", "cannot fetch"),
    ):
        assert reason in builds.build(f"FROM busybox:test\nADD {wrong} /x\n").error


@pytest.mark.kernel
def test_a_hostile_repository_touches_nothing_outside(builds: Builds, builder_host: Host) -> None:
    """A tree may say one name twice: a link, and a folder that would be written through it."""
    outside = builder_host.folder / "outside"
    outside.mkdir()
    with contextlib.closing(MemoryRepo.init_bare([], {})) as repo:
        store = repo.object_store
        blob, link = Blob.from_string(b"x"), Blob.from_string(os.fsencode(outside))
        inner, top, dotted = Tree(), Tree(), Tree()
        inner.add(b"escaped", 0o100644, blob.id)
        inner_row = b"40000 out\0" + bytes.fromhex(inner.id.decode())
        link_row = b"120000 out\0" + bytes.fromhex(link.id.decode())
        top = Tree.from_string(link_row + inner_row)
        dotted = Tree.from_string(b"40000 .git\0" + bytes.fromhex(inner.id.decode()))
        for each in (blob, link, inner, top, dotted):
            store.add_object(each)
        for ref, tree in ((b"refs/heads/twice", top), (b"refs/heads/dotted", dotted)):
            commit = Commit()
            commit.tree = tree.id
            commit.author = commit.committer = b"a <a@example.org>"
            commit.author_time = commit.commit_time = 0
            commit.author_timezone = commit.commit_timezone = 0
            commit.message = b"hostile"
            store.add_object(commit)
            repo.refs[ref] = commit.id  # type: ignore[index]
        with serving(builder_host, repo) as address:
            builds.build(f"FROM busybox:test\nADD {address}#twice /x\n")
            found = builds.build(f"FROM busybox:test\nADD {address}#dotted /x\n")
    assert "invalid repository: it holds '.git'" in found.error
    assert list(outside.iterdir()) == []


def test_addresses_of_repositories() -> None:
    for text in ("https://h/r.git", "http://h/r.git#a:b", "git@h:a/b", "ssh://h/r", "github.com/a"):
        assert is_git(text)
    for text in ("https://h/r", "a/r.git", "./github.com/a"):
        assert not is_git(text)
    address = parse_git_address("https://h/r.git?branch=main&subdir=a/b&keep-git-dir=1")
    assert address == GitAddress("https://h/r.git", "refs/heads/main", "a/b", keep_git=True)
    assert parse_git_address("github.com/a/b#v1") == GitAddress("https://github.com/a/b", "v1")
    for text in ("https://h/r.git?odd=1", "https://h/r.git?ref=a#b"):
        with pytest.raises(InvalidRequest):
            parse_git_address(text)


@pytest.mark.kernel
def test_an_agent_is_lent_to_a_step(builds: Builds, tmp_path: Path) -> None:
    path = str(tmp_path / "agent")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            for _ in range(2):  # the engine looks whether anybody is there, the step talks
                connection, _ = listening.accept()
                with connection:
                    if said := connection.recv(100):
                        connection.sendall(said.upper())

        thread = threading.Thread(target=answer)
        thread.start()
        text = (
            "FROM rootfs:/\n"
            "RUN --mount=type=ssh,mode=0666,uid=5 perl -MIO::Socket::UNIX -e '"
            "$a = IO::Socket::UNIX->new($ENV{SSH_AUTH_SOCK}); print $a q(signed); print <$a>' "
            "> /said; echo >> /said; stat -c '%u %a' $SSH_AUTH_SOCK >> /said; "
            "echo $SSH_AUTH_SOCK >> /said\n"
        )
        builds.ok(text, t="agent", ssh={"default": path})
        thread.join()
    assert builds.run("agent", "cat", "/said").split() == [
        *("SIGNED", "5", "666", "/run/buildkit/ssh_agent.0"),
    ]  # fmt: skip
    os.unlink(path)
    refused = builds.build(text, nocache=1, ssh={"default": path})
    assert f"cannot reach the SSH agent at {path}" in refused.error


@pytest.mark.kernel
def test_set_times_make_the_same_layers(builds: Builds) -> None:
    text = (
        "FROM scratch\nARG V\nWORKDIR /a/b\nCOPY f /f\n"
        "FROM busybox:test\nCOPY --from=0 / /\nRUN mkdir /d; echo x > /d/e\n"
    )

    def image(**query: object) -> dict[str, object]:
        built = builds.ok(text, {"f": "x"}, nocache=1, **query)
        return builds.image(built.id)

    epoch = {"SOURCE_DATE_EPOCH": "1600000000"}
    one, two = image(buildargs=epoch), image(buildargs=epoch)
    assert one["Id"] == two["Id"]
    assert one["Created"] == "2020-09-13T12:26:40Z"
    builds.ok(text, {"f": "x"}, t="timed", buildargs=epoch)
    assert set(builds.run("timed", "stat", "-c", "%Y", "/a/b", "/d/e").split()) == {"1600000000"}
    assert image()["Id"] != one["Id"]
    assert "SOURCE_DATE_EPOCH" in builds.build(text, buildargs={"SOURCE_DATE_EPOCH": "x"}).error


@pytest.mark.kernel
def test_a_linked_layer_outlives_what_lies_below(builds: Builds) -> None:
    text = "FROM busybox:test\nRUN echo {} > /below\nCOPY --link f /in/it/f\n"
    files = {"f": "x"}
    one = builds.image(builds.ok(text.format(1), files, t="linked").id)["RootFS"]
    two = builds.image(builds.ok(text.format(2), files, t="linked").id)["RootFS"]
    layers = [each["Layers"] for each in (one, two)]  # type: ignore[index]
    assert layers[0][1] != layers[1][1]
    assert layers[0][2] == layers[1][2]
    assert builds.run("linked", "cat", "/below", "/in/it/f") == "2\nx"


@pytest.mark.kernel
def test_what_a_stage_makes_counts_not_how(builds: Builds) -> None:
    text = (
        "FROM busybox:test AS made\nRUN echo {} > /log; echo same > /out\n"
        "FROM busybox:test\nCOPY --from=made /out /out\nRUN cat /out > /copy\n"
    )
    builds.ok(text.format("one"), t="by-content")
    again = builds.ok(text.format("two"), t="by-content")
    assert again.output.count("Using cache") == 2


@pytest.mark.kernel
def test_one_stage_without_the_cache(builds: Builds) -> None:
    text = (
        "FROM busybox:test AS one\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
        "FROM busybox:test AS two\nRUN true > /b\nFROM two\nCOPY --from=one /id /id\n"
    )
    first = builds.ok(text, t="filtered")
    assert builds.ok(text, t="filtered").id == first.id
    other = builds.ok(text, t="filtered", nocachestages=json.dumps(["One"]))
    assert other.output.count("Using cache") == 1
    assert other.id != first.id


@pytest.mark.kernel
def test_stages_hand_on_their_arguments_and_triggers_find_stages(builds: Builds) -> None:
    builds.ok(
        "FROM busybox:test\nONBUILD COPY --from=helper /h /h\nONBUILD ARG T=trigger\n", t="trigger"
    )
    builds.ok(
        "FROM busybox:test AS helper\nRUN echo helped > /h\n"
        "FROM trigger AS base\nARG A=inherited\n"
        "FROM base\nRUN echo $A $T > /args\n",
        t="handed-on",
    )
    assert builds.run("handed-on", "cat", "/h", "/args") == "helped\ninherited trigger\n"
