"""The canonical model as text, the way Docker Compose's `config` writes it. Pure."""

import json

from compose.cli.yaml_text import in_key_order, yaml_text
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
    """Compose's JSON has no models; its YAML does."""
    return {key: value for key, value in project.to_document().items() if key != "models"}


_SECTIONS = ("name", "services", "networks", "volumes", "secrets", "configs", "models")


def yaml_document(project: Project) -> dict[str, object]:
    """What the two forms differ in: here empty parts are left out, own keys stay."""
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
            name: limit.soft if limit.single else {"soft": limit.soft, "hard": limit.hard}
            for name, limit in sorted(service.ulimits.items())
        }
    develop = document.get("develop")
    if isinstance(develop, dict):
        document["develop"] = {"watch": [_watch_rule(rule) for rule in develop.get("watch", ())]}
    return document | {key: _all_sorted(value) for key, value in service.extensions.items()}


def _watch_rule(rule: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in rule.items() if value != {"command": None}}


def _without_empty(document: dict[str, object], *names: str) -> dict[str, object]:
    return {key: value for key, value in document.items() if value or key not in names}


def _lower(value: object) -> object:
    if isinstance(value, list):
        return [{key.lower(): inner for key, inner in entry.items()} for entry in value]
    return value
