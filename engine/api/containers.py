"""Calls about containers: decode, one call, encode."""

from __future__ import annotations

import re
import time

from aiohttp import web

from engine.api.answer import empty, reply, reply_encoded
from engine.api.fields import Fields
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.selection import ContainerFacts, select_containers, wanted_for_prune
from engine.api.shown import Document, container_json, container_summary, endpoint_json
from engine.api.streams import JSON, OCTETS, Stream, carry, send_all, stream_type
from engine.api.wire import read_create, read_files, read_update
from engine.containers.legacy_links import link_names
from engine.containers.model import LogQuery, Record
from engine.errors import EngineError, InvalidRequest, NotFound, Unsupported
from engine.ids import short_id
from engine.networks.model import PREDEFINED


async def create(request: Request, engine: Engine) -> web.Response:
    asked = read_create(
        await request.document(),
        name=request.query.text("name"),
        platform=request.query.text("platform"),
        version=request.version,
    )
    created = await engine.containers.create(asked)
    warnings = created.warnings
    if asked.config.mac_address and request.version >= (1, 44):
        warnings += (
            "The container-wide MacAddress field is now deprecated. It should be specified in "
            "EndpointsConfig instead.",
        )
    return reply(201, {"Id": created.id, "Warnings": warnings})


async def listing(request: Request, engine: Engine) -> web.Response:
    query = request.query
    filters = query.filters()
    for key in ("before", "since"):  # as parameters of their own they are older than filters
        if query.text(key):
            filters = filters.also(key, query.text(key))
    chosen = select_containers(
        engine.containers.list(),
        filters,
        show_all=query.flag("all"),
        limit=query.integer("limit") or 0,
        facts=_facts(engine),
    )
    now = time.time_ns()
    images = _ImageNames(engine)
    linked = link_names(engine.containers.list())
    if linked or query.flag("size") or request.version < (1, 46):
        documents = [
            container_summary(record, image=images.of(record), now=now) for record in chosen
        ]
        for record, document in zip(chosen, documents, strict=True):
            document["Names"] = [f"/{record.name}", *linked.get(record.id, ())]
            if query.flag("size"):
                document |= await list_sizes(engine, record)
            if request.version < (1, 46):
                document["HostConfig"] = {"NetworkMode": record.host.network_mode}
        return reply(200, documents)
    entries = [engine.summaries.of(record, images.of(record), now) for record in chosen]
    return reply_encoded(200, b"[" + b",".join(entries) + b"]\n")


async def list_sizes(engine: Engine, record: Record) -> Document:
    """Bytes written by the container, left out where it wrote none, and with its image."""
    written, whole = await sizes(engine, record)
    return {**({"SizeRw": written} if written else {}), "SizeRootFs": whole}


async def sizes(engine: Engine, record: Record) -> tuple[int, int]:
    """Bytes that the container wrote into its root file system, and with those of its image."""
    written = await engine.containers.writable_size(record.id)
    try:
        image = engine.images.resolve(record.image_id).size
    except EngineError:  # a directory that is gone
        image = 0
    return written, written + image


