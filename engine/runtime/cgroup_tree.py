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
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.errors import Failure, InvalidRequest, Unsupported
from engine.kernel import bpf, inotify
from engine.runtime import cgroups
from engine.runtime.cgroup_files import (
    SUPERVISOR,
    await_event,
    clone_cpuset,
    enable,
    inherit_cpuset,
    make_empty,
    pairs,
    pids_below,
    read,
    remove_tree,
    remove_unused,
    set_all,
    unescaped,
    write,
)
from engine.runtime.cgroups import Setting

# Not controllers but options of a v1 mount.
_MOUNT_OPTIONS = (
    *("rw", "ro", "relatime", "noatime", "all", "none", "xattr", "noprefix", "clone_children"),
    *("cpuset_v2_mode", "favordynmods", "seclabel"),
)
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


# In v1 a thread joins without waiting for a grace period, a process may wait 15 ms.
_TASKS = "tasks"
_COUNTER = "pids"


def detect() -> Hierarchy:
    """What is mounted here. Raises Unsupported where no hierarchy is."""
    trees: list[Tree] = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            point = unescaped(left.split()[4])
            if kind == "cgroup2" and not any(tree.unified for tree in trees):
                listed = read(f"{point}/cgroup.controllers").split()
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
    return own.removesuffix(f"/{SUPERVISOR}").rstrip("/")


def _frozen_when(tree: Tree) -> tuple[tuple[str, str], ...]:
    """(file, what is in it then) of a group."""
    if tree.unified:
        return ("cgroup.freeze", "1"), ("cgroup.events", "frozen 1")
    return (("freezer.state", "F"),) if "freezer" in tree.controllers else ()  # FREEZING, FROZEN


def _reads(path: str, word: str) -> bool:
    try:
        return word in read(path)
    except FileNotFoundError:  # of a kernel without it
        return False


