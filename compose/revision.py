"""pure: a revision is what was declared when something was last changed: the resolved project with
its images, who changed it, when and why. From it the project can be made again.

Contents of configs are in it; of secrets only digests are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path

from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.git import GitState
from compose.load.files import STDIN
from compose.load.pipeline import LoadRequest, load_project
from compose.model.document import Document, double_dollars
from compose.model.project import Project
from compose.plan.diff import Difference, differences
from compose.plan.observed import Observed, ObservedContainer
from compose.plan.options import PlanOptions
from compose.plan.plan import Plan
from compose.plan.record import (
    network_record,
    of_unknown_image,
    parse_record,
    sealed,
    sealed_digest,
    service_record,
    volume_record,
)
from compose.plan.text import text

LARGEST_CONTENT = 256 << 10  # bytes of one config; of a larger one only its path is kept


@dataclass(frozen=True, slots=True)
class Image:
    """What a name of an image meant. `digest`: name@sha256:... in a registry, "" if none is
    known."""

    id: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    number: int  # 0: the engine hasn't given it one yet
    time: str  # RFC 3339
    who: str  # user@machine
    command: str  # up, rollback 3, watch
    summary: str
    changes: tuple[str, ...] = ()  # lines of the plan
    git: GitState | None = None
    working_dir: str = ""
    files: tuple[str, ...] = ()
    images: Mapping[str, Image] = field(default_factory=dict)  # by name
    digests: Mapping[str, str] = field(default_factory=dict)  # of secrets and configs, by place
    disabled: tuple[str, ...] = ()
    scale: Mapping[str, int] = field(default_factory=dict)
    label_files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by service
    paused: str = ""  # why it is applied in part: `failure_action: pause`
    model: Document | None = field(default=None, repr=False)  # None in a list


def make_revision(
    project: Project,
    plan: Plan,
    options: PlanOptions,
    images: Mapping[str, Image],
    *,
    who: str,
    command: str,
    git: GitState | None,
    engine_id: str = "",
) -> Revision:
    return Revision(
        number=0,
        time="",
        who=who,
        command=command,
        summary=summary_of(plan),
        changes=tuple(text(plan).splitlines()),
        git=git,
        working_dir=str(project.working_dir),
        files=tuple(str(path) for path in project.files),
        images=images,
        digests=_digests(project, engine_id),
        disabled=tuple(sorted(project.disabled)),
        scale=options.scale,
        label_files={
            name: each.label_file for name, each in project.services.items() if each.label_file
        },
        model=model_of(project),
    )


def summary_of(plan: Plan) -> str:
    """`recreate web.1, create volume data, and 3 more`"""
    words = [str(change) for change in plan.changes[:3]]
    more = len(plan.changes) - len(words)
    return ", ".join(words) + (f", and {more} more" if more else "") or "nothing"


def model_of(project: Project) -> Document:
    """As `config` prints it, but for configs from files, which are taken in."""
    document = project.to_document()
    configs = dict(_child(document, "configs"))
    for key, config in project.configs.items():
        if config.content is not None and len(config.content) <= LARGEST_CONTENT:
            try:
                content = config.content.decode()
            except UnicodeDecodeError:
                continue
            configs[key] = {"name": config.name, "content": content}
    return document | ({"configs": configs} if configs else {})


def to_document(revision: Revision) -> Document:
    git = revision.git
    return {
        "who": revision.who,
        "command": revision.command,
        "summary": revision.summary,
        "changes": list(revision.changes),
        "git": {"commit": git.commit, "subject": git.subject, "dirty": git.dirty} if git else None,
        "working_dir": revision.working_dir,
        "files": list(revision.files),
        "images": {
            name: {"id": image.id, "digest": image.digest}
            for name, image in sorted(revision.images.items())
        },
        "digests": dict(revision.digests),
        "disabled": list(revision.disabled),
        "scale": dict(revision.scale),
        "label_files": {name: list(files) for name, files in revision.label_files.items()},
        "paused": revision.paused,
        "model": revision.model,
    }


def parse_revision(document: Mapping[str, object]) -> Revision:
    """What an older or newer version of this program wrote is read as far as it goes."""
    git = _child(document, "git")
    model = document.get("model")
    return Revision(
        number=_number(document, "number"),
        time=_text(document, "time"),
        who=_text(document, "who"),
        command=_text(document, "command"),
        summary=_text(document, "summary"),
        changes=_texts(document, "changes"),
        git=GitState(_text(git, "commit"), _text(git, "subject"), git.get("dirty") is True)
        if git
        else None,
        working_dir=_text(document, "working_dir"),
        files=_texts(document, "files"),
        images={
            name: Image(_text(_child(images, name), "id"), _text(_child(images, name), "digest"))
            for images in (_child(document, "images"),)
            for name in images
        },
        digests={name: str(value) for name, value in _child(document, "digests").items()},
        disabled=_texts(document, "disabled"),
        scale={
            name: value
            for name, value in _child(document, "scale").items()
            if isinstance(value, int)
        },
        label_files={
            name: _texts(files, name)
            for files in (_child(document, "label_files"),)
            for name in files
        },
        paused=_text(document, "paused"),
        model=dict(model) if isinstance(model, dict) else None,
    )


def project_of(
    revision: Revision, name: str, environment: Mapping[str, str], engine_id: str
) -> Project:
    """The project as it was, but for the contents of its secrets, which are read where it says.
    Its warnings tell which of these are others now. Raises ProjectError."""
    folder = Path(revision.working_dir)
    request = LoadRequest(
        directory=folder,
        environment=environment,
        files=(STDIN,),
        project_name=name,
        profiles=("*",),
        stdin=json.dumps(double_dollars(revision.model or {})),
        require_files=False,
    )
    try:
        project = load_project(request)
    except ProjectError as error:
        raise ProjectError(
            *(
                Problem(f"revision {revision.number}: {problem.what}", None, problem.path)
                for problem in error.problems
            )
        ) from error
    services = {
        name: replace(service, label_file=revision.label_files.get(name, ()))
        for name, service in project.services.items()
    }
    return replace(
        project,
        services=services,
        working_dir=folder,
        files=tuple(map(Path, revision.files)),
        disabled=frozenset(revision.disabled),
        environment_files=(),
        positions={},
        warnings=tuple(_other_contents(revision, project, engine_id)),
        unmet=tuple(replace(problem, at=None) for problem in project.unmet),
    )


def _other_contents(revision: Revision, project: Project, engine_id: str) -> list[Problem]:
    now = _digests(project, engine_id)
    return [
        Problem(
            f"{place} had another content in revision {revision.number}",
            hint="contents of secrets and large configs aren't kept: what is there now is used",
        )
        for place, digest in _sealed(revision.digests, engine_id).items()
        if now.get(place, digest) != digest
    ]


def _digests(project: Project, engine_id: str) -> dict[str, str]:
    objects = {
        **{f"config {key}": config.digest for key, config in project.configs.items()},
        **{f"secret {key}": secret.digest for key, secret in project.secrets.items()},
    }
    found = {place: digest for place, digest in sorted(objects.items()) if digest}
    return _sealed(found, engine_id)


def _sealed(digests: Mapping[str, str], engine_id: str) -> dict[str, str]:
    """Those of secrets as they may be shown; revisions of before this have them plain."""
    return {
        place: sealed_digest(digest, engine_id) if place.startswith("secret ") else digest
        for place, digest in digests.items()
    }


# --- what is compared


def snapshot(
    project: Project, images: Mapping[str, str], scale: Mapping[str, int] | None = None
) -> Document:
    """What a project declares, as `differences` compares it. `images`: name -> id, where known."""
    services: Document = {}
    for name, service in project.services.items():
        document = service.to_document()
        record = service_record(project, service, document, lambda each: images.get(each, ""))
        services[name] = _flat(record) | {"replicas": (scale or {}).get(name, service.replicas)}
    return {
        "services": services,
        "networks": {key: network_record(each) for key, each in project.networks.items()},
        "volumes": {key: volume_record(each) for key, each in project.volumes.items()},
    }


def snapshot_of_running(observed: Observed, project: str) -> Document:
    """The same of what is on the engine, from the records that everything carries."""
    containers: dict[str, list[ObservedContainer]] = {}
    for container in observed.containers:
        if not container.one_off:
            containers.setdefault(container.service, []).append(container)
    services: Document = {}
    for name, several in sorted(containers.items()):
        record = parse_record(several[0].record)
        services[name] = (_flat(record) if record else {}) | {"replicas": len(several)}
    networks = [each for each in observed.networks.values() if each.project == project]
    volumes = [each for each in observed.volumes.values() if each.project == project]
    return {
        "services": services,
        "networks": {each.key: dict(parse_record(each.record) or {}) for each in networks},
        "volumes": {each.key: dict(parse_record(each.record) or {}) for each in volumes},
    }


def compare(old: Document, new: Document, engine_id: str) -> list[Difference]:
    return [
        difference
        for difference in differences(_alike(old, engine_id), _alike(new, engine_id))
        if not of_unknown_image(difference, depth=2)
    ]


def _alike(snapshot: Document, engine_id: str) -> Document:
    """Its secrets in the form that labels have them in."""
    services = {
        name: sealed(service, engine_id)
        for name, service in _child(snapshot, "services").items()
        if isinstance(service, dict)
    }
    return {**snapshot, "services": services}


def _flat(record: Mapping[str, object]) -> Document:
    """Fields of the service beside what else its containers are made from."""
    found = dict(_child(record, "service"))
    return found | {key: value for key, value in record.items() if key != "service" and value}


def _child(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _texts(document: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = document.get(key)
    items: Sequence[object] = value if isinstance(value, list) else ()
    return tuple(item for item in items if isinstance(item, str))


def _number(document: Mapping[str, object], key: str) -> int:
    value = document.get(key)
    return value if isinstance(value, int) else 0
