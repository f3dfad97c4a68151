"""pure: --publish, --expose, --network and kin -> ports and endpoints of the API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compose.errors import UsageError
from compose.load.short import BadSyntax, parse_port, port_range
from engine.cli.containers.flags import CreateFlags
from engine.cli.containers.readers import csv

# What a container has a network namespace by, without being on a network of the user's.
_MODES = ("default", "bridge", "host", "none")
Bindings = dict[str, list[dict[str, str]]]


def published(words: Sequence[str]) -> Bindings:
    bindings: Bindings = {}
    for word in words:
        try:
            ports = parse_port(_short(word))
        except BadSyntax as error:
            raise UsageError(
                f"cannot publish {word!r}: {error.what}\n  hint: {error.hint}"
            ) from None
        for port in ports:
            binding = {"HostIp": port.host_ip, "HostPort": port.published}
            bindings.setdefault(f"{port.target}/{port.protocol}", []).append(binding)
    return bindings


def _short(word: str) -> str:
    """`target=80,published=8080,protocol=udp` as 8080:80/udp"""
    if "=" not in word:
        return word
    parts = dict(part.partition("=")[::2] for part in csv("--publish", word))
    if unknown := parts.keys() - {"target", "published", "protocol", "mode"}:
        raise UsageError(f"cannot publish {word!r}: there is no {min(unknown)!r}")
    if "target" not in parts:
        raise UsageError(f"cannot publish {word!r}: it needs a target")
    host = f"{parts['published']}:" if parts.get("published") else ""
    return f"{host}{parts['target']}/{parts.get('protocol', 'tcp')}"


def exposed(words: Sequence[str], bindings: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """Those that are published, and those of --expose."""
    found: dict[str, dict[str, object]] = {port: {} for port in bindings}
    for word in words:
        text, _, protocol = word.partition("/")
        try:
            ports = port_range(text, word, least=1)
        except BadSyntax as error:
            raise UsageError(f"cannot expose {word!r}: {error.what}") from None
        found.update({f"{port}/{(protocol or 'tcp').lower()}": {} for port in ports})
    return found


def networks(flags: CreateFlags) -> tuple[str, dict[str, dict[str, object]]]:
    """NetworkMode and EndpointsConfig. Options such as --ip are meant for the first network."""
    wishes = [_network(word) for word in flags.network] or [("default", {})]
    mode, first = wishes[0]
    first.update(_of_first(flags, mode, first))
    names = [name for name, _ in wishes]
    if len(set(names)) < len(names):
        raise UsageError("cannot connect to one network twice")
    own = [name for name in names if _is_users(name)]
    if own and len(own) < len(names):
        other = next(name for name in names if not _is_users(name))
        raise UsageError(f"cannot use --network {other} together with other networks")
    for name, endpoint in wishes:
        if endpoint.get("Aliases") and not _is_users(name):
            raise UsageError(f"only networks that were created know aliases: {name!r} has none")
    # Alone and without a wish of its own, it is said by the mode.
    said = {name: endpoint for name, endpoint in wishes if endpoint or len(wishes) > 1}
    return mode, said


def _is_users(name: str) -> bool:
    return name not in _MODES and not name.startswith("container:")


def _network(word: str) -> tuple[str, dict[str, object]]:
    """`NAME`, or `name=NAME,alias=…,ip=…`"""
    if "=" not in word:
        return word, {}
    name = ""
    aliases: list[str] = []
    options: dict[str, str] = {}
    addresses: dict[str, object] = {}
    endpoint: dict[str, object] = {}
    for part in csv("--network", word):
        key, equals, value = part.partition("=")
        match key.strip().lower() if equals else "":
            case "name":
                name = value
            case "alias":
                aliases.append(value)
            case "ip":
                addresses["IPv4Address"] = value
            case "ip6":
                addresses["IPv6Address"] = value
            case "link-local-ip":
                addresses["LinkLocalIPs"] = [*_list(addresses.get("LinkLocalIPs")), value]
            case "mac-address":
                endpoint["MacAddress"] = value
            case "driver-opt":
                option, _, setting = value.partition("=")
                options[option] = setting
            case "gw-priority" if value.lstrip("-").isdecimal():
                endpoint["GwPriority"] = int(value)
            case _:
                raise UsageError(f"cannot use --network {word!r}: {part!r} isn't known")
    if not name:
        raise UsageError(f"cannot use --network {word!r}: it needs a name")
    pairs = (("Aliases", aliases), ("DriverOpts", options), ("IPAMConfig", addresses))
    return name, {**endpoint, **{key: value for key, value in pairs if value}}


def _of_first(flags: CreateFlags, mode: str, known: Mapping[str, object]) -> Mapping[str, object]:
    addresses: dict[str, object] = {
        "IPv4Address": flags.ip,
        "IPv6Address": flags.ip6,
        "LinkLocalIPs": list(flags.link_local_ip),
    }
    wishes: dict[str, object] = {
        "Aliases": list(flags.network_alias),
        "Links": list(flags.link) if mode != "default" else [],
        "MacAddress": flags.mac_address,
        "IPAMConfig": {key: value for key, value in addresses.items() if value},
    }
    wishes = {key: value for key, value in wishes.items() if value}
    if both := wishes.keys() & known.keys():
        raise UsageError(f"cannot set {min(both)} of a network twice: in --network and beside it")
    return wishes


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
