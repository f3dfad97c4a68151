"""Which warm process a command would ask."""

from __future__ import annotations

import sys

import pytest

from compose.warm.place import allows, engine_socket, runtime_folder, server_name


@pytest.mark.parametrize(
    ("environment", "socket"),
    [
        ({"PYCOMPOSE_HOST": "unix:///one", "DOCKER_HOST": "unix:///two"}, "/one"),
        ({"DOCKER_HOST": "/two"}, "/two"),
        ({"DOCKER_HOST": "tcp://127.0.0.1:2375"}, ""),
        ({"DOCKER_HOST": "ssh://somebody@elsewhere"}, ""),
        ({"DOCKER_CONTEXT": "elsewhere"}, ""),
    ],
)
def test_only_an_engine_of_this_machine_has_one(environment: dict[str, str], socket: str) -> None:
    assert engine_socket(environment) == socket


def test_folders_are_the_machines_or_the_users() -> None:
    assert runtime_folder(0, {"XDG_RUNTIME_DIR": "/x"}) == "/run/pycompose"
    assert runtime_folder(7, {"XDG_RUNTIME_DIR": "/x"}) == "/x/pycompose"
    assert runtime_folder(7, {}) == "/run/user/7/pycompose"


def test_each_engine_and_each_kind_of_caller_has_its_own() -> None:
    plain = server_name("/one", {"HOME": "/a"})
    assert server_name("/one", {"HOME": "/b"}) == plain
    others = {
        server_name("/two", {}),
        *(server_name("/one", {name: "x"}) for name in ("PYTHONPATH", "LC_ALL", "LD_PRELOAD")),
    }
    assert len({plain, *others}) == 5


@pytest.mark.parametrize("switch", ["0", "no", "OFF", "false"])
def test_a_variable_turns_it_off(switch: str) -> None:
    assert not allows({"PYCOMPOSE_WARM": switch})


def test_who_measures_or_traces_runs_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "pytest"])
    before = sys.getprofile()
    assert allows({}) == (before is None)
    sys.setprofile(lambda *_: None)
    try:
        assert not allows({})
    finally:
        sys.setprofile(before)
