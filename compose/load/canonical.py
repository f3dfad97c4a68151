"""Short syntax -> long syntax, so that later phases know one form of everything. Pure.

A table of attribute -> rule. The new nodes keep the place of what they were made from.
"""

import shlex
from collections.abc import Callable
from typing import TypeAlias

from compose.load.merge import without_repeats
from compose.load.short import BadSyntax, parse_device, parse_mount, parse_port
from compose.load.tree import (
    Broken,
    Key,
    Map,
    Node,
    Problems,
    Scalar,
    ScalarValue,
    Sequence,
    spelled,
)
from compose.model.project import Place

Rule: TypeAlias = Callable[[Node, Place, Problems], Node]


def canonical(root: Map, problems: Problems, *, raw: bool = False) -> Map:
    """A whole file in long syntax. `raw`: command lines, and what variables may still turn into
    something else, stay as they are."""
    return _apply(root, (), _RAW_FILE if raw else _FILE, problems)


def canonical_service(
    service: Node, place: Place, problems: Problems, *, raw: bool = False
) -> Node:
    return (_raw_service if raw else _service)(service, place, problems)


def _apply(node: Map, place: Place, rules: dict[str, Rule], problems: Problems) -> Map:
    entries: dict[str, Node] = {}
    changed = False
    for key, value in node.entries.items():
        rule = rules.get(key)
        if rule is None or _is_settled(value):
            entries[key] = value
            continue
        new = rule(value, (*place, key), problems)
        new.merging = value.merging
        changed = changed or new is not value
        entries[key] = new
    return node.holding(entries) if changed else node


def _is_settled(node: Node) -> bool:
    """Nothing is in it that a rule could work on."""
    if isinstance(node, Broken) or node.merging == "reset":
        return True
    return isinstance(node, Scalar) and node.value is None


def _inside(rules: dict[str, Rule]) -> Rule:
    """A mapping with rules of its own."""

    def rule(node: Node, place: Place, problems: Problems) -> Node:
        return _apply(node, place, rules, problems) if isinstance(node, Map) else node

    return rule


def _each(rule: Rule) -> Rule:
    """Every entry of a list or mapping."""

    def every(node: Node, place: Place, problems: Problems) -> Node:
        if isinstance(node, Sequence):
            return node.holding(
                [
                    item if _is_settled(item) else rule(item, (*place, index), problems)
                    for index, item in enumerate(node.items)
                ]
            )
        if isinstance(node, Map):
            return node.holding(
                {
                    key: value if _is_settled(value) else rule(value, (*place, key), problems)
                    for key, value in node.entries.items()
                }
            )
        return node

    return every


# ---- making nodes ----


def _text(like: Node, value: ScalarValue) -> Scalar:
    return Scalar(like.source, like.line, like.column, value, spelled(value))


def _map(like: Node, **values: ScalarValue | Node) -> Map:
    entries: dict[str, Node] = {
        name: _text(like, value) if isinstance(value, str | int | float | None) else value
        for name, value in values.items()
    }
    key = Key(like.source, like.line, like.column)
    return Map(like.source, like.line, like.column, entries, dict.fromkeys(entries, key))


def _list(like: Node, items: list[Node]) -> Sequence:
    return Sequence(like.source, like.line, like.column, items)


def _broken(like: Node) -> Broken:
    return Broken(like.source, like.line, like.column)


def _as_text(node: Node) -> str:
    return spelled(node.value) if isinstance(node, Scalar) else ""


# ---- rules ----


def _pairs(node: Node, place: Place, problems: Problems) -> Node:
    """`[A=1, B]` -> `{A: 1, B: null}`; a later entry for the same name wins."""
    if not isinstance(node, Sequence):
        return node
    entries: dict[str, Node] = {}
    keys: dict[str, Key] = {}
    for index, item in enumerate(node.items):
        if not isinstance(item, Scalar):
            continue
        name, equals, value = _as_text(item).partition("=")
        if name != name.strip() or not name:
            problems.add(
                item,
                (*place, index),
                f'"{name}" can\'t be a name: it has a space at its edge or is empty',
                "write NAME=value without spaces around the =",
            )
            continue
        entries[name] = item.holding(value if equals else None)
        keys[name] = Key(item.source, item.line, item.column)
    return Map(node.source, node.line, node.column, entries, keys, listed=True)


