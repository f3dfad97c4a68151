"""pure: changed paths -> what they ask for: a reload, a sync, a restart, a command."""

from __future__ import annotations

import os
from collections.abc import Iterable

from compose import patterns
from compose.dataclass import dataclass
from compose.model.project import Project
from compose.model.service import Service, WatchAction, WatchRule

# What editors and version control leave beside the files that people mean.
ALWAYS_IGNORED = tuple(
    pattern
    for text in (
        "**/.git", "**/.hg", "**/.svn", "**/.idea", "**/.vscode", "**/*.swp", "**/*.swx",
        "**/*.swo", "**/*~", "**/.#*", "**/#*#", "**/4913", "**/.DS_Store", "**/*.kate-swp",
    )
    if (pattern := patterns.parse(text))
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SyncPath:
    """A file or folder of this machine and where it belongs in the containers."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class ServiceWork:
    """What one service's containers need after a batch of changes, in this order."""

    service: str
    sync: tuple[SyncPath, ...] = ()
    restart: bool = False
    rebuild: bool = False  # instead of all else: the new containers have the files
    exec: tuple[WatchRule, ...] = ()  # rules whose command is to be run


@dataclass(frozen=True, slots=True)
class Work:
    reload: bool = False  # a file that makes the project has changed
    services: tuple[ServiceWork, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.reload and not self.services


def decide(project: Project, changed: Iterable[str]) -> Work:
    """`changed`: absolute paths."""
    paths = sorted(set(changed))
    files = {str(path) for path in project.watched_files}
    services = (_service_work(service, paths) for service in project.services.values())
    return Work(
        reload=any(path in files for path in paths),
        services=tuple(work for work in services if work is not None),
    )


def _service_work(service: Service, paths: list[str]) -> ServiceWork | None:
    sync: dict[SyncPath, None] = {}
    commands: list[WatchRule] = []
    restart = rebuild = False
    touched = False
    for rule in service.watch or ():
        for path in paths:
            if not applies(rule, path):
                continue
            touched = True
            if rule.action in _SYNCING and not is_bind_mounted(service, path):
                sync[sync_path(rule, path)] = None
            rebuild |= rule.action is WatchAction.REBUILD
            restart |= rule.action in (WatchAction.RESTART, WatchAction.SYNC_RESTART)
            if rule.action is WatchAction.SYNC_EXEC and rule not in commands:
                commands.append(rule)
    if not touched:
        return None
    return ServiceWork(service.name, tuple(sync), restart, rebuild, tuple(commands))


_SYNCING = (WatchAction.SYNC, WatchAction.SYNC_RESTART, WatchAction.SYNC_EXEC)


def applies(rule: WatchRule, path: str) -> bool:
    """Whether a change of `path` is the rule's business."""
    if path != rule.path and not path.startswith(rule.path.rstrip("/") + "/"):
        return False
    relative = os.path.relpath(path, rule.path)
    if relative == ".":
        return True
    if patterns.matches(ALWAYS_IGNORED, relative) or _matches(rule.ignore, relative):
        return False
    return not rule.include or _matches(rule.include, relative)


def _matches(texts: tuple[str, ...], path: str) -> bool:
    parsed = [pattern for text in texts if (pattern := patterns.parse(text))]
    return patterns.matches(parsed, path)


def sync_path(rule: WatchRule, path: str) -> SyncPath:
    relative = os.path.relpath(path, rule.path)
    target = rule.target if relative == "." else os.path.join(rule.target, relative)
    return SyncPath(path, target)


def is_bind_mounted(service: Service, path: str) -> bool:
    """The container sees the change already."""
    return any(
        mount.type == "bind" and (path + "/").startswith(mount.source.rstrip("/") + "/")
        for mount in service.volumes
    )
