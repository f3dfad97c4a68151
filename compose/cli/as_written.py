"""What `config` prints when it is told to leave things as the files say them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compose.cli.yaml_text import in_key_order
from compose.load.bind import plain
from compose.load.bind_build import is_elsewhere
from compose.load.defaults import implied_dependencies
from compose.load.fields import absolute
from compose.load.interpolate import BadTemplate, Variable, variables_in
from compose.load.tree import Map, Node, Scalar, Sequence, spelled, walk
from compose.model.project import Place, Project

# Attributes that hold a path, or the name of something else that is left alone.
_PATHS = (
    ("services", "*", "build", "context"),
    ("services", "*", "build", "additional_contexts", "*"),
    ("services", "*", "build", "ssh", "*"),
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
    used = {
        key
        for _, service in _entries(document, "services")
        for key in _section(service, "networks")
    }
    for section in ("networks", "volumes", "configs", "secrets"):
        for key, entry in _entries(document, section):
            if (section, key) not in written or (key == "default" and key not in used):
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
    for name, service in _entries(document, "services"):
        if "context" in _section(service, "build"):
            _put(document, ("services", name, "build", "context"), ".")
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


def images_in(document: dict[str, object]) -> list[dict[str, object]]:
    """The services that say which image, and not by a variable."""
    services = _section(document, "services").values()
    return [
        service
        for service in services
        if isinstance(service, dict) and "$" not in str(service.get("image", "$"))
    ]


def raw_document(name: str, tree: Map, *, resolve_paths: bool) -> dict[str, object]:
    """The merged files, with variables; only what needs no variable is filled in."""
    document = _in_files(tree)
    assert isinstance(document, dict)
    document.pop("version", None)
    document.pop("include", None)
    document["name"] = name
    if resolve_paths:
        for place, node in _paths(tree):
            if not is_elsewhere(text := str(node.value)):
                _put(document, place, absolute(text, node))
    services = dict(_entries(document, "services"))
    for service in services.values():
        _fill_service(service, absolute(".", tree) if resolve_paths else ".")
    if any("default" in _section(service, "networks") for service in services.values()):
        networks = document.setdefault("networks", {})
        if isinstance(networks, dict):
            networks.setdefault("default", None)
    for section in ("networks", "volumes", "configs", "secrets"):
        found = _section(document, section)
        for key, entry in found.items():
            resource = entry if isinstance(entry, dict) else {}
            resource.setdefault("name", key if resource.get("external") else f"{name}_{key}")
            found[key] = resource
    result = _by_key(document)
    assert isinstance(result, dict)
    return result


def _in_files(node: Node, key: str = "") -> object:
    """JSON data, in the form of lists and texts that the files have."""
    if isinstance(node, Map):
        if node.listed and key not in ("additional_contexts", "ssh"):
            return [
                name if value.value is None else f"{name}={spelled(value.value)}"
                for name, value in node.entries.items()
                if isinstance(value, Scalar)
            ]
        return {name: _in_files(value, name) for name, value in node.entries.items()}
    if isinstance(node, Sequence):
        one = node.items[0] if key in ("dns_search", "tmpfs") and len(node.items) == 1 else None
        if one is not None and one.at == node.at:
            return plain(one)
        return [_in_files(item) for item in node.items]
    return plain(node)


def _fill_service(service: dict[str, object], folder: str) -> None:
    if not (service.get("networks") or service.get("network_mode") or service.get("provider")):
        service["networks"] = {"default": None}
    build = service.get("build")
    if isinstance(build, dict):
        build.setdefault("context", folder)
        if "dockerfile_inline" not in build:
            build.setdefault("dockerfile", "Dockerfile")
        if isinstance(build.get("args"), list):
            build["args"] = [line for line in build["args"] if "=" in line]
    if service.get("pull_policy") == "if_not_present":
        service["pull_policy"] = "missing"
    for secret in _maps(service.get("secrets")):
        secret.setdefault("target", f"/run/secrets/{secret.get('source')}")
    for env_file in _maps(service.get("env_file")):
        env_file.setdefault("required", True)
    for port in _maps(service.get("ports")):
        port.setdefault("mode", "ingress")
        port.setdefault("protocol", "tcp")
    for request in (*_maps(service.get("gpus")), *_maps(_reserved_devices(service))):
        if request.get("count", -1) == -1 and "device_ids" not in request:
            request["count"] = "all"
    implied = [*implied_dependencies(service)]
    dependencies = service.setdefault("depends_on", {}) if implied else service.get("depends_on")
    if isinstance(dependencies, dict):
        for dependency in implied:
            dependencies.setdefault(
                dependency.service, dependency.to_document() | {"restart": dependency.restart}
            )
        for entry in _maps(list(dependencies.values())):
            entry.setdefault("required", True)


def _maps(items: object) -> list[dict[str, object]]:
    found = items if isinstance(items, list) else []
    return [item for item in found if isinstance(item, dict)]


def _reserved_devices(service: dict[str, object]) -> object:
    found: object = service.get("deploy")
    for key in ("resources", "reservations", "devices"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _by_key(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _by_key(value[key]) for key in sorted(value, key=in_key_order)}
    if isinstance(value, list):
        return [_by_key(item) for item in value]
    return value


def used_variables(tree: Map) -> Iterator[Variable]:
    """Every use, in the order of the files; in the names of `NAME=value`, too."""
    for _, node in walk(tree, ()):
        texts = list(node.entries) if isinstance(node, Map) and node.listed else []
        if isinstance(node, Scalar) and isinstance(node.value, str):
            texts = [node.value]
        for text in texts:
            try:
                yield from variables_in(text)
            except BadTemplate:
                continue  # `config` itself tells of it
