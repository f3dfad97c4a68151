"""Each instruction and flag, in images that are built for real."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path

import pytest

from tests.engine.builder.conftest import Builds, context_of
from tests.host import Host

pytestmark = pytest.mark.kernel


def test_everything_that_only_configures(builds: Builds) -> None:
    builds.ok(
        """\
FROM busybox:test
ARG PORT=80
MAINTAINER somebody
LABEL a=1 "b c"="d e"
LABEL f $PORT
ENV OLD form of it
ENV A=1 B="x $A y" C=${NONE:-three}
EXPOSE $PORT 53/udp 8000-8002
USER 1000:1000
VOLUME /data "/more"
VOLUME ["/json"]
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s --timeout=1m30s --start-period=2s --retries=4 CMD test -e /x
ONBUILD RUN echo later
ENTRYPOINT echo entry
CMD ["arg"]
""",
        t="configured",
        labels={"z": 'quo"ted $A'},
    )
    config = builds.config("configured")
    assert config["Labels"] == {"a": "1", "b c": "d e", "f": "80", "z": 'quo"ted $A'}
    assert config["Env"][1:] == ["OLD=form of it", "A=1", "B=x  y", "C=three"]
    assert sorted(config["ExposedPorts"]) == [  # type: ignore[call-overload]
        "53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp",
    ]  # fmt: skip
    assert config["User"] == "1000:1000"
    assert sorted(config["Volumes"]) == ["/data", "/json", "/more"]  # type: ignore[call-overload]
    assert config["StopSignal"] == "SIGINT"
    assert config["Shell"] == ["/bin/sh", "-ec"]
    assert config["Healthcheck"] == {
        "Test": ["CMD-SHELL", "test -e /x"],
        "Interval": 5 * 10**9,
        "Timeout": 90 * 10**9,
        "StartPeriod": 2 * 10**9,
        "Retries": 4,
    }
    assert config["OnBuild"] == ["RUN echo later"]
    assert config["Entrypoint"] == ["/bin/sh", "-ec", "echo entry"]
    assert config["Cmd"] == ["arg"]
    assert builds.image("configured")["Author"] == "somebody"


def test_an_entrypoint_forgets_the_command_of_its_base(builds: Builds) -> None:
    builds.ok('FROM busybox:test\nCMD ["base"]\n', t="with-cmd")
    builds.ok('FROM with-cmd\nENTRYPOINT ["echo"]\n', t="with-entrypoint")
    assert builds.config("with-entrypoint")["Cmd"] is None


def test_triggers_run_in_the_child(builds: Builds) -> None:
    builds.ok(
        "FROM busybox:test\nONBUILD COPY a /a\nONBUILD RUN <<EOF\ncat /a > /b\nEOF\n", t="parent"
    )
    built = builds.ok("FROM parent\n", {"a": "triggered"}, t="child")
    assert "# Executing 2 build triggers" in built.output
    assert builds.run("child", "cat", "/b") == "triggered"
    assert builds.config("child")["OnBuild"] is None


def test_args_have_their_scope(builds: Builds) -> None:
    built = builds.ok(
        """\
ARG OUTER=outer BASE
FROM $BASE
ARG OUTER
ARG GIVEN=default
ARG UNSET
ENV GIVEN_TOO=env
ARG GIVEN_TOO=arg
RUN echo "$OUTER $GIVEN [$UNSET] $GIVEN_TOO $http_proxy" > /args
""",
        t="args",
        buildargs={"BASE": "busybox:test", "GIVEN": "given", "http_proxy": "proxy", "UNUSED": "x"},
    )
    assert builds.run("args", "cat", "/args") == "outer given [] env proxy\n"
    assert "One or more build-args [UNUSED] were not consumed" in built.output
    again = builds.ok(
        "FROM busybox:test\nARG A\nRUN echo $A > /a\n", t="keyed", buildargs={"A": "1"}
    )
    other = builds.ok(
        "FROM busybox:test\nARG A\nRUN echo $A > /a\n", t="keyed", buildargs={"A": "2"}
    )
    assert again.id != other.id
    assert builds.run("keyed", "cat", "/a") == "2\n"


def test_labels_of_the_request_are_the_targets(builds: Builds) -> None:
    text = "FROM busybox:test AS one\nLABEL own=1\nFROM busybox:test AS two\nLABEL own=2\n"
    for target, own in (("one", "1"), ("two", "2"), ("", "2")):
        builds.ok(text, t="labelled", target=target, labels={"given": "$A", "b": "x"})
        assert builds.config("labelled")["Labels"] == {"own": own, "given": "$A", "b": "x"}


def test_here_documents(builds: Builds) -> None:
    builds.ok(
        """\
