"""pure: which images to build before anything else happens, and what the engine is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from compose import VERSION
from compose.errors import Problem
from compose.model.build import Build, host_lines
from compose.model.project import Project
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import BuildImage
from compose.plan.images import image_of
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions

LARGEST_SECRETS = 12 << 10  # they travel in a header of the build call
ALWAYS, NEVER = "always", "never"


def build_cause(
    project: Project, service: Service, observed: Observed, options: PlanOptions
) -> str:
    """Why its image has to be built; empty if it needn't."""
    reference = image_of(project, service)
    if service.build is None or reference in options.pulled or options.build == NEVER:
        return ""
    if options.build == ALWAYS:
        return "asked for"
    policy = service.pull_policy
    if policy == "build":
        return "pull policy build"
    if reference not in observed.images:
        return "missing" if policy != "never" else ""
    return ""


def build_action(project: Project, service: Service, options: PlanOptions) -> BuildImage:
    build = service.build
    assert build is not None
    reference = image_of(project, service)
    labels = {
        **build.labels,
        names.PROJECT: project.name,
        names.SERVICE: service.name,
        names.VERSION: VERSION,
    }
    args = {**build.args, **options.build_args}
    platform = build.platforms[0] if build.platforms else service.platform
    ulimits = [
        {"Name": name, "Soft": limit.soft, "Hard": limit.hard}
        for name, limit in sorted(build.ulimits.items())
    ]
    query: dict[str, str | int | bool | Sequence[str] | None] = {
        "t": [reference, *build.tags],
        "buildargs": json.dumps(args, sort_keys=True) if args else None,
        "labels": json.dumps(labels, sort_keys=True),
        "target": build.target or None,
        "nocache": build.no_cache or options.no_cache,
        "pull": build.pull or options.pull_bases,
        "networkmode": build.network or None,
        "shmsize": int(build.shm_size) if build.shm_size else None,
        "extrahosts": [line.replace("=", ":", 1) for line in host_lines(build.extra_hosts)],
        "cachefrom": json.dumps(list(build.cache_from)) if build.cache_from else None,
        "platform": platform or None,
        "ulimits": json.dumps(ulimits) if ulimits else None,
        "rm": True,
        "forcerm": True,
    }
    return BuildImage(
        reference,
        context=build.context,
        dockerfile=build.dockerfile,
        inline=build.dockerfile_inline,
        query=query,
        secrets=_secrets(project, build),
    )


def _secrets(project: Project, build: Build) -> Mapping[str, bytes]:
    """Id in the Dockerfile -> what it holds."""
    found: dict[str, bytes] = {}
    for reference in build.secrets:
        source = project.secrets.get(reference.source)
        if source is not None and source.content is not None:
            found[reference.target or reference.source] = source.content
    return found


def build_problems(project: Project, service: Service) -> Iterator[Problem]:
    """What of its `build` no engine's classic builder can do."""
    build = service.build
    if build is None:
        return
    wanted = {
        "additional_contexts": bool(build.additional_contexts),
        "cache_to": bool(build.cache_to),
        "entitlements": bool(build.entitlements),
        "isolation": build.isolation not in ("", "default"),
        "no_cache_filter": bool(build.no_cache_filter),
        "privileged": build.privileged,
        "provenance": build.provenance not in ("", "false"),
        "sbom": build.sbom not in ("", "false"),
        "ssh": bool(build.ssh),
    }
    for key, present in wanted.items():
        if present:
            yield project.problem(
                f"cannot build image {image_of(project, service)}: {key} is not supported",
                "services", service.name, "build", key,
            )  # fmt: skip
    if len(build.platforms) > 1:
        yield project.problem(
            f"cannot build image {image_of(project, service)} for several platforms",
            "services", service.name, "build", "platforms",
            hint="name the one that the engine's machine runs",
        )  # fmt: skip
    for index, reference in enumerate(build.secrets):
        source = project.secrets.get(reference.source)
        if source is not None and source.content is None:
            yield project.problem(
                f"cannot give secret {reference.source} to a build: its content is not known here",
                "services", service.name, "build", "secrets", index,
                hint="give it a file, or an environment variable",
            )  # fmt: skip
    if sum(map(len, _secrets(project, build).values())) > LARGEST_SECRETS:
        yield project.problem(
            f"cannot give more than {LARGEST_SECRETS} bytes of secrets to a build",
            "services", service.name, "build", "secrets",
        )  # fmt: skip
