"""Pure: an image's configuration document (image-spec, config.md, with Docker's additions).

`ImageConfig` is how a container of the image runs; `ImageDocument` the whole document around it.
Fields that this engine doesn't know live on in the stored bytes: a document is written anew only
for an image that is made here.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.errors import InvalidRequest
from engine.oci.digest import Digest, parse_digest
from engine.oci.document import (
    array_field,
    as_object,
    as_text,
    bool_field,
    int_field,
    object_field,
    parse_object,
    text_field,
    text_map_field,
    texts_field,
)
from engine.oci.platform import Platform, platform_of

# Deeper stacks than any builder makes; overlayfs itself stops at 500.
MAX_LAYERS = 500


@dataclass(frozen=True, slots=True)
class Healthcheck:
    test: tuple[str, ...]  # (), ("NONE",), ("CMD", ...) or ("CMD-SHELL", command)
    interval: int = 0  # nanoseconds; 0 = the default
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class ImageConfig:
    env: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False


Edit = Callable[[ImageConfig], ImageConfig]


def unchanged(config: ImageConfig) -> ImageConfig:
    return config


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ImageDocument:
    platform: Platform
    config: ImageConfig
    diff_ids: tuple[Digest, ...]  # bottom layer first
    history: tuple[HistoryEntry, ...] = ()
    created: str = ""  # RFC 3339
    author: str = ""
    comment: str = ""
    docker_version: str = ""


def parse_image_document(content: bytes) -> ImageDocument:
    """Raises InvalidRequest for whatever isn't a configuration of a layered image."""
    document = parse_object(content, "image configuration")
    rootfs = object_field(document, "rootfs")
    if not rootfs:
        raise InvalidRequest("invalid image configuration: it has no rootfs section")
    if text_field(rootfs, "type") != "layers":
        raise InvalidRequest(
            f"invalid image configuration: rootfs type {text_field(rootfs, 'type')!r}, not 'layers'"
        )
    diff_ids = tuple(parse_digest(text) for text in texts_field(rootfs, "diff_ids"))
    if len(diff_ids) > MAX_LAYERS:
        raise InvalidRequest(f"invalid image configuration: more than {MAX_LAYERS} layers")
    return ImageDocument(
        platform=platform_of(
            text_field(document, "os") or "linux",
            text_field(document, "architecture"),
            text_field(document, "variant"),
        ),
        config=parse_image_config(object_field(document, "config")),
        diff_ids=diff_ids,
        history=tuple(_parse_history(entry) for entry in array_field(document, "history")),
        created=text_field(document, "created"),
        author=text_field(document, "author"),
        comment=text_field(document, "comment"),
        docker_version=text_field(document, "docker_version"),
    )


def parse_image_config(document: Mapping[str, object]) -> ImageConfig:
    return ImageConfig(
        env=texts_field(document, "Env"),
        cmd=_command_field(document, "Cmd"),
        entrypoint=_command_field(document, "Entrypoint"),
        user=text_field(document, "User"),
        working_dir=text_field(document, "WorkingDir"),
        exposed_ports=tuple(sorted(object_field(document, "ExposedPorts"))),
        volumes=tuple(sorted(object_field(document, "Volumes"))),
        labels=text_map_field(document, "Labels"),
        stop_signal=text_field(document, "StopSignal"),
        healthcheck=_parse_healthcheck(document),
        shell=texts_field(document, "Shell"),
        on_build=texts_field(document, "OnBuild"),
        args_escaped=bool_field(document, "ArgsEscaped"),
    )


def image_config_json(config: ImageConfig) -> dict[str, object]:
    """The `config` section as Docker writes it; also the `Config` of an image inspect."""
    document: dict[str, object] = {
        "Env": list(config.env) or None,
        "Cmd": list(config.cmd) or None,
        "Entrypoint": list(config.entrypoint) or None,
        "User": config.user,
        "WorkingDir": config.working_dir,
        "Labels": dict(config.labels) or None,
        "OnBuild": list(config.on_build) or None,
    }
    if config.exposed_ports:
        document["ExposedPorts"] = {port: {} for port in config.exposed_ports}
    if config.volumes:
        document["Volumes"] = {path: {} for path in config.volumes}
    if config.stop_signal:
        document["StopSignal"] = config.stop_signal
    if config.shell:
        document["Shell"] = list(config.shell)
    if config.args_escaped:
        document["ArgsEscaped"] = True
    if config.healthcheck is not None:
        document["Healthcheck"] = healthcheck_json(config.healthcheck)
    return document


def healthcheck_json(healthcheck: Healthcheck) -> dict[str, object]:
    document: dict[str, object] = {"Test": list(healthcheck.test)}
    for key, value in (
        ("Interval", healthcheck.interval),
        ("Timeout", healthcheck.timeout),
        ("StartPeriod", healthcheck.start_period),
        ("StartInterval", healthcheck.start_interval),
        ("Retries", healthcheck.retries),
    ):
        if value:
            document[key] = value
    return document


def image_document_json(image: ImageDocument) -> bytes:
    """The bytes that an image made here is stored as; its digest is the image's id."""
    document: dict[str, object] = {
        "architecture": image.platform.architecture,
        "os": image.platform.os,
        "config": image_config_json(image.config),
        "rootfs": {"type": "layers", "diff_ids": list(image.diff_ids)},
        "history": [_history_json(entry) for entry in image.history],
    }
    for key, value in (
        ("variant", image.platform.variant),
        ("created", image.created),
        ("author", image.author),
        ("comment", image.comment),
        ("docker_version", image.docker_version),
    ):
        if value:
            document[key] = value
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def _command_field(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    """Old images hold one string where a list is due."""
    value = document.get(key)
    return (value,) if isinstance(value, str) else texts_field(document, key)


def _parse_healthcheck(document: Mapping[str, object]) -> Healthcheck | None:
    check = document.get("Healthcheck")
    if check is None:
        return None
    fields = as_object(check, "Healthcheck")
    return Healthcheck(
        test=texts_field(fields, "Test"),
        interval=int_field(fields, "Interval"),
        timeout=int_field(fields, "Timeout"),
        start_period=int_field(fields, "StartPeriod"),
        start_interval=int_field(fields, "StartInterval"),
        retries=int_field(fields, "Retries"),
    )


def _parse_history(value: object) -> HistoryEntry:
    entry = as_object(value, "history entry")
    return HistoryEntry(
        created=text_field(entry, "created"),
        created_by=text_field(entry, "created_by"),
        author=text_field(entry, "author"),
        comment=as_text(entry.get("comment") or "", "comment"),
        empty_layer=bool_field(entry, "empty_layer"),
    )


def _history_json(entry: HistoryEntry) -> dict[str, object]:
    document: dict[str, object] = {}
    for key, value in (
        ("created", entry.created),
        ("created_by", entry.created_by),
        ("author", entry.author),
        ("comment", entry.comment),
    ):
        if value:
            document[key] = value
    if entry.empty_layer:
        document["empty_layer"] = True
    return document