FROM busybox:test
ENV NAME=world
RUN <<EOF
echo one > /out
echo "two $NAME" >> /out
EOF
RUN cat <<-'END' > /quoted
\tkept $NAME
\tEND
RUN <<SCRIPT
#!/bin/cat
script itself
SCRIPT
COPY <<EOF <<"RAW" /files/
hello $NAME
EOF
hello $NAME
RAW
""",
        t="heredocs",
    )
    assert builds.run("heredocs", "cat", "/out") == "one\ntwo world\n"
    assert builds.run("heredocs", "cat", "/quoted") == "kept $NAME\n"
    found = builds.run("heredocs", "cat", "/files/EOF", "/files/RAW")
    assert found == "hello world\nhello $NAME\n"
    assert "script" not in builds.run("heredocs", "ls", "-a", "/")


def test_files_that_may_be_missing(builds: Builds) -> None:
    """As BuildKit has it: `COPY package.json yarn.lock* ./` is how lock files are copied."""
    text = "FROM busybox:test\nCOPY a lock* none* /work/\nCOPY none* /nowhere/\n"
    builds.ok(text, {"a": "a", "lock1": "l"}, t="optional")
    assert builds.run("optional", "ls", "/work") == "a\nlock1\n"
    missing = builds.build("FROM busybox:test\nCOPY a none /work/\n", {"a": "a"})
    assert missing.error.endswith("Dockerfile:2: COPY a none /work/")


def test_what_comes_from_afar_and_fails_says_where(builds: Builds) -> None:
    for line in ("FROM 127.0.0.1:1/nothing", "FROM busybox:test\nADD http://127.0.0.1:1/f /f"):
        error = builds.build(f"{line}\n").error
        assert "connection refused" in error.lower()
        last = line.splitlines()[-1]
        assert error.endswith(f"\nDockerfile:{len(line.splitlines())}: {last}")


def test_a_checksum_is_of_what_comes_from_afar(builds: Builds) -> None:
    built = builds.build("FROM busybox:test\nADD --checksum=sha256:00 a /a\n", {"a": "a"})
    assert "checksum requires HTTP(S) or Git sources" in built.error


def test_a_base_does_not_comment_on_what_is_built_on_it(builds: Builds) -> None:
    builds.ok("FROM busybox:test\nENV A=1\n", t="uncommented")
    assert builds.image("busybox:test")["Comment"] == "Imported from -"
    assert builds.image("uncommented")["Comment"] == ""


def test_owners_and_modes_of_what_is_made_on_the_way(builds: Builds) -> None:
    """As BuildKit has them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        info = tarfile.TarInfo("f")
        info.mode, info.uid = 0o604, 7
        archive.addfile(info)
    builds.ok(
        """\
FROM busybox:test
RUN echo u:x:9:8::/:/x >> /etc/passwd
COPY --chown=u a /named
COPY --chmod=711 a /made/on/way
ADD --chmod=711 packed.tar /unpacked
USER 5:6
WORKDIR /work
ARG MANY="81 82"
EXPOSE 80 127.0.0.1:90:91 $MANY
""",
        {"a": "", "packed.tar": packed.getvalue()},
        t="on-the-way",
    )
    names = "/named /made /made/on/way /unpacked/f /work"
    assert builds.run("on-the-way", "sh", "-c", f"stat -c '%u:%g %a' {names}").splitlines() == [
        *("9:8 644", "0:0 711", "0:0 711", "7:0 604", "5:6 755"),
    ]  # fmt: skip
    ports = builds.config("on-the-way")["ExposedPorts"]
    assert sorted(ports) == ["80/tcp", "81/tcp", "82/tcp", "91/tcp"]  # type: ignore[call-overload]


