"""Pure: whether mounts can travel between a bind's source and its copy in a container.

They do where the source's mount is shared (both ways), or a slave (towards the container only);
a bind that asks for it elsewhere would be private without a word.
"""

from dataclasses import dataclass

from engine.errors import Failure


@dataclass(frozen=True, slots=True)
class Mounted:
    point: str
    is_shared: bool
    is_slave: bool


def parse_mounts(mountinfo: str) -> tuple[Mounted, ...]:
    """proc_pid_mountinfo(5), in its order: a later mount lies over an earlier one."""
    found = []
    for line in mountinfo.splitlines():
        words = line.split(" - ")[0].split()
        tags = words[6:]
        found.append(
            Mounted(
                _unescaped(words[4]),
                any(tag.startswith("shared:") for tag in tags),
                any(tag.startswith("master:") for tag in tags),
            )
        )
    return tuple(found)


def check_propagation(source: str, propagation: str, mounts: tuple[Mounted, ...]) -> None:
    """Raises Failure, in Docker's words. `source` is a real path."""
    kind = propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    holding = [one for one in mounts if _holds(one.point, source)]
    if not holding:
        return
    deepest = max(len(one.point) for one in holding)
    below = next(one for one in reversed(holding) if len(one.point) == deepest)
    if kind == "shared" and not below.is_shared:
        raise Failure(f"path {source} is mounted on {below.point} but it is not a shared mount")
    if kind == "slave" and not (below.is_shared or below.is_slave):
        raise Failure(
            f"path {source} is mounted on {below.point} but it is not a shared or slave mount"
        )


def _holds(point: str, path: str) -> bool:
    return point == "/" or path == point or path.startswith(f"{point}/")


def _unescaped(point: str) -> str:
    for code, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, sign)
    return point
