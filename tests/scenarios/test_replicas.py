"""examples/replicas: copies behind a name, an override file, a profile."""

from __future__ import annotations

import re

import pytest

from tests.host import Host
from tests.scenarios.project import Project, example

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(100)]


def copies(replicas: Project) -> list[str]:
    return sorted(name for name in replicas.containers() if "-hello-" in name)


def test_the_replicas_of_the_readme(host: Host) -> None:
    replicas = example(host, "replicas")
    replicas("-f", "compose.yaml", "up", "--detach", "--wait")
    assert copies(replicas) == [f"replicas-hello-{number}" for number in (1, 2, 3)]
    front = replicas.ids()["replicas-front-1"]
    visits = replicas("-f", "compose.yaml", "run", "--rm", "visitors").stdout
    # 60 visits that all miss one of three: less likely than one in ten thousand million.
    assert len(re.findall(r"^ *\d+ x Good day from [0-9a-f]{12}$", visits, re.M)) == 3, visits

    replicas("up", "--detach", "--wait")
    assert copies(replicas) == ["replicas-hello-1", "replicas-hello-2"]
    assert replicas.ids()["replicas-front-1"] != front
    assert replicas("port", "front", "8000").stdout == "127.0.0.1:8090\n"
    assert replicas.host.fetch("127.0.0.1", 8090).startswith(b"Hi from ")

    before = replicas.ids()
    replicas("up", "--detach", "--wait", "--scale", "hello=4")
    assert len(copies(replicas)) == 4
    assert before.items() <= replicas.ids().items()
    replicas("up", "--detach", "--wait")
    assert replicas.ids() == before
    replicas("down")
    assert replicas.containers() == {}
