"""pure: which images to build before anything else happens, and what the engine is told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from compose import VERSION
from compose.errors import Problem
from compose.model.build import IMAGE, SERVICE, Build, host_lines, is_remote
from compose.model.project import Project
from compose.model.service import Service
from compose.plan import names
from compose.plan.actions import BuildImage
from compose.plan.images import image_of
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions

LARGEST_SECRETS = 12 << 10  # they travel in a header of the build call
ALWAYS, NEVER = "always", "never"
ENTITLEMENTS = ("network.host", "security.insecure")


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
        "nocachestages": _list(build.no_cache_filter),
        "pull": build.pull or options.pull_bases,
        "networkmode": build.network or None,
        "shmsize": int(build.shm_size) if build.shm_size else None,
        "extrahosts": [line.replace("=", ":", 1) for line in host_lines(build.extra_hosts)],
        "cachefrom": _list(build.cache_from),
        "entitlements": _list(_entitlements(build)),
        "ssh": json.dumps(_agents(project, build), sort_keys=True) if build.ssh else None,
        "platform": platform or None,
        "ulimits": json.dumps(ulimits) if ulimits else None,
        "check": True if options.check_only else None,
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
        contexts={
            name: _context(project, value) for name, value in build.additional_contexts.items()
        },
        own_keys=_own_keys(build, options),
    )


def base_services(project: Project, service: Service) -> Iterator[Service]:
    """Those whose images have to be there before its own can be built."""
    for name in service.build.base_services if service.build else ():
        base = project.services.get(name) or project.bases.get(name)
        if base is not None:
            yield base


def _context(project: Project, value: str) -> str:
    if not value.startswith(SERVICE):
        return value
    name = value.removeprefix(SERVICE)
    base = project.services.get(name) or project.bases[name]
    return f"{IMAGE}{image_of(project, base)}"


def _list(texts: Sequence[str]) -> str | None:
    return json.dumps(list(texts)) if texts else None


def _entitlements(build: Build) -> list[str]:
    return sorted({*build.entitlements, *(["security.insecure"] if build.privileged else [])})


def _agents(project: Project, build: Build) -> Mapping[str, str]:
    """Id -> the socket of an agent, or a file with a key."""
    usual = project.environment.get("SSH_AUTH_SOCK", "")
    home = project.environment.get("HOME", "~")
    written = {
        name: home + path[1:] if path.startswith("~/") else path for name, path in build.ssh.items()
    }
    return {
        name: str(project.working_dir / path) if path else usual for name, path in written.items()
    }


def _own_keys(build: Build, options: PlanOptions) -> tuple[str, ...]:
    """What Docker's classic build call has no word for."""
    wanted = {
        "--check": options.check_only,
        "additional_contexts": build.additional_contexts,
        "entitlements": build.entitlements,
        "no_cache_filter": build.no_cache_filter,
        "privileged": build.privileged,
        "secrets": build.secrets,
        "ssh": build.ssh,
    }
    return tuple(key for key, value in wanted.items() if value)


def _secrets(project: Project, build: Build) -> Mapping[str, bytes]:
    """Id in the Dockerfile -> what it holds."""
    found: dict[str, bytes] = {}
    for reference in build.secrets:
        source = project.secrets.get(reference.source)
        if source is not None and source.content is not None:
            found[reference.target or reference.source] = source.content
    return found


def build_problems(project: Project, service: Service) -> Iterator[Problem]:
    """What of its `build` no engine can do."""
    build = service.build
    if build is None:
        return
    wanted = {
        "cache_to": bool(build.cache_to),
        "isolation": build.isolation not in ("", "default"),
        "provenance": build.provenance not in ("", "false"),
        "sbom": build.sbom not in ("", "false"),
    }
    for key, present in wanted.items():
        if present:
            yield project.problem(
                f"cannot build image {image_of(project, service)}: {key} is not supported",
                "services", service.name, "build", key,
            )  # fmt: skip
    for name, value in build.additional_contexts.items():
        if (
            value == "-"
            or value.startswith("target:")
            or ("://" in value and not value.startswith(IMAGE) and not is_remote(value))
        ):
            yield project.problem(
                f"cannot use {value!r} as a build context",
                "services", service.name, "build", "additional_contexts", name,
                hint="a folder, docker-image://NAME, service:NAME, or an https:// address will do",
            )  # fmt: skip
    for entitlement in build.entitlements:
        if entitlement not in ENTITLEMENTS:
            yield project.problem(
                f"there is no entitlement {entitlement!r}",
                "services", service.name, "build", "entitlements",
                hint=f"there are {' and '.join(ENTITLEMENTS)}",
            )  # fmt: skip
    for name, path in build.ssh.items():
        if not path and not project.environment.get("SSH_AUTH_SOCK"):
            yield project.problem(
                f"cannot lend an SSH agent to the build: SSH_AUTH_SOCK is not set ({name})",
                "services", service.name, "build", "ssh",
                hint="start one (ssh-agent, ssh-add), or write the path of its socket",
            )  # fmt: skip
    if is_remote(build.context) and build.dockerfile_inline:
        yield project.problem(
            "cannot build a remote context with a Dockerfile of this file",
            "services", service.name, "build", "dockerfile_inline",
            hint="give the context as an additional one, and COPY from it by its name",
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
