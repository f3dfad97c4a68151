"""Calls about images."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.bars import progress_bar
from engine.api.fields import Fields
from engine.api.parts import Engine
from engine.api.request import Request, Version, parse_json
from engine.api.selection import wanted_for_prune
from engine.api.shown import Document
from engine.api.streams import JSON, PROGRESS, TAR, Stream, send_all
from engine.api.wire import read_config
from engine.builder.changes import edit_of
from engine.builder.ignore import path_expression
from engine.containers.commit import CommitRequest
from engine.containers.model import Status
from engine.errors import EngineError, InvalidRequest, NotFound
from engine.filters import Filters, parse_until
from engine.images.model import Image, ImageUser, Loaded, Progress, Pushed, Removal, Removed, unlike
from engine.oci.digest import parse_digest
from engine.oci.image_config import ImageConfig, image_config_json
from engine.oci.platform import parse_platform, platform_of
from engine.oci.reference import Reference, parse_reference, parse_tag
from engine.registry.credentials import parse_registry_auth

Step = Progress | Pushed
IMAGE_FILTERS = frozenset({"before", "dangling", "label", "reference", "since", "until"})


def users_of(engine: Engine, image_id: str) -> Sequence[ImageUser]:
    up = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)
    return [
        ImageUser(record.id, record.state.status in up)
        for record in engine.containers.image_users(image_id)
    ]


async def listing(request: Request, engine: Engine) -> web.Response:
    query, version = request.query, request.version
    filters = query.filters()
    if version < (1, 41) and query.text("filter"):
        filters = filters.also("reference", query.text("filter"))
    chosen = select_images(engine.images.list(), filters, engine, time.time_ns())
    shared = version >= (1, 42) and query.flag("shared-size")
    shared_sizes = engine.images.shared_sizes() if shared else {}
    users = engine.containers.usage().images
    return reply(
        200,
        [
            summary_json(
                image,
                version,
                containers=users[image.id] if version >= (1, 51) else -1,
                shared_size=shared_sizes.get(image.id, 0) if shared else -1,
            )
            for image in chosen
        ],
    )


def select_images(
    images: Sequence[Image], filters: Filters, engine: Engine, now: int
) -> list[Image]:
    filters.check(IMAGE_FILTERS)
    dangling = filters.flag("dangling")
    before = [created_at(engine.images.resolve(name)) for name in filters.get("before")]
    since = [created_at(engine.images.resolve(name)) for name in filters.get("since")]
    until = [parse_until(text, now) for text in filters.get("until")]

    def fits(image: Image) -> bool:
        created = created_at(image)
        return (
            filters.labels(image.labels)
            and (dangling is None or dangling is not bool(image.tags))
            and ("reference" not in filters or bool(with_names(image, filters).names))
            and all(created < moment for moment in (*before, *until))
            and all(created > moment for moment in since)
        )

    return [with_names(image, filters) for image in images if fits(image)]


def with_names(image: Image, filters: Filters) -> Image:
    """Of what was asked for by its name only the names that were meant are listed."""

    def is_meant(name: str) -> bool:
        return filters.any("reference", lambda pattern: matches_name(name, pattern))

    return replace(
        image,
        tags=tuple(filter(is_meant, image.tags)),
        digests=tuple(filter(is_meant, image.digests)),
    )


def matches_name(name: str, pattern: str) -> bool:
    """A shell pattern on the familiar name, with or without its tag; * stops at a slash."""
    alone, at, _ = name.partition("@")
    if not at:
        alone = name.rpartition(":")[0]
    return _matches_path(name, pattern) or _matches_path(alone, pattern)


def _matches_path(path: str, pattern: str) -> bool:
    try:
        expression = re.compile(path_expression(pattern.split("/")), re.DOTALL)
    except re.error:
        raise InvalidRequest(f"syntax error in pattern {pattern!r}") from None
    return expression.fullmatch(path) is not None


def created_at(image: Image) -> int:
    """Nanoseconds since the epoch, 0 where the image doesn't say."""
    try:
        return int(datetime.fromisoformat(image.created).timestamp() * 10**9)
    except ValueError:
        return 0


async def inspect(request: Request, engine: Engine) -> web.Response:
    query, version = request.query, request.version
    platform = query.text("platform") if version >= (1, 49) else ""
    if platform and version >= (1, 48) and query.flag("manifests"):
        raise InvalidRequest(
            "conflicting options: manifests and platform options cannot both be set"
        )
    image = engine.images.resolve(request["name"])
    if platform:
        require_platform(image, platform)
    document = image_json(image, engine.images.layer_digests(image), version)
    if not image.rootfs_path:
        upper, *lower = engine.images.layers(image)
        folders = {**({"LowerDir": ":".join(lower)} if lower else {}), "UpperDir": upper}
        document["GraphDriver"] = {"Data": folders, "Name": "overlay2"}
    return reply(200, document)