class Cgroup:
    """The group `path` in every hierarchy; making the object touches nothing."""

    __slots__ = ("directories", "hierarchy", "name", "path")

    def __init__(self, hierarchy: Hierarchy, path: str) -> None:
        names = [name for name in path.split("/") if name]
        if not names or ".." in names or "." in names:
            raise InvalidRequest(f"invalid cgroup path {path!r}")
        self.hierarchy = hierarchy
        self.path, self.name = "/".join(names), names[-1]
        # One a tree, in the order of hierarchy.trees.
        self.directories = [
            f"{tree.point}{hierarchy.base if tree.unified else ''}/{self.path}"
            for tree in hierarchy.trees
        ]

    # --- life -----------------------------------------------------------------------------

    def create(self, resources: Mapping[str, object]) -> None:
        """Make the group everywhere and set its limits. What is refused leaves nothing behind.

        An empty group of the same name, left by a crash, is replaced; a populated one is an
        error (FileExistsError).
        """
        planned = self._planned(resources)
        rules = cgroups.device_rules(resources) if self.hierarchy.is_v2 else None
        try:
            self._make()
            self._apply(planned)
            if rules is not None:
                self._filter_devices(rules)
        except BaseException:
            for directory in self.directories:
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            self._remove_parents()
            raise

    def enter(self, *, unified: bool = True, counted: bool = True) -> None:
        """Move the calling process, of one thread, into the group. Without `unified` only in v1
        hierarchies: a child of clone3 can be born into the other (`unified_fd`), while moving
        there may wait 15 ms for a grace period. Without `counted` not where processes are counted:
        who is there has no child if there are as many as may be."""
        for tree, directory in self._places():
            if (tree.unified and not unified) or (_COUNTER in tree.controllers and not counted):
                continue
            write(f"{directory}/{'cgroup.procs' if tree.unified else _TASKS}", "0")

    def counting_file(self) -> str:
        """By which a process comes to where processes are counted, whatever the limit; "" if they
        aren't. It may be the unified tree's, that is, all there is."""
        for tree, directory in self._places():
            if _COUNTER in tree.controllers:
                return f"{directory}/{'cgroup.procs' if tree.unified else _TASKS}"
        return ""

    def counts_in_unified(self) -> bool:
        return any(tree.unified and _COUNTER in tree.controllers for tree in self.hierarchy.trees)

    def task_files(self) -> list[str]:
        """Who writes "0" to all of them is in the groups of v1 hierarchies."""
        return [f"{directory}/{_TASKS}" for tree, directory in self._places() if not tree.unified]

    def update(self, resources: Mapping[str, object]) -> None:
        """Change what `resources` names, and nothing else."""
        planned = self._planned(resources)
        rules = cgroups.device_rules(resources) if self.hierarchy.is_v2 else None
        self._apply(planned)
        if rules is not None:
            self._filter_devices(rules)

    def freeze(self, frozen: bool) -> None:
        """Stop every process where it is, or let all run on; returns when it is so."""
        unified = self._unified()
        if unified and os.path.exists(f"{unified}/cgroup.freeze"):
            write(f"{unified}/cgroup.freeze", str(int(frozen)))
            if not await_event(unified, "frozen", int(frozen), _FREEZE_TIMEOUT):
                write(f"{unified}/cgroup.freeze", "0")
                raise Failure("cannot freeze the container: a process does not stop")
            return
        self._freeze_v1(self.directory("freezer"), frozen)

    def is_frozen(self) -> bool:
        """Or about to be, by whomever."""
        return any(
            _reads(f"{directory}/{file}", word)
            for tree, directory in self._places()
            for file, word in _frozen_when(tree)
        )

    def kill(self) -> None:
        """SIGKILL to everything inside, also to what is forked meanwhile, and to the frozen."""
        unified = self._unified()
        if unified and os.path.exists(f"{unified}/cgroup.kill"):
            write(f"{unified}/cgroup.kill", "1")
        else:
            self._kill_each()
        # The v1 freezer keeps even the killed: they die when it lets go.
        freezer = self.find("freezer")
        if freezer and os.path.exists(f"{freezer}/freezer.state"):
            write(f"{freezer}/freezer.state", "THAWED")

    def remove(self) -> None:
        """Remove the group everywhere, once it is empty; one that is not there is no error.

        Raises Failure if processes stay in it.
        """
        unified = self._unified()
        if unified and not await_event(unified, "populated", 0, _EMPTY_TIMEOUT):
            raise Failure(f"cannot remove cgroup {self.path}: processes {self.pids()} stay in it")
        for directory in self.directories:
            remove_tree(directory)
        self._remove_parents()

    def remove_empty(self) -> bool:
        """Remove the group everywhere if nothing is in it, as is usual at an end: without a look
        at it before. False: something is, `remove` has to wait."""
        for directory in self.directories:
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                pass
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
        self._remove_parents()
        return True

    # --- reading --------------------------------------------------------------------------

    def directory(self, controller: str) -> str:
        """Its folder in the hierarchy of `controller` (a named one by its name)."""
        found = self.find(controller)
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
        return pids_below(self._unified() or self.directories[0])

    def oom_kills(self) -> int:
        """How many processes inside were killed for want of memory; -1 if not counted, or the group
        is gone: whoever sweeps up empty ones must not keep a container from ending."""
        for tree, directory in self._places():
            if "memory" in tree.controllers:
                file = "memory.events" if tree.unified else "memory.oom_control"
                with contextlib.suppress(FileNotFoundError):
                    return pairs(read(f"{directory}/{file}")).get("oom_kill", -1)
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
                    write(f"{directory}/cgroup.event_control", f"{event} {control}")
                finally:
                    os.close(control)
            except BaseException:
                os.close(event)
                raise
            return event
        return -1

    # --- steps ----------------------------------------------------------------------------

    def _places(self) -> Iterator[tuple[Tree, str]]:
        return zip(self.hierarchy.trees, self.directories, strict=True)

    def _unified(self) -> str | None:
        """Its folder in the unified tree, if there is one and the group exists in it."""
        for tree, directory in self._places():
            if tree.unified and os.path.isdir(directory):
                return directory
        return None

    def find(self, controller: str) -> str | None:
        for tree, directory in self._places():
            if controller in tree.controllers:
                return directory
        return None

    def writes(self, resources: Mapping[str, object]) -> list[tuple[str, Setting]]:
        """(folder, what is written there) in the order in which `create` does it."""
        return [
            (directory, setting)
            for directory, settings in self._planned(resources)
            for setting in settings
        ]

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
            served.append((self.directories[0], wanted["cgroup"]))
        return served

    def _remove_parents(self) -> None:
        """Those that nobody needs any more: who has a group in one tree has one in each."""
        for directory in self.directories:
            if not remove_unused(self._parents(directory)):
                return

    def _parents(self, directory: str) -> list[str]:
        """The root of a tree, and the ancestors that are ours in it, top first."""
        root = directory.removesuffix(f"/{self.path}")
        names = self.path.split("/")
        return [root, *("/".join((root, *names[:depth])) for depth in range(1, len(names)))]

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
                for tree, directory in self._places():
                    self._make_in(tree, directory)
                return
            except OSError as error:
                # The last neighbour of a parent group left and took the parent with it.
                if error.errno not in (errno.ENOENT, errno.ENODEV):
                    raise
        raise Failure(f"cannot create cgroup {self.path}: its parents vanish again and again")

    def _make_in(self, tree: Tree, directory: str) -> None:
        try:
            make_empty(directory)
        except FileNotFoundError:
            for parent in self._parents(directory)[1:]:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(parent)
                    if "cpuset" in tree.controllers and not tree.unified:
                        inherit_cpuset(parent)
                        clone_cpuset(parent)
            make_empty(directory)
        if not tree.unified:
            if "cpuset" in tree.controllers:
                inherit_cpuset(directory)
            return
        # Others may have switched a controller off again while nobody used it.
        if not set(read(f"{directory}/cgroup.controllers").split()).issuperset(tree.controllers):
            parents = self._parents(directory)
            for parent in parents:
                enable(parent, tree.controllers, is_root=parent == parents[0])

    def _apply(self, planned: list[tuple[str, list[Setting]]]) -> None:
        for directory, settings in planned:
            try:
                # The rules for devices are a dozen writes to one file.
                for _, same in itertools.groupby(settings, lambda setting: setting.file):
                    set_all(directory, *same)
            except OSError as error:
                # v1 wants memory <= memory and swap after every write: growing goes the other
                # way round.
                files = [setting.file for setting in settings]
                if error.errno != errno.EINVAL or "memory.memsw.limit_in_bytes" not in files:
                    raise
                for setting in reversed(settings):
                    set_all(directory, setting)

    def _filter_devices(self, rules: tuple[cgroups.DeviceRule, ...]) -> None:
        directory = self.directories[0]
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
            write(f"{directory}/freezer.state", state)
            if read(f"{directory}/freezer.state").strip() == state:
                return
            if time.monotonic() > deadline:
                write(f"{directory}/freezer.state", "THAWED")
                raise Failure("cannot freeze the container: a process does not stop")
            time.sleep(0.001)

    def _kill_each(self) -> None:
        """For kernels before 5.14: until nobody is left, so that no fork slips away."""
        deadline = time.monotonic() + _EMPTY_TIMEOUT
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            freezer = self.find("freezer")
            if freezer and os.path.exists(f"{freezer}/freezer.state"):
                write(f"{freezer}/freezer.state", "THAWED")
            if time.monotonic() > deadline:
                raise Failure(f"cannot kill processes {pids} of cgroup {self.path}")
            time.sleep(0.001)
