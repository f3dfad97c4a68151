"""What a container's first process does before it becomes the payload, as values.

`describe()` says it in words, for the log, the tests and errors ("cannot mount proc at /proc: …");
`run()` does it to the calling process. Which steps, in which order and why: `sequence`.
"""

import errno
import fcntl
import os
import resource
import signal
import socket
import stat
from dataclasses import dataclass, field

from engine.kernel import mount, namespaces, privileges, process
from engine.kernel.libc import AT_FDCWD, KernelError, reason
from engine.runtime import channel, mount_calls, reaper
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.script import (
    CONTAINER,
    LOWEST,
    ORDERS,
    REAPER,
    ROOT,
    SPARE,
    SUPERVISOR,
    Call,
    Expect,
    Known,
    Refusal,
    Script,
    Unscriptable,
)
from engine.runtime.users import Identity

GO = channel.encode({"go": True})  # what the daemon says once the network is there

_HIGHEST_DESCRIPTOR = 0xFFFFFFFF
_USUAL_UMASK = 0o022


# The code of a process for which the container's cgroup has no room: `EnterPidNamespace`.
NO_ROOM = 124


class Refused(Exception):
    """A step that can't be done; `str()` is the whole text, `code` what a shell would say."""

    def __init__(self, text: str, code: int = 128) -> None:
        super().__init__(text)
        self.code = code


def because(refusal: Refusal, error: OSError) -> Refused:
    code = dict(refusal.codes).get(error.errno or 0, refusal.code)
    return Refused(f"{refusal.text}: {reason(error)}", code)


def whole(refusal: Refusal) -> Refused:
    return Refused(refusal.text, refusal.code)


@dataclass(slots=True)
class Place:
    """What the steps hand on to each other: descriptors of the world being built."""

    supervisor: socket.socket
    cgroup: Cgroup
    orders: socket.socket | None = None  # the daemon, as a container's first process hears it
    root: int = -1
    null: int = -1
    trees: dict[int, int] = field(default_factory=dict)  # detached binds, by their place
    empty: int = -1  # the one empty directory that hides others
    container: int = -1  # for one who has joined: the pidfd of its first process
    counting: int = -1  # the file by which one who has joined comes to where processes are counted
    user: int = -1  # the container's user namespace, if it has one (also by the pidfd of another)
    files: int = -1  # the user namespace by which its files are shown
    owner: tuple[int, int] = (0, 0)  # what the container's root is out here
    identity: Identity | None = None


class Step:
    """One thing to do."""

    __slots__ = ()

    def describe(self) -> str:
        raise AssertionError

    def run(self, place: Place) -> None:
        raise AssertionError

    def write(self, to: Script, known: Known) -> None:
        """The same as calls for the walker, for what is among the last steps."""
        raise Unscriptable(f"there is no script to {self.describe()}")

    def cannot(self) -> Refusal:
        return Refusal(f"cannot {self.describe()}")


# --- joining ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EnterCgroup(Step):
    """All of them but the unified one, which this process was born into."""

    def describe(self) -> str:
        return "enter the cgroup"

    def run(self, place: Place) -> None:
        place.cgroup.enter(unified=False)


@dataclass(frozen=True, slots=True)
class JoinNamespace(Step):
    kind: int
    path: str

    def describe(self) -> str:
        return f"join namespace {self.path}"

    def run(self, place: Place) -> None:
        descriptor = mount.open_by_name(self.path, os.O_RDONLY)
        try:
            namespaces.setns(descriptor, self.kind, path=self.path)
        finally:
            os.close(descriptor)

    def write(self, to: Script, known: Known) -> None:
        path = to.text(os.fsencode(self.path))
        flags = os.O_RDONLY | os.O_CLOEXEC
        to.must(self.cannot(), "openat", AT_FDCWD, path, flags, 0, into=(1, 0))
        to.must(self.cannot(), "setns", -1, self.kind)