def require_platform(image: Image, text: str) -> None:
    """An image here has one platform; `text` is the API's JSON of the wanted one, where a variant
    that isn't said is as the image has it."""
    system, architecture, variant = platform_parts(text)
    if platform_of("", architecture).architecture == image.architecture:
        variant = variant or image.variant
    wanted = platform_of(system, architecture, variant)
    if refusal := unlike(image, image.name, wanted):
        raise NotFound(refusal)


def one_platform(request: Request) -> str:
    """The API's JSON of the platform that an archive is to be of; "" where it isn't said."""
    texts = request.query.texts("platform") if request.version >= (1, 48) else ()
    if len(texts) > 1:
        raise InvalidRequest("multiple platform parameters not supported")
    return texts[0] if texts else ""


def platform_parts(text: str) -> tuple[str, str, str]:
    """Of the API's JSON: operating system, architecture, and variant or ""."""
    document = parse_json(text.encode())
    if not isinstance(document, dict):
        raise InvalidRequest("failed to parse platform: it has to be a JSON object")
    wanted = Fields(document)
    system, architecture = wanted.text("os"), wanted.text("architecture")
    if not system or not architecture:
        raise InvalidRequest("both OS and Architecture must be provided")
    return system, architecture, wanted.text("variant")


async def history(request: Request, engine: Engine) -> web.Response:
    image = engine.images.resolve(request["name"])
    if request.version >= (1, 48) and (platform := request.query.text("platform")):
        require_platform(image, platform)
    lines = engine.images.history(image)
    return reply(
        200,
        [
            {
                "Comment": line.comment,
                "Created": line.created,
                "CreatedBy": line.created_by,
                "Id": line.id,
                "Size": line.size,
                "Tags": line.tags or None,
            }
            for line in lines
        ],
    )


async def tag(request: Request, engine: Engine) -> web.Response:
    repository, tag = request.query.text("repo"), request.query.text("tag")
    image = await engine.images.tag(request["name"], repository, tag)
    tell(engine, "tag", image.id, new_name(repository, tag))
    return empty(201)


def new_name(repository: str, tag: str) -> str:
    """Pure: what an image was just called, as people say it."""
    reference = parse_reference(repository)
    return (replace(reference, tag=tag) if tag else reference.with_default_tag()).familiar


async def remove(request: Request, engine: Engine) -> web.Response:
    if request.version >= (1, 50):
        for platform in request.query.texts("platforms"):
            require_platform(engine.images.resolve(request["name"]), platform)
    removed = await engine.images.remove(
        request["name"],
        force=request.query.flag("force"),
        prune=not request.query.flag("noprune"),
        users=lambda image_id: users_of(engine, image_id),
    )
    return reply(200, told_removed(engine, removed))


def told_removed(engine: Engine, removed: Sequence[Removed]) -> list[Document]:
    for one in removed:
        if one.what is Removal.UNTAGGED:
            if not one.is_companion:
                attributes = {**one.labels, "name": one.image_id}
                engine.events.publish("image", "untag", one.image_id, attributes)
        elif one.name == one.image_id:  # and not one of its layers
            tell(engine, "delete", one.image_id, one.image_id)
    return [{one.what.value: one.name} for one in removed]


def tell(engine: Engine, action: str, image_id: str, name: str) -> None:
    """With the image's labels, while there is one: `filters` asks for them."""
    labels: Mapping[str, str] = {}
    with contextlib.suppress(NotFound):
        labels = engine.images.resolve(image_id).labels
    engine.events.publish("image", action, image_id, {**labels, "name": name})


async def prune(request: Request, engine: Engine) -> web.Response:
    """Only images without a tag, unless `dangling=false` asks for all that nobody uses."""
    filters = request.query.filters()
    wanted = wanted_for_prune(filters, now=time.time_ns(), also=frozenset({"dangling"}))
    all_unused = filters.flag("dangling") is False
    pruned = await engine.images.prune(
        lambda image: (all_unused or not image.tags) and wanted(image.labels, created_at(image)),
        users=lambda image_id: users_of(engine, image_id),
    )
    deleted = told_removed(engine, pruned.removed)
    engine.events.publish("image", "prune", "", {"reclaimed": str(pruned.reclaimed)})
    return reply(200, {"ImagesDeleted": deleted or None, "SpaceReclaimed": pruned.reclaimed})


