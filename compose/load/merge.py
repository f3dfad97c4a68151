"""One definition over another: a later file over an earlier one, a service over what it extends.

Both are in long syntax. Mappings merge key by key, lists are appended, anything else is replaced;
the table below has the exceptions. `!reset` removes, `!override` replaces without merging. Pure.
"""

from collections.abc import Callable
from dataclasses import field
from typing import TypeAlias

from compose.dataclass import dataclass
from compose.load.tree import Broken, Map, Node, Problems, Scalar, Sequence, spelled
from compose.model.project import Place

Merger: TypeAlias = Callable[[Node, Node], Node]


@dataclass(slots=True)
class Rules:
    """The exceptions below a place; `*` stands for any key."""

    here: Merger | None = None
    below: dict[str, "Rules"] = field(default_factory=dict)

    def at(self, key: str) -> "Rules":
        return self.below.get(key) or self.below.get("*") or _NONE


_NONE = Rules()


def merge(base: Map, over: Map, problems: Problems) -> Map:
    """`over` laid over `base`."""
    merged = _merge(base, over, (), _RULES, problems)
    return merged if isinstance(merged, Map) else base


def merge_service(base: Node, over: Node, place: Place, problems: Problems) -> Node:
    """One service laid over another."""
    return _merge(base, over, place, _RULES.at("services").at("*"), problems)


def without_repeats(service: Node, place: Place, problems: Problems) -> Node:
    """The service with lists that name each thing once: what is said last counts, as in Compose."""
    if not isinstance(service, Map):
        return service
    entries = dict(service.entries)
    changed = False
    for key, rules in _SERVICE_LISTS:
        node = entries.get(key)
        if not isinstance(node, Sequence) or len(node.items) < 2:
            continue
        assert rules.here is not None
        once = rules.here(node.holding([]), node)
        if isinstance(once, Sequence) and len(once.items) < len(node.items):
            entries[key] = once
            changed = True
            _tell_repeats(node, once, (*place, key), problems)
    return service.holding(entries) if changed else service


def _tell_repeats(node: Sequence, once: Sequence, place: Place, problems: Problems) -> None:
    kept = {id(item) for item in once.items}
    for index, item in enumerate(node.items):
        if id(item) not in kept:
            problems.warn(
                item,
                (*place, index),
                "a later entry of this list stands for the same thing: this one has no effect",
                "remove one of the two",
            )


def without_resets(node: Node) -> Node:
    """The tree without the marks that had nothing to reset."""
    if isinstance(node, Map):
        if not any(_needs_cleaning(value) for value in node.entries.values()):
            return node
        return node.holding(
            {
                key: without_resets(value)
                for key, value in node.entries.items()
                if value.merging != "reset"
            }
        )
    if isinstance(node, Sequence) and any(_needs_cleaning(item) for item in node.items):
        return node.holding([without_resets(i) for i in node.items if i.merging != "reset"])
    return node


def _needs_cleaning(node: Node) -> bool:
    return node.merging == "reset" or isinstance(node, Map | Sequence)


def _merge(base: Node, over: Node, place: Place, rules: Rules, problems: Problems) -> Node:
    if over.merging == "override" or isinstance(base, Broken) or _is_null(base):
        return over
    if isinstance(over, Broken) or _is_null(over):
        return base
    if rules.here is not None and (rules.here is _replace or type(base) is type(over)):
        return rules.here(base, over)
    if isinstance(base, Map) and isinstance(over, Map):
        return _merge_maps(base, over, place, rules, problems)
    if isinstance(base, Sequence) and isinstance(over, Sequence):
        return base.holding([*base.items, *over.items])
    if isinstance(base, Scalar) and isinstance(over, Scalar):
        return over
    problems.add(
        over,
        place,
        f"cannot override {_kind(base)} with {_kind(over)}; the other one is at {base.at}",
        "write both in the same form, or put !override before this value to replace the other",
    )
    return base


def _merge_maps(base: Map, over: Map, place: Place, rules: Rules, problems: Problems) -> Map:
    entries = dict(base.entries)
    keys = dict(base.keys)
    for name, value in over.entries.items():
        if value.merging == "reset":
            entries.pop(name, None)
            continue
        old = entries.get(name)
        new = value
        if old is not None:
            new = _merge(old, value, (*place, name), rules.at(name), problems)
        entries[name] = new
        if new is value and name in over.keys:
            keys[name] = over.keys[name]
    return base.holding(entries, keys)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def _kind(node: Node) -> str:
    if isinstance(node, Map):
        return "a mapping"
    return "a list" if isinstance(node, Sequence) else "a single value"


# ---- exceptions ----


def _replace(base: Node, over: Node) -> Node:
    return over


def _pairs(base: Node, over: Node) -> Node:
    """Names and values: also a name without a value wins over an earlier value."""
    if not (isinstance(base, Map) and isinstance(over, Map)):
        return over
    entries = {**base.entries, **over.entries}
    kept = {name: value for name, value in entries.items() if value.merging != "reset"}
    merged = base.holding(kept, {**base.keys, **over.keys})
    merged.listed = True
    return merged


