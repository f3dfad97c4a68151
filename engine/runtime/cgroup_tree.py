"""Control groups as they stand in the kernel: find the hierarchies, make a group in each, limit,
enter, freeze, kill, read, remove. What to write where is decided in `cgroups`.

A container has one group in every hierarchy that is mounted, also in those that limit nothing
(name=systemd, the unified tree of a hybrid machine): so nothing of it is ever lost from sight,
and the unified tree, where there is one, tells by events when a group is empty or frozen.
"""

import contextlib
import errno
import itertools
import os
import select
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.kernel import bpf, inotify
from engine.kernel.libc import KernelError
from engine.runtime import cgroups
from engine.runtime.cgroups import Setting

# Not controllers but options of a v1 mount.
_MOUNT_OPTIONS = (
    *("rw", "ro", "relatime", "noatime", "all", "none", "xattr", "noprefix", "clone_children"),
    *("cpuset_v2_mode", "favordynmods", "seclabel"),
)
# A delegated group that is to give controllers to its children can't hold processes itself
# (cgroup-v2.rst, "No Internal Process Constraint"): those in it move here.
_SUPERVISOR = "pycompose-supervisor"
_EMPTY_TIMEOUT = 10.0  # seconds; killed processes leave their group within microseconds
_FREEZE_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Tree:
    """One mounted hierarchy: cgroup v1 with its controllers, or the unified one."""

    point: str
    controllers: tuple[str, ...]
    unified: bool


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """All mounted hierarchies. `base` is the group that the unified tree is ours from."""

    trees: tuple[Tree, ...]
    base: str

    @property
    def unified(self) -> Tree | None:
        return next((tree for tree in self.trees if tree.unified), None)

    @property
    def is_v2(self) -> bool:
        """Whether there is nothing but the unified tree."""
        return all(tree.unified for tree in self.trees)


def detect() -> Hierarchy:
    """What is mounted here. Raises Unsupported where no hierarchy is."""
    trees: list[Tree] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            point = _unescaped(left.split()[4])
            if kind == "cgroup2" and not any(tree.unified for tree in trees):
                listed = _read(f"{point}/cgroup.controllers").split()
                trees.append(Tree(point, tuple(listed), unified=True))
            elif kind == "cgroup":
                known = {name for tree in trees for name in tree.controllers}
                names = tuple(
                    option.removeprefix("name=")
                    for option in options.split(",")
                    if option not in _MOUNT_OPTIONS and not option.startswith("release_agent=")
                )
                if names and not known.intersection(names):
                    trees.append(Tree(point, names, unified=False))
    if not trees:
        raise Unsupported("cannot find control groups: no cgroup file system is mounted")
    unified = next((tree for tree in trees if tree.unified), None)
    return Hierarchy(tuple(trees), _delegated(unified.point) if unified else "")


def _delegated(point: str) -> str:
    """Where our part of the unified tree begins: its root, or for an ordinary user the group
    that was handed to us (systemd's Delegate=yes)."""
    if os.access(f"{point}/cgroup.procs", os.W_OK):
        return ""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        own = next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "/")
    return own.removesuffix(f"/{_SUPERVISOR}").rstrip("/")


@dataclass(frozen=True, slots=True)
class Throughput:
    """What one block device did for a group, by the kernel's names for it: "Read", "Sync", ... in
    v1, "read" and "write" in v2."""

    major: int
    minor: int
    transferred: Mapping[str, int]  # bytes
    operations: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Counters:
    """Raw numbers of one moment. None: this kernel does not count it; -1: no limit."""

    cpu_total: int  # nanoseconds, as the two below
    cpu_user: int
    cpu_system: int
    cpu_each: tuple[int, ...]  # empty on v2
    periods: int
    throttled_periods: int
    throttled: int  # nanoseconds
    memory_usage: int | None
    memory_peak: int | None
    memory_limit: int | None
    memory_failures: int | None
    memory: Mapping[str, int]  # memory.stat, with the kernel's names
    pids: int | None
    pids_limit: int | None
    devices: tuple[Throughput, ...]


