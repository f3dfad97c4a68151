"""A cgroup for the spawner and the shims, outside of the service that the daemon may be.

systemd ends a service by killing everything in the service's cgroup; containers have their own,
but their shims are born in the daemon's. Only the trees that systemd tracks services in matter.
"""

import contextlib
import os
from collections.abc import Iterator

from engine.kernel import procfs
from engine.runtime.cgroup_tree import Hierarchy

GROUP = "pycompose-shims"

_is_inside = False  # this process, and all that it forks


def enter(hierarchy: Hierarchy) -> None:
    """Leave a service's cgroup, if this process is in one; shims inherit that. OSError: cannot."""
    global _is_inside
    for root, path in _tracked(hierarchy):
        _is_inside = _is_inside or path != "/"
        if path not in ("/", f"/{GROUP}"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(f"{root}/{GROUP}", 0o755)
            _move(f"{root}/{GROUP}")


def leave(hierarchy: Hierarchy, *, together: bool = False) -> None:
    """Whoever is the last in there takes the group away.

    `together`: others of the engine leave at this moment, too. Each of them moves out then, or
    each would see another one inside. Not always so: a move lets every fork here wait for it.
    """
    for root, path in _tracked(hierarchy) if _is_inside else ():
        if path == f"/{GROUP}":
            with open(f"{root}/{GROUP}/cgroup.procs") as stream:
                inside = stream.read().split()
            if together or inside == [str(os.getpid())]:
                _move(root)
                # Another may have come in between: it is the last one then.
                with contextlib.suppress(OSError):
                    os.rmdir(f"{root}/{GROUP}")


def _tracked(hierarchy: Hierarchy) -> Iterator[tuple[str, str]]:
    """(mount point, path of this process) where systemd keeps its services."""
    own = procfs.cgroup_paths(os.getpid())
    for tree in hierarchy.trees:
        name = "" if tree.unified else "name=systemd"
        if (tree.unified or "systemd" in tree.controllers) and name in own:
            yield tree.point, own[name]


def _move(directory: str) -> None:
    with open(f"{directory}/cgroup.procs", "w") as stream:
        stream.write("0")