def link_to(target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def test_copies_of_many_kinds(builds: Builds) -> None:
    files = {
        "a.txt": "a", "b.txt": "b", "c.md": "c", "dir/in/deep": "deep", "dir/top": "top",
        "link": link_to("a.txt"), "dir/to": link_to("top"),
    }  # fmt: skip
    builds.ok(
        """\
FROM busybox:test
COPY *.txt /texts/
COPY dir /copied
COPY link /was-link
COPY --chown=12:34 --chmod=640 c.md /owned
COPY --chown=root:root --chmod=u=rwX,go= dir /private
COPY --parents dir/in/deep ./x/../dir/top /parents/
COPY --exclude=in --exclude=*.no dir /without
COPY ["a.txt", "/json form"]
COPY --link a.txt b.txt /
WORKDIR /w
COPY a.txt .
COPY a.txt sub/new
""",
        files,
        t="copies",
    )
    script = (
        "ls /texts /copied /without /parents; cat /was-link '/json form' /a.txt /b.txt /w/a.txt "
        "/w/sub/new /parents/dir/in/deep; echo; stat -c '%u:%g %a' /owned /private /private/top; "
        "readlink /copied/to; test -L /was-link || echo no link"
    )
    assert builds.run("copies", "sh", "-c", script) == (
        "/copied:\nin\nto\ntop\n\n/parents:\ndir\n\n/texts:\na.txt\nb.txt\n\n/without:\nto\ntop\n"
        "aaabaadeep\n12:34 640\n0:0 700\n0:0 600\ntop\nno link\n"
    )


def test_a_destination_is_where_its_links_lead(builds: Builds) -> None:
    builds.ok(
        """\
FROM busybox:test
RUN echo old > /file && ln -s file /to-file && ln -s /new/place /to-nothing && ln -s new /to-new
COPY a /to-file
COPY a /to-nothing/
WORKDIR /to-new/below
COPY --chmod=g+w d /opened/
COPY **/b /flat/
""",
        {"a": "a", "d/b": "b", "d/e/b": "deep"},
        t="followed",
    )
    said = builds.run(
        "followed", "sh", "-c",
        "cat /file /new/place/a; ls /new; ls /flat; stat -c %A /opened /opened/b; "
        "readlink /to-file",
    )  # fmt: skip
    assert said == "aabelow\nplace\nb\ndrwxrwxr-x\n-rw-rw-r--\nfile\n"


def test_sources_stay_inside_of_the_context(builds: Builds) -> None:
    for name, target in (("up", "../../../../../../etc/passwd"), ("abs", "/etc/passwd")):
        built = builds.build(
            f"FROM busybox:test\nCOPY {name} /x\n", {name: link_to(target)}, t="escape"
        )
        assert "file not found in build context" in built.error
        assert "Dockerfile:2: COPY" in built.error
    built = builds.build("FROM busybox:test\nCOPY ../../etc/shadow /x\n")
    assert "file not found in build context" in built.error
    built = builds.build("FROM busybox:test\n", dockerfile="../../../etc/passwd")
    assert "Cannot locate specified Dockerfile" in built.error
    built = builds.build("FROM busybox:test\n", {"df": link_to("/etc/passwd")}, dockerfile="df")
    assert "Cannot locate specified Dockerfile" in built.error


def test_targets_stay_inside_of_the_image(builds: Builds) -> None:
    builds.ok(
        "FROM busybox:test\nCOPY out /\nCOPY a /out/pyc-escaped\nCOPY a /out/\n",
        {"a": "x", "out/out": link_to("/../../../var/tmp"), "out/var/tmp/there": ""},
        t="inside",
    )
    assert builds.run("inside", "ls", "/var/tmp") == "a\npyc-escaped\nthere\n"


def test_ignored_files_are_not_there(builds: Builds) -> None:
    files: dict[str, str | bytes | tarfile.TarInfo] = {
        ".dockerignore": "# comment\n.dockerignore\n*.log\nsecret\n**/cache\n!kept.log\n",
        "a.log": "", "kept.log": "", "secret/key": "", "d/cache/x": "", "d/y": "",
    }  # fmt: skip
    builds.ok("FROM busybox:test\nCOPY . /all\n", files, t="ignored")
    assert builds.run("ignored", "sh", "-c", "cd /all; ls; ls d").split() == [
        "Dockerfile", "d", "kept.log", "y",
    ]  # fmt: skip
    files["other.dockerignore"] = "d\n*.dockerignore\n"
    files["other"] = "FROM busybox:test\nCOPY . /all\n"
    builds.ok("", files, t="ignored", dockerfile="other")
    assert "a.log" in builds.run("ignored", "ls", "/all")


class Serving:
    """One file at any path, on the loopback of the host where the engine lives."""

    def __init__(self, host: Host, content: bytes) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *arguments: object) -> None:
                pass

        self.server = host.call(lambda: http.server.HTTPServer(("127.0.0.1", 0), Handler))
        self.thread = threading.Thread(target=self.server.serve_forever)

    def __enter__(self) -> str:
        self.thread.start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def test_add_unpacks_and_fetches(builds: Builds, builder_host: Host) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        info = tarfile.TarInfo("inside/file")
        info.size, info.uid = 4, 77
        archive.addfile(info, io.BytesIO(b"text"))
    content = b"fetched"
    digest = hashlib.sha256(content).hexdigest()
    with Serving(builder_host, content) as address:
        builds.ok(
            f"""\
FROM busybox:test
ADD packed.tgz /unpacked
ADD --unpack=false packed.tgz /whole.tgz
ADD --checksum=sha256:{digest} {address}/name.bin /got/
ADD {address}/name.bin /named
""",
            {"packed.tgz": packed.getvalue()},
            t="added",
        )
        bad = builds.build(f"FROM busybox:test\nADD --checksum=sha256:{'0' * 64} {address}/x /x\n")
    assert "digest mismatch" in bad.error
    script = (
        "cat /unpacked/inside/file /got/name.bin /named; stat -c %u /unpacked/inside/file; "
        "ls /whole.tgz"
    )
    assert builds.run("added", "sh", "-c", script) == "textfetchedfetched77\n/whole.tgz\n"
    refused = builds.build("FROM busybox:test\nADD git@git.invalid:a/b.git /x\n").error
    assert "cannot fetch git@git.invalid:a/b.git" in refused
    assert "no SSH agent was lent to this build (--ssh default)" in refused


