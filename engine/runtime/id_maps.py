"""Pure: which users of the host those of a container are (runtime-spec, config-linux.md "User
namespace mappings")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

NOBODY = 65534  # /proc/sys/kernel/overflowuid


@dataclass(frozen=True, slots=True)
class Range:
    """`count` ids from `inside` on are those of the host from `outside` on."""

    inside: int
    outside: int
    count: int

    def to_oci(self) -> dict[str, int]:
        return {"containerID": self.inside, "hostID": self.outside, "size": self.count}


@dataclass(frozen=True, slots=True)
class IdMaps:
    uids: tuple[Range, ...]
    gids: tuple[Range, ...]

    @classmethod
    def parse(cls, uids: Sequence[object], gids: Sequence[object]) -> "IdMaps":
        """Of the spec's two lists."""
        return cls(tuple(map(_range, uids)), tuple(map(_range, gids)))

    def to_oci(self) -> dict[str, list[dict[str, int]]]:
        return {
            "uidMappings": [each.to_oci() for each in self.uids],
            "gidMappings": [each.to_oci() for each in self.gids],
        }

    @property
    def owner(self) -> tuple[int, int]:
        """What root of the container is for the host."""
        return self.uid(0), self.gid(0)

    def uid(self, inside: int) -> int:
        """The host's; an id that the container doesn't have is its root's."""
        return _mapped(self.uids, inside)

    def gid(self, inside: int) -> int:
        return _mapped(self.gids, inside)

    def inside_uid(self, outside: int) -> int:
        """What the container sees; nobody's is what it has no id for."""
        return _unmapped(self.uids, outside)

    def inside_gid(self, outside: int) -> int:
        return _unmapped(self.gids, outside)

    @property
    def for_files(self) -> "IdMaps":
        """How files are shown that lie on disk with the container's ids. The host's root is there
        too, by an id that the container doesn't have: the kernel itself makes files as root in an
        overlay's work directory, and docker cp does before it gives them away."""
        return IdMaps(_with_root(self.uids), _with_root(self.gids))


def _range(document: object) -> Range:
    """Raises KeyError, TypeError, ValueError for what is none."""
    found = cast("Mapping[str, int]", document)
    return Range(int(found["containerID"]), int(found["hostID"]), int(found["size"]))


def _mapped(ranges: tuple[Range, ...], inside: int) -> int:
    for each in ranges:
        if each.inside <= inside < each.inside + each.count:
            return each.outside + inside - each.inside
    return ranges[0].outside


def _unmapped(ranges: tuple[Range, ...], outside: int) -> int:
    for each in ranges:
        if each.outside <= outside < each.outside + each.count:
            return each.inside + outside - each.outside
    return NOBODY


def _with_root(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    end = max(each.inside + each.count for each in ranges)
    return (*ranges, Range(end, 0, 1))
