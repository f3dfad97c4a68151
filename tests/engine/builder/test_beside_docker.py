"""The same builds by a real dockerd's classic builder: the same configuration, files and words."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from urllib.parse import urlencode

import pytest

from tests.compose.engines import missing, running_engine
from tests.engine.builder.conftest import context_of
from tests.host import UnixConnection

pytestmark = [pytest.mark.kernel, pytest.mark.peer]


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, str]]:
    """Kind -> path of its socket."""
    with contextlib.ExitStack() as stack:
        found = {}
        for kind in ("pyengine", "dockerd"):
            if reason := missing(kind):
                pytest.skip(reason)
            _, found[kind] = stack.enter_context(running_engine(kind))
        yield found


def call(path: str, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = UnixConnection(path, 60)
    try:
        connection.request(method, target, body, {"Content-Type": "application/x-tar"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def built(
    path: str, text: str, files: Mapping[str, str], **query: str
) -> tuple[int, list[dict[str, object]], dict[str, object]]:
    """Status, messages, and the image's inspect."""
    archive = context_of({"Dockerfile": text, **files})
    asked = urlencode({"t": "same", "rm": "1", "networkmode": "none", **query})
    status, raw = call(path, "POST", f"/build?{asked}", archive)
    _, image = call(path, "GET", "/images/same/json")
    print(raw.decode())  # shown where a test fails
    return status, [json.loads(line) for line in raw.splitlines()], json.loads(image)


TEXT = """\
FROM busybox:test AS base
LABEL one=1 "two three"='four $X'
ENV A=a B="b $A" C='$A'
ENV OLD old form
ARG ARGUMENT=default
WORKDIR /work
WORKDIR below
COPY --chown=3:4 file dir/
COPY [ "file", "other" ]
ADD file /added
RUN echo $ARGUMENT $B > result && rm other
EXPOSE 80 53/udp
VOLUME /data
USER 12
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-xc"]
HEALTHCHECK --interval=3s --retries=2 CMD true
ONBUILD LABEL triggered=yes
ENTRYPOINT ["entry", "$A"]
CMD shell form $A
FROM base
COPY --from=base /work/below/result /copied
ENTRYPOINT exec
"""


def test_the_same_configuration(engines: dict[str, str]) -> None:
    found = {kind: built(path, TEXT, {"file": "x"})[2] for kind, path in engines.items()}
    ours, theirs = found["pyengine"], found["dockerd"]
    # dockerd adds what it sets for every image of its own, with or without a Dockerfile.
    for key in ("Hostname", "Domainname", "Image", "Tty", "OpenStdin", "StdinOnce"):
        theirs["Config"].pop(key, None)  # type: ignore[attr-defined]
    for key in ("AttachStdin", "AttachStdout", "AttachStderr"):
        theirs["Config"].pop(key, None)  # type: ignore[attr-defined]
    assert ours["Config"] == theirs["Config"]
    layers = [len(one["RootFS"]["Layers"]) for one in (ours, theirs)]  # type: ignore[index]
    assert layers[0] == layers[1]


def test_the_same_words(engines: dict[str, str]) -> None:
    def words(path: str, text: str) -> list[str]:
        _, messages, _ = built(path, text, {"file": "x"}, nocache="1")
        lines = "".join(str(one.get("stream", "")) for one in messages).splitlines()
        return [line for line in lines if not line.startswith((" ---> ", "Successfully built"))]

    text = "FROM busybox:test\nENV A=1\nCOPY file /\nRUN echo said\nCMD x\n"
    assert words(engines["pyengine"], text) == words(engines["dockerd"], text)


@pytest.mark.parametrize(
    "text",
    [
        "FROM busybox:test\nFOO bar\n",
        "",
        "FROM busybox:test\nCOPY a\n",
        "FROM busybox:test\nRUN exit 9\n",
        "FROM busybox:test\nCOPY nothing /x\n",
    ],
)
def test_the_same_refusals(engines: dict[str, str], text: str) -> None:
    def refused(path: str) -> tuple[int, object]:
        status, messages, _ = built(path, text, {"file": "x"})
        detail = messages[-1].get("errorDetail")
        return status, detail.get("code") if isinstance(detail, dict) else None

    assert refused(engines["pyengine"]) == refused(engines["dockerd"])