async def create(request: Request, engine: Engine) -> web.StreamResponse:
    """Import of an archive, or a pull."""
    query = request.query
    if query.text("fromSrc"):
        return await _import(request, engine)
    name, tag = query.text("fromImage"), query.text("tag")
    if not name:
        raise InvalidRequest("cannot create an image: neither fromImage nor fromSrc is given")
    if name.partition(":")[0] == "rootfs":
        image = engine.images.resolve(name)
        return await _send_progress(request, _present(image))
    reference = pull_reference(name, tag)
    platform = query.text("platform")
    steps = engine.images.pull(
        reference,
        platform=parse_platform(platform, engine.images.platform) if platform else None,
        credentials=parse_registry_auth(request.header("X-Registry-Auth")),
    )
    return await _send_progress(request, _told(engine, "pull", reference, steps))


async def _told(
    engine: Engine, action: str, reference: Reference, steps: AsyncGenerator[Step, None]
) -> AsyncGenerator[Step, None]:
    async with contextlib.aclosing(steps):
        async for step in steps:
            yield step
    tell(engine, action, reference.familiar, reference.familiar_name)


def pull_reference(name: str, tag: str) -> Reference:
    """`tag` may be a digest, and overrides what `name` has. Without any all tags are meant."""
    reference = parse_reference(name)
    if reference.familiar_name == "scratch":
        raise InvalidRequest("'scratch' is a reserved name")
    if not tag:
        return reference
    if ":" in tag:
        return reference.with_digest(parse_digest(tag))
    return Reference(reference.domain, reference.path, parse_tag(tag))


async def _send_progress(request: Request, steps: AsyncGenerator[Step, None]) -> web.StreamResponse:
    """What is refused before anything happened is an ordinary error; later it is in the stream.
    A client that hangs up has changed its mind."""
    async with contextlib.aclosing(steps):
        with request.until_gone():
            first = await anext(steps)
            stream = Stream(request, JSON, end=PROGRESS)
            async with stream:
                await stream.message(progress_json(first))
                try:
                    async for step in steps:
                        await stream.message(progress_json(step))
                except EngineError as error:
                    await stream.message(error_message(str(error)))
    return stream.response


def progress_json(step: Step) -> Document:
    if isinstance(step, Pushed):
        aux = {"Tag": step.tag, "Digest": step.digest, "Size": step.size}
        return {"progressDetail": {}, "aux": aux}
    document: Document = {"status": step.status}
    if step.id:
        document["id"] = step.id
    if step.is_of_layer:
        detail = {"current": step.current, "total": step.total} if step.total else {}
        document["progressDetail"] = detail
        if detail:
            document["progress"] = progress_bar(step.current, step.total)
    return document


async def _present(image: Image) -> AsyncGenerator[Step, None]:
    """A directory of this machine: nothing is to be fetched."""
    yield Progress(f"Status: Image is up to date for {image.name}")


async def _import(request: Request, engine: Engine) -> web.StreamResponse:
    query = request.query
    source, platform = query.text("fromSrc"), query.text("platform")
    if query.text("repo") and parse_reference(query.text("repo")).digest:
        raise InvalidRequest("cannot import digest reference")
    wanted = parse_platform(platform, engine.images.platform) if platform else None
    if wanted is not None and wanted.os != engine.images.platform.os:
        raise InvalidRequest("operating system is not supported")

    async def made_of(archive: AsyncIterator[bytes]) -> Image:
        return await engine.images.import_(
            archive,
            query.text("repo"),
            query.text("tag"),
            edit=edit_of(query.texts("changes")),
            message=query.text("message") or f"Imported from {source}",
            platform=wanted,
        )

    if source == "-":
        image = await made_of(request.chunks())
    else:
        url = source if "://" in source else f"http://{source}"
        async with contextlib.aclosing(engine.builder.fetching(url)) as archive:
            with request.until_gone():
                image = await made_of(archive)
    if image.tags:
        tell(engine, "tag", image.id, image.name)
    tell(engine, "import", image.id, image.id)
    stream = Stream(request, JSON, end=PROGRESS)
    async with stream:
        await stream.message({"status": image.id})
    return stream.response


async def load(request: Request, engine: Engine) -> web.StreamResponse:
    """What goes wrong once the archive is read is told inside the stream, as in Docker."""
    wanted = one_platform(request)
    platform = platform_of(*platform_parts(wanted)) if wanted else None
    is_quiet = request.query.flag("quiet")
    stream = Stream(request, JSON, end=PROGRESS)
    steps = engine.images.loading(request.chunks(), platform=platform)
    async with stream, contextlib.aclosing(steps):
        try:
            async for step in steps:
                if isinstance(step, Loaded):
                    tell(engine, "load", step.image.id, step.image.id)
                    for line in loaded_lines(step):
                        await stream.message({"stream": line})
                elif not is_quiet:
                    await stream.message(progress_json(step))
        except EngineError as error:
            await stream.message(error_message(str(error)))
            stream.response.force_close()  # the rest of the archive was not read
    return stream.response


