"""What `config` prints when it is told to leave things as the files say them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compose.load.bind import plain
from compose.load.bind_build import is_elsewhere
from compose.load.fields import absolute
from compose.load.interpolate import BadTemplate, Variable, variables_in
from compose.load.tree import Map, Node, Scalar, Sequence, walk
from compose.model.project import Place, Project

# Attributes that hold a path, or the name of something else that is left alone.
_PATHS = (
    ("services", "*", "build", "context"),
    ("services", "*", "build", "additional_contexts", "*"),
    ("services", "*", "credential_spec", "file"),
    ("services", "*", "develop", "watch", "*", "path"),
    ("services", "*", "env_file", "*", "path"),
    ("services", "*", "label_file", "*"),
    ("services", "*", "volumes", "*", "source"),
    ("configs", "*", "file"),
    ("secrets", "*", "file"),
)


# ---- without defaults ----


def without_defaults(document: dict[str, object], project: Project) -> None:
    """Takes out of the canonical document what the files don't say."""
    written = project.positions
    for name, service in _entries(document, "services"):
        place: Place = ("services", name)
        for key in ("networks", "depends_on"):
            inner = service.get(key)
            if not isinstance(inner, dict):
                continue
            kept = {k: v for k, v in inner.items() if (*place, key, k) in written}
            service[key] = kept
            if not kept:
                del service[key]
        build = service.get("build")
        if isinstance(build, dict) and (*place, "build", "dockerfile") not in written:
            build.pop("dockerfile", None)
    for section in ("networks", "volumes", "configs", "secrets"):
        for key, entry in _entries(document, section):
            if (section, key) not in written:
                _section(document, section).pop(key)
            elif (section, key, "name") not in written:
                entry.pop("name", None)
        if not document.get(section):
            document.pop(section, None)


def _section(document: dict[str, object], section: str) -> dict[str, object]:
    found = document.get(section)
    return found if isinstance(found, dict) else {}


def _entries(document: dict[str, object], section: str) -> list[tuple[str, dict[str, object]]]:
    return [(k, v) for k, v in _section(document, section).items() if isinstance(v, dict)]


# ---- paths ----


def with_paths_as_written(document: dict[str, object], tree: Map) -> None:
    """Puts the files' own paths back."""
    for place, node in _paths(tree):
        _put(document, place, node.value)


def _paths(tree: Map) -> Iterator[tuple[Place, Scalar]]:
    for place, node in walk(tree, ()):
        if isinstance(node, Scalar) and isinstance(node.value, str) and _is_path(place, tree):
            yield place, node


def _is_path(place: Place, tree: Map) -> bool:
    for pattern in _PATHS:
        if len(pattern) == len(place) and all(
            step in ("*", given) for step, given in zip(pattern, place, strict=True)
        ):
            return "volumes" not in pattern or _at(tree, (*place[:-1], "type")) == "bind"
    return False


def _at(tree: Map, place: Place) -> object:
    node: Node | None = tree
    for step in place:
        if isinstance(node, Map):
            node = node.entries.get(str(step))
        elif isinstance(node, Sequence) and isinstance(step, int):
            node = node.items[step]
    return node.value if isinstance(node, Scalar) else None


def _put(document: object, place: Place, value: object) -> None:
    """Nothing happens where the document doesn't have that place: off, or not selected."""
    *above, last = place
    for step in above:
        document = _entry(document, step)
    if _entry(document, last) is not None:
        assert isinstance(document, dict | list)
        document[last] = value  # type: ignore[index]


def _entry(document: object, step: str | int) -> object:
    if isinstance(document, dict):
        return document.get(step)
    if isinstance(document, list) and isinstance(step, int) and step < len(document):
        return document[step]
    return None


# ---- variables ----


def raw_document(name: str, tree: Map, *, resolve_paths: bool) -> dict[str, object]:
    """The merged files, with variables; only what needs no variable is filled in."""
    document = _by_key(plain(tree))
    assert isinstance(document, dict)
    document.pop("version", None)
    document.pop("include", None)
    document["name"] = name
    if resolve_paths:
        for place, node in _paths(tree):
            text = str(node.value)
            if not text.startswith("$") and not is_elsewhere(text):
                _put(document, place, absolute(text, node))
    services = _section(document, "services")
    for service in services.values():
        if not isinstance(service, dict):
            continue
        if not (service.get("networks") or service.get("network_mode") or service.get("provider")):
            service["networks"] = {"default": None}
        build = service.get("build")
        if isinstance(build, dict) and "dockerfile_inline" not in build:
            build.setdefault("dockerfile", "Dockerfile")
        for secret in service.get("secrets") or ():
            if isinstance(secret, dict):
                secret.setdefault("target", f"/run/secrets/{secret.get('source')}")
    if any(
        "default" in (_section(service, "networks"))
        for _, service in _entries(document, "services")
    ):
        networks = document.setdefault("networks", {})
        if isinstance(networks, dict):
            networks.setdefault("default", None)
    for section in ("networks", "volumes", "configs", "secrets"):
        found = _section(document, section)
        for key, entry in found.items():
            resource = entry if isinstance(entry, dict) else {}
            if not resource.get("external"):
                resource.setdefault("name", f"{name}_{key}")
            found[key] = resource
    result = _by_key(document)
    assert isinstance(result, dict)
    return result


def _by_key(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _by_key(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_by_key(item) for item in value]
    return value


def used_variables(tree: Map) -> Iterator[Variable]:
    """Every use, in the order of the files."""
    for _, node in walk(tree, ()):
        if isinstance(node, Scalar) and isinstance(node.value, str) and "$" in node.value:
            try:
                yield from variables_in(node.value)
            except BadTemplate:
                continue  # `config` itself tells of it