class Cgroup:
    """The group `path` in every hierarchy; making the object touches nothing."""

    __slots__ = ("_directories", "_parents", "hierarchy", "path")

    def __init__(self, hierarchy: Hierarchy, path: str) -> None:
        names = [name for name in path.split("/") if name]
        if not names or ".." in names or "." in names:
            raise InvalidRequest(f"invalid cgroup path {path!r}")
        self.hierarchy = hierarchy
        self.path = "/".join(names)
        # One a tree, in the order of hierarchy.trees; the ancestors that are ours, top first.
        roots = [
            tree.point + hierarchy.base if tree.unified else tree.point for tree in hierarchy.trees
        ]
        self._directories = [f"{root}/{self.path}" for root in roots]
        above = ["/".join(names[:depth]) for depth in range(1, len(names))]
        self._parents = [[root, *(f"{root}/{part}" for part in above)] for root in roots]

    # --- life -----------------------------------------------------------------------------

    def create(self, resources: Mapping[str, object]) -> None:
        """Make the group everywhere and set its limits. What is refused leaves nothing behind.

        An empty group of the same name, left by a crash, is replaced; a populated one is an
        error (FileExistsError).
        """
        planned = self._planned(resources)
        rules = cgroups.device_rules(resources)
        try:
            self._make()
            self._apply(planned)
            if rules is not None and self.hierarchy.is_v2:
                self._filter_devices(rules)
        except BaseException:
            for directory, parents in zip(self._directories, self._parents, strict=True):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
                _remove_unused(parents)
            raise

    def enter(self, *, unified: bool = True) -> None:
        """Move the calling process, of one thread, into the group. Without `unified` only in v1
        hierarchies: a child of clone3 can be born into the other (`unified_fd`), while moving
        there may wait 15 ms for a grace period."""
        for tree, directory in self._places():
            if tree.unified and not unified:
                continue
            # v1: a thread joins without waiting for a grace period, a process may wait 15 ms.
            _write(f"{directory}/{'cgroup.procs' if tree.unified else 'tasks'}", "0")

    def update(self, resources: Mapping[str, object]) -> None:
        """Change what `resources` names, and nothing else."""
        planned = self._planned(resources)
        rules = cgroups.device_rules(resources)
        self._apply(planned)
        if rules is not None and self.hierarchy.is_v2:
            self._filter_devices(rules)

    def freeze(self, frozen: bool) -> None:
        """Stop every process where it is, or let all run on; returns when it is so."""
        unified = self._unified()
        if unified and os.path.exists(f"{unified}/cgroup.freeze"):
            _write(f"{unified}/cgroup.freeze", str(int(frozen)))
            if not _await_event(unified, "frozen", int(frozen), _FREEZE_TIMEOUT):
                _write(f"{unified}/cgroup.freeze", "0")
                raise Failure("cannot freeze the container: a process does not stop")
            return
        self._freeze_v1(self.directory("freezer"), frozen)

    def kill(self) -> None:
        """SIGKILL to everything inside, also to what is forked meanwhile, and to the frozen."""
        unified = self._unified()
        if unified and os.path.exists(f"{unified}/cgroup.kill"):
            _write(f"{unified}/cgroup.kill", "1")
        else:
            self._kill_each()
        # The v1 freezer keeps even the killed: they die when it lets go.
        freezer = self._find("freezer")
        if freezer and os.path.exists(f"{freezer}/freezer.state"):
            _write(f"{freezer}/freezer.state", "THAWED")

    def remove(self) -> None:
        """Remove the group everywhere, once it is empty; one that is not there is no error.

        Raises Failure if processes stay in it.
        """
        unified = self._unified()
        if unified and not _await_event(unified, "populated", 0, _EMPTY_TIMEOUT):
            raise Failure(f"cannot remove cgroup {self.path}: processes {self.pids()} stay in it")
        for directory, parents in zip(self._directories, self._parents, strict=True):
            _remove_tree(directory)
            _remove_unused(parents)

    # --- reading --------------------------------------------------------------------------

    def directory(self, controller: str) -> str:
        """Its folder in the hierarchy of `controller` (a named one by its name)."""
        found = self._find(controller)
        if found is None:
            raise Unsupported(f"this machine has no cgroup controller {controller}")
        return found

    def unified_fd(self) -> int:
        """A descriptor of its folder in the unified tree, for clone3; the caller closes it. -1
        where there is none."""
        folder = self._unified()
        return -1 if folder is None else os.open(folder, os.O_PATH | os.O_CLOEXEC)

    @property
    def mounts(self) -> tuple[tuple[str, str], ...]:
        """(name, folder) to bind below the container's own /sys/fs/cgroup, v1 only: on a pure
        v2 machine its cgroup namespace has the unified tree itself."""
        return tuple(
            (os.path.basename(tree.point), directory)
            for tree, directory in self._places()
            if not tree.unified
        )

    def pids(self) -> list[int]:
        """All processes inside, those of nested groups too."""
        return _pids_below(self._unified() or self._directories[0])

    def oom_kills(self) -> int:
        """How many processes inside were killed for want of memory; -1 if not counted."""
        for tree, directory in self._places():
            if "memory" in tree.controllers:
                file = "memory.events" if tree.unified else "memory.oom_control"
                return _pairs(_read(f"{directory}/{file}")).get("oom_kill", -1)
        return -1

    def oom_fd(self) -> int:
        """A descriptor that poll(2) reports readable when `oom_kills` may have grown; read it
        empty then. It is the caller's to close. -1 if this machine does not tell."""
        for tree, directory in self._places():
            if "memory" not in tree.controllers:
                continue
            if tree.unified:
                watch = inotify.inotify_init()
                try:
                    inotify.add_watch(watch, f"{directory}/memory.events", inotify.IN_MODIFY)
                except BaseException:
                    os.close(watch)
                    raise
                return watch
            event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            try:
                control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
                try:
                    _write(f"{directory}/cgroup.event_control", f"{event} {control}")
                finally:
                    os.close(control)
            except BaseException:
                os.close(event)
                raise
            return event
        return -1

    def counters(self) -> Counters:
        """The numbers of now."""
        if self.hierarchy.is_v2:
            return _counters_v2(self._directories[0])
        return _counters_v1(self)

    # --- steps ----------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[Tree, str]]:
        return zip(self.hierarchy.trees, self._directories, strict=True)

    def _unified(self) -> str | None:
        """Its folder in the unified tree, if there is one and the group exists in it."""
        for tree, directory in self._places():
            if tree.unified and os.path.isdir(directory):
                return directory
        return None

    def _find(self, controller: str) -> str | None:
        for tree, directory in self._places():
            if controller in tree.controllers:
                return directory
        return None

    def _planned(self, resources: Mapping[str, object]) -> list[tuple[str, list[Setting]]]:
        """(folder, settings) a controller; raises Unsupported for what no tree here can do."""
        wanted = {} if self.hierarchy.is_v2 else cgroups.v1_settings(resources)
        served: list[tuple[str, list[Setting]]] = []
        for tree, directory in self._places():
            if tree.unified:
                only = None if self.hierarchy.is_v2 else tree.controllers
                settings = cgroups.v2_settings(resources, only)
                if self.hierarchy.is_v2:
                    wanted = settings
            else:
                settings = wanted
            served += [(directory, settings[name]) for name in tree.controllers if name in settings]
        here = {name for tree in self.hierarchy.trees for name in tree.controllers}
        here |= {"blkio"} if "io" in here else set()
        # "cgroup" stands for the core files, as in unified: {"cgroup.max.depth": "3"}.
        for controller in wanted.keys() - here - {"cgroup"}:
            file = wanted[controller][0].file
            raise Unsupported(f"cannot set {file}: no {controller} cgroup controller here")
        if self.hierarchy.is_v2 and "cgroup" in wanted:
            served.append((self._directories[0], wanted["cgroup"]))
        return served

    def _make(self) -> None:
        # Any user in the container may read its limits, as a JVM does that sizes itself by them.
        mask = os.umask(0o022)
        try:
            self._make_everywhere()
        finally:
            os.umask(mask)

    def _make_everywhere(self) -> None:
        for _ in range(50):
            try:
                for index, tree in enumerate(self.hierarchy.trees):
                    self._make_in(tree, self._directories[index], self._parents[index])
                return
            except OSError as error:
                # The last neighbour of a parent group left and took the parent with it.
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
        raise Failure(f"cannot create cgroup {self.path}: its parents vanish again and again")

    def _make_in(self, tree: Tree, directory: str, parents: list[str]) -> None:
        try:
            _make_empty(directory)
        except FileNotFoundError:
            for parent in parents[1:]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent)
                    if "cpuset" in tree.controllers and not tree.unified:
                        _inherit_cpuset(parent)
            _make_empty(directory)
        if not tree.unified:
            if "cpuset" in tree.controllers:
                _inherit_cpuset(directory)
            return
        # Others may have switched a controller off again while nobody used it.
        if not set(_read(f"{directory}/cgroup.controllers").split()).issuperset(tree.controllers):
            for parent in parents:
                _enable(parent, tree.controllers, is_root=parent == parents[0])

    def _apply(self, planned: list[tuple[str, list[Setting]]]) -> None:
        for directory, settings in planned:
            try:
                # The rules for devices are a dozen writes to one file.
                for _, same in itertools.groupby(settings, lambda setting: setting.file):
                    _set(directory, *same)
            except OSError as error:
                # v1 wants memory <= memory and swap after every write: growing goes the other
                # way round.
                files = [setting.file for setting in settings]
                if error.errno != errno.EINVAL or "memory.memsw.limit_in_bytes" not in files:
                    raise
                for setting in reversed(settings):
                    _set(directory, setting)

    def _filter_devices(self, rules: tuple[cgroups.DeviceRule, ...]) -> None:
        directory = self._directories[0]
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            bpf.replace_device_filter(group, bpf.device_program(rules))
        finally:
            os.close(group)

    def _freeze_v1(self, directory: str, frozen: bool) -> None:
        state = "FROZEN" if frozen else "THAWED"
        deadline = time.monotonic() + _FREEZE_TIMEOUT
        while True:
            # No event tells; and a process forked at that moment may need the word again.
            _write(f"{directory}/freezer.state", state)
            if _read(f"{directory}/freezer.state").strip() == state:
                return
            if time.monotonic() > deadline:
                _write(f"{directory}/freezer.state", "THAWED")
                raise Failure("cannot freeze the container: a process does not stop")
            time.sleep(0.001)

    def _kill_each(self) -> None:
        """For kernels before 5.14: until nobody is left, so that no fork slips away."""
        deadline = time.monotonic() + _EMPTY_TIMEOUT
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            freezer = self._find("freezer")
            if freezer and os.path.exists(f"{freezer}/freezer.state"):
                _write(f"{freezer}/freezer.state", "THAWED")
            if time.monotonic() > deadline:
                raise Failure(f"cannot kill processes {pids} of cgroup {self.path}")
            time.sleep(0.001)