def _unique_by(identity: Callable[[Node], str]) -> Merger:
    """Appended; an entry that stands for the same thing takes the earlier one's place."""

    def unique(base: Node, over: Node) -> Node:
        if not (isinstance(base, Sequence) and isinstance(over, Sequence)):
            return over
        found: dict[str, Node] = {}
        for index, item in enumerate([*base.items, *over.items]):
            # Text where a mapping is usual holds variables that nobody has looked at yet.
            text = _text(item) if isinstance(item, Scalar) else ""
            broken = isinstance(item, Broken)
            found[f"broken {index}" if broken else identity(item) or text] = item
        return base.holding(list(found.values()))

    return unique


def _logging(base: Node, over: Node) -> Node:
    """Options of one driver mean nothing to another."""
    if not (isinstance(base, Map) and isinstance(over, Map)):
        return over
    one, other = _part(base, "driver"), _part(over, "driver")
    if one and other and one != other:
        return over
    return _merge_maps(base, over, (), _NONE, Problems())


def _text(node: Node) -> str:
    return spelled(node.value) if isinstance(node, Scalar) else ""


def _part(node: Node, name: str) -> str:
    return _text(node.entries[name]) if isinstance(node, Map) and name in node.entries else ""


def _before_equals(node: Node) -> str:
    return _text(node).partition("=")[0]


def port_identity(node: Node) -> str:
    if isinstance(node, Scalar):
        return ""
    address = _part(node, "host_ip") or "0.0.0.0"
    protocol = _part(node, "protocol") or "tcp"
    return f"{address}:{_part(node, 'published')}:{_part(node, 'target')}/{protocol}"


def _target(node: Node) -> str:
    return _part(node, "target")


def _device_target(node: Node) -> str:
    return _part(node, "target") or _part(node, "source")


def _file_target(folder: str) -> Callable[[Node], str]:
    def identity(node: Node) -> str:
        target = _part(node, "target") or _part(node, "source")
        return target if target.startswith("/") or not target else folder + target

    return identity


_by_text = _unique_by(_text)
_EXCEPTIONS: dict[str, Merger] = {
    "include": _replace,  # taken in already, file by file
    "services.*.command": _replace,
    "services.*.entrypoint": _replace,
    "services.*.healthcheck.test": _replace,
    "services.*.annotations": _pairs,
    "services.*.environment": _pairs,
    "services.*.labels": _pairs,
    "services.*.sysctls": _pairs,
    "services.*.build.args": _pairs,
    "services.*.build.labels": _pairs,
    "services.*.build.additional_contexts": _pairs,
    "services.*.build.ssh": _pairs,
    "services.*.deploy.labels": _pairs,
    "networks.*.labels": _pairs,
    "volumes.*.labels": _pairs,
    "configs.*.labels": _pairs,
    "secrets.*.labels": _pairs,
    "services.*.dns": _unique_by(_before_equals),
    "services.*.dns_opt": _unique_by(_before_equals),
    "services.*.dns_search": _unique_by(_before_equals),
    "services.*.tmpfs": _unique_by(_before_equals),
    "services.*.env_file": _unique_by(lambda node: _part(node, "path")),
    "services.*.label_file": _unique_by(_before_equals),
    "services.*.extra_hosts": _by_text,
    "services.*.build.extra_hosts": _by_text,
    "services.*.logging": _logging,
    "services.*.ulimits.*": _replace,
    "networks.*.ipam.config": _unique_by(lambda node: _part(node, "subnet")),
    "services.*.ports": _unique_by(port_identity),
    "services.*.volumes": _unique_by(_target),
    "services.*.devices": _unique_by(_device_target),
    "services.*.configs": _unique_by(_file_target("/")),
    "services.*.secrets": _unique_by(_file_target("/run/secrets/")),
    "services.*.build.secrets": _unique_by(_file_target("")),
    "services.*.expose": _by_text,
    "services.*.cap_add": _by_text,
    "services.*.cap_drop": _by_text,
    "services.*.profiles": _by_text,
    "services.*.links": _by_text,
    "services.*.build.tags": _by_text,
    "services.*.networks.*.aliases": _by_text,
    "services.*.networks.*.link_local_ips": _by_text,
}


def _grow(exceptions: dict[str, Merger]) -> Rules:
    root = Rules()
    for path, merger in exceptions.items():
        rules = root
        for step in path.split("."):
            rules = rules.below.setdefault(step, Rules())
        rules.here = merger
    return root


_RULES = _grow(_EXCEPTIONS)
# The lists of a service that have one entry a thing.
_SERVICE_LISTS = tuple(
    (path.removeprefix("services.*."), _RULES.at("services").at("*").at(path.rpartition(".")[2]))
    for path, merger in _EXCEPTIONS.items()
    if path.count(".") == 2 and path.startswith("services.") and merger.__name__ == "unique"
)
