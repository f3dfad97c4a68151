"""`watch`: changed files become reloads, syncs, restarts and commands, until it is ended.

A reload is an `up`: planned and applied, so that only what changed is touched. Files that don't
make a project are told, and the stack stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import field, replace
from pathlib import Path

from compose import converge, life
from compose.apply.hooks import run_hook
from compose.apply.listener import Listener
from compose.client.build_context import read_context
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.human import counted
from compose.converge import UpOptions
from compose.dataclass import dataclass
from compose.errors import ComposeError
from compose.git import Repository
from compose.model.project import Project
from compose.plan.names import ONE_OFF, PROJECT, SERVICE
from compose.plan.options import PlanOptions
from compose.plan.plan import Verb
from compose.tasks import Together
from compose.watch.observer import Changes, observe, watched_folders
from compose.watch.rules import Ignored, ServiceWork, decide, initial_paths, own_context
from compose.watch.sync import sync

SHOWN = 3  # paths of a batch that are named


@dataclass(slots=True)
class Session:
    """`load` reads the files anew; `say` tells a line; `progress` shows what is applied."""

    engine: Engine
    project: Project
    load: Callable[[], Project]
    say: Callable[[str], None]
    progress: Callable[[], AbstractContextManager[Listener]]
    options: UpOptions

    ignored: Ignored = field(default_factory=dict)
    synced: set[str] = field(default_factory=set)  # containers that had their initial_sync

    async def run(self) -> None:
        """Until cancelled."""
        repository = Repository.around(self.project.working_dir)
        lock = repository.index_lock if repository else None
        async with observe(watched_folders(self.project), lock) as changes:
            self.ignored = ignored_in_contexts(self.project)
            await self._sync_first()
            files = counted(len(self.project.watched_files), "file")
            self.say(f"watching {files} of {self.project.name}")
            while True:
                await self._work(changes, await changes.batch())

    async def _sync_first(self) -> None:
        """What is to be there before the first change, into each container that hasn't had it."""
        for service in self.project.services.values():
            if not any(rule.syncs_first for rule in service.watch or ()):
                continue
            found = await self._containers(service.name)
            new = [container.id for container in found if container.id not in self.synced]
            paths = tuple(initial_paths(service)) if new else ()
            for container in new if paths else ():
                await sync(self.engine, container, paths)
            self.synced.update(new)
            if paths:
                self.say(f"{service.name}: {counted(len(paths), 'file')} synced")

    async def _work(self, changes: Changes, paths: set[str]) -> None:
        work = decide(self.project, paths, self.ignored)
        try:
            anew: set[str] = set()
            if work.reload:
                self.say(f"{self._shown(p for p in self._project_files() if p in paths)} changed")
                anew = await self._reload(changes)
            for service in work.services:
                # What has just been started anew has seen the files as they are.
                if service.service not in anew or service.rebuild or service.sync:
                    await self._serve(service)
        except ComposeError as error:
            self.say(str(error))
            self.say(f"{self.project.name} stays as it is; waiting for the next change")

    async def _reload(self, changes: Changes) -> set[str]:
        """Services whose containers were started anew."""
        project = self.load()
        with self.progress() as listener:
            outcome = await converge.up(self.engine, project, self.options, listener)
        self.project = project
        self.ignored = ignored_in_contexts(project)
        changes.watch(watched_folders(project))
        await self._sync_first()
        count = len(outcome.plan.changes)
        done = f"{counted(count, 'change')} applied" if count else "nothing to change"
        self.say(f"{project.name} is up to date: {done}")
        anew = (Verb.CREATE, Verb.RECREATE, Verb.RESTART, Verb.START)
        subjects = [each.subject for each in outcome.plan.changes if each.verb in anew]
        return {subject.rpartition(".")[0] for subject in subjects if " " not in subject}

    async def _serve(self, work: ServiceWork) -> None:
        if work.rebuild:
            self.say(f"{work.service}: {self._shown(work.causes)} changed")
            await self._rebuild(work.service)
            return
        containers = await self._containers(work.service)
        if work.sync:
            async with Together() as group:
                for container in containers:
                    group.create_task(sync(self.engine, container.id, work.sync))
            targets = [path.target for path in work.sync]
            shown, more = targets[:SHOWN], len(targets) - SHOWN
            others = f" and {more} more" if more > 0 else ""
            self.say(f"{work.service}: {', '.join(shown)}{others} synced")
        elif work.restart or work.signal:
            self.say(f"{work.service}: {self._shown(work.causes)} changed")
        if work.signal:
            for container in containers:
                await self.engine.containers.kill(container.id, signal=work.signal)
            self.say(f"{work.service}: sent {work.signal}")
        if work.restart:
            await life.restart(
                self.engine, self.project.name, self.project, services=[work.service]
            )
            self.say(f"{work.service}: restarted")
        for rule in work.exec:
            for container in containers:
                result = await run_hook(self.engine, container.id, rule.exec)
                for line in result.last_lines:
                    self.say(f"{work.service} | {line}")
                command = " ".join(rule.exec.command or ())
                self.say(f"{work.service}: {command} ended with code {result.exit_code}")

    async def _rebuild(self, service: str) -> None:
        """Builds its image; what runs is replaced by the `up` that follows."""
        alone = replace(self.project, services={service: self.project.services[service]})
        with self.progress() as listener:
            await life.build(self.engine, alone, PlanOptions(), listener)
            await converge.up(self.engine, self.project, self.options, listener)
        await self._sync_first()
        self.say(f"{service}: rebuilt")

    def _project_files(self) -> list[str]:
        return [str(path) for path in self.project.watched_files]

    def _shown(self, paths: Iterable[str]) -> str:
        """As they are called from the project's folder; of many the first."""
        names = [os.path.relpath(path, self.project.working_dir) for path in paths]
        more = len(names) - SHOWN
        return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")

    async def _containers(self, service: str) -> Sequence[ContainerSummary]:
        labels = [f"{PROJECT}={self.project.name}", f"{SERVICE}={service}", f"{ONE_OFF}=False"]
        return await self.engine.containers.list(all=False, filters={"label": labels})


def ignored_in_contexts(project: Project) -> Ignored:
    """What the .dockerignore of each context that is watched leaves out."""
    found = {}
    for name, service in project.services.items():
        if (context := own_context(service)) is not None and (build := service.build) is not None:
            with suppress(ClientError):  # nothing is there yet: the build will say so
                read = read_context(Path(context), build.dockerfile, build.dockerfile_inline)
                found[name] = read.ignore
    return found