def error_message(text: str) -> Document:
    return {"errorDetail": {"message": text}, "error": text}


def loaded_lines(loaded: Loaded) -> list[str]:
    if not loaded.tags:
        return [f"Loaded image ID: {loaded.image.id}\n"]
    before = dict(loaded.replaced)
    lines = []
    for name in loaded.tags:
        if name in before:
            lines.append(
                f"The image {name} already exists, renaming the old one with ID {before[name]} "
                "to empty string\n"
            )
        lines.append(f"Loaded image: {name}\n")
    return lines


async def save_one(request: Request, engine: Engine) -> web.StreamResponse:
    return await _save(request, engine, (request["name"],))


async def save(request: Request, engine: Engine) -> web.StreamResponse:
    names = request.query.texts("names")
    if not names:
        raise InvalidRequest("cannot save: no names of images are given")
    return await _save(request, engine, names)


async def _save(request: Request, engine: Engine, references: Sequence[str]) -> web.StreamResponse:
    if platform := one_platform(request):
        for reference in references:
            require_platform(engine.images.resolve(reference), platform)
    async with engine.images.saving(references) as saving:
        for image_id in saving.image_ids:
            tell(engine, "save", image_id, image_id)
        return await send_all(request, TAR, saving.pieces)


async def push(request: Request, engine: Engine) -> web.StreamResponse:
    """Without a tag all of the repository go."""
    reference = parse_reference(request["name"])
    if request.query.text("tag"):
        reference = replace(reference, tag=parse_tag(request.query.text("tag")))
    if request.version >= (1, 46) and (platform := request.query.text("platform")):
        require_platform(engine.images.resolve(str(reference)), platform)
    steps = engine.images.push(
        reference, credentials=parse_registry_auth(request.header("X-Registry-Auth"))
    )
    return await _send_progress(request, _told(engine, "push", reference, steps))


async def commit(request: Request, engine: Engine) -> web.Response:
    query = request.query
    document = await request.document()
    asked = CommitRequest(
        repository=query.text("repo"),
        tag=query.text("tag"),
        author=query.text("author"),
        comment=query.text("comment"),
        edit=edit_of(query.texts("changes")),
        config=read_config(Fields(document)) if document else None,
        pause=query.flag("pause", default=True),
    )
    image = await engine.containers.commit(query.text("container"), asked)
    return reply(201, {"Id": image.id})


def summary_json(
    image: Image, version: Version, *, containers: int = -1, shared_size: int = -1
) -> Document:
    """-1 stands for what wasn't counted."""
    is_nameless = version < (1, 43) and not image.tags and not image.digests
    document: Document = {
        "Containers": containers,
        "Created": created_at(image) // 10**9,
        "Id": image.id,
        "Labels": image.labels or None,
        "ParentId": image.parent,
        "RepoDigests": ["<none>@<none>"]
        if is_nameless
        else image.digests or (None if version < (1, 43) else ()),
        "RepoTags": ["<none>:<none>"] if is_nameless else image.tags,
        "SharedSize": shared_size,
        "Size": image.size,
    }
    if version < (1, 44):
        document["VirtualSize"] = image.size
    return document


# Fields of a container that the `Config` of an image had before API 1.50.
_OLD_CONFIG: Document = {
    "AttachStderr": False,
    "AttachStdin": False,
    "AttachStdout": False,
    "Domainname": "",
    "Hostname": "",
    "Image": "",
    "OpenStdin": False,
    "StdinOnce": False,
    "Tty": False,
}


def image_json(image: Image, layers: Sequence[str], version: Version) -> Document:
    config: Document = {"Volumes": None, **image_config_json(image.config)}
    if version < (1, 50):
        config |= _OLD_CONFIG
    document: Document = {
        "Id": image.id,
        "RepoTags": image.tags,
        "RepoDigests": image.digests,
        "Parent": image.parent,
        "Comment": image.document.comment,
        "Created": image.created,
        "DockerVersion": image.document.docker_version,
        "Author": image.document.author,
        "Architecture": image.architecture,
        "Os": image.os,
        "Size": image.size,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Metadata": {"LastTagTime": image.last_tagged or "0001-01-01T00:00:00Z"},
        "Config": dict(sorted(config.items())),
    }
    if image.variant:
        document["Variant"] = image.variant
    if version < (1, 44):
        document["VirtualSize"] = image.size
    if version < (1, 45):
        document["ContainerConfig"] = {
            "Volumes": None,
            **image_config_json(ImageConfig()),
            **_OLD_CONFIG,
        }
    return document