def _words(node: Node, place: Place, problems: Problems) -> Node:
    """A command line -> its arguments, split as a shell would; no shell runs."""
    if not isinstance(node, Scalar):
        return node
    try:
        return _list(node, [_text(node, word) for word in shlex.split(_as_text(node))])
    except ValueError:
        problems.add(
            node,
            place,
            "a quote in this command line is never closed",
            "close it, or write the command as a list of arguments",
        )
        return _broken(node)


def _as_list(node: Node, place: Place, problems: Problems) -> Node:
    return _list(node, [node.holding(node.value)]) if isinstance(node, Scalar) else node


def _to_null_map(node: Node, place: Place, problems: Problems) -> Node:
    """`[a, b]` -> `{a: null, b: null}`."""
    if not isinstance(node, Sequence):
        return node
    named = [item for item in node.items if isinstance(item, Scalar)]
    keys = {_as_text(item): Key(item.source, item.line, item.column) for item in named}
    entries: dict[str, Node] = {
        _as_text(item): Scalar(item.source, item.line, item.column, None, "") for item in named
    }
    return Map(node.source, node.line, node.column, entries, keys)


def _attachments(node: Node, place: Place, problems: Problems) -> Node:
    named = _to_null_map(node, place, problems)
    once = _each(_inside({"aliases": _once, "link_local_ips": _once}))
    return once(named, place, problems)


def _dependencies(node: Node, place: Place, problems: Problems) -> Node:
    if not isinstance(node, Sequence):
        return node
    named = [item for item in node.items if isinstance(item, Scalar)]
    keys = {_as_text(item): Key(item.source, item.line, item.column) for item in named}
    entries: dict[str, Node] = {
        _as_text(item): _map(item, condition="service_started", required=True) for item in named
    }
    return Map(node.source, node.line, node.column, entries, keys)


def _ports(node: Node, place: Place, problems: Problems) -> Node:
    if not isinstance(node, Sequence):
        return node
    items: list[Node] = []
    for index, item in enumerate(node.items):
        if not isinstance(item, Scalar):
            items.append(item)
            continue
        try:
            ports = parse_port(_as_text(item))
        except BadSyntax as error:
            problems.add(item, (*place, index), error.what, error.hint)
            items.append(_broken(item))
            continue
        for port in ports:
            entry = _map(item, mode="ingress", target=port.target, protocol=port.protocol)
            if port.host_ip:
                entry.entries["host_ip"] = _text(item, port.host_ip)
            if port.published:
                entry.entries["published"] = _text(item, port.published)
            items.append(entry)
    return node.holding(items)


def _mount(node: Node, place: Place, problems: Problems) -> Node:
    if not isinstance(node, Scalar):
        return _apply(node, place, _MOUNT, problems) if isinstance(node, Map) else node
    try:
        mount = parse_mount(_as_text(node))
    except BadSyntax as error:
        problems.add(node, place, error.what, error.hint)
        return _broken(node)
    for mode in mount.unknown:
        problems.warn(
            node,
            place,
            f'the mount option "{mode}" isn\'t known and has no effect',
            "known: ro, rw, z, Z, nocopy, and the propagation modes",
        )
    entry = _map(
        node, type="bind" if mount.is_bind else "volume", source=mount.source, target=mount.target
    )
    if not mount.source:
        del entry.entries["source"]
    if mount.read_only:
        entry.entries["read_only"] = _text(node, True)
    options = _map(node, create_host_path=True) if mount.is_bind else _map(node)
    if mount.selinux:
        options.entries["selinux"] = _text(node, mount.selinux)
    if mount.propagation:
        options.entries["propagation"] = _text(node, mount.propagation)
    if options.entries:
        entry.entries["bind"] = options
    if not mount.is_bind:
        entry.entries["volume"] = _map(node, nocopy=True) if mount.nocopy else _map(node)
    return entry