@dataclass(frozen=True, slots=True)
class NewMountNamespace(Step):
    """Late: a process that waits to become a container must not keep mounts of the host busy.

    The supervisor keeps it: so the end of the container does not wait for the overlay's file
    system to be synced, which unmounting does."""

    def describe(self) -> str:
        return "make a mount namespace"

    def run(self, place: Place) -> None:
        namespaces.unshare(namespaces.CLONE_NEWNS)
        mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        channel.send(place.supervisor, {"state": "mounts"}, (mounts,))
        os.close(mounts)

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "unshare", namespaces.CLONE_NEWNS)
        header, descriptor = to.bring({"state": "mounts"}, -1)
        path, flags = to.text(b"/proc/self/ns/mnt"), os.O_RDONLY | os.O_CLOEXEC
        to.must(self.cannot(), "openat", AT_FDCWD, path, flags, 0, into=descriptor)
        to.must(self.cannot(), "sendmsg", to.supervisor, header, socket.MSG_NOSIGNAL)


@dataclass(frozen=True, slots=True)
class NewCgroupNamespace(Step):
    """After the cgroup was entered: its group becomes the root of what is seen."""

    def describe(self) -> str:
        return "make a cgroup namespace"

    def run(self, place: Place) -> None:
        namespaces.unshare(namespaces.CLONE_NEWCGROUP)

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "unshare", namespaces.CLONE_NEWCGROUP)


# --- the root and the names ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SwitchRoot(Step):
    """pivot_root onto itself, then let go of the old root that lies on top; a chroot alone
    could be left again."""

    propagation: int = 0  # of the container's root itself; 0 = private

    def describe(self) -> str:
        return "switch the root"

    def run(self, place: Place) -> None:
        old = mount.open_by_name("/", os.O_PATH | os.O_DIRECTORY)
        os.fchdir(place.root)
        mount.pivot_root(".", ".")
        os.fchdir(old)
        mount.umount(".", mount.MNT_DETACH)
        os.close(old)
        os.chdir("/")
        if self.propagation:
            mount.mount_setattr(place.root, propagation=self.propagation, path="/")

    def write(self, to: Script, known: Known) -> None:
        cannot, here, top = self.cannot(), to.text(b"."), to.text(b"/")
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        mount_calls.keep(to, cannot, SPARE, "openat", AT_FDCWD, top, flags, 0)
        to.must(cannot, "fchdir", ROOT)
        to.must(cannot, "pivot_root", here, here)
        to.must(cannot, "fchdir", SPARE)
        to.must(cannot, "umount2", here, mount.MNT_DETACH)
        to.must(cannot, "chdir", top)
        if self.propagation:
            mount_calls.set_attributes(to, cannot, ROOT, propagation=self.propagation)


@dataclass(frozen=True, slots=True)
class SealRoot(Step):
    def describe(self) -> str:
        return "make the root read-only"

    def run(self, place: Place) -> None:
        mount.mount_setattr(place.root, set_attributes=mount.MOUNT_ATTR_RDONLY, path="/")

    def write(self, to: Script, known: Known) -> None:
        mount_calls.set_attributes(to, self.cannot(), ROOT, add=mount.MOUNT_ATTR_RDONLY)


@dataclass(frozen=True, slots=True)
class SetHostname(Step):
    name: str
    domain: str

    def describe(self) -> str:
        return f"set the host name {self.name}"

    def run(self, place: Place) -> None:
        if self.name:
            namespaces.sethostname(self.name)
        if self.domain:
            namespaces.setdomainname(self.domain)

    def write(self, to: Script, known: Known) -> None:
        for call, name in (("sethostname", self.name), ("setdomainname", self.domain)):
            if name:
                encoded = os.fsencode(name)
                to.must(self.cannot(), call, to.text(encoded), len(encoded))


# --- the process ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SetOomScore(Step):
    value: int

    def describe(self) -> str:
        return f"set oom_score_adj {self.value}"

    def run(self, place: Place) -> None:
        with open("/proc/self/oom_score_adj", "wb", buffering=0) as stream:
            stream.write(b"%d" % self.value)

    def write(self, to: Script, known: Known) -> None:
        path, value = to.text(b"/proc/self/oom_score_adj"), b"%d" % self.value
        flags = os.O_WRONLY | os.O_CLOEXEC
        to.must(self.cannot(), "openat", AT_FDCWD, path, flags, 0, into=(1, 0))
        to.must(self.cannot(), "write", -1, to.text(value), len(value))


