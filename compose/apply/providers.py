"""Programs that run services (`provider`): found, told what to do, and listened to.

`TYPE compose --project-name=P up|down|stop --OPTION=VALUE... SERVICE` writes a JSON object a line:
{"type": "info" | "error" | "setenv" | "rawsetenv" | "debug", "message": ...}. The protocol is
Docker Compose's: docs/extension.md of its repository.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from compose.apply.listener import Listener, Note
from compose.client.engine import Engine
from compose.errors import ApplyError
from compose.model.project import Project
from compose.model.service import Service
from compose.plan.providers import providers

_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
_LONGEST_LINE = 1 << 20


async def provide(
    engine: Engine, project: Project, listener: Listener
) -> dict[str, dict[str, str]]:
    """What each says to those that depend on it. Raises ApplyError."""
    said: dict[str, dict[str, str]] = {}
    for service in providers(project):
        metadata = await _metadata(project, service)
        said[service.name] = await _run(engine, project, service, "up", metadata, listener)
        for other in project.services.values():
            if service.name in other.depends_on:
                _tell_overridden(service, other, said[service.name], listener)
    return said


async def withdraw(
    engine: Engine, project: Project, services: Collection[str], listener: Listener
) -> None:
    """Those of `services` (none: all) give up what they hold; those that are needed come last."""
    for service in reversed(providers(project)):
        if not services or service.name in services:
            metadata = await _metadata(project, service)
            await _run(engine, project, service, "down", metadata, listener)


async def rest(
    engine: Engine, project: Project, services: Collection[str], listener: Listener
) -> None:
    """The same, but what they hold stays: where a program says that it can stop."""
    for service in reversed(providers(project)):
        if not services or service.name in services:
            metadata = await _metadata(project, service)
            if "stop" in metadata:
                await _run(engine, project, service, "stop", metadata, listener)


def _tell_overridden(
    service: Service, other: Service, said: Mapping[str, str], listener: Listener
) -> None:
    for name, value in said.items():
        if other.environment.get(name, value) != value:
            listener(Note(f"{service.name} sets {name}, which {other.name} says otherwise"))


def _program(project: Project, service: Service) -> str:
    """A plugin of the docker command, or a program in PATH."""
    assert service.provider is not None
    kind, environment = service.provider.type, project.environment
    home = Path(environment.get("DOCKER_CONFIG") or Path(environment.get("HOME", "/")) / ".docker")
    if "/" not in kind and kind != "compose":
        for folder in (home / "cli-plugins", *_PLUGIN_FOLDERS):
            plugin = Path(folder) / f"docker-{kind}"
            if os.access(plugin, os.X_OK):
                return str(plugin)
        if found := shutil.which(kind, path=environment.get("PATH", os.defpath)):
            return found
    problem = project.problem(
        f"cannot run {service.name}: there is no program {kind}",
        "services", service.name, "provider", "type",
        hint=f"install it: {kind} in PATH, or the plugin docker-{kind}",
    )  # fmt: skip
    raise ApplyError(str(problem))


async def _metadata(project: Project, service: Service) -> Mapping[str, object]:
    """Which options its commands take; {}: it doesn't say, so all are passed on."""
    process = await asyncio.create_subprocess_exec(
        _program(project, service), "compose", "metadata",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL, env=dict(project.environment),
    )  # fmt: skip
    try:
        output, _ = await process.communicate()
        found = json.loads(output) if process.returncode == 0 else {}
    except ValueError:
        return {}
    finally:
        await _end(process)
    return found if isinstance(found, dict) else {}


def _options(
    project: Project, service: Service, command: str, metadata: Mapping[str, object]
) -> list[str]:
    """Raises ApplyError where one is missing that the program needs."""
    assert service.provider is not None
    options = service.provider.options
    about = metadata.get(command)
    rows = about.get("parameters") if isinstance(about, dict) else None
    known = {str(row.get("name")): row for row in rows or () if isinstance(row, dict)}
    for name, row in known.items():
        if row.get("required") and name not in options:
            problem = project.problem(
                f"{service.provider.type} needs the option {name} to {command} {service.name}",
                "services", service.name, "provider", hint=str(row.get("description") or ""),
            )  # fmt: skip
            raise ApplyError(str(problem))
    return [
        f"--{name}={value}"
        for name, values in options.items()
        if not metadata or name in known
        for value in values
    ]


async def _run(
    engine: Engine,
    project: Project,
    service: Service,
    command: str,
    metadata: Mapping[str, object],
    listener: Listener,
) -> dict[str, str]:
    """The variables that it sets, by their whole names."""
    program = _program(project, service)
    options = _options(project, service, command, metadata)
    arguments = ["compose", f"--project-name={project.name}", command, *options, service.name]
    process = await asyncio.create_subprocess_exec(
        program, *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, limit=_LONGEST_LINE,
        env={**project.environment, "DOCKER_HOST": str(engine.address)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    complaints = asyncio.ensure_future(process.stderr.read())
    variables: dict[str, str] = {}
    try:
        async for line in process.stdout:
            if line.strip():
                _take(service, line, variables, listener)
        said = (await complaints).decode("utf-8", "replace").strip()
        if code := await process.wait():
            raise ApplyError(
                f"cannot {command} {service.name}: {Path(program).name} ended with code {code}"
                + "".join(f"\n  {line}" for line in said.splitlines()[-10:])
            )
    except ValueError as error:
        raise ApplyError(
            f"cannot {command} {service.name}: {Path(program).name} wrote what is no message:"
            f" {error}"
        ) from None
    finally:
        complaints.cancel()
        await _end(process)
    return variables


def _take(service: Service, line: bytes, variables: dict[str, str], listener: Listener) -> None:
    """Raises ValueError for what is no message, ApplyError for one that tells of a failure."""
    message = json.loads(line)
    if not isinstance(message, dict) or not isinstance(message.get("message"), str):
        raise ValueError(repr(line[:80].decode("utf-8", "replace")))
    kind, text = message.get("type"), message["message"]
    match kind:
        case "info":
            listener(Note(f"{service.name}: {text}"))
        case "error":
            raise ApplyError(f"cannot run {service.name}: {text}")
        case "setenv" | "rawsetenv":
            name, equals, value = text.partition("=")
            if not name or not equals:
                raise ValueError(f"{text!r} isn't NAME=value")
            prefix = "" if kind == "rawsetenv" else f"{service.name.upper()}_"
            variables[prefix + name] = value
        case "debug":
            pass
        case _:
            raise ValueError(f"a message of type {kind!r}")


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()