def test_a_context_from_afar(builds: Builds, builder_host: Host) -> None:
    archive = context_of({"Dockerfile": "FROM busybox:test\nCOPY a /a\n", "a": "far"})
    with Serving(builder_host, archive) as address:
        builds.ok("", remote=f"{address}/context.tar", t="far")
    assert builds.run("far", "cat", "/a") == "far"
    with Serving(builder_host, b"FROM busybox:test\nRUN echo alone > /a\n") as address:
        builds.ok("", remote=f"{address}/Dockerfile", t="far")
    assert builds.run("far", "cat", "/a") == "alone\n"
    for remote in ("file:///etc/passwd", "--upload-pack=x"):
        assert builds.build("", remote=remote).status == 400
    assert (
        "cannot fetch git://x.invalid/y.git"
        in builds.build("", remote="git://x.invalid/y.git").error
    )


def test_mounts_of_a_run(builds: Builds) -> None:
    text = """\
FROM busybox:test AS tool
RUN echo tool > /tool
FROM busybox:test
RUN --mount=target=/ctx --mount=from=tool,source=/tool,target=/t cat /ctx/a /t > /out
RUN --mount=type=bind,target=/ctx,rw echo changed > /ctx/a
RUN --mount=target=/ctx cat /ctx/a >> /out
RUN --mount=type=cache,target=/cache,id=kept echo $N >> /cache/lines; cat /cache/lines > /lines
RUN --mount=type=tmpfs,target=/scratch,size=1m touch /scratch/x
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
"""
    builds.ok(text, {"a": "context\n"}, t="mounted")
    assert builds.run("mounted", "cat", "/out") == "context\ntool\ncontext\n"
    gone = builds.run("mounted", "sh", "-c", "ls -d /ctx /cache /scratch /run /t")
    assert gone.count("No such") == 5
    builds.ok(text.replace("$N", "2"), {"a": "context\n"}, t="mounted")
    assert builds.run("mounted", "cat", "/lines") == "\n2\n"
    for mount, reason in (
        ("type=ssh,required", "SSH agent 'default' is required"),
        ("type=secret,id=x,required=true", "is required"),
        ("type=odd,target=/x", "unsupported mount type"),
    ):
        assert reason in builds.build(f"FROM busybox:test\nRUN --mount={mount} true\n").error