_CONFINED_BY = b"/proc/self/attr/apparmor/exec"


@dataclass(frozen=True, slots=True)
class Confine(Step):
    """By AppArmor, from the next execve on, also of children. While /proc is the host's."""

    profile: str

    def describe(self) -> str:
        return f"apply AppArmor profile {self.profile!r}"

    def run(self, place: Place) -> None:
        # Before Linux 5.8 the file has no folder of its own; and there it is anybody's, whichever
        # security module there is, so it comes second.
        for path in (_CONFINED_BY, b"/proc/self/attr/exec"):
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                os.write(descriptor, f"exec {self.profile}".encode())
            except FileNotFoundError:
                raise Refused(
                    f"cannot {self.describe()}: the kernel has no profile of this name loaded"
                ) from None
            finally:
                os.close(descriptor)
            return
        raise Refused(f"cannot {self.describe()}: the kernel has no AppArmor")

    def write(self, to: Script, known: Known) -> None:
        path, text = to.text(_CONFINED_BY), f"exec {self.profile}".encode()
        flags = os.O_WRONLY | os.O_CLOEXEC
        to.must(self.cannot(), "openat", AT_FDCWD, path, flags, 0, into=(1, 0))
        to.must(self.cannot(), "write", -1, to.text(text), len(text))


@dataclass(frozen=True, slots=True)
class SetLimit(Step):
    kind: int
    name: str
    soft: int
    hard: int

    def describe(self) -> str:
        return f"set limit {self.name} to {self.soft}:{self.hard}"

    def run(self, place: Place) -> None:
        try:
            resource.setrlimit(self.kind, (self.soft, self.hard))
        except ValueError as error:  # what it makes of EPERM and EINVAL
            raise Refused(f"cannot {self.describe()}: {error}") from None

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "prlimit64", 0, self.kind, to.words(self.soft, self.hard), 0)


@dataclass(frozen=True, slots=True)
class EnterUser(Step):
    """Root of the container it is from here on, and nobody for the host. What could not be undone
    from inside comes before: mounts, devices, limits."""

    new_mounts: bool  # a mount namespace of the same owner, in which nothing above can be undone

    def describe(self) -> str:
        return "enter the user namespace"

    def run(self, place: Place) -> None:
        give_streams(*place.owner)
        namespaces.setns(place.user, namespaces.CLONE_NEWUSER)
        privileges.become(0, 0, ())
        if self.new_mounts:
            namespaces.unshare(namespaces.CLONE_NEWNS)


def give_streams(uid: int, gid: int = -1) -> None:
    """Pipes and the terminal belong to who may want to open /dev/stdout by its name. A terminal
    stays one of the group that its file system gives to it."""
    for descriptor in (0, 1, 2):
        found = os.fstat(descriptor)
        is_pipe = stat.S_ISFIFO(found.st_mode)
        if found.st_uid != uid and (is_pipe or os.isatty(descriptor)):
            os.fchown(descriptor, uid, gid if is_pipe else -1)