def _device(node: Node, place: Place, problems: Problems) -> Node:
    if not isinstance(node, Scalar):
        return node
    try:
        device = parse_device(_as_text(node))
    except BadSyntax as error:
        problems.add(node, place, error.what, error.hint)
        return _broken(node)
    return _map(node, source=device.source, target=device.target, permissions=device.permissions)


def _reference(node: Node, place: Place, problems: Problems) -> Node:
    return _map(node, source=node.value) if isinstance(node, Scalar) else node


def _env_files(node: Node, place: Place, problems: Problems) -> Node:
    return _each(_env_file)(_as_list(node, place, problems), place, problems)


def _env_file(node: Node, place: Place, problems: Problems) -> Node:
    return _map(node, path=node.value) if isinstance(node, Scalar) else node


def _health_test(node: Node, place: Place, problems: Problems) -> Node:
    if not isinstance(node, Scalar):
        return node
    return _list(node, [_text(node, "CMD-SHELL"), node.holding(node.value)])


def _gpus(node: Node, place: Place, problems: Problems) -> Node:
    """`all` -> every GPU."""
    return _list(node, [_map(node, count=-1)]) if isinstance(node, Scalar) else node


def _context(node: Node, place: Place, problems: Problems) -> Node:
    if isinstance(node, Scalar):
        return _map(node, context=node.value)
    return _apply(node, place, _BUILD, problems) if isinstance(node, Map) else node


def _extends(node: Node, place: Place, problems: Problems) -> Node:
    return _map(node, service=node.value) if isinstance(node, Scalar) else node


def _include(node: Node, place: Place, problems: Problems) -> Node:
    if isinstance(node, Scalar):
        return _map(node, path=_list(node, [node.holding(node.value)]))
    return _apply(node, place, _INCLUDE, problems) if isinstance(node, Map) else node


def _once(node: Node, place: Place, problems: Problems) -> Node:
    """A list of texts, each of which counts once."""
    if not isinstance(node, Sequence):
        return node
    return node.holding([*{_as_text(item): item for item in node.items}.values()])


def _hosts(node: Node, place: Place, problems: Problems) -> Node:
    """`["h:1.2.3.4", "h=[::1]"]`, `{h: [a, b]}` -> a list of `h=address`."""
    if isinstance(node, Map):
        lines: list[Node] = []
        for name, value in node.entries.items():
            for part in value.items if isinstance(value, Sequence) else [value]:
                lines.extend(_host_lines(part, name, _as_text(part)))
        return _list(node, lines)
    if not isinstance(node, Sequence):
        return node
    items: list[Node] = []
    for index, item in enumerate(node.items):
        text = _as_text(item)
        name, separator, address = text.partition("=" if "=" in text else ":")
        if not separator or not name.strip() or not address.strip():
            problems.add(
                item,
                (*place, index),
                f'"{text}" isn\'t a host and its address',
                'write "name=address", as in "db.local=10.0.0.5"',
            )
            continue
        items.extend(_host_lines(item, name, address))
    return node.holding(items)


def _host_lines(like: Node, name: str, addresses: str) -> list[Node]:
    lines: list[Node] = []
    for address in addresses.split(","):
        bare = address.strip()
        if bare.startswith("[") and bare.endswith("]"):
            bare = bare[1:-1]
        lines.append(_text(like, f"{name.strip()}={bare}"))
    return lines


def _external(node: Node, place: Place, problems: Problems) -> Node:
    """The old `external: {name: x}` -> `external: true` and `name: x`."""
    if not isinstance(node, Map):
        return node
    external = node.entries.get("external")
    if not isinstance(external, Map):
        return _apply(node, place, _RESOURCE, problems)
    entries = {**node.entries, "external": _text(external, True)}
    keys = dict(node.keys)
    if "name" in external.entries:
        entries["name"] = external.entries["name"]
        keys["name"] = external.keys["name"]
    return _apply(node.holding(entries, keys), place, _RESOURCE, problems)


