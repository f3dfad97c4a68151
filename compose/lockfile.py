"""`compose.lock.yaml`: which image each name means, and what each build context held.

version: 1
images:
  "redis:7": "redis@sha256:..."      # or the id of an image that no registry knows
builds:
  "web": "sha256:..."                # of the service's context and Dockerfile
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path

from compose.client.build_context import context_files, read_context
from compose.client.engine import Engine
from compose.dataclass import dataclass
from compose.errors import Problem, ProjectError
from compose.load.files import label, reason
from compose.load.tree import Map, Problems, Scalar, Source, parse
from compose.model.build import Build
from compose.model.project import Project
from compose.plan.images import image_of, is_directory

NAME = "compose.lock.yaml"
VERSION = 1
HEAD = "# Written by `pycompose lock`; `pycompose up --locked` runs just these.\n"


@dataclass(frozen=True, slots=True)
class Lock:
    images: Mapping[str, str] = field(default_factory=dict)  # name -> name@digest, or an id
    builds: Mapping[str, str] = field(default_factory=dict)  # service -> digest


def lock_path(project: Project) -> Path:
    return project.working_dir / NAME


def write_lock(lock: Lock) -> str:
    lines = [HEAD + f"version: {VERSION}"]
    for section, entries in (("images", lock.images), ("builds", lock.builds)):
        if entries:
            lines.append(f"{section}:")
            lines += [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(entries.items())]
    return "\n".join(lines) + "\n"


def read_lock(path: Path, here: Path) -> Lock:
    """Raises ProjectError with the place of what is wrong."""
    shown = label(path, here)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise ProjectError(
            Problem(f"there is no {shown}", hint="write it: pycompose lock")
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(Problem(f"cannot read {shown}: {reason(error)}")) from error
    problems = Problems()
    documents = parse(text, Source(shown, path, path.parent), problems)
    root = documents[0] if documents else None
    if root is not None and not problems.errors:
        version = root.entries.get("version")
        if not isinstance(version, Scalar) or version.value != VERSION:
            problems.errors.append(
                Problem(
                    f"this version of pycompose reads version {VERSION} of the file",
                    at=version.at if isinstance(version, Scalar) else None,
                    path="version",
                    hint="write it anew: pycompose lock",
                )
            )
        lock = Lock(_entries(root, "images", problems), _entries(root, "builds", problems))
        if not problems.errors:
            return lock
    raise ProjectError(*(problems.errors or [Problem(f"{shown} is empty")]))


def _entries(root: Map, section: str, problems: Problems) -> dict[str, str]:
    node = root.entries.get(section)
    found: dict[str, str] = {}
    for key, value in node.entries.items() if isinstance(node, Map) else ():
        if isinstance(value, Scalar) and isinstance(value.value, str):
            found[str(key)] = value.value
        else:
            at = value.at if isinstance(value, Scalar) else None
            problems.errors.append(Problem("this has to be a text", at, f"{section}.{key}"))
    return found


async def make_lock(engine: Engine, project: Project) -> Lock:
    """From the images that are on the engine now. Raises ProjectError for one that isn't."""
    images: dict[str, str] = {}
    missing: list[Problem] = []
    for name, service in project.services.items():
        reference = image_of(project, service)
        if service.build is not None or is_directory(reference) or "@" in reference:
            continue
        image = await engine.images.find(reference)
        if image is None:
            missing.append(
                project.problem(
                    f"image {reference} is not on the engine", "services", name, "image",
                    hint="get it: pycompose pull",
                )
            )  # fmt: skip
        else:
            images[reference] = next(iter(image.digests), image.id)
    if missing:
        raise ProjectError(*missing)
    return Lock(images, context_digests(project))


async def locked(engine: Engine, project: Project, lock: Lock) -> Project:
    """The project, its images pinned to what the lock says. Raises ProjectError with all that the
    lock doesn't have, or has otherwise."""
    pins: dict[str, str] = {}
    problems: list[Problem] = []
    again = "pycompose lock, once you have looked at what changed"
    for name, service in project.services.items():
        reference = image_of(project, service)
        if service.build is not None or is_directory(reference) or "@" in reference:
            continue
        meant = lock.images.get(reference)
        if meant is None:
            problems.append(
                project.problem(
                    f"{reference} is not in {NAME}", "services", name, "image", hint=again
                )
            )
            continue
        image = await engine.images.find(reference)
        if image is None or meant not in (image.id, *image.digests):
            pins[reference] = meant
    for name, digest in context_digests(project).items():
        if lock.builds.get(name) != digest:
            what = "is another one than in" if name in lock.builds else "is not in"
            problems.append(
                project.problem(
                    f"the build context {what} {NAME}", "services", name, "build", hint=again
                )
            )
    if problems:
        raise ProjectError(*problems)
    return replace(project, pins={**project.pins, **pins})


def context_digests(project: Project) -> dict[str, str]:
    """Service -> digest of what its image is built from, of contexts on this machine."""
    return {
        name: _digest(service.build)
        for name, service in sorted(project.services.items())
        if service.build is not None and os.path.isdir(service.build.context)
    }


def _digest(build: Build) -> str:
    """Names, kinds, permissions and contents; neither owners nor times, which git doesn't keep."""
    context = read_context(Path(build.context), build.dockerfile, build.dockerfile_inline)
    total = hashlib.sha256(json.dumps(build.to_document() | {"context": ""}).encode())
    total.update(context.hidden or b"")
    for name in context_files(context):
        path = context.folder / name
        found = path.lstat()
        if stat.S_ISLNK(found.st_mode):
            kind, content = "link", os.fsencode(os.readlink(path))
        elif stat.S_ISREG(found.st_mode):
            kind = "program" if found.st_mode & 0o100 else "file"
            with open(path, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
        else:
            continue
        total.update(json.dumps([kind, name]).encode() + content)
    return f"sha256:{total.hexdigest()}"