def test_networks_and_power_of_a_run(builds: Builds) -> None:
    builds.ok(
        """\
FROM busybox:test
RUN --network=none ls /sys/class/net > /none
RUN ls /sys/class/net > /own
RUN grep CapEff /proc/self/status > /caps
""",
        t="net",
    )
    assert builds.run("net", "cat", "/none") == "lo\n"
    assert "eth0" in builds.run("net", "cat", "/own")
    assert "00000000a80425fb" in builds.run("net", "cat", "/caps")
    for flag, entitlement in (
        ("--security=insecure", "security.insecure"),
        ("--network=host", "network.host"),
    ):
        text = f"FROM busybox:test\nRUN {flag} grep CapEff /proc/self/status > /caps\n"
        refused = builds.build(text)
        assert f"{entitlement} is not allowed" in refused.error
        assert "Dockerfile:2: RUN" in refused.error + refused.details
        builds.ok(text, t="power", entitlements=json.dumps([entitlement]))
        caps = int(builds.run("power", "cat", "/caps").split()[1], 16)
        assert (caps == 0xA80425FB) == (entitlement == "network.host")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be empty"),
        ("RUN x\n", "no build stage in current context"),
        ("FROM a b\n", "FROM requires either one or three arguments"),
        ("FROM busybox:test\nCOPY a\n", "at least two arguments"),
        ("FROM busybox:test\nENV\n", "requires at least one argument"),
        ("FROM busybox:test\nRUN <<EOF\nx\n", "unterminated heredoc"),
        ("FROM busybox:test\nONBUILD ONBUILD RUN x\n", "isn't allowed"),
        ("FROM busybox:test\nEXPOSE 70000\n", "invalid containerPort: 70000"),
        ("FROM busybox:test\nCOPY --odd a /b\n", "unknown flag: --odd"),
        ("FROM busybox:test\nCOPY --chwon=1 a /b\n", "did you mean chown?"),
        (
            "FROM busybox:test\nRUN --device=a.b/c=d,required x\n",
            'required device "a.b/c=d" is not registered',
        ),
        (
            "FROM busybox:test\nRUN --device=x,y a\n",
            "line 2: invalid field 'y' must be a key=value",
        ),
        ("FROM busybox:test\nRUN --device=name=x,required=2 a\n", "invalid value for required: 2"),
        ("FROM busybox:test\nCOPY --chown a /b\n", "missing a value on flag: --chown"),
        ("FROM busybox:test\nCOPY --link= a /b\n", "missing a value on flag: --link"),
        ("FROM busybox:test\nCOPY --chown=1 --chown=2 a /b\n", "duplicate flag specified: --chown"),
        ("FROM busybox:test\nCOPY --Chown=1 a /b\n", "unknown flag: --Chown (did you mean chown?)"),
        ("FROM busybox:test\nCOPY --link=1 a /b\n", "expecting boolean value for flag --link"),
        ("FROM busybox:test\nCOPY a <<EOF\nEOF\n", "cannot accept a heredoc as a destination"),
        ("FROM busybox:test\nVOLUME []\n", "VOLUME requires at least one argument"),
        ('FROM busybox:test\nRUN ["a", 1]\n', "line 2: when using JSON array syntax"),
        ("FROM busybox:test\nRUN --mount=type=bind a\n", 'invalid mount target "/"'),
        ("FROM busybox:test\nRUN --mount=target=/a,size=1 a\n", "unexpected key 'size' for mount"),
        ("FROM busybox:test\nRUN --mount=target=/a,uid=1 a\n", 'uid not allowed for "bind" type'),
        ("FROM busybox:test\nSTOPSIGNAL FOO\n", "invalid signal: FOO"),
        (
            "FROM busybox:test AS a\nCOPY --from=a /x /y\n",
            "circular dependency detected on stage: a",
        ),
        ("FROM busybox:test\nCOPY --from=3 /x /y\n", "line 2: invalid stage index 3"),
        ("FROM busybox:test\nRUN touch /a\nENV =x\n", "line 3: ENV names can not be blank"),
        ("FROM busybox:test\nRUN touch /a\nRUN --mount=type=x y\n", "line 3: unsupported mount"),
        ("FROM scratch\n", "No image was generated"),
        ("FROM busybox:test\nCOPY --from=scratch /a /b\n", "'scratch' is a reserved name"),
        ("FROM busybox:test\nCOPY --from=busybox:test /a /b\n", "COPY failed: stat /a: file does"),
        ("FROM busybox:test\nCOPY [a /b/\n", "syntax error in pattern '[a'"),
        ("FROM busybox:test\nRUN mkdir -p /b/Dockerfile\nCOPY Dockerfile /b/\n", "with a file"),
    ],
)
def test_refusals(builds: Builds, text: str, reason: str) -> None:
    assert reason in builds.build(text).error


