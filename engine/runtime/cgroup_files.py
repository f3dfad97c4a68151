"""The files of a control group, whichever hierarchy it is in: read, write, make, empty, remove."""

import contextlib
import errno
import os
import select
import time

from engine.errors import Unsupported
from engine.kernel.libc import KernelError
from engine.runtime.cgroups import Setting

# A delegated group that is to give controllers to its children can't hold processes itself
# (cgroup-v2.rst, "No Internal Process Constraint"): those in it move here.
SUPERVISOR = "pycompose-supervisor"


def read(path: str) -> str:
    # Not by open(): its buffers and looks at the file cost more than the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, 65536)
        while piece := os.read(descriptor, 65536):
            content += piece
    finally:
        os.close(descriptor)
    return content.decode()


def pairs(text: str) -> dict[str, int]:
    """The numbers of a file of "key value" lines."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def write(path: str, *values: str) -> None:
    """Each of `values` in a write of its own."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    value = ""
    try:
        for value in values:
            os.write(descriptor, value.encode())
    except OSError as error:
        raise KernelError(f"write {value!r}", path, error.errno or 0) from None
    finally:
        os.close(descriptor)


def set_all(directory: str, *settings: Setting) -> None:
    """All of `settings` are for one file."""
    file = settings[0].file
    try:
        write(f"{directory}/{file}", *(setting.value for setting in settings))
    except OSError as error:
        # EOPNOTSUPP: there is such a file, but nothing behind it for this block device.
        if error.errno not in (errno.ENOENT, errno.EOPNOTSUPP):
            raise
        for setting in settings:
            if setting.instead is None:
                if error.errno == errno.EOPNOTSUPP:
                    raise
                raise Unsupported(f"cannot set {file}: this kernel has no such file") from error
            for other in setting.instead:
                set_all(directory, other)


def make_empty(directory: str) -> None:
    """mkdir(2); what a crash left is replaced. FileExistsError if processes are in it."""
    try:
        os.mkdir(directory)
        return
    except FileExistsError:
        if pids_below(directory):
            raise FileExistsError(errno.EEXIST, "processes are in the cgroup", directory) from None
    remove_tree(directory)
    os.mkdir(directory)


def inherit_cpuset(directory: str) -> None:
    """A new v1 cpuset is empty and takes no process until it has processors and memory nodes."""
    if read(f"{directory}/cpuset.mems").strip():
        return  # of a parent that hands them down
    parent = os.path.dirname(directory)
    for file in ("cpuset.cpus", "cpuset.mems"):
        inherited = read(f"{parent}/{file}").strip()
        if not inherited:  # made by a neighbour a moment ago, who has not come that far
            inherit_cpuset(parent)
            inherited = read(f"{parent}/{file}").strip()
        write(f"{directory}/{file}", inherited)


def clone_cpuset(directory: str) -> None:
    """From now on the kernel hands the processors and memory nodes of a v1 cpuset down to a new
    one in it (cpusets.rst, 1.7): each container is spared the reading and writing."""
    write(f"{directory}/cgroup.clone_children", "1")


def enable(directory: str, controllers: tuple[str, ...], *, is_root: bool) -> None:
    """Let the children of a v2 group have `controllers`, as far as it has them itself."""
    available = set(read(f"{directory}/cgroup.controllers").split())
    enabled = set(read(f"{directory}/cgroup.subtree_control").split())
    missing = [name for name in controllers if name in available - enabled]
    # The machine's own root may hold processes, and has no cgroup.type. In any other group the
    # threaded controllers (cpu, pids) would not even be refused, but make it a threaded domain.
    is_inner = missing and is_root and os.path.exists(f"{directory}/cgroup.type")
    if is_inner and not _evacuate(directory):
        return  # a limit that needs them is refused when its file is missing
    control = f"{directory}/cgroup.subtree_control"
    for name in missing:
        try:
            write(control, f"+{name}")
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP):
                raise
            # One that can't be had here (cpu beside real-time processes). A limit that needs it
            # is refused when its file is missing.


def _evacuate(directory: str) -> bool:
    """Move the group's processes into one below it; False where some can't be. A process of
    another PID namespace reads as 0: nobody here can name it."""
    supervisor = f"{directory}/{SUPERVISOR}"
    while pids := read(f"{directory}/cgroup.procs").split():
        if "0" in pids:
            return False
        with contextlib.suppress(FileExistsError):
            os.mkdir(supervisor)
        for pid in pids:
            try:
                write(f"{supervisor}/cgroup.procs", pid)
            except OSError as error:
                if error.errno != errno.ESRCH:  # it has ended meanwhile
                    raise
    return True


def await_event(directory: str, key: str, value: int, timeout: float) -> bool:
    """Wait until cgroup.events says `key value`; False after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    try:
        descriptor = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        while True:
            try:
                text = os.pread(descriptor, 4096, 0).decode()
            except OSError as error:
                if error.errno == errno.ENODEV:  # removed meanwhile
                    return True
                raise
            if pairs(text).get(key) == value:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll.poll(remaining * 1000)
    finally:
        os.close(descriptor)


def remove_tree(directory: str) -> None:
    """rmdir(2) of a group and those nested in it; what is not there is fine.

    An exiting process may still be in a v1 group for a moment, and no event tells when it left:
    a short, bounded retry.
    """
    for attempt in range(100):
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or attempt == 99:
                raise
        # Rarely is anything nested in it, so that is looked for only now.
        for path in _nested(directory):
            remove_tree(path)
        if pids_below(directory):
            time.sleep(0.01)


def _nested(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def remove_unused(parents: list[str]) -> bool:
    """Whether the last of them, if there is any, is gone."""
    for parent in reversed(parents[1:]):
        try:
            os.rmdir(parent)
        except FileNotFoundError:
            pass
        except OSError:  # other containers have their groups there
            return parent != parents[-1]
    return True


def pids_below(directory: str) -> list[int]:
    found = []
    for folder, _, _ in os.walk(directory):
        # A nested group may go while we look (ENOENT, or ENODEV once it is open).
        with contextlib.suppress(OSError):
            pids = read(f"{folder}/cgroup.procs").split()
            # 0: of another PID namespace. To kill(2) it means our own process group.
            found += [int(pid) for pid in pids if pid != "0"]
    return found


def unescaped(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash in octal."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace(f"\\{code}", character)
    return field