# --- files ------------------------------------------------------------------------------------


def _read(path: str) -> str:
    # Not by open(): its buffers and looks at the file cost more than the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, 65536)
        while piece := os.read(descriptor, 65536):
            content += piece
    finally:
        os.close(descriptor)
    return content.decode()


def _write(path: str, *values: str) -> None:
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


def _set(directory: str, *settings: Setting) -> None:
    """All of `settings` are for one file."""
    file = settings[0].file
    try:
        _write(f"{directory}/{file}", *(setting.value for setting in settings))
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
                _set(directory, other)


def _make_empty(directory: str) -> None:
    """mkdir(2); what a crash left is replaced. FileExistsError if processes are in it."""
    try:
        os.mkdir(directory)
        return
    except FileExistsError:
        if _pids_below(directory):
            raise FileExistsError(errno.EEXIST, "processes are in the cgroup", directory) from None
    _remove_tree(directory)
    os.mkdir(directory)


def _inherit_cpuset(directory: str) -> None:
    """A new v1 cpuset is empty and takes no process until it has processors and memory nodes."""
    parent = os.path.dirname(directory)
    for file in ("cpuset.cpus", "cpuset.mems"):
        inherited = _read(f"{parent}/{file}").strip()
        if not inherited:  # made by a neighbour a moment ago, who has not come that far
            _inherit_cpuset(parent)
            inherited = _read(f"{parent}/{file}").strip()
        _write(f"{directory}/{file}", inherited)


