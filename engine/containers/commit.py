"""A container's root file system leaves it: as an image's next layer (commit) or as a tar (export).

Neither has what was mounted there: volumes stay where they are.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from engine.containers import lifecycle
from engine.containers.changes import changes_of, without_mount_points
from engine.containers.container import Container
from engine.containers.create import image_check, merged_config
from engine.containers.lifecycle import Change as Transition
from engine.containers.model import Change, ContainerConfig, Record, Status
from engine.containers.parts import Parts
from engine.errors import Conflict
from engine.images.diff_layer import MOUNT_POINTS, pack_changes
from engine.images.feed import Outlet
from engine.images.model import Image
from engine.images.pack import Packing, Sink, add_tree
from engine.images.places import MODE, PLACES
from engine.images.tar_reader import Kind, Member
from engine.images.tar_writer import END, member_head
from engine.kernel.libc import KernelError
from engine.kernel.mount import open_in_root
from engine.kernel.overlay import on_overlay
from engine.oci.image_config import Edit, Healthcheck, HistoryEntry, ImageConfig, unchanged

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CommitRequest:
    # What isn't given here is the container's; None: nothing is.
    config: ContainerConfig | None = None
    repository: str = ""
    tag: str = ""
    author: str = ""
    comment: str = ""
    edit: Edit = unchanged  # of the configuration; what Dockerfile instructions do to it
    pause: bool = True


async def commit(parts: Parts, container: Container, request: CommitRequest) -> Image:
    """The image made of what the container changed. It stands still meanwhile, unless the request
    says otherwise, so that no file is caught half written."""
    async with container.held():
        record = container.record
        if container.is_being_removed or record.state.status in (Status.REMOVING, Status.DEAD):
            raise Conflict(f"You cannot commit container {record.id} which is being removed")
        image = parts.images.resolve(record.image_id)
        config = committed_config(record, request)
        shim = container.shim
        frozen = request.pause and shim is not None and record.state.status is Status.RUNNING
        if frozen and shim is not None:
            await shim.pause()
            _change(parts, container, Transition.PAUSE, "pause")
        try:
            made = await _store(parts, record, image, config, request)
            _tell(parts, record, made, request)
        finally:
            if frozen and shim is not None:
                await shim.resume()
                if container.record.state.status is Status.PAUSED:
                    _change(parts, container, Transition.UNPAUSE, "unpause")
    return made


def _tell(parts: Parts, record: Record, made: Image, request: CommitRequest) -> None:
    name = made.name if request.repository else ""
    for action, called in (("create", made.id), ("tag", name)):
        if called:
            parts.events.publish("image", action, made.id, {**made.labels, "name": called})
    parts.publish(record, "commit", comment=request.comment, imageID=made.id, imageRef=name)


def _change(parts: Parts, container: Container, change: Transition, action: str) -> None:
    state = lifecycle.changed(container.record.state, change)
    container.record = replace(container.record, state=state)
    parts.save(container.record)
    parts.publish(container.record, action)


async def _store(
    parts: Parts, record: Record, image: Image, config: ImageConfig, request: CommitRequest
) -> Image:
    upper = _upper(parts, record)
    lowers = parts.images.root_layers(image)

    def pack(sink: Sink) -> int:
        places = _places(upper, lowers)
        descriptor = os.open(upper, _DIRECTORY)
        try:
            return pack_changes(descriptor, sink, without=places)
        finally:
            os.close(descriptor)

    document = replace(
        image.document,
        config=config,
        author=request.author,
        comment=request.comment,
        history=(
            *image.document.history,
            HistoryEntry(
                created_by=" ".join((record.path, *record.args)),
                author=request.author,
                comment=request.comment,
            ),
        ),
    )
    has_changes = bool(await changes(parts, record))
    return await parts.images.commit(
        image, document, pack if has_changes else None, request.repository, request.tag
    )


def committed_config(record: Record, request: CommitRequest) -> ImageConfig:
    """Raises InvalidRequest for a change that is none."""
    asked = request.config or record.config
    wanted = request.edit(_image_config(asked))
    below = _image_config(record.config)
    merged = merged_config(_with(asked, wanted), below)
    return replace(_image_config(merged), on_build=wanted.on_build or below.on_build)


def _image_config(config: ContainerConfig) -> ImageConfig:
    check = config.healthcheck
    return ImageConfig(
        env=config.env,
        cmd=config.cmd or (),
        entrypoint=config.entrypoint or (),
        user=config.user,
        working_dir=config.working_dir,
        exposed_ports=config.exposed_ports,
        volumes=config.volumes,
        labels=config.labels,
        stop_signal=config.stop_signal,
        healthcheck=None
        if check is None
        else Healthcheck(
            check.test,
            check.interval,
            check.timeout,
            check.start_period,
            check.start_interval,
            check.retries,
        ),
        shell=config.shell or (),
        on_build=config.on_build or (),
    )


def _with(config: ContainerConfig, changed: ImageConfig) -> ContainerConfig:
    return replace(
        config,
        env=changed.env,
        cmd=changed.cmd or None,
        entrypoint=changed.entrypoint or None,
        user=changed.user,
        working_dir=changed.working_dir,
        exposed_ports=changed.exposed_ports,
        volumes=changed.volumes,
        labels=changed.labels,
        stop_signal=changed.stop_signal,
        healthcheck=image_check(changed),
        shell=changed.shell or None,
    )


async def changes(parts: Parts, record: Record) -> tuple[Change, ...]:
    """What the container changed, without what only the runtime needs to mount on."""
    upper = _upper(parts, record)
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))

    def find() -> tuple[Change, ...]:
        return without_mount_points(changes_of(upper, lowers), upper, lowers, MOUNT_POINTS)

    return await asyncio.to_thread(find)


def _places(upper: str, lowers: Sequence[str]) -> frozenset[str]:
    """Paths in the upper directory that are there for the runtime only, without a slash ahead."""
    found = changes_of(upper, lowers)
    kept = without_mount_points(found, upper, lowers, MOUNT_POINTS)
    gone = {change.path for change in found} - {change.path for change in kept}
    return frozenset(path.lstrip("/") for path in gone)


def _upper(parts: Parts, record: Record) -> str:
    return str(parts.store.folder(record.id) / "rootfs/upper")


def _pack_root(root: int, sink: Sink) -> None:
    """And the places that each container has by Docker's rule, whatever its image and whether or
    not it was started: for what gets mounted there."""
    add_tree(Packing(sink), root, "")
    for name, kind, link in PLACES:
        try:
            os.close(open_in_root(root, name, os.O_PATH | os.O_NOFOLLOW))
        except KernelError:
            mode = 0o777 if kind is Kind.SYMLINK else MODE
            sink(member_head(Member(name, kind, mode, 0, 0, 0, 0, link=link)))
    sink(END)


async def export(parts: Parts, record: Record) -> AsyncIterator[bytes]:
    """The whole root file system as a tar. One that runs is read as it is just then, through a
    view of its layers that has no mounts."""
    folder = parts.store.folder(record.id) / "rootfs"
    lowers = parts.images.root_layers(parts.images.resolve(record.image_id))

    def pack(sink: Sink) -> None:
        layers = (str(folder / "upper"), *lowers)
        on_overlay(layers, "", "", lambda root: _pack_root(root, sink), scratch=str(folder))

    with ThreadPoolExecutor(1, "export") as threads:
        pieces = Outlet(threads).run(pack)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
