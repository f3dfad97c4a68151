"""Calls about builds: Docker's classic builder, whose whole request is a query and a tar."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.images import error_message, progress_json
from engine.api.parts import Engine
from engine.api.request import Query, Request, parse_json
from engine.api.shown import Document
from engine.api.streams import JSON, PROGRESS, Gathered, Stream
from engine.builder.holdings import Holding, PruneRequest
from engine.builder.model import BuildRequest, StepFailed, Told
from engine.builder.sources import check_contexts
from engine.containers.model import HostConfig, Ulimit
from engine.errors import EngineError, InvalidRequest, NotFound, Unsupported
from engine.ids import short_id
from engine.images.model import Image
from engine.oci.reference import Reference, parse_reference
from engine.registry.credentials import Credentials

CLASSIC, BUILDKIT = "1", "2"
SECRETS_HEADER = "X-Pycompose-Build-Secrets"  # our own client's: base64 JSON, id -> base64
_LONGEST_HEADER = 1 << 20
# What a page of a foreign site can send without being asked first.
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")


async def build(request: Request, engine: Engine) -> web.StreamResponse:
    """What is refused before anything was built is an ordinary error; later it is in the stream.
    A quiet build tells what it did where it fails. A client that hangs up has changed its mind."""
    wanted = parse_build(request)
    if request.query.flag("check"):
        return await _check(request, engine, wanted)
    quiet = request.query.flag("q")
    stream = Stream(request, JSON, end=PROGRESS)
    has_begun = False
    said: list[Document] = []  # and not sent, as the build is quiet

    async def send(documents: Sequence[object]) -> None:
        nonlocal has_begun
        if not has_begun:
            has_begun = True
            await stream.__aenter__()
        await stream.messages(documents)

    with request.until_gone():
        try:
            async with Gathered(send) as gathered:

                async def tell(*told: Told) -> None:
                    documents = map(_told_json, told)
                    if quiet:
                        said.extend(documents)
                    else:
                        await gathered.put(*documents)

                try:
                    image = await engine.builder.build(wanted, request.chunks(), tell)
                except EngineError as error:
                    if not (has_begun or gathered.waiting or said):
                        raise
                    await gathered.put(*said, failure(error))
                else:
                    await gathered.put(*_outcome(image, wanted, quiet=quiet))
        except BaseException as error:
            if has_begun:
                await stream.__aexit__(type(error), error, None)
            raise
        await stream.__aexit__(None, None, None)
    return stream.response


def _outcome(image: Image, wanted: BuildRequest, *, quiet: bool) -> tuple[Document, ...]:
    if quiet:
        return ({"stream": f"{image.id}\n"},)
    lines = [f"Successfully built {short_id(image.id)}\n"]
    lines += [f"Successfully tagged {tag.familiar}\n" for tag in wanted.tags]
    return ({"aux": {"ID": image.id}}, *map(_told_json, lines))


async def _check(request: Request, engine: Engine, wanted: BuildRequest) -> web.Response:
    """Our own clients' question. Raises InvalidRequest with all that was found."""
    with request.until_gone():
        found = await engine.builder.check(wanted, request.chunks())
    if found:
        many = "warning has" if len(found) == 1 else "warnings have"
        listed = "".join(f"\n- {each}" for each in found)
        raise InvalidRequest(f"Check complete, {len(found)} {many} been found:{listed}")
    return reply(200, {"stream": "Check complete, no warnings found.\n"})


def _told_json(told: Told) -> Document:
    return {"stream": told} if isinstance(told, str) else progress_json(told)


def failure(error: EngineError) -> Document:
    document = error_message(str(error))
    if isinstance(error, StepFailed):
        detail = {"code": error.code, "message": str(error), "details": error.details}
        document["errorDetail"] = detail  # `details` are for our own clients
    return document


async def prune(request: Request, engine: Engine) -> web.Response:
    query = request.query
    kept = [query.integer(key) or 0 for key in ("keep-storage", "reserved-space", "max-used-space")]
    query.integer("min-free-space")
    gone, reclaimed = await engine.builder.cache.prune(
        PruneRequest(query.flag("all"), max(kept), query.filters())
    )
    deleted = [each.id for each in gone]
    return reply(200, {"CachesDeleted": deleted or None, "SpaceReclaimed": reclaimed})


