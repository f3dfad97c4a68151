"""Whole builds by the API: what is in the images, and what the client is told."""

from __future__ import annotations

import json

import pytest

from tests.engine.builder.conftest import Builds

pytestmark = pytest.mark.kernel


def test_an_image_has_what_its_dockerfile_says(builds: Builds) -> None:
    built = builds.ok(
        """\
FROM busybox:test
ENV GREETING="hello there"
WORKDIR /work
COPY file.txt .
RUN echo "$GREETING" > said && touch second
CMD ["sh", "-c", "cat file.txt said; echo $PWD"]
""",
        {"file.txt": "content\n"},
        t=["first:one", "second"],
    )
    assert builds.run("first:one") == "content\nhello there\n/work\n"
    assert builds.image("second:latest")["Id"] == built.id
    config = builds.config("first:one")
    assert config["Env"][1:] == ["GREETING=hello there"]
    assert config["WorkingDir"] == "/work"
    assert config["Cmd"] == ["sh", "-c", "cat file.txt said; echo $PWD"]
    short = built.id.removeprefix("sha256:")[:12]
    lines = built.output.splitlines()
    assert lines[0] == "Step 1/6 : FROM busybox:test"
    assert 'Step 5/6 : RUN echo "$GREETING" > said && touch second' in lines
    assert lines[-3:] == [
        f"Successfully built {short}",
        "Successfully tagged first:one",
        "Successfully tagged second:latest",
    ]


def test_a_layer_holds_only_what_the_step_changed(builds: Builds) -> None:
    builds.ok("FROM busybox:test\nRUN rm /etc/group && echo x > /new\n", t="changes")
    layers = builds.image("changes")["RootFS"]
    assert isinstance(layers, dict)
    assert len(layers["Layers"]) == 2
    found = builds.run("changes", "sh", "-c", "ls /etc; ls -d /new /dev/null")
    assert "group" not in found
    assert "/new" in found
    builds.ok("FROM busybox:test\nRUN true\n", t="nothing")
    layers = builds.image("nothing")["RootFS"]
    assert isinstance(layers, dict)
    assert len(layers["Layers"]) == 1


def test_a_failing_command_says_where_and_what(builds: Builds) -> None:
    built = builds.build(
        "FROM busybox:test\n\nRUN echo last words; echo worse >&2; exit 7\n", t="failed"
    )
    assert built.status == 200
    assert built.code == 7
    assert built.error == (
        "The command '/bin/sh -c echo last words; echo worse >&2; exit 7' returned a non-zero "
        "code: 7"
    )
    place, *said = built.details.splitlines()
    assert place == "Dockerfile:3: RUN"
    assert sorted(said) == ["last words", "worse"]
    assert builds.daemon.call("GET", "/images/failed/json")[0] == 404


def test_what_cannot_be_read_is_refused_before_anything_is_built(builds: Builds) -> None:
    built = builds.build("FROM busybox:test\nFOO bar\n")
    assert built.status == 400
    assert built.error == (
        "dockerfile parse error on line 2: unknown instruction: FOO (did you mean FROM?)"
    )


def test_the_same_again_comes_from_the_cache(builds: Builds) -> None:
    text = "FROM busybox:test\nCOPY a /a\nRUN cat /a > /b\nENV X=1\n"
    first = builds.ok(text, {"a": "one"}, t="cached")
    again = builds.ok(text, {"a": "one"}, t="cached")
    assert again.id == first.id
    assert again.output.count(" ---> Using cache\n") == 3
    other = builds.ok(text, {"a": "two"}, t="cached")
    assert " ---> Using cache\n" not in other.output
    assert builds.run("cached", "cat", "/b") == "two"
    assert builds.ok(text, {"a": "two"}, t="cached", nocache=1).id != other.id


def test_named_stages_alone_are_built_anew(builds: Builds) -> None:
    """Compose: "no_cache_filter defines stages to skip the cache for"."""
    text = (
        "FROM busybox:test AS kept\nRUN echo kept > /a\n"
        "FROM busybox:test AS fresh\nRUN echo fresh > /b\n"
        "FROM busybox:test\nCOPY --from=kept /a /a\nCOPY --from=fresh /b /b\n"
    )
    builds.ok(text)
    assert builds.ok(text).output.count(" ---> Using cache\n") == 4
    again = builds.ok(text, nocachestages=json.dumps(["fresh"])).output
    steps = again.split("Step ")
    assert [" ---> Using cache" in step for step in steps if "RUN echo" in step] == [True, False]


def test_stages_pass_files_on_and_unneeded_ones_are_left_out(builds: Builds) -> None:
    built = builds.ok(
        """\
ARG BASE=busybox:test
FROM ${BASE} AS made
RUN echo made > /result
FROM busybox:test AS unneeded
RUN exit 1
FROM busybox:test
COPY --from=made /result /here/
COPY --from=0 /result /there
""",
        t="staged",
    )
    assert "exit 1" not in built.output
    assert builds.run("staged", "cat", "/here/result", "/there") == "made\nmade\n"


def test_files_come_from_later_stages_and_labels_go_to_the_target(builds: Builds) -> None:
    text = """\
FROM busybox:test AS first
COPY --from=second /made /made
FROM busybox:test AS second
RUN hostname > /made
"""
    given = {"BUILDKIT_SANDBOX_HOSTNAME": "builder"}
    builds.ok(text, t="first", target="first", labels={"own": "$1"}, buildargs=given)
    assert builds.run("first", "cat", "/made") == "builder\n"
    assert builds.config("first")["Labels"] == {"own": "$1"}


def test_a_trigger_does_not_wait_for_what_waits_for_it(builds: Builds) -> None:
    builds.ok("FROM busybox:test\nONBUILD COPY --from=last /x /y\n", t="waiting")
    circle = builds.build("FROM waiting AS one\nFROM one AS last\n")
    assert "circular dependency detected on stage: one" in circle.error


def test_builds_lie_on_the_machine_itself(builds: Builds) -> None:
    builds.ok('FROM rootfs:/\nRUN echo there > /own\nCMD ["cat", "/own"]\n', t="on-host")
    assert builds.run("on-host") == "there\n"
    assert builds.daemon.call("GET", "/images/get?names=on-host")[0] == 501
