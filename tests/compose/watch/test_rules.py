from __future__ import annotations

from pathlib import Path

from compose.model.mount import Mount
from compose.model.project import Project
from compose.model.service import Service, WatchAction, WatchRule
from compose.watch.rules import ServiceWork, SyncPath, Work, decide


def project(*rules: WatchRule, volumes: tuple[Mount, ...] = ()) -> Project:
    service = Service(name="web", watch=rules, volumes=volumes)
    return Project(
        name="p",
        working_dir=Path("/p"),
        services={"web": service},
        watched_files=(Path("/p/compose.yaml"),),
    )


def test_the_project_file_asks_for_a_reload() -> None:
    assert decide(project(), ["/p/compose.yaml"]) == Work(reload=True)


def test_an_unwatched_file_asks_for_nothing() -> None:
    assert decide(project(), ["/p/notes.txt"]).is_empty


def test_sync_keeps_the_place_below_the_target() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.SYNC, target="/app")
    (work,) = decide(project(rule), ["/p/src/a/b.py", "/p/src"]).services
    assert work.sync == (SyncPath("/p/src", "/app"), SyncPath("/p/src/a/b.py", "/app/a/b.py"))


def test_a_neighbour_with_the_same_beginning_is_not_below_the_path() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.RESTART)
    assert decide(project(rule), ["/p/src2/a.py"]).is_empty


def test_ignored_and_editor_files_are_left_alone() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.RESTART, ignore=("*.md",))
    changed = ["/p/src/a.md", "/p/src/.a.py.swp", "/p/src/.git/index", "/p/src/a.py~"]
    assert decide(project(rule), changed).is_empty


def test_include_narrows_what_counts() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.RESTART, include=("**/*.py",))
    assert decide(project(rule), ["/p/src/a.txt"]).is_empty
    assert decide(project(rule), ["/p/src/x/a.py"]).services == (
        ServiceWork("web", restart=True, causes=("/p/src/x/a.py",)),
    )


def test_what_a_bind_mount_shows_already_is_not_synced_again() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.SYNC_RESTART, target="/app")
    mount = Mount(type="bind", source="/p/src", target="/app")
    assert decide(project(rule, volumes=(mount,)), ["/p/src/a.py"]).services == (
        ServiceWork("web", restart=True, causes=("/p/src/a.py",)),
    )


def test_a_command_runs_once_for_a_batch() -> None:
    rule = WatchRule(path="/p/src", action=WatchAction.SYNC_EXEC, target="/app")
    (work,) = decide(project(rule), ["/p/src/a", "/p/src/b"]).services
    assert work.exec == (rule,)
    assert len(work.sync) == 2