def holding_json(one: Holding) -> Document:
    """A row of BuildCache in GET /system/df."""
    return {
        "ID": one.id[:25],
        "Type": one.kind,
        "Description": one.description,
        "InUse": one.in_use,
        "Shared": one.is_shared,
        "Size": one.size,
        "CreatedAt": _moment(one.created),
        "LastUsedAt": _moment(one.used),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def known_context(request: Request, engine: Engine) -> web.Response:
    """Whether a kept context is here: 204, or 404. Our own client's question."""
    if not engine.builder.kept.ask(request["id"]):
        raise NotFound(f"no such build context: {request['id']}")
    return web.Response(status=204)


async def keep_context(request: Request, engine: Engine) -> web.Response:
    """A context to stay for builds that name it: its tar."""
    source = request.query.text("source")
    with request.until_gone():
        await engine.builder.kept.receive(request["id"], source, request.chunks())
    return web.Response(status=201)


async def cancel(request: Request, engine: Engine) -> web.Response:
    """Only BuildKit gives its builds ids; a build of ours ends when its client hangs up."""
    if not request.query.text("id"):
        raise InvalidRequest("build ID not provided")
    return empty(200)


def parse_build(request: Request) -> BuildRequest:
    query = request.query
    if query.text("version") not in ("", CLASSIC, BUILDKIT):
        raise InvalidRequest(f'invalid version "{query.text("version")}"')
    if query.text("version") == BUILDKIT:
        raise Unsupported(
            "cannot build with BuildKit: this engine has the classic builder (DOCKER_BUILDKIT=0)"
        )
    for key in ("squash", "session", "outputs"):
        if query.text(key) and query.text(key) not in ("0", "false", "[]", "null"):
            raise Unsupported(f"cannot build with {key}: this engine's builder has no such thing")
    if query.text("isolation") not in ("", "default"):
        raise InvalidRequest(f'unsupported isolation: "{query.text("isolation")}"')
    if query.text("securityopt") not in ("", "[]", "null"):
        raise InvalidRequest("security options are not supported on linux")
    remote = query.text("remote")
    kind = request.header("Content-Type").partition(";")[0].strip().lower()
    if kind in _FORMS:
        raise InvalidRequest(
            f"unsupported Content-Type header ({kind}): must be 'application/x-tar'"
        )
    contexts = {name.lower(): value for name, value in _texts(query, "contexts").items()}
    check_contexts(contexts)
    return BuildRequest(
        tags=tuple(build_tag(text) for text in query.texts("t") if text),
        dockerfile=query.text("dockerfile"),
        remote=remote,
        build_args=_optional_texts(query, "buildargs"),
        labels=_texts(query, "labels"),
        target=query.text("target"),
        platform=query.text("platform"),
        no_cache=query.flag("nocache"),
        no_cache_stages=_list(query, "nocachestages"),
        cache_from=_list(query, "cachefrom"),
        cache_sources=_list(query, "cachesources"),
        pull=query.flag("pull"),
        host=host_of(query),
        credentials=_credentials(request.header("X-Registry-Config")),
        secrets=_secrets(request.header(SECRETS_HEADER)),
        ssh=_texts(query, "ssh"),
        context=query.text("context"),
        contexts=contexts,
        entitlements=frozenset(_list(query, "entitlements")),
    )


def _list(query: Query, key: str) -> tuple[str, ...]:
    text = query.text(key)
    found = parse_json(text.encode()) if text else None
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InvalidRequest(f"invalid value of {key}: it has to be a list of strings")
    return tuple(found)


def build_tag(text: str) -> Reference:
    reference = parse_reference(text)
    if reference.digest:
        raise InvalidRequest("build tag cannot contain a digest")
    return reference.with_default_tag()


def host_of(query: Query) -> HostConfig:
    """What limits the containers of RUN. The container's own checks judge the values."""

    def number(key: str) -> int:
        return query.integer(key) or 0

    return HostConfig(
        network_mode=query.text("networkmode") or "default",
        extra_hosts=_extra_hosts(query),
        shm_size=number("shmsize"),
        memory=number("memory"),
        memory_swap=number("memswap"),
        cpu_shares=number("cpushares"),
        cpu_period=number("cpuperiod"),
        cpu_quota=number("cpuquota"),
        cpuset_cpus=query.text("cpusetcpus"),
        cpuset_mems=query.text("cpusetmems"),
        cgroup_parent=query.text("cgroupparent"),
        ulimits=_ulimits(query),
    )


def _extra_hosts(query: Query) -> tuple[str, ...]:
    """The CLI says them several times, docker-py with commas."""
    return tuple(one for text in query.texts("extrahosts") for one in text.split(",") if one)


def _ulimits(query: Query) -> tuple[Ulimit, ...]:
    text = query.text("ulimits")
    found = parse_json(text.encode()) if text else None
    if found is None:
        return ()
    if not isinstance(found, list):
        raise InvalidRequest("invalid value of ulimits: it has to be a list")
    limits = []
    for one in found:
        name, soft, hard = (
            (one.get("Name"), one.get("Soft"), one.get("Hard"))
            if isinstance(one, dict)
            else (None, None, None)
        )
        if not isinstance(name, str) or not isinstance(soft, int) or not isinstance(hard, int):
            raise InvalidRequest("invalid value of ulimits: Name, Soft and Hard are needed")
        limits.append(Ulimit(name, soft, hard))
    return tuple(limits)


def _optional_texts(query: Query, key: str) -> Mapping[str, str | None]:
    """A null stands for an argument without a value."""
    text = query.text(key)
    found = parse_json(text.encode()) if text else None
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(
        value is None or isinstance(value, str) for value in found.values()
    ):
        raise InvalidRequest(f"invalid value of {key}: it has to be an object of strings")
    return found


def _texts(query: Query, key: str) -> Mapping[str, str]:
    return {name: value or "" for name, value in _optional_texts(query, key).items()}


def _credentials(header: str) -> Mapping[str, Credentials]:
    """Registry -> who asks. What can't be read is nobody, as in Docker."""
    found = _decoded(header)
    known: dict[str, Credentials] = {}
    for registry, entry in found.items():
        if isinstance(entry, dict):
            fields = {key: value for key, value in entry.items() if isinstance(value, str)}
            known[registry] = Credentials(
                username=fields.get("username", ""),
                password=fields.get("password", ""),
                identity_token=fields.get("identitytoken", ""),
                registry_token=fields.get("registrytoken", ""),
            )
    return known


def _secrets(header: str) -> Mapping[str, bytes]:
    try:
        return {
            name: base64.b64decode(value, validate=True)
            for name, value in _decoded(header).items()
            if isinstance(value, str)
        }
    except binascii.Error:
        raise InvalidRequest(f"invalid header {SECRETS_HEADER}: a value is not base64") from None


def _decoded(header: str) -> Mapping[str, object]:
    if not header or len(header) > _LONGEST_HEADER:
        return {}
    text = header.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        found = parse_json(raw)
    except (binascii.Error, InvalidRequest):
        return {}
    return found if isinstance(found, dict) else {}