class _ImageNames:
    """What the list calls each container's image: as given, or the id once the name moved on."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ids: dict[str, str] = {}

    def of(self, record: Record) -> str:
        name = record.config.image
        if name not in self._ids:
            self._ids[name] = _image_id(self._engine, name) or ""
        return name if self._ids[name] == record.image_id else short_id(record.image_id)


def _image_id(engine: Engine, reference: str) -> str | None:
    try:
        return engine.images.resolve(reference).id
    except EngineError:
        return None


def _facts(engine: Engine) -> ContainerFacts:
    def find(reference: str) -> Record | None:
        try:
            return engine.containers.get(reference)
        except NotFound:
            return None

    def descends(record: Record, reference: str) -> bool:
        try:
            ancestor = engine.images.resolve(reference)
        except EngineError:
            return False
        return engine.images.descends(record.image_id, ancestor)

    return ContainerFacts(find, descends)


async def inspect(request: Request, engine: Engine) -> web.Response:
    record = engine.containers.get(request["id"])
    document = container_json(record)
    document["GraphDriver"] = {"Name": "overlay2", "Data": overlay_folders(engine, record)}
    if request.query.flag("size"):
        document["SizeRw"], document["SizeRootFs"] = await sizes(engine, record)
    if request.version < (1, 45):
        add_old_aliases(document, record)
    return reply(200, document)


def overlay_folders(engine: Engine, record: Record) -> Document | None:
    """None for a directory of this machine: what it is laid over is made anew at each start."""
    try:
        image = engine.images.resolve(record.image_id)
        lower = engine.images.root_layers(image) if not image.rootfs_path else ()
    except EngineError:
        lower = ()
    if not lower:
        return None
    upper = engine.containers.upper_directory(record.id)
    return {
        "ID": record.id,
        "LowerDir": ":".join(lower),
        # In a mount namespace of its own.
        "MergedDir": f"/proc/{record.state.pid}/root" if record.state.status.is_up else "",
        "UpperDir": str(upper),
        "WorkDir": str(upper.with_name("work")),
    }


def add_old_aliases(document: Document, record: Record) -> None:
    """Before DNSNames there were the aliases, with the short id and the host name among them."""
    networks: Document = {}
    for place in record.attachments:
        shown = endpoint_json(record, place)
        if place.network not in PREDEFINED:
            own = (*place.settings.aliases, short_id(record.id), record.config.hostname)
            shown["Aliases"] = tuple(dict.fromkeys(own))
        networks[place.network] = shown
    settings = document["NetworkSettings"]
    assert isinstance(settings, dict)
    settings["Networks"] = networks


async def start(request: Request, engine: Engine) -> web.Response:
    length = request.http.content_length
    if request.http.body_exists and (length is None or length > 7):
        raise InvalidRequest(
            "starting container with non-empty request body was deprecated since API v1.22 and "
            "removed in v1.24"
        )
    for key in ("checkpoint", "checkpoint-dir"):
        if request.query.text(key):
            raise Unsupported("cannot start from a checkpoint: this engine makes none")
    return empty(204 if await engine.containers.start(request["id"]) else 304)


async def stop(request: Request, engine: Engine) -> web.Response:
    stopped = await engine.containers.stop(
        request["id"],
        timeout=request.query.integer("t"),
        signal=request.query.text("signal") if request.version >= (1, 42) else "",
    )
    return empty(204 if stopped else 304)


async def restart(request: Request, engine: Engine) -> web.Response:
    await engine.containers.restart(
        request["id"],
        timeout=request.query.integer("t"),
        signal=request.query.text("signal") if request.version >= (1, 42) else "",
    )
    return empty(204)


async def kill(request: Request, engine: Engine) -> web.Response:
    await engine.containers.kill(request["id"], signal=request.query.text("signal") or "KILL")
    return empty(204)


async def pause(request: Request, engine: Engine) -> web.Response:
    await engine.containers.pause(request["id"])
    return empty(204)


async def unpause(request: Request, engine: Engine) -> web.Response:
    await engine.containers.unpause(request["id"])
    return empty(204)


async def rename(request: Request, engine: Engine) -> web.Response:
    await engine.containers.rename(request["id"], request.query.text("name"))
    return empty(204)


async def remove(request: Request, engine: Engine) -> web.Response:
    await engine.containers.remove(
        request["id"],
        force=request.query.flag("force"),
        volumes=request.query.flag("v"),
        link=request.query.flag("link"),
    )
    return empty(204)


async def wait(request: Request, engine: Engine) -> web.StreamResponse:
    """The head goes out before the wait: `docker run` starts the container only then. Clients
    older than that get it with the answer."""
    is_old = request.version < (1, 30)
    condition = "" if is_old else request.query.text("condition")
    waiting = engine.containers.wait(request["id"], condition=condition)
    stream = Stream(request, JSON)
    with request.until_gone(endless=True):
        if is_old:
            return reply(200, {"StatusCode": (await waiting).status_code})
        async with stream:
            result = await waiting
            document: dict[str, object] = {"StatusCode": result.status_code}
            if result.error:
                document["Error"] = {"Message": result.error}
            await stream.message(document)
    return stream.response


async def logs(request: Request, engine: Engine) -> web.StreamResponse:
    query = request.query
    record = engine.containers.get(request["id"])
    if not (query.flag("stdout") or query.flag("stderr")):
        raise InvalidRequest("Bad parameters: you must choose at least one stream")
    pieces = engine.containers.logs(
        record.id,
        LogQuery(
            stdout=query.flag("stdout"),
            stderr=query.flag("stderr"),
            follow=query.flag("follow"),
            timestamps=query.flag("timestamps"),
            details=query.flag("details"),
            since=query.seconds("since"),
            until=query.seconds("until"),
            tail=read_tail(query.text("tail")),
        ),
    )
    content_type = stream_type(tty=record.config.tty, version=request.version)
    return await send_all(request, content_type, pieces, endless=query.flag("follow"))


def read_tail(text: str) -> int | None:
    """Anything but a number means all, as in Docker."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


