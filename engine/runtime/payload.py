"""The last steps before the command runs: who it is, what it may do, where it stands.

The same for a container's first process and for every exec.
"""

import contextlib
import errno
import os
import posixpath
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from engine.kernel import privileges
from engine.kernel.libc import AT_FDCWD, reason
from engine.runtime import accounts, channel, users
from engine.runtime.script import STAT_MODE, STAT_SIZE, Call, Expect, Known, Refusal, Script
from engine.runtime.steps import Place, Refused, Step, because, give_streams, whole
from engine.runtime.targets import make_target

AT_EACCESS = 0x200
_LONGEST_PATH = 4096
_RECORDS_BEFORE = 4  # the first call of what executes a candidate

_NOT_TAKEN = Refusal("the kernel did not take the user or the capabilities as set", is_whole=True)
_OUTSIDE = Refusal(
    "current working directory is outside of container mount namespace root", is_whole=True
)

# What is there, may be executed and still can't be (no interpreter of that name, another machine's
# program) is found out too late for a refusal, as by runc: the process says so itself, and ends.
NOT_EXECUTED = 1
_EXPECTED = (
    errno.ENOEXEC,
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.E2BIG,
    errno.ENOMEM,
    errno.ETXTBSY,
)

# Tells the daemon: it words this otherwise, as Docker, which looks users up itself.
NO_USER = 125


@dataclass(frozen=True, slots=True)
class FindUser(Step):
    user: str
    groups: tuple[str, ...]

    def describe(self) -> str:
        return f"find user {self.user or '0'}"

    def run(self, place: Place) -> None:
        try:
            place.identity = accounts.find(self.user, self.groups, "/")
        except users.UnknownUser as error:
            raise Refused(str(error), NO_USER) from None

    def write(self, to: Script, known: Known) -> None:
        """Whoever writes a script knows already."""


@dataclass(frozen=True, slots=True)
class GiveStreams(Step):
    def describe(self) -> str:
        return "give the standard streams to the user"

    def run(self, place: Place) -> None:
        if place.identity is None:
            raise AssertionError("the user was not found yet")
        give_streams(place.identity.uid)

    def write(self, to: Script, known: Known) -> None:
        if known.identity.uid:
            for descriptor in known.pipes:
                to.must(self.cannot(), "fchown", descriptor, known.identity.uid, -1)


@dataclass(frozen=True, slots=True)
class MakeDirectory(Step):
    """The working directory of a container need not be in a layer."""

    path: str

    def describe(self) -> str:
        return f"make working directory {self.path}"

    def run(self, place: Place) -> None:
        try:
            if not os.path.isdir(self.path):
                self._make()
        except Refused:
            return
        except OSError as error:  # going there says so
            if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ELOOP):
                raise

    def _make(self) -> None:
        """Also where a link leads that dangles."""
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(make_target(root, self.path, directory=True))
        finally:
            os.close(root)

    def write(self, to: Script, known: Known) -> None:
        """To go there says what is wrong."""
        made = ""
        for part in posixpath.normpath(self.path).strip("/").split("/"):
            made = f"{made}/{part}"
            to.call("mkdirat", AT_FDCWD, to.text(os.fsencode(made)), 0o755)


@dataclass(frozen=True, slots=True)
class LoadSeccomp(Step):
    program: bytes

    def describe(self) -> str:
        return f"load the seccomp filter of {len(self.program) // 8} instructions"

    def run(self, place: Place) -> None:
        privileges.load_seccomp(self.program)

    def write(self, to: Script, known: Known) -> None:
        count = len(self.program) // 8
        fprog = to.words(count, to.text(self.program))  # struct sock_fprog
        to.must(self.cannot(), "seccomp", privileges.SECCOMP_SET_MODE_FILTER, 0, fprog)