@dataclass(frozen=True, slots=True)
class EnterPidNamespace(Step):
    """The one that was joined, which only a child can be in: it goes on with the steps. Who there
    may trace processes (CAP_SYS_PTRACE) could make this one its own and have all that it has."""

    def describe(self) -> str:
        return "enter the PID namespace"

    def cannot(self) -> Refusal:
        return Refusal(f"cannot {self.describe()}", codes=((errno.EAGAIN, NO_ROOM),))

    def run(self, place: Place) -> None:
        """A cgroup with as many processes as may be takes no child, but does take one who comes:
        then this one has stayed out of it (`Place.counting`), and sends the child there."""
        sent, send = os.pipe() if place.counting >= 0 else (-1, -1)
        try:
            pid, pidfd = process.sibling()
        except KernelError as error:
            raise because(self.cannot(), error) from None
        if pid:
            channel.send(place.supervisor, {"state": "joined", "result": pid}, (pidfd,))
            if place.counting >= 0:
                os.write(place.counting, b"%d" % pid)
                os.write(send, b".")
            # An end takes the kernel longer than all before: nobody is to wait for it who waits
            # for the end of what both hold, the payload's output and this connection.
            process.close_range(0)
            os._exit(0)
        if place.counting >= 0:
            os.close(send)
            if not os.read(sent, 1):
                os._exit(1)  # whoever was to send it there says why
            os.close(sent)
            os.close(place.counting)
            place.counting = -1
        os.setsid()

    def write(self, to: Script, known: Known) -> None:
        pid = to.words(0)
        header, pidfd = to.bring({"state": "joined"}, -1, slot=pid)  # which clone puts there
        to.must(self.cannot(), "clone", process.SIBLING_FLAGS, 0, pidfd, 0, 0, into=pid)
        parent = to.aside(
            Call("sendmsg", (to.supervisor, header, socket.MSG_NOSIGNAL)),
            Call("close_range", (0, _HIGHEST_DESCRIPTOR, 0)),
            Call("exit_group", (0,)),
        )
        to.expect(pid, 0, otherwise=parent)
        to.must(self.cannot(), "setsid")


@dataclass(frozen=True, slots=True)
class JoinKeyring(Step):
    name: str

    def describe(self) -> str:
        return "make a session keyring"

    def run(self, place: Place) -> None:
        process.join_session_keyring(self.name)

    def write(self, to: Script, known: Known) -> None:
        result = to.words(0)
        no_keyrings = Expect(result, -errno.ENOSYS, to.refusal(self.cannot(), result))
        otherwise = to.aside(no_keyrings, then=to.after(1))
        join_session, name = 1, to.text(self.name.encode())
        to.call("keyctl", join_session, name, into=result, otherwise=otherwise)


@dataclass(frozen=True, slots=True)
class AwaitGo(Step):
    """Everything stands but the network."""

    def describe(self) -> str:
        return "wait for the network"

    def run(self, place: Place) -> None:
        if place.orders is None or channel.receive(place.orders) is None:
            # The daemon is gone, or the supervisor is, which it would not let live on.
            os._exit(1)
        channel.send(place.supervisor, {"state": "going"})

    def write(self, to: Script, known: Known) -> None:
        length, gone = to.words(0), to.end(1)
        there = channel.encode({})
        to.call("write", ORDERS, to.text(there), len(there), otherwise=gone)
        to.call("read", ORDERS, to.scratch, len(GO), into=length, otherwise=gone)
        to.expect(length, len(GO), otherwise=gone)
        to.untold = 0  # from now on it is the command that is to blame
        to.say({"state": "going"})


@dataclass(frozen=True, slots=True)
class Forget(Step):
    """Close every descriptor but 0, 1, 2, the words to the supervisor and of the daemon and the
    reaper's program, which exec closes: none of the host's may serve as a working directory
    (CVE-2024-21626)."""

    def describe(self) -> str:
        return "close all descriptors"

    def run(self, place: Place) -> None:
        daemon = () if place.orders is None else (place.orders.fileno(),)
        counting = () if place.counting < 0 else (place.counting,)
        process.close_all_but(place.supervisor.fileno(), *daemon, *counting, reaper.DESCRIPTOR)
        place.root = place.null = place.empty = -1
        place.user = place.files = place.container = -1
        privileges.clear_parent_death_signal()
        process.default_signals()
        os.umask(_USUAL_UMASK)

    def write(self, to: Script, known: Known) -> None:
        """Of a process that was not the interpreter's: what it has ignored, a shim has."""
        default, none = to.words(0, 0, 0, 0), to.words(0)
        for number in process.IGNORED:
            to.call("rt_sigaction", number, default, 0, 8)
        to.call("rt_sigprocmask", signal.SIG_SETMASK, none, 0, 8)
        to.must(self.cannot(), "close_range", LOWEST, SUPERVISOR - 1, 0)
        to.must(self.cannot(), "close_range", CONTAINER, _HIGHEST_DESCRIPTOR, 0)
        for descriptor in (SUPERVISOR, ORDERS, REAPER):
            to.call("fcntl", descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        to.call("umask", _USUAL_UMASK)