async def attach(request: Request, engine: Engine) -> web.StreamResponse:
    query = request.query
    record = engine.containers.get(request["id"])
    stdin = query.flag("stdin") and query.flag("stream")
    streams = await engine.containers.attach(
        record.id,
        stdin=stdin,
        stdout=query.flag("stdout"),
        stderr=query.flag("stderr"),
        logs=query.flag("logs"),
        stream=query.flag("stream"),
        detach_keys=query.text("detachKeys"),
    )
    return await carry(request, streams, stdin=stdin)


async def resize(request: Request, engine: Engine) -> web.Response:
    height, width = read_size(request)
    await engine.containers.resize(request["id"], height=height, width=width)
    return empty(200)


def read_size(request: Request) -> tuple[int, int]:
    return _length(request, "h", "height"), _length(request, "w", "width")


def _length(request: Request, key: str, what: str) -> int:
    text = request.query.text(key)
    if not re.fullmatch("-?[0-9]{1,19}", text, re.ASCII):
        raise InvalidRequest(f'invalid resize {what} "{text}": invalid syntax')
    length = int(text)
    if not 0 <= length <= 65535:
        raise InvalidRequest(f'invalid resize {what} "{text}": value out of range')
    return length


async def top(request: Request, engine: Engine) -> web.Response:
    arguments = request.query.text("ps_args") or "-ef"
    processes = await engine.containers.top(request["id"], arguments)
    return reply(200, {"Titles": processes.titles, "Processes": processes.processes})


async def update(request: Request, engine: Engine) -> web.Response:
    document = await request.document()
    labels, files = Fields(document).text_map("Labels"), read_files(Fields(document))
    warnings = await engine.containers.update(request["id"], read_update(document), labels, files)
    return reply(200, {"Warnings": warnings or None})


async def changes(request: Request, engine: Engine) -> web.Response:
    found = await engine.containers.changes(request["id"])
    return reply(200, [{"Path": one.path, "Kind": one.kind} for one in found] or None)


async def export(request: Request, engine: Engine) -> web.StreamResponse:
    return await send_all(request, OCTETS, engine.containers.export(request["id"]))


async def prune(request: Request, engine: Engine) -> web.Response:
    wanted = wanted_for_prune(request.query.filters(), now=time.time_ns())
    pruned = await engine.containers.prune(
        lambda record: wanted(record.config.labels, record.created)
    )
    reclaimed = {"reclaimed": str(pruned.space_reclaimed)}
    engine.events.publish("container", "prune", "", reclaimed)
    return reply(
        200,
        {"ContainersDeleted": pruned.deleted or None, "SpaceReclaimed": pruned.space_reclaimed},
    )
