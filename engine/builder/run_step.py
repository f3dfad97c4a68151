"""RUN: a container of the engine's own, isolated as any other; what it wrote becomes the layer."""

import codecs
import contextlib
import itertools
import os
import posixpath
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from engine.builder.agent import lent_agent
from engine.builder.copy import (
    Attributes,
    copy_sources,
    digest_of_sources,
    find_sources,
    real_path,
)
from engine.builder.model import StepFailed
from engine.builder.mounts import StepMount
from engine.builder.output import StageOutput
from engine.builder.trees import Tree
from engine.builder.workshop import Workshop
from engine.containers.model import (
    ContainerConfig,
    CreateRequest,
    HealthCheck,
    LogConfig,
    MountRequest,
)
from engine.errors import InvalidRequest
from engine.ids import short_id
from engine.images.diff_layer import MOUNT_POINTS, drop_mount_points

# The next daemon removes containers with this label: their build ended with the last one.
STEP_LABEL = "io.pycompose.build-step"
SCRIPT = "/.build-script"
_LAST_LINES = 20
_RED, _PLAIN = "\x1b[91m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class RunStep:
    image_id: str
    lowers: tuple[str, ...]
    words: tuple[str, ...]
    shown: str  # the command, for messages
    env: tuple[str, ...]
    user: str
    working_dir: str
    network: str
    hostname: str  # "" for the container's id
    place: str  # "Dockerfile:3"
    script: str = ""  # a here-document with `#!`, to be executed itself
    mounts: tuple[tuple[StepMount, Tree], ...] = ()
    is_privileged: bool = False


async def mount_key(workshop: Workshop, mount: StepMount, tree: Tree) -> list[str]:
    """What a step's key has to know of a mount: content where it is a source."""
    parts = [mount.kind, mount.target, mount.source, mount.identifier, str(mount.read_only)]
    if mount.kind != "bind":
        return parts

    def digest(root: int) -> str:
        found = find_sources(root, mount.source or "/")
        return digest_of_sources(root, found, Attributes(), ())

    async def read() -> str:
        return await workshop.on_tree(tree, digest)

    return [*parts, await workshop.digests.of(tree, ("mount", mount.source), read)]


@contextlib.asynccontextmanager
async def run(workshop: Workshop, step: RunStep, output: StageOutput) -> AsyncIterator[Path]:
    """The upper directory of what ran; it is gone, or moved away, afterwards. Raises StepFailed."""
    containers = workshop.containers
    async with contextlib.AsyncExitStack() as undo:
        mounts, env = await _mounts(workshop, step, undo)
        tmpfs = {
            mount.target: f"size={mount.size}" if mount.size else ""
            for mount, _ in step.mounts
            if mount.kind == "tmpfs"
        }
        host = workshop.request.host
        created = await containers.create(
            CreateRequest(
                ContainerConfig(
                    image=step.image_id,
                    hostname=step.hostname,
                    cmd=step.words,
                    entrypoint=("",),
                    env=(*step.env, *env),
                    user=step.user,
                    working_dir=step.working_dir,
                    labels={STEP_LABEL: step.place},
                    healthcheck=HealthCheck(("NONE",)),
                ),
                replace(
                    host,
                    network_mode=step.network or host.network_mode,
                    privileged=step.is_privileged,
                    log_config=LogConfig("none"),
                    mounts=mounts,
                    tmpfs=tmpfs,
                ),
            )
        )
        undo.push_async_callback(containers.remove, created.id, force=True, volumes=True)
        await output.tell(f" ---> Running in {short_id(created.id)}\n")
        await _run_to_end(workshop, created.id, step, output)
        upper = containers.upper_directory(created.id)
        targets = [*MOUNT_POINTS, *(mount.target for mount in mounts), *tmpfs]
        await workshop.in_thread(lambda: _drop(upper, step.lowers, targets))
        yield upper
    await output.tell(f" ---> Removed intermediate container {short_id(created.id)}\n")


async def _run_to_end(
    workshop: Workshop, container_id: str, step: RunStep, output: StageOutput
) -> None:
    containers = workshop.containers
    streams = await containers.attach(container_id, stdin=False, stdout=True, stderr=True)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        ended = containers.wait(container_id, condition="next-exit")
        await containers.start(container_id)
        async for number, text in _texts(aiter(streams)):
            last.extend(text.splitlines(keepends=True))
            await output.tell(text if number == 1 else f"{_RED}{text}{_PLAIN}")
        result = await ended
    finally:
        await streams.close()
    if result.status_code:
        said = "".join(last).rstrip()
        raise StepFailed(
            f"The command '{step.shown}' returned a non-zero code: {result.status_code}",
            result.status_code,
            f"{step.place}: RUN" + (f"\n{said}" if said else ""),
        )


async def _texts(frames: AsyncIterator[bytes]) -> AsyncIterator[tuple[int, str]]:
    """Of stdcopy frames: 1 stdout, 2 stderr. Letters that a frame cuts in two are put together."""
    decoders = {number: codecs.getincrementaldecoder("utf-8")("replace") for number in (1, 2)}
    waiting = b""
    async for piece in frames:
        waiting += piece
        while len(waiting) >= 8:
            length = int.from_bytes(waiting[4:8], "big")
            if len(waiting) < 8 + length:
                break
            number, content = waiting[0], waiting[8 : 8 + length]
            waiting = waiting[8 + length :]
            text = decoders[2 if number == 2 else 1].decode(content)
            if text:
                yield number, text