def _enable(directory: str, controllers: tuple[str, ...], *, is_root: bool) -> None:
    """Let the children of a v2 group have `controllers`, as far as it has them itself."""
    available = set(_read(f"{directory}/cgroup.controllers").split())
    enabled = set(_read(f"{directory}/cgroup.subtree_control").split())
    missing = [name for name in controllers if name in available - enabled]
    # The machine's own root may hold processes, and has no cgroup.type. In any other group the
    # threaded controllers (cpu, pids) would not even be refused, but make it a threaded domain.
    is_inner = missing and is_root and os.path.exists(f"{directory}/cgroup.type")
    if is_inner and not _evacuate(directory):
        return  # a limit that needs them is refused when its file is missing
    control = f"{directory}/cgroup.subtree_control"
    for name in missing:
        try:
            _write(control, f"+{name}")
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP):
                raise
            # One that can't be had here (cpu beside real-time processes). A limit that needs it
            # is refused when its file is missing.


def _evacuate(directory: str) -> bool:
    """Move the group's processes into one below it; False where some can't be. A process of
    another PID namespace reads as 0: nobody here can name it."""
    supervisor = f"{directory}/{_SUPERVISOR}"
    while pids := _read(f"{directory}/cgroup.procs").split():
        if "0" in pids:
            return False
        with contextlib.suppress(FileExistsError):
            os.mkdir(supervisor)
        for pid in pids:
            try:
                _write(f"{supervisor}/cgroup.procs", pid)
            except OSError as error:
                if error.errno != errno.ESRCH:  # it has ended meanwhile
                    raise
    return True