def test_words_after_two_dashes_are_no_flags_and_a_mount_goes_where_the_step_works(
    builds: Builds,
) -> None:
    builds.ok(
        "FROM busybox:test\nWORKDIR /w\nRUN --mount=type=bind -- cat a > /seen\n"
        "COPY --chown=1:2 -- a /b\nENTRYPOINT\nCMD cat /seen /b\n",
        {"a": "a"},
        t="dashes",
    )
    assert builds.run("dashes") == "aa"


def test_a_quiet_build_that_fails_says_what_it_did(builds: Builds) -> None:
    failed = builds.build("FROM busybox:test\nRUN echo word; exit 3\n", q="1")
    assert failed.status == 200
    assert "Step 2/2 : RUN echo word; exit 3\n" in failed.output
    assert "\nword\n" in failed.output
    assert failed.code == 3
    assert builds.ok("FROM busybox:test\nRUN true\n", q="1").output.startswith("sha256:")


def test_a_device_that_is_not_required_is_done_without(builds: Builds) -> None:
    built = builds.ok("FROM busybox:test\nRUN --device=vendor.com/gpu=* touch /a\n")
    assert '[Warning] Optional device "vendor.com/gpu=*" is not registered' in built.output


def test_a_hostile_context_touches_nothing_outside(builds: Builds) -> None:
    device = tarfile.TarInfo()
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    assert "a device" in builds.build("FROM busybox:test\n", {"null": device}).error
    outside = builds.build("FROM busybox:test\n", {"../../escaped": "x"})
    assert "leads out of the archive" in outside.error
    through = builds.build(
        "FROM busybox:test\nCOPY . /all\n",
        {"out": link_to("/var/tmp"), "out/pyc-through-a-link": "x"},
    )
    assert through.status == 400
    hard = tarfile.TarInfo()
    hard.type, hard.linkname = tarfile.LNKTYPE, "/etc/passwd"
    assert "a hard link to" in builds.build("FROM busybox:test\n", {"h": hard}).error
    assert not Path("/var/tmp/pyc-through-a-link").exists()


def test_only_the_classic_call_is_answered(builds: Builds) -> None:
    for query, reason in (
        ({"version": "2"}, "BuildKit"),
        ({"squash": "1"}, "squash"),
        ({"isolation": "hyperv"}, 'unsupported isolation: "hyperv"'),
        ({"securityopt": '["seccomp=unconfined"]'}, "security options are not supported"),
        ({"t": f"a@sha256:{'0' * 64}"}, "build tag cannot contain a digest"),
        ({"contexts": '{"a": "oci-layout:///x"}'}, "as the context 'a'"),
        ({"buildargs": '{"BUILDKIT_SYNTAX": "some/frontend"}'}, "cannot read the syntax"),
        ({"remote": "client-session"}, "only http and https"),
        ({"platform": "linux/riscv64"}, ""),
    ):
        built = builds.build("FROM busybox:test\nRUN true\n", **query)
        assert built.error
        assert reason in built.error