def _drop(upper: Path, lowers: Sequence[str], targets: Sequence[str]) -> None:
    descriptor = os.open(upper, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        drop_mount_points(descriptor, lowers, targets)
    finally:
        os.close(descriptor)


async def _mounts(
    workshop: Workshop, step: RunStep, undo: contextlib.AsyncExitStack
) -> tuple[tuple[MountRequest, ...], tuple[str, ...]]:
    """The container's mounts, and variables that hold secrets."""
    scratch = await undo.enter_async_context(workshop.scratch())
    found: list[MountRequest] = []
    env: list[str] = []
    if step.script:
        path = scratch / "script"
        path.write_text(step.script)
        path.chmod(0o755)
        found.append(MountRequest("bind", SCRIPT, str(path), read_only=True))
    agents = 0
    for mount, tree in step.mounts:
        match mount.kind:
            case "bind":
                source = await _bind_source(workshop, mount, tree, scratch)
                found.append(
                    MountRequest("bind", mount.target, str(source), read_only=mount.read_only)
                )
            case "cache":
                folder = await _cache(workshop, mount, tree, undo)
                found.append(
                    MountRequest("bind", mount.target, str(folder), read_only=mount.read_only)
                )
            case "secret":
                content = workshop.request.secrets.get(mount.identifier)
                if content is None:
                    if mount.required:
                        raise InvalidRequest(
                            f"{step.place}: secret {mount.identifier!r} is required, "
                            "and was not sent"
                        )
                    continue
                if mount.variable:
                    env.append(f"{mount.variable}={content.decode(errors='surrogateescape')}")
                if mount.target:
                    path = _secret_file(scratch, content, mount)
                    found.append(MountRequest("bind", mount.target, str(path), read_only=True))
            case "ssh":
                agent = workshop.request.ssh.get(mount.identifier, "")
                if not agent:
                    if mount.required:
                        raise InvalidRequest(
                            f"{step.place}: SSH agent {mount.identifier!r} is required, "
                            "and was not lent"
                        )
                    continue
                path = scratch / f"agent-{agents}"
                await undo.enter_async_context(lent_agent(agent, path, mount))
                target = mount.target or f"/run/buildkit/ssh_agent.{agents}"
                found.append(MountRequest("bind", target, str(path)))
                if not agents:
                    env.append(f"SSH_AUTH_SOCK={target}")
                agents += 1
            case _:
                continue  # a tmpfs has no source
    return tuple(found), tuple(env)


def _secret_file(scratch: Path, content: bytes, mount: StepMount) -> Path:
    path = scratch / f"secret-{secrets.token_hex(8)}"
    path.touch(0o600)
    path.write_bytes(content)
    os.chown(path, mount.uid, mount.gid)
    path.chmod(0o400 if mount.mode is None else mount.mode)
    return path


async def _bind_source(workshop: Workshop, mount: StepMount, tree: Tree, scratch: Path) -> Path:
    """What a client sent can be shown as it lies there; what a step may change is copied."""
    if not (tree.is_context and mount.read_only):
        return await _copied(workshop, mount, tree, scratch)
    (folder,) = tree.lowers
    path = await workshop.on_tree(tree, lambda root: real_path(root, mount.source or "/"))
    return Path(folder, path)


async def _copied(workshop: Workshop, mount: StepMount, tree: Tree, scratch: Path) -> Path:
    """A copy, so that what the step may write there is its own: a change is thrown away."""
    target = scratch / f"bind-{secrets.token_hex(8)}"
    target.mkdir(mode=0o755)
    name = posixpath.basename(mount.source.rstrip("/"))

    def copy(source: int) -> bool:
        found = find_sources(source, mount.source or "/")
        if len(found) != 1:
            raise InvalidRequest(f"cannot mount {mount.source!r}: it means several things")
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            is_folder = found[0].is_folder
            copy_sources(source, found, root, "/" if is_folder else f"/{name}", Attributes(), ())
        finally:
            os.close(root)
        return is_folder

    is_folder = await workshop.on_tree(tree, copy)
    return target if is_folder else target / name


async def _cache(
    workshop: Workshop, mount: StepMount, tree: Tree, undo: contextlib.AsyncExitStack
) -> Path:
    namespace = workshop.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS") or ""
    identifier = f"{namespace}/{mount.identifier}" if namespace else mount.identifier
    name = sha256(identifier.encode(errors="surrogateescape")).hexdigest()
    if mount.sharing == "private":  # several at once have each their own
        name = next(
            each
            for each in itertools.chain((name,), (f"{name}-{n}" for n in itertools.count(1)))
            if not workshop.caches.lock(each).locked()
        )
    if mount.sharing != "shared":
        await undo.enter_async_context(workshop.caches.lock(name))
    folder = workshop.caches.use(name, undo)
    if not folder.exists():
        folder.mkdir(mode=0o755)
        if mount.origin:
            first = await _copied(workshop, mount, tree, workshop.folder)
            folder.rmdir()
            first.rename(folder)
        os.chown(folder, mount.uid, mount.gid)
        folder.chmod(0o755 if mount.mode is None else mount.mode)
    return folder