_MOUNT: dict[str, Rule] = {"volume": _inside({"labels": _pairs})}
_REQUEST = _inside({"options": _pairs})
_HOOK = _inside({"command": _words, "environment": _pairs})
_BUILD: dict[str, Rule] = {
    "args": _pairs,
    "labels": _pairs,
    "additional_contexts": _pairs,
    "ssh": _pairs,
    "extra_hosts": _hosts,
    "secrets": _each(_reference),
    "no_cache_filter": _as_list,
    "tags": _once,
}
_SERVICE: dict[str, Rule] = {
    "annotations": _pairs,
    "build": _context,
    "command": _words,
    "configs": _each(_reference),
    "depends_on": _dependencies,
    "deploy": _inside(
        {
            "labels": _pairs,
            "resources": _inside({"reservations": _inside({"devices": _each(_REQUEST)})}),
        }
    ),
    "develop": _inside(
        {"watch": _each(_inside({"ignore": _as_list, "include": _as_list, "exec": _HOOK}))}
    ),
    "devices": _each(_device),
    "dns": _as_list,
    "dns_search": _as_list,
    "entrypoint": _words,
    "env_file": _env_files,
    "environment": _pairs,
    "extends": _extends,
    "extra_hosts": _hosts,
    "gpus": lambda node, place, problems: _each(_REQUEST)(
        _gpus(node, place, problems), place, problems
    ),
    "healthcheck": _inside({"test": _health_test}),
    "label_file": _as_list,
    "labels": _pairs,
    "models": _to_null_map,
    "networks": _attachments,
    "ports": _ports,
    "post_start": _each(_HOOK),
    "pre_start": _each(_HOOK),
    "pre_stop": _each(_HOOK),
    "secrets": _each(_reference),
    "sysctls": _pairs,
    "tmpfs": _as_list,
    "volumes": _each(_mount),
}
_spelled_out = _inside(_SERVICE)


def _service(node: Node, place: Place, problems: Problems) -> Node:
    return without_repeats(_spelled_out(node, place, problems), place, problems)


_RESOURCE: dict[str, Rule] = {"labels": _pairs}
_INCLUDE: dict[str, Rule] = {"path": _as_list, "env_file": _as_list}
_FILE: dict[str, Rule] = {
    "include": _each(_include),
    "services": _each(_service),
    "networks": _each(_external),
    "volumes": _each(_external),
    "configs": _each(_external),
    "secrets": _each(_external),
}


def _if_it_can(rule: Rule) -> Rule:
    """What doesn't fit a rule, as a variable may make it fit, stays as it is."""

    def attempt(node: Node, place: Place, problems: Problems) -> Node:
        quiet = Problems()
        made = rule(node, place, quiet)
        return node if quiet.errors else made

    return attempt


def _pairs_in_order(node: Node, place: Place, problems: Problems) -> Node:
    return (
        node.holding(dict(sorted(node.entries.items())))
        if isinstance(node, Map)
        else _pairs(node, place, problems)
    )


def _raw_hosts(node: Node, place: Place, problems: Problems) -> Node:
    return _hosts(node, place, problems) if isinstance(node, Map) else node


_RAW_BUILD: dict[str, Rule] = {**_BUILD, "extra_hosts": _raw_hosts}


def _raw_context(node: Node, place: Place, problems: Problems) -> Node:
    if isinstance(node, Map):
        return _apply(node, place, _RAW_BUILD, problems)
    return _context(node, place, problems)


_COMMANDS = ("command", "entrypoint", "healthcheck", "pre_start", "post_start", "pre_stop")
_as_it_can = _inside(
    {
        **{key: rule for key, rule in _SERVICE.items() if key not in _COMMANDS},
        "build": _raw_context,
        "devices": _each(_if_it_can(_device)),
        "environment": _pairs_in_order,
        "extra_hosts": _raw_hosts,
        "labels": _pairs_in_order,
        "ports": _if_it_can(_ports),
        "volumes": _each(_if_it_can(_mount)),
    }
)


def _raw_service(node: Node, place: Place, problems: Problems) -> Node:
    return without_repeats(_as_it_can(node, place, problems), place, problems)


_RAW_FILE: dict[str, Rule] = {**_FILE, "services": _each(_raw_service)}
