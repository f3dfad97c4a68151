"""Which images are built on others of the project: their Dockerfiles say so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from compose.graph import Edges, with_needed
from compose.load.bind_build import is_elsewhere
from compose.load.sources import Source
from compose.model.build import Build
from compose.model.project import Project
from compose.model.service import Service

_FROM = re.compile(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?$", re.IGNORECASE)
_TAKEN = re.compile(r"(?:COPY|RUN)\s.*?\bfrom=([^\s,]+)", re.IGNORECASE)
_ARG = re.compile(r"ARG\s+(\w+)(?:=(\S*))?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")


def with_build_order(project: Project, files: Source) -> Project:
    """A Dockerfile that can't be read says nothing: not every command minds. Nor does one that
    would close a circle: it means the image of a registry."""
    built = {
        name: service
        for name, service in {**project.bases, **project.services}.items()
        if service.build is not None
    }
    if len(built) < 2:
        return project
    makers: dict[str, str] = {}
    for name, service in built.items():
        assert service.build is not None
        for image in (project.image_name(service), *service.build.tags):
            makers[_tagged(image)] = name
    for name, service in built.items():
        assert service.build is not None
        named = images_of(_dockerfile(service.build, files), service.build.args)
        for base in dict.fromkeys(makers.get(_tagged(image), name) for image in named):
            if name not in with_needed(_bases(built), [base]):
                build = built[name].build
                assert build is not None
                build = replace(build, built_on=(*build.built_on, base))
                built[name] = replace(service, build=build)
    return replace(
        project,
        services={name: built.get(name, one) for name, one in project.services.items()},
        bases={name: built.get(name, one) for name, one in project.bases.items()},
    )


def _bases(built: Mapping[str, Service]) -> Edges:
    return {name: one.build.base_services if one.build else () for name, one in built.items()}


def images_of(dockerfile: str, arguments: Mapping[str, str | None]) -> Iterator[str]:
    """pure: names in FROM, COPY --from and RUN --mount that aren't stages."""
    known: dict[str, str] = {}  # ARGs that FROM may use
    stages: list[str] = []

    def expanded(text: str) -> str:
        return _VARIABLE.sub(lambda m: known.get(m[1] or m[2]) or m[3] or "", text)

    for line in re.sub(r"\\\s*\n", " ", dockerfile).splitlines():
        line = line.strip()
        if (arg := _ARG.match(line)) and not stages:
            known[arg[1]] = arguments.get(arg[1]) or expanded((arg[2] or "").strip("\"'"))
        elif found := _FROM.match(line) or _TAKEN.match(line):
            image = expanded(found[1])
            if image.lower() not in stages and not image.isdigit():
                yield image
            if found.re is _FROM:
                stages.append((found[2] or "").lower())


def _dockerfile(build: Build, files: Source) -> str:
    if build.dockerfile_inline:
        return build.dockerfile_inline
    if is_elsewhere(build.context):
        return ""
    try:
        return files.read(Path(build.context, build.dockerfile or "Dockerfile")).decode()
    except (OSError, UnicodeDecodeError):
        return ""


def _tagged(image: str) -> str:
    image = image.removeprefix("docker.io/").removeprefix("library/")
    return image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
