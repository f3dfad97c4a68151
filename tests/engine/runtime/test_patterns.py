"""Scripts that are written once for containers that differ in their id alone."""

from __future__ import annotations

from dataclasses import replace

from engine.ids import new_id
from engine.oci.rootfs import Rootfs
from engine.runtime.patterns import Patterns
from engine.runtime.request import LaunchRequest, LogTarget
from engine.runtime.script import Written
from engine.runtime.users import Identity

ROOT = Identity(0, 0, (0,), "/root")


class Writer:
    """Writes what depends on an id as scripts do, and counts."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, request: LaunchRequest) -> Written:
        self.count += 1
        identifier = request.container_id
        return Written(
            64, b"records", f"{identifier[:12]} /x/{identifier}/y {request.user}".encode()
        )


def request(**changes: object) -> LaunchRequest:
    identifier = new_id()
    made = LaunchRequest(
        container_id=identifier,
        spec={"hostname": identifier[:12], "process": {"args": ["true"], "env": ["A=é"]}},
        seccomp=b"filter",
        user="web",
        groups=(),
        rootfs=Rootfs(("/",), f"/x/{identifier}/upper", f"/x/{identifier}/work", False),
        exec_dir=f"/run/{identifier}",
        log=LogTarget(f"/x/{identifier}/log", 0, 1),
        open_stdin=False,
        stdin_once=False,
        init=False,
        own_network=True,
        dns=False,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_the_second_is_not_written_and_is_the_same_as_if_it_were() -> None:
    patterns, write = Patterns(), Writer()
    for _ in range(3):
        asked = request()
        assert patterns.script(asked, ROOT, write) == Writer()(asked)
    assert write.count == 1


def test_whatever_else_differs_is_written() -> None:
    patterns, write = Patterns(), Writer()
    patterns.script(request(), ROOT, write)
    for number, changed in enumerate(
        (
            request(user="other"),
            request(groups=("more",)),
            request(seccomp=b"another"),
            request(init=True),
            request(open_stdin=True),
            request(dns=True),
            request(log=LogTarget("", 0, 1)),
            request(spec={"process": {"args": ["false"]}}),
        )
    ):
        assert patterns.script(changed, ROOT, write) == Writer()(changed)
        assert write.count == 2 + number
    patterns.script(request(), replace(ROOT, home="/"), write)
    assert write.count == 10


def test_what_looks_as_if_it_had_no_id_is_left_alone() -> None:
    patterns, write = Patterns(), Writer()
    spec = {"process": {"args": ["echo", "_pycompose.."]}}
    for _ in range(2):
        patterns.script(request(spec=spec), ROOT, write)
    assert write.count == 2


def test_only_so_many_are_kept() -> None:
    patterns, write = Patterns(), Writer()
    for number in range(100):
        patterns.script(request(user=str(number)), ROOT, write)
    patterns.script(request(user="99"), ROOT, write)
    assert write.count == 100
    patterns.script(request(user="0"), ROOT, write)
    assert write.count == 101
