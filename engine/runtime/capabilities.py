"""Linux capabilities by name and bit, and which of them a container's processes get.

Pure. Bit numbers are those of linux/capability.h; the default set is Docker's.
"""

from collections.abc import Collection, Iterable

from engine.errors import InvalidRequest

# The index is the bit.
NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)

DEFAULT: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

_BITS = {name: bit for bit, name in enumerate(NAMES)}
_ALL = "ALL"


def mask(names: Iterable[str]) -> int:
    """The bit set that capset(2) and /proc/PID/status speak of. KeyError for an unknown name."""
    bits = 0
    for name in names:
        bits |= 1 << _BITS[name]
    return bits


def names(bits: int) -> tuple[str, ...]:
    """The known names in a bit set, in bit order; bits of a newer kernel have no name here."""
    return tuple(name for bit, name in enumerate(NAMES) if bits >> bit & 1)


def effective(
    add: Iterable[str], drop: Iterable[str], privileged: bool, bounding: Collection[str]
) -> tuple[str, ...]:
    """What a container gets from --cap-add, --cap-drop and --privileged, in bit order.

    `bounding` is what the engine itself may hand on. ALL in `add` wins over ALL in `drop`, and a
    name in both is added, as in Docker. Raises InvalidRequest for a name that is unknown, or
    that is asked for and that the engine does not hold.
    """
    added = _normalized(add, "CapAdd")
    dropped = _normalized(drop, "CapDrop")
    if privileged:
        return tuple(name for name in NAMES if name in bounding)
    if _ALL in added:
        chosen = set(bounding) - dropped
    elif _ALL in dropped:
        chosen = set()
    else:
        chosen = set(DEFAULT).intersection(bounding) - dropped
    asked = added - {_ALL} if _ALL not in added else set()
    if lacking := sorted(asked.difference(bounding)):
        raise InvalidRequest(
            f"cannot add capability {lacking[0]}: the engine itself does not hold it"
        )
    chosen |= asked
    return tuple(name for name in NAMES if name in chosen)


def _normalized(written: Iterable[str], field: str) -> set[str]:
    found = set()
    for text in written:
        name = text.strip().upper()
        if name != _ALL:
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in _BITS:
                raise InvalidRequest(f'invalid {field}: unknown capability: "{name}"')
        found.add(name)
    return found