def _await_event(directory: str, key: str, value: int, timeout: float) -> bool:
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
            if _pairs(text).get(key) == value:
                return True
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            poll.poll(remaining * 1000)
    finally:
        os.close(descriptor)


def _remove_tree(directory: str) -> None:
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
            _remove_tree(path)
        if _pids_below(directory):
            time.sleep(0.01)


def _nested(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _remove_unused(parents: list[str]) -> None:
    for parent in reversed(parents[1:]):
        try:
            os.rmdir(parent)
        except OSError:
            return  # other containers have their groups there


def _pids_below(directory: str) -> list[int]:
    found = []
    for folder, _, _ in os.walk(directory):
        # A nested group may go while we look (ENOENT, or ENODEV once it is open).
        with contextlib.suppress(OSError):
            pids = _read(f"{folder}/cgroup.procs").split()
            # 0: of another PID namespace. To kill(2) it means our own process group.
            found += [int(pid) for pid in pids if pid != "0"]
    return found


def _unescaped(field: str) -> str:
    """mountinfo writes space, tab, newline and backslash in octal."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        field = field.replace(f"\\{code}", character)
    return field


# --- counters ---------------------------------------------------------------------------------


def _pairs(text: str) -> dict[str, int]:
    """The numbers of a file of "key value" lines."""
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if value.isdecimal():
            found[key] = int(value)
    return found


def _number(path: str) -> int | None:
    """The number in a file: -1 for "max", None where the kernel has no such file."""
    try:
        text = _read(path).strip()
    except FileNotFoundError:
        return None
    return -1 if text == "max" else int(text)


def _optional_pairs(path: str) -> dict[str, int]:
    try:
        return _pairs(_read(path))
    except FileNotFoundError:
        return {}


def _counters_v2(directory: str) -> Counters:
    cpu = _optional_pairs(f"{directory}/cpu.stat")
    return Counters(
        cpu_total=cpu.get("usage_usec", 0) * 1000,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        cpu_each=(),
        periods=cpu.get("nr_periods", 0),
        throttled_periods=cpu.get("nr_throttled", 0),
        throttled=cpu.get("throttled_usec", 0) * 1000,
        memory_usage=_number(f"{directory}/memory.current"),
        memory_peak=_number(f"{directory}/memory.peak"),
        memory_limit=_number(f"{directory}/memory.max"),
        # What Docker takes for failures here: allocations that no reclaiming helped.
        memory_failures=_optional_pairs(f"{directory}/memory.events").get("oom"),
        memory=_optional_pairs(f"{directory}/memory.stat"),
        pids=_number(f"{directory}/pids.current"),
        pids_limit=_number(f"{directory}/pids.max"),
        devices=_io_stat(f"{directory}/io.stat"),
    )


def _io_stat(path: str) -> tuple[Throughput, ...]:
    try:
        lines = _read(path).splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in lines:
        device, *words = line.split()
        major, _, minor = device.partition(":")
        counts = {key: int(value) for key, _, value in (w.partition("=") for w in words)}
        found.append(
            Throughput(
                int(major),
                int(minor),
                {"read": counts.get("rbytes", 0), "write": counts.get("wbytes", 0)},
                {"read": counts.get("rios", 0), "write": counts.get("wios", 0)},
            )
        )
    return tuple(found)


# v1's "no limit" is the largest page-aligned signed number.
_UNLIMITED_V1 = 1 << 62


def _counters_v1(group: Cgroup) -> Counters:
    accounting = group._find("cpuacct")
    cpu, memory, pids = group._find("cpu"), group._find("memory"), group._find("pids")
    bandwidth = _optional_pairs(f"{cpu}/cpu.stat") if cpu else {}
    user = system = total = 0
    each: tuple[int, ...] = ()
    if accounting:
        total = _number(f"{accounting}/cpuacct.usage") or 0
        each = tuple(int(word) for word in _read(f"{accounting}/cpuacct.usage_percpu").split())
        # Clock ticks of 10 ms; usage_user and usage_sys have nanoseconds since Linux 4.6.
        user = _number(f"{accounting}/cpuacct.usage_user") or 0
        system = _number(f"{accounting}/cpuacct.usage_sys") or 0
    limit = _number(f"{memory}/memory.limit_in_bytes") if memory else None
    return Counters(
        cpu_total=total,
        cpu_user=user,
        cpu_system=system,
        cpu_each=each,
        periods=bandwidth.get("nr_periods", 0),
        throttled_periods=bandwidth.get("nr_throttled", 0),
        throttled=bandwidth.get("throttled_time", 0),
        memory_usage=_number(f"{memory}/memory.usage_in_bytes") if memory else None,
        memory_peak=_number(f"{memory}/memory.max_usage_in_bytes") if memory else None,
        memory_limit=-1 if limit is not None and limit >= _UNLIMITED_V1 else limit,
        memory_failures=_number(f"{memory}/memory.failcnt") if memory else None,
        memory=_optional_pairs(f"{memory}/memory.stat") if memory else {},
        pids=_number(f"{pids}/pids.current") if pids else None,
        pids_limit=_number(f"{pids}/pids.max") if pids else None,
        devices=_throttle_counts(group._find("blkio")),
    )


def _throttle_counts(directory: str | None) -> tuple[Throughput, ...]:
    if directory is None:
        return ()
    files = ("io_service_bytes", "io_serviced")
    counts: dict[tuple[int, int], dict[str, dict[str, int]]] = {}
    for file in files:
        try:
            text = _read(f"{directory}/blkio.throttle.{file}_recursive")
        except FileNotFoundError:
            continue
        for line in text.splitlines():
            words = line.split()
            if len(words) != 3:
                continue  # the sum at the end
            major, _, minor = words[0].partition(":")
            device = counts.setdefault((int(major), int(minor)), {name: {} for name in files})
            device[file][words[1]] = int(words[2])
    return tuple(
        Throughput(major, minor, *(found[name] for name in files))
        for (major, minor), found in sorted(counts.items())
    )
