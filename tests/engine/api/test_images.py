from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from engine.api.images import matches_name
from tests.engine.images.archives import docker_archive, entry, tar
from tests.host import Daemon, UnixConnection

pytestmark = pytest.mark.kernel
TAGS = ("box:1", "box:2", "reg.example:5000/team/box:1")


@pytest.fixture(scope="module")
def boxes(engine: Daemon) -> Iterator[Daemon]:
    connection = UnixConnection(engine.socket, 60)
    archive = docker_archive([tar([entry("x", b"x")])], TAGS)
    connection.request("POST", "/images/load", archive, {"Content-Type": "application/x-tar"})
    assert b"Loaded image" in connection.getresponse().read()
    connection.close()
    yield engine
    for tag in TAGS:
        engine.call("DELETE", f"/images/{tag}")


def listed(engine: Daemon, **filters: str) -> list[str]:
    text = quote(json.dumps({key: [value] for key, value in filters.items()}))
    status, rows = engine.call("GET", f"/images/json?filters={text}")
    assert status == 200
    assert isinstance(rows, list)
    return [tag for row in rows for tag in row["RepoTags"] if "rootfs" not in tag]


def test_of_what_was_asked_for_only_the_names_meant_are_listed(boxes: Daemon) -> None:
    assert listed(boxes) == list(TAGS)
    assert listed(boxes, reference="box") == ["box:1", "box:2"]
    assert listed(boxes, reference="*:2") == ["box:2"]
    assert listed(boxes, reference="reg.example:5000/*/box") == ["reg.example:5000/team/box:1"]
    assert listed(boxes, reference="nosuch") == []
    assert listed(boxes, reference="b[^a]x:[1-1]") == ["box:1"]
    status, said = boxes.call(
        "GET", f"/images/json?filters={quote(json.dumps({'reference': ['[']}))}"
    )
    assert (status, said) == (400, {"message": "syntax error in pattern '['"})


def test_events_of_an_image_hold_its_labels(engine: Daemon) -> None:
    connection = UnixConnection(engine.socket, 60)
    path = f"/images/create?fromSrc=-&repo=labelled&tag=1&changes={quote('LABEL k=v name=x')}"
    archive = tar([entry("x", b"x")])
    connection.request("POST", path, archive, {"Content-Type": "application/x-tar"})
    assert connection.getresponse().status == 200
    connection.close()
    engine.call("DELETE", "/images/labelled:1")
    filters = quote(json.dumps({"type": ["image"], "label": ["k=v"]}))
    connection = UnixConnection(engine.socket, 60)
    connection.request("GET", f"/events?since=1&until={time.time():.9f}&filters={filters}")
    told = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    image_id = told[0]["Actor"]["ID"]
    # Once it is gone, nobody knows what it was called.
    assert [(one["Action"], one["Actor"]["Attributes"]) for one in told] == [
        ("tag", {"k": "v", "name": "labelled:1"}),
        ("import", {"k": "v", "name": image_id}),
        ("untag", {"k": "v", "name": image_id}),
    ]


@pytest.mark.parametrize(
    ("name", "pattern", "fits"),
    [
        ("box:1", "box", True),
        ("box:1", "b*", True),
        ("box:1", "box:*", True),
        ("team/box:1", "*", False),  # a star stops at a slash
        ("box@sha256:11", "box", True),
        ("box@sha256:11", "box:*", False),
        ("localhost:5000/box:1", "localhost:5000/box", True),
    ],
)
def test_a_pattern_is_about_the_name_with_or_without_its_tag(
    name: str, pattern: str, fits: bool
) -> None:
    assert matches_name(name, pattern) is fits
