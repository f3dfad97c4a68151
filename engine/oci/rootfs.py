"""A container's root file system as the kernel is told: overlay directories, top layer first.

Imported by the spawner, so only the standard library.
"""

from dataclasses import dataclass

# An empty file in its top layer, by which programs know that they run in a container; Docker's.
MARK = "/.dockerenv"
# A link that it has for programs that don't know /proc/mounts, and where it leads.
MOUNT_TABLE, MOUNTS = "/etc/mtab", "/proc/mounts"


@dataclass(frozen=True, slots=True)
class Rootfs:
    lowers: tuple[str, ...]  # absolute directories, top first
    upper: str
    work: str  # same file system as `upper`
    read_only: bool
