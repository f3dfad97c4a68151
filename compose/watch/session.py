"""`watch`: changed files become reloads, syncs, restarts and commands, until it is ended.

A reload is an `up`: planned and applied, so that only what changed is touched. Files that don't
make a project are told, and the stack stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from compose import converge
from compose.apply.hooks import run_hook
from compose.apply.listener import Listener
from compose.client.containers import ContainerSummary
from compose.client.engine import Engine
from compose.converge import UpOptions
from compose.dataclass import dataclass
from compose.errors import ComposeError
from compose.model.project import Project
from compose.plan.names import ONE_OFF, PROJECT, SERVICE
from compose.plan.options import PlanOptions
from compose.watch.observer import Changes, observe, watched_folders
from compose.watch.rules import ServiceWork, decide
from compose.watch.sync import sync


@dataclass(slots=True)
class Session:
    """`load` reads the files anew; `say` tells a line; `progress` shows what is applied."""

    engine: Engine
    project: Project
    load: Callable[[], Project]
    say: Callable[[str], None]
    progress: Callable[[], AbstractContextManager[Listener]]
    options: UpOptions

    async def run(self) -> None:
        """Until cancelled."""
        async with observe(watched_folders(self.project)) as changes:
            self.say(f"watching {len(self.project.watched_files)} files of {self.project.name}")
            while True:
                await self._work(changes, await changes.batch())

    async def _work(self, changes: Changes, paths: set[str]) -> None:
        work = decide(self.project, paths)
        try:
            if work.reload:
                await self._reload(changes)
            for service in work.services:
                await self._serve(service)
        except ComposeError as error:
            self.say(str(error))
            self.say(f"{self.project.name} stays as it is; waiting for the next change")

    async def _reload(self, changes: Changes) -> None:
        project = self.load()
        with self.progress() as listener:
            outcome = await converge.up(self.engine, project, self.options, listener)
        self.project = project
        changes.watch(watched_folders(project))
        count = len(outcome.plan.changes)
        done = f"{count} change{'s' * (count != 1)} applied" if count else "nothing to change"
        self.say(f"{project.name} is up to date: {done}")

    async def _serve(self, work: ServiceWork) -> None:
        containers = await self._containers(work.service)
        if work.rebuild:
            await self._rebuild(work.service)
            return
        for container in containers:
            if work.sync:
                await sync(self.engine, container.id, work.sync)
        if work.sync:
            self.say(f"{work.service}: {', '.join(path.target for path in work.sync)} synced")
        if work.restart:
            await converge.restart(
                self.engine, self.project.name, self.project, services=[work.service]
            )
            self.say(f"{work.service}: restarted")
        for rule in work.exec:
            for container in containers:
                code = (await run_hook(self.engine, container.id, rule.exec)).exit_code
                command = " ".join(rule.exec.command or ())
                self.say(f"{work.service}: {command} ended with code {code}")

    async def _rebuild(self, service: str) -> None:
        """Builds its image; what runs is replaced by the `up` that follows."""
        alone = replace(self.project, services={service: self.project.services[service]})
        with self.progress() as listener:
            await converge.build(self.engine, alone, PlanOptions(), listener)
            await converge.up(self.engine, self.project, self.options, listener)
        self.say(f"{service}: rebuilt")

    async def _containers(self, service: str) -> Sequence[ContainerSummary]:
        labels = [f"{PROJECT}={self.project.name}", f"{SERVICE}={service}", f"{ONE_OFF}=False"]
        return await self.engine.containers.list(all=False, filters={"label": labels})
