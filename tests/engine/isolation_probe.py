"""Runs inside a container, with nothing but the standard library: says as JSON what a process
there is, has and can do. Never imported: the test passes its text to the container's python."""

import contextlib
import ctypes
import errno
import json
import os
import resource
import socket
import stat
import sys

# First of all, before anything is opened: what came along.
listing = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
fds = {}
for name in os.listdir(listing):
    if int(name) != listing:
        with contextlib.suppress(FileNotFoundError):  # the one that listdir itself used
            fds[name] = os.readlink(f"/proc/self/fd/{name}")
os.close(listing)

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def attempt(action, *arguments):
    """What `action` gives back, or the name of its error."""
    try:
        return action(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]


def call(number, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) for a in arguments])
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def read(path):
    with open(path, "rb") as file:
        return file.read().decode(errors="replace")


def open_to_write(path):
    """Opened only: should it be possible, the machine must not suffer."""
    os.close(os.open(path, os.O_WRONLY))
    return "ok"


def open_node(kind, major, minor, flags):
    """mknod, then open."""
    path = f"/tmp/node-{kind}-{major}-{minor}"
    made = attempt(os.mknod, path, kind | 0o600, os.makedev(major, minor))
    if made is not None:
        return f"mknod {made}"
    try:
        os.close(os.open(path, flags | os.O_NONBLOCK))
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.unlink(path)


def node(path):
    found = os.stat(path)
    kind = "c" if stat.S_ISCHR(found.st_mode) else "?"
    major, minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return f"{kind} {major}:{minor} {stat.S_IMODE(found.st_mode):o}"


def climb():
    """The classic way out of a chroot: keep a descriptor above, go under, climb."""
    top = os.stat("/")
    os.makedirs("/tmp/deeper", exist_ok=True)
    outside = os.open("/", os.O_RDONLY)
    child = os.fork()
    if child == 0:
        code = 2
        try:
            os.chroot("/tmp/deeper")
            os.fchdir(outside)
            for _ in range(64):
                os.chdir("..")
            os.chroot(".")
            now = os.stat("/")
            code = 0 if (now.st_dev, now.st_ino) == (top.st_dev, top.st_ino) else 1
        finally:
            os._exit(code)
    os.close(outside)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def masked(path):
    """How a masked path looks: "absent", the null device, or an empty read-only directory."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "absent"
    if stat.S_ISDIR(found.st_mode):
        made = attempt(os.mkdir, f"{path}/new")
        return f"directory of {len(os.listdir(path))}, mkdir {made}"
    return node(path)[:5] + f", {len(read(path))} bytes"


PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_GET_SECUREBITS, PR_GET_TIMERSLACK = 2, 3, 27, 30
PR_GET_CHILD_SUBREAPER = 37
SYS_KEYCTL, KEYCTL_DESCRIBE, SESSION_KEYRING = 250, 6, -3


def process_control():
    value = ctypes.c_int(-1)
    found = {
        "dumpable": libc.prctl(PR_GET_DUMPABLE, 0, 0, 0, 0),
        "securebits": libc.prctl(PR_GET_SECUREBITS, 0, 0, 0, 0),
        "timer slack": libc.prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0),
    }
    for name, option in (("subreaper", PR_GET_CHILD_SUBREAPER), ("pdeathsig", PR_GET_PDEATHSIG)):
        libc.prctl(option, ctypes.byref(value), 0, 0, 0)
        found[name] = value.value
    return found


def session_keyring():
    """Its description, where the filter lets one ask."""
    buffer = ctypes.create_string_buffer(256)
    length = libc.syscall(
        ctypes.c_long(SYS_KEYCTL), KEYCTL_DESCRIBE, SESSION_KEYRING, buffer, len(buffer)
    )
    return buffer.value.decode() if length >= 0 else errno.errorcode[ctypes.get_errno()]


asked = json.loads(sys.argv[1])
root_only = os.geteuid() == 0
print(
    json.dumps(
        {
            "fds": fds,
            "status": dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines()),
            "environment": read("/proc/self/environ").rstrip("\0").split("\0"),
            "mounts": [
                [*left.split()[4:6], *left.split()[6:], "-", *right.split()]
                for left, _, right in (
                    line.partition(" - ") for line in read("/proc/self/mountinfo").splitlines()
                )
            ],
            "cgroup": read("/proc/self/cgroup").splitlines(),
            "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
            "session": [os.getsid(0), os.getpgid(0), os.getpid()],
            "umask": os.umask(0o22),
            "nice": os.nice(0),
            "scheduler": os.sched_getscheduler(0),
            "oom_score_adj": read("/proc/self/oom_score_adj").strip(),
            "personality": attempt(read, "/proc/self/personality"),
            "control": process_control(),
            "keyring": session_keyring(),
            "limits": {
                name: resource.getrlimit(getattr(resource, name))
                for name in ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_NPROC")
            },
            "hostname": socket.gethostname(),
            "devices": sorted(os.listdir("/dev")),
            "nodes": {
                path: node(path)
                for path in ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
            },
            "tty": node("/dev/tty"),
            "links": {
                name: os.readlink(f"/dev/{name}")
                for name in ("fd", "stdin", "stdout", "stderr", "ptmx")
            },
            "opened": {
                f"{'b' if kind == stat.S_IFBLK else 'c'} {major}:{minor}": open_node(
                    kind, major, minor, flags
                )
                for kind, major, minor, flags in (
                    (stat.S_IFCHR, 1, 3, os.O_RDWR),
                    (stat.S_IFCHR, 1, 9, os.O_RDONLY),
                    (stat.S_IFCHR, 1, 1, os.O_RDONLY),
                    (stat.S_IFCHR, 1, 11, os.O_RDONLY),
                    (stat.S_IFCHR, 10, 200, os.O_RDWR),
                    (stat.S_IFCHR, 10, 229, os.O_RDWR),
                    (stat.S_IFBLK, 7, 0, os.O_RDONLY),
                    (stat.S_IFBLK, 254, 0, os.O_RDONLY),
                )
            }
            if root_only
            else {},
            "sysctls": {
                name: attempt(read, "/proc/sys/" + name).split()
                for name in ("net/ipv4/ip_unprivileged_port_start", "net/ipv4/ping_group_range")
            },
            "written": {path: attempt(open_to_write, path) for path in asked["write"]},
            "masked": {path: masked(path) for path in asked["masked"]},
            "calls": {name: call(number) for name, number in asked["calls"].items()},
            "sockets": {
                str(family): call(41, family, kind, 0)
                for family, kind in ((2, 1), (38, 5), (40, 1), (1 << 32 | 40, 1))
            },
            "clone": {hex(flag): call(56, flag, 0, 0, 0, 0) for flag in asked["clone"]},
            "climb": climb() if root_only else None,
            "root_of_1": attempt(os.readlink, "/proc/1/root"),
            "parent": attempt(os.listdir, "/proc/1/root/../../../../.."),
            "root": os.listdir("/"),
        }
    )
)
