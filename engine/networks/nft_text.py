"""Tables in nft's own syntax."""

from collections.abc import Iterable, Sequence

from engine.networks.nft import (
    SLOTS,
    AddressIn,
    Counter,
    DestinationIn,
    DestinationIsLocal,
    DestinationPort,
    DnatFrom,
    DnatTo,
    Element,
    InterfaceIn,
    InterfaceIs,
    InterfacesIn,
    Masquerade,
    Neighbour,
    ProtocolIs,
    SourceIn,
    StateIn,
    Statement,
    Table,
    Type,
    Verdict,
    WasRedirected,
)


def text(table: Table) -> str:
    """`table` in nft's syntax."""
    lines = [f"table {table.name.family.label} {table.name.name} {{"]
    for each in table.sets:
        lines += [f"\tset {each.name} {{", f"\t\ttype {_types(each.key)}"]
        lines += ["\t\tflags interval"] if each.is_interval else []
        lines += _elements(_element(element) for element in each.elements)
    for each_map in table.maps:
        lines += [f"\tmap {each_map.name} {{"]
        lines += [f"\t\ttype {_types(each_map.key)} : {_types(each_map.value)}"]
        lines += _elements(
            f"{_element(key)} : {_element(value)}" for key, value in each_map.elements.items()
        )
    for chain in table.chains:
        hook = f"{chain.hook.name.lower()} priority {chain.priority}"
        lines += [f"\tchain {chain.name} {{"]
        lines += [f"\t\ttype {chain.type} hook {hook}; policy accept;"]
        lines += [f"\t\t{' '.join(statement_text(part) for part in rule)}" for rule in chain.rules]
        lines += ["\t}"]
    return "\n".join([*lines, "}", ""])


def _types(types: Sequence[Type]) -> str:
    return " . ".join(each.label for each in types)


def _element(element: Element) -> str:
    return " . ".join(str(part) for part in element)


def _elements(elements: Iterable[str]) -> list[str]:
    listed = ", ".join(sorted(elements))
    return [f"\t\telements = {{ {listed} }}", "\t}"] if listed else ["\t}"]


def statement_text(statement: Statement) -> str:
    match statement:
        case InterfaceIs(direction, name, negated):
            return f'{direction} {"!= " if negated else ""}"{name}"'
        case InterfaceIn(direction, set_name, negated):
            return f"{direction} {'!= ' if negated else ''}@{set_name}"
        case SourceIn(set_name, family):
            return f"{family.label} saddr @{set_name}"
        case DestinationIn(set_name, family):
            return f"{family.label} daddr . meta l4proto . th dport @{set_name}"
        case ProtocolIs(name):
            return f"meta l4proto {name}"
        case Neighbour():
            return f"icmpv6 type nd-neighbor-{statement.name.lower()}"
        case InterfacesIn(set_name):
            return f"iifname . oifname @{set_name}"
        case AddressIn(side, network, 128):
            return f"ip6 {side} {network}"
        case AddressIn(side, network, 32):
            return f"ip {side} {network}"
        case AddressIn(side, network, prefix):
            return f"ip {side} {network}/{prefix}"
        case DestinationIsLocal():
            return "fib daddr type local"
        case DestinationPort(protocol, port):
            return f"{protocol} dport {port}"
        case StateIn(states):
            return f"ct state {','.join(state.name.lower() for state in states)}"
        case WasRedirected():
            return "ct status dnat"
        case DnatFrom(map_name, by_address, family, spread):
            address = f"{family.label} daddr . " if by_address else ""
            lot = f" . numgen random mod {SLOTS}" if spread else ""
            key = f"{address}meta l4proto . th dport{lot}"
            return f"dnat {family.label} to {key} map @{map_name}"
        case DnatTo(address, port):
            return f"dnat to {address}:{port}"
        case Masquerade():
            return "masquerade"
        case Counter():
            return "counter"
        case Verdict():
            return statement.name.lower()
