"""pure: changed paths -> what they ask for: a reload, a sync, a restart, a command."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from compose import patterns
from compose.dataclass import dataclass
from compose.model.build import is_remote
from compose.model.own import reload_of
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
    signal: str = ""  # to be sent to them
    causes: tuple[str, ...] = ()  # the paths that ask for it


@dataclass(frozen=True, slots=True)
class Work:
    reload: bool = False  # a file that makes the project has changed
    services: tuple[ServiceWork, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not self.reload and not self.services


Ignored = Mapping[str, Sequence[patterns.Pattern]]  # service -> what isn't in its build context


def decide(project: Project, changed: Iterable[str], ignored: Ignored | None = None) -> Work:
    """`changed`: absolute paths."""
    paths = sorted(set(changed))
    files = {str(path) for path in project.watched_files}
    services = (
        _service_work(service, paths, (ignored or {}).get(service.name, ()))
        for service in project.services.values()
    )
    return Work(
        reload=any(path in files for path in paths),
        services=tuple(work for work in services if work is not None),
    )


def watched_paths(service: Service) -> Iterator[str]:
    """Files and folders whose changes may be the service's business, whatever is in them."""
    yield from (rule.path for rule in service.watch or ())
    if (context := own_context(service)) is not None:
        yield context
        yield dockerfile(service)
    if reload_of(service) and not service.watch:
        yield from (mount.source for mount in service.volumes if mount.type == "bind")


def own_context(service: Service) -> str | None:
    """The folder that its image is built from, where no rule says what its changes ask for."""
    build = service.build
    if build is None or service.watch or is_remote(build.context):
        return None
    return build.context


def dockerfile(service: Service) -> str:
    build = service.build
    assert build is not None
    return os.path.join(build.context, build.dockerfile or "Dockerfile")


def _service_work(
    service: Service, paths: list[str], ignore: Sequence[patterns.Pattern]
) -> ServiceWork | None:
    if service.watch:
        return _work_by_rules(service, paths)
    if built_from := [path for path in paths if _is_built_from(path, service, ignore)]:
        return ServiceWork(service.name, rebuild=True, causes=tuple(built_from))
    wish = reload_of(service)
    mounted = [path for path in paths if is_bind_mounted(service, path) and not is_by_product(path)]
    if wish and mounted:
        signal = "" if wish == "restart" else wish
        return ServiceWork(service.name, (), not signal, signal=signal, causes=tuple(mounted))
    return None


def _is_built_from(path: str, service: Service, ignore: Sequence[patterns.Pattern]) -> bool:
    context = own_context(service)
    if context is None:
        return False
    if path == dockerfile(service):
        return True
    relative = os.path.relpath(path, context)
    is_inside = relative != os.pardir and not relative.startswith(os.pardir + os.sep)
    return is_inside and not (is_by_product(path) or patterns.matches(ignore, relative))


def is_by_product(path: str) -> bool:
    """What editors and version control leave."""
    return patterns.matches(ALWAYS_IGNORED, path.lstrip("/"))


def _work_by_rules(service: Service, paths: list[str]) -> ServiceWork | None:
    sync: dict[SyncPath, None] = {}
    commands: list[WatchRule] = []
    restart = rebuild = False
    causes: dict[str, None] = {}
    for rule in service.watch or ():
        for path in paths:
            if not applies(rule, path):
                continue
            causes[path] = None
            if rule.action in _SYNCING and not is_bind_mounted(service, path):
                sync[sync_path(rule, path)] = None
            rebuild |= rule.action is WatchAction.REBUILD
            restart |= rule.action in (WatchAction.RESTART, WatchAction.SYNC_RESTART)
            if rule.action is WatchAction.SYNC_EXEC and rule not in commands:
                commands.append(rule)
    if not causes:
        return None
    return ServiceWork(
        service.name, tuple(sync), restart, rebuild, tuple(commands), causes=tuple(causes)
    )


_SYNCING = (WatchAction.SYNC, WatchAction.SYNC_RESTART, WatchAction.SYNC_EXEC)


def initial_paths(service: Service) -> Iterator[SyncPath]:
    """Files that are to be there before the first change, of the rules that say so."""
    for rule in service.watch or ():
        if not (rule.syncs_first and rule.action in _SYNCING):
            continue
        if not os.path.isdir(rule.path):
            yield sync_path(rule, rule.path)
        for folder, _, names in os.walk(rule.path):
            for name in names:
                path = os.path.join(folder, name)
                if applies(rule, path) and not is_bind_mounted(service, path):
                    yield sync_path(rule, path)


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
