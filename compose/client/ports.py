"""pure: a container's ports in one line, as `docker ps` writes them."""

from __future__ import annotations

from collections.abc import Iterable

Port = tuple[int, str, str, int]  # inside, address, protocol, outside (0: not published)


def ports_text(ports: Iterable[Port]) -> str:
    """`9000/tcp, 0.0.0.0:80-81->80-81/tcp, 127.0.0.1:8001->8000/tcp`: neighbours that keep their
    number, or are only exposed, are drawn together, and come first."""
    ranges: list[tuple[str, str, int, int]] = []  # protocol, address, first, last
    open_ranges: dict[tuple[str, str], tuple[int, int]] = {}
    moved = []
    for inside, ip, protocol, outside in sorted(set(ports)):
        if outside and outside != inside:
            moved.append(f"{_address(ip)}:{outside}->{inside}/{protocol}")
            continue
        key = (protocol, ip if outside else "")
        first, last = open_ranges.get(key, (inside, inside))
        if inside > last + 1:
            ranges.append((*key, first, last))
            first = inside
        open_ranges[key] = (first, inside)
    ranges += [(*key, *ends) for key, ends in open_ranges.items()]
    return ", ".join([*(_range(*each) for each in ranges), *moved])


def _range(protocol: str, ip: str, first: int, last: int) -> str:
    span = f"{first}-{last}" if last > first else f"{first}"
    return f"{_address(ip)}:{span}->{span}/{protocol}" if ip else f"{span}/{protocol}"


def _address(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
