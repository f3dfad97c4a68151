"""The canonical model as text, the way Docker Compose's `config` writes it. Pure."""

import json

from compose.cli.yaml_text import in_key_order, yaml_text
from compose.load.bind import plain
from compose.load.tree import Map, Node, Sequence
from compose.model.document import double_dollars
from compose.model.project import Project
from compose.model.service import Service


def document_text(document: dict[str, object], format: str, *, escape: bool = True) -> str:
    """`$` is doubled, so that the text can be loaded again."""
    whole = double_dollars(document) if escape else document
    if format == "json":
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    return yaml_text(whole)


def json_document(project: Project) -> dict[str, object]:
    """Compose's JSON has no models, and no empty lists below `x-`; its YAML does."""
    document = {key: value for key, value in project.to_document().items() if key != "models"}
    return document | {key: _null_for_empty(value) for key, value in project.extensions.items()}


def _null_for_empty(value: object) -> object:
    if isinstance(value, list):
        return [_null_for_empty(item) for item in value] or None
    if isinstance(value, dict):
        return {key: _null_for_empty(inner) for key, inner in value.items()}
    return value


_SECTIONS = ("name", "services", "networks", "volumes", "secrets", "configs", "models")


def yaml_document(project: Project, tree: Map) -> dict[str, object]:
    """What the two forms differ in: here empty parts are left out, own keys stay.
    `tree`: the files, which have those keys."""
    document = _sorted(project.to_document())
    ordered = {key: document[key] for key in _SECTIONS if key in document}
    services = {
        key: _service(project.services[key], value)
        for key, value in _entries(document, "services").items()
    }
    ordered["services"] = services
    if "networks" in document:
        ordered["networks"] = {
            key: _without_empty(value, "ipam")
            for key, value in _entries(document, "networks").items()
        }
    for section in _SECTIONS[1:]:
        node = tree.entries.get(section)
        if section in ordered and isinstance(node, Map):
            for key, entry in _entries(ordered, section).items():
                _add_own_keys(entry, node.entries.get(key))
    own = {key: _all_sorted(project.extensions[key]) for key in project.extensions}
    return ordered | dict(sorted(own.items(), key=lambda entry: in_key_order(entry[0])))


# What maps names to things; anything else keeps the order of its attributes.
_MAPS = frozenset(
    [
        "additional_contexts",
        "annotations",
        "args",
        "aux_addresses",
        "configs",
        "depends_on",
        "driver_opts",
        "environment",
        "labels",
        "models",
        "networks",
        "options",
        "secrets",
        "services",
        "ssh",
        "storage_opt",
        "sysctls",
        "ulimits",
        "volumes",
    ]
)


def _sorted(document: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            inner = _sorted(value)
            found[key] = _by_key(inner) if key in _MAPS else inner
        else:
            found[key] = value
    return found


def _by_key(document: dict[str, object]) -> dict[str, object]:
    return {key: document[key] for key in sorted(document, key=in_key_order)}


def _all_sorted(value: object) -> object:
    if isinstance(value, list):
        return [_all_sorted(item) for item in value]
    if isinstance(value, dict):
        return _by_key({key: _all_sorted(inner) for key, inner in value.items()})
    return value


def _entries(document: dict[str, object], section: str) -> dict[str, dict[str, object]]:
    found = document.get(section)
    assert isinstance(found, dict)
    return found


def _service(service: Service, document: dict[str, object]) -> dict[str, object]:
    document = {
        key: value
        for key, value in document.items()
        if not (key in ("command", "entrypoint") and value is None)
    }
    deploy = document.get("deploy")
    if isinstance(deploy, dict):
        document["deploy"] = _without_empty(deploy, "resources", "placement")
    limits = document.get("blkio_config")
    if isinstance(limits, dict):
        document["blkio_config"] = {key: _lower(value) for key, value in limits.items()}
    if service.ulimits:
        document["ulimits"] = {
            name: limit.soft
            if limit.single and limit.soft
            else {"soft": limit.soft, "hard": limit.hard}
            for name, limit in sorted(service.ulimits.items())
        }
    develop = document.get("develop")
    if isinstance(develop, dict):
        document["develop"] = {"watch": [_watch_rule(rule) for rule in develop.get("watch", ())]}
    return document


def _add_own_keys(document: object, node: Node | None) -> None:
    """Those that start with `x-`, at the end of the mapping that they stand in."""
    if isinstance(document, list) and isinstance(node, Sequence):
        for entry, item in zip(document, node.items, strict=False):
            _add_own_keys(entry, item)
    if not isinstance(document, dict) or not isinstance(node, Map):
        return
    for key, value in document.items():
        _add_own_keys(value, node.entries.get(key))
    for key in sorted(node.entries, key=in_key_order):
        if key.startswith("x-") and key not in document:
            document[key] = _all_sorted(plain(node.entries[key]))


def _watch_rule(rule: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in rule.items() if value != {"command": None}}


def _without_empty(document: dict[str, object], *names: str) -> dict[str, object]:
    return {key: value for key, value in document.items() if value or key not in names}


def _lower(value: object) -> object:
    if isinstance(value, list):
        return [{key.lower(): inner for key, inner in entry.items()} for entry in value]
    return value