@dataclass(frozen=True, slots=True)
class ForbidNewPrivileges(Step):
    def describe(self) -> str:
        return "forbid new privileges"

    def run(self, place: Place) -> None:
        privileges.set_no_new_privileges()

    def write(self, to: Script, known: Known) -> None:
        to.must(self.cannot(), "prctl", privileges.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class LimitBoundingSet(Step):
    keep: int
    last: int

    def describe(self) -> str:
        return f"limit the bounding set to {self.keep:#x}"

    def run(self, place: Place) -> None:
        privileges.limit_bounding_set(self.keep, self.last)

    def write(self, to: Script, known: Known) -> None:
        left = privileges.bounding_set(self.last) & ~self.keep
        failed = to.refusal(self.cannot(), result := to.words(0))
        for capability in range(self.last + 1):
            if left >> capability & 1:
                drop = ("prctl", (privileges.PR_CAPBSET_DROP, capability))
                to.add(Call(*drop, otherwise=failed, into=result))


@dataclass(frozen=True, slots=True)
class BecomeUser(Step):
    """Change identity while keeping the capabilities, then keep only those that are given."""

    effective: int
    permitted: int
    inheritable: int
    ambient: int
    last: int
    directory: str

    def describe(self) -> str:
        return "become the user"

    def run(self, place: Place) -> None:
        identity = place.identity
        if identity is None:
            raise AssertionError("the user was not found yet")
        # As the engine first: the user may stand in a directory that it could not enter.
        entered = _enter(self.directory)
        privileges.set_keep_capabilities(True)
        privileges.become(identity.uid, identity.gid, identity.groups)
        privileges.set_keep_capabilities(False)
        if entered is not None:
            entered = _enter(self.directory)
        privileges.set_ambient(0, self.last)
        wanted = self._wanted(identity)
        privileges.set_capabilities(*wanted)
        privileges.set_ambient(self.ambient, self.last)
        if privileges.get_capabilities() != wanted:
            raise whole(_NOT_TAKEN)
        if entered is not None:
            raise because(self._no_directory(), entered)
        # A path like /proc/self/fd/N could lead out (CVE-2024-21626).
        try:
            stands_at = os.getcwd()
        except FileNotFoundError:
            stands_at = ""
        if not stands_at.startswith("/"):
            raise whole(_OUTSIDE)

    def _wanted(self, identity: users.Identity) -> tuple[int, int, int]:
        """Effective, permitted, inheritable."""
        # What execve gives a user other than root is nothing, unless it is ambient. It is taken
        # away before: with DAC_OVERRIDE execve would run a program that is not for this user.
        if identity.uid != 0:
            return self.ambient, self.ambient, self.inheritable
        return self.effective, self.permitted, self.inheritable

    def write(self, to: Script, known: Known) -> None:
        cannot, who = self.cannot(), known.identity
        directory = to.text(os.fsencode(self.directory))
        entered = to.words(0)
        to.call("chdir", directory, into=entered)
        to.must(cannot, "prctl", privileges.PR_SET_KEEPCAPS, 1, 0, 0, 0)
        groups = to.text(struct.pack(f"={len(who.groups)}I", *who.groups))
        to.must(cannot, "setgroups", len(who.groups), groups)
        for change, look, number in (
            ("setresgid", "getresgid", who.gid),
            ("setresuid", "getresuid", who.uid),
        ):
            to.must(cannot, change, number, number, number)
            seen = to.room(16)
            to.must(cannot, look, seen, seen + 4, seen + 8)
            for place in (0, 4, 8):
                to.expect(seen + place, number, mask=0xFFFFFFFF, otherwise=to.refusal(_NOT_TAKEN))
        to.must(cannot, "getgroups", 0, 0, into=(count := to.words(0)))
        to.expect(count, len(who.groups), otherwise=to.refusal(_NOT_TAKEN))
        to.must(cannot, "prctl", privileges.PR_SET_KEEPCAPS, 0, 0, 0, 0)
        again = to.words(0)
        enter = Call("chdir", (directory,), to.refusal(self._no_directory(), again), again)
        to.expect(entered, 0, otherwise=to.aside(enter, then=to.after(1)))
        ambient = privileges.PR_CAP_AMBIENT
        to.must(cannot, "prctl", ambient, privileges.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        wanted = privileges.capability_data(*self._wanted(who))
        header = to.words(privileges.CAPABILITY_VERSION_3)
        to.must(cannot, "capset", header, to.text(wanted))
        for capability in range(self.last + 1):
            if self.ambient >> capability & 1:
                raised = privileges.PR_CAP_AMBIENT_RAISE
                to.must(cannot, "prctl", ambient, raised, capability, 0, 0)
        seen = to.room(len(wanted))
        to.must(cannot, "capget", header, seen)
        for place, (word,) in enumerate(struct.iter_unpack("=Q", wanted)):
            to.expect(seen + 8 * place, word, otherwise=to.refusal(_NOT_TAKEN))
        outside = to.refusal(_OUTSIDE)
        path = to.room(_LONGEST_PATH)
        to.call("getcwd", path, _LONGEST_PATH, otherwise=outside)
        to.expect(path, ord("/"), mask=0xFF, otherwise=outside)

    def _no_directory(self) -> Refusal:
        text = f'chdir to cwd ("{self.directory}") set in config.json failed'
        return Refusal(text, 127, ((errno.EACCES, 126), (errno.ENOTDIR, 126)))


def _enter(directory: str) -> OSError | None:
    try:
        os.chdir(directory)
    except OSError as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class Execute(Step):
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]

    def describe(self) -> str:
        return f"execute {self.arguments[0]}"

    def run(self, place: Place) -> None:
        environment = dict(self.environment)
        if not environment.get("HOME"):
            environment["HOME"] = place.identity.home if place.identity else "/"
        program = find_program(self.arguments[0], environment.get("PATH", ""))
        channel.send(place.supervisor, {"state": "executing", "program": program})
        try:
            self.execute(program, environment, place)
        except OSError as error:
            raise cannot_execute(program, error) from None

    def execute(self, program: str, environment: Mapping[str, str], place: Place) -> None:
        try:
            os.execve(program, self.arguments, environment)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.write(2, _last_words(program, error.errno or 0))
            os._exit(NOT_EXECUTED)

    def write(self, to: Script, known: Known) -> None:
        environment = dict(self.environment)
        if not environment.get("HOME"):
            environment["HOME"] = known.identity.home
        variables = to.vector(
            [os.fsencode(f"{name}={value}") for name, value in environment.items()]
        )
        name = self.arguments[0]
        if "/" in name:
            self._write_named(to, known, variables)
            return
        for folder in environment.get("PATH", "").split(":") if name else ():
            if folder:
                self._write_candidate(to, known, f"{folder}/{name}", variables)
        to.go(to.refusal(_not_found(name)))

    def _write_named(self, to: Script, known: Known, variables: int) -> None:
        name = self.arguments[0]
        path, result, found = to.text(os.fsencode(name)), to.words(0), to.room(STAT_SIZE)
        gone = to.refusal(_no_such(name), result)
        to.call("newfstatat", AT_FDCWD, path, found, 0, into=result, otherwise=gone)
        kind = stat.S_IFMT(0xFFFF)
        to.expect(found + STAT_MODE, stat.S_IFDIR, mask=kind, otherwise=to.after(2))
        to.go(to.refusal(_is_folder(name)))
        self._write_access(to, path, to.refusal(_denied(name)))
        to.say({"state": "executing", "program": name})
        for call in self.executing(to, known, name, path, variables):
            to.add(call)

    def _write_candidate(self, to: Script, known: Known, program: str, variables: int) -> None:
        path, found = to.text(os.fsencode(program)), to.room(STAT_SIZE)
        calls = self.executing(to, known, program, path, variables)
        following = to.after(_RECORDS_BEFORE + len(calls))
        to.call("newfstatat", AT_FDCWD, path, found, 0, otherwise=following)
        kind = stat.S_IFMT(0xFFFF)
        to.expect(found + STAT_MODE, stat.S_IFREG, mask=kind, otherwise=following)
        self._write_access(to, path, following)
        to.say({"state": "executing", "program": program})
        for call in calls:
            to.add(call)
        assert to.here == following

    def _write_access(self, to: Script, path: int, denied: int) -> None:
        """Other errors say nothing of the file: a filter may not let this call pass."""
        result = to.words(0)
        otherwise = to.aside(Expect(result, -errno.EACCES, to.after(1)), then=denied)
        to.call("faccessat2", AT_FDCWD, path, os.X_OK, AT_EACCESS, into=result, otherwise=otherwise)

    def executing(
        self, to: Script, known: Known, program: str, path: int, variables: int
    ) -> list[Call]:
        arguments = to.vector(map(os.fsencode, self.arguments))
        result = to.words(0)
        failed = to.refusal(_not_executed(program), result)
        for number in () if to.untold else _EXPECTED:
            words = _last_words(program, number)
            say = Call("write", (2, to.text(words), len(words)))
            told = to.aside(say, Call("exit_group", (NOT_EXECUTED,)))
            failed = to.aside(Expect(result, -number, failed), then=told)
        return [Call("execve", (path, arguments, variables), failed, result)]


def _last_words(program: str, number: int) -> bytes:
    return os.fsencode(f"exec {program}: {reason(OSError(number, os.strerror(number)))}\n")


def cannot_execute(program: str, error: OSError) -> Refused:
    return because(_not_executed(program), error)


def find_program(name: str, search_path: str) -> str:
    """Where `name` is, as the user that this process is by now. Raises Refused with Go's and
    so Docker's words: clients tell 126 from 127 by them."""
    if "/" in name:
        try:
            found = os.stat(name)
        except OSError as error:
            raise because(_no_such(name), error) from None
        if stat.S_ISDIR(found.st_mode):
            raise whole(_is_folder(name))
        if not os.access(name, os.X_OK, effective_ids=True):
            raise whole(_denied(name))
        return name
    for folder in search_path.split(":") if name else ():
        # An empty part means the working directory, which Go and we leave out.
        candidate = f"{folder}/{name}"
        if folder and _is_program(candidate):
            return candidate
    raise whole(_not_found(name))


def _is_program(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and os.access(path, os.X_OK, effective_ids=True)


def _no_such(name: str) -> Refusal:
    return Refusal(f'exec: "{name}": stat {name}', 127, ((errno.EACCES, 126), (errno.ELOOP, 128)))


def _is_folder(name: str) -> Refusal:
    return Refusal(f'exec: "{name}": is a directory: permission denied', 126, is_whole=True)


def _denied(name: str) -> Refusal:
    return Refusal(f'exec: "{name}": permission denied', 126, is_whole=True)


def _not_found(name: str) -> Refusal:
    return Refusal(f'exec: "{name}": executable file not found in $PATH', 127, is_whole=True)


def _not_executed(program: str) -> Refusal:
    return Refusal(f"exec {program}", 126, ((errno.ENOENT, 127),))
