"""What this machine offers to containers: CPUs, capabilities, devices, the boot it is in."""

import os
import platform
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.containers.model import Device, HostConfig
from engine.containers.spec import DEFAULT_PROFILE, HostDevice, Machine
from engine.errors import InvalidRequest
from engine.kernel.libc import reason
from engine.runtime import capabilities, devices

_LETTERS = {stat.S_IFCHR: "c", stat.S_IFBLK: "b", stat.S_IFIFO: "p"}
# Made anew in each container, or of no use outside of the host's own.
_OWN_FOLDERS = ("/dev/pts", "/dev/shm", "/dev/fd", "/dev/mqueue", "/dev/console")


def read_machine() -> Machine:
    major, minor = platform.release().split(".")[:2]
    cpus = Path("/sys/devices/system/cpu")
    return Machine(
        cpus=os.cpu_count() or 1,
        bounding=capabilities.names(_bounding_set()),
        kernel=(int(major), int("".join(filter(str.isdigit, minor)))),
        thermal_paths=tuple(sorted(str(path) for path in cpus.glob("cpu*/thermal_throttle"))),
        memory_nodes=len([*Path("/sys/devices/system/node").glob("node[0-9]*")]) or 1,
        has_apparmor=_has_apparmor(),
        has_default_profile=_is_loaded(DEFAULT_PROFILE),
    )


def _bounding_set() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    return 0


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _has_apparmor() -> bool:
    try:
        return Path("/sys/module/apparmor/parameters/enabled").read_text().startswith("Y")
    except OSError:
        return False


def _is_loaded(profile: str) -> bool:
    """Whether the kernel knows this AppArmor profile; one line each: `docker-default (enforce)`."""
    try:
        lines = Path("/sys/kernel/security/apparmor/profiles").read_text().splitlines()
    except OSError:
        return False
    return any(line.rpartition(" (")[0] == profile for line in lines)


def host_devices(host: HostConfig) -> tuple[HostDevice, ...]:
    """The devices that were asked for; all of the host for a privileged container."""
    asked = [found for device in host.devices for found in _asked(device)]
    taken = {device.node.path for device in asked}
    if host.privileged:
        asked += [device for device in _all_devices("/dev") if device.node.path not in taken]
    return tuple(asked)


def _asked(device: Device) -> Iterator[HostDevice]:
    access = devices.parse_access(device.cgroup_permissions or "rwm")
    target = device.path_in_container or device.path_on_host
    if not target.startswith("/"):
        raise InvalidRequest(f"invalid device path: {target!r} is not absolute")
    try:
        status = os.stat(device.path_on_host)
    except OSError as error:
        raise InvalidRequest(
            f"error gathering device information while adding custom device "
            f'"{device.path_on_host}": {reason(error)}'
        ) from error
    if stat.S_ISDIR(status.st_mode):
        for inner in sorted(os.listdir(device.path_on_host)):
            node = _node(f"{device.path_on_host}/{inner}", f"{target}/{inner}")
            if node is not None:
                yield HostDevice(node, access)
        return
    node = _node(device.path_on_host, target)
    if node is None:
        raise InvalidRequest(
            f"error gathering device information while adding custom device "
            f'"{device.path_on_host}": not a device node'
        )
    yield HostDevice(node, access)


def _node(path: str, target: str) -> devices.Device | None:
    status = os.stat(path)
    kind = _LETTERS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        return None
    return devices.Device(
        target,
        kind,
        os.major(status.st_rdev),
        os.minor(status.st_rdev),
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
    )


def _all_devices(folder: str) -> Iterator[HostDevice]:
    default = {node.path for node in devices.DEFAULT_NODES}
    for entry in os.scandir(folder):
        if entry.path in _OWN_FOLDERS or entry.path in default or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _all_devices(entry.path)
        elif not entry.is_file() and (node := _node(entry.path, entry.path)) is not None:
            yield HostDevice(node, "rwm")


_BLOCK_DEVICE_FIELDS = (
    "blkio_weight_device",
    "blkio_device_read_bps",
    "blkio_device_write_bps",
    "blkio_device_read_iops",
    "blkio_device_write_iops",
)


def with_block_devices(host: HostConfig) -> HostConfig:
    """The limits of block devices in the spec's words: the API names them by path."""
    given: dict[str, Any] = {
        name: tuple(_block_device(entry) for entry in getattr(host, name))
        for name in _BLOCK_DEVICE_FIELDS
    }
    return replace(host, **given) if any(given.values()) else host


def _block_device(entry: Mapping[str, object]) -> Mapping[str, object]:
    path = entry.get("Path")
    try:
        status = os.stat(str(path))
    except OSError as error:
        raise InvalidRequest(f"cannot limit block device {path}: {reason(error)}") from error
    if not stat.S_ISBLK(status.st_mode):
        raise InvalidRequest(f"cannot limit block device {path}: it is none")
    found: dict[str, object] = {
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
    }
    for name in ("Weight", "Rate"):
        value = entry.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or value < 0:
            raise InvalidRequest(f"cannot limit block device {path}: {name} is {value!r}")
        found[name.lower()] = value
    return found
