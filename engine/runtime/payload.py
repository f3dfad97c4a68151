"""The last steps before the command runs: who it is, what it may do, where it stands.

The same for a container's first process and for every exec.
"""

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from engine.kernel import privileges
from engine.kernel.libc import reason
from engine.runtime import accounts, channel, users
from engine.runtime.steps import Place, Refused, Step, give_streams

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


@dataclass(frozen=True, slots=True)
class GiveStreams(Step):
    def describe(self) -> str:
        return "give the standard streams to the user"

    def run(self, place: Place) -> None:
        if place.identity is None:
            raise AssertionError("the user was not found yet")
        give_streams(place.identity.uid)


@dataclass(frozen=True, slots=True)
class MakeDirectory(Step):
    """The working directory of a container need not be in a layer."""

    path: str

    def describe(self) -> str:
        return f"make working directory {self.path}"

    def run(self, place: Place) -> None:
        try:
            os.makedirs(self.path, 0o755, exist_ok=True)
        except FileExistsError:
            return  # no directory: going there says so
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.ENOTDIR):
                raise


@dataclass(frozen=True, slots=True)
class LoadSeccomp(Step):
    program: bytes

    def describe(self) -> str:
        return f"load the seccomp filter of {len(self.program) // 8} instructions"

    def run(self, place: Place) -> None:
        privileges.load_seccomp(self.program)


@dataclass(frozen=True, slots=True)
class ForbidNewPrivileges(Step):
    def describe(self) -> str:
        return "forbid new privileges"

    def run(self, place: Place) -> None:
        privileges.set_no_new_privileges()


@dataclass(frozen=True, slots=True)
class LimitBoundingSet(Step):
    keep: int
    last: int

    def describe(self) -> str:
        return f"limit the bounding set to {self.keep:#x}"

    def run(self, place: Place) -> None:
        privileges.limit_bounding_set(self.keep, self.last)


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
        # What execve gives a user other than root is nothing, unless it is ambient. It is taken
        # away before: with DAC_OVERRIDE execve would run a program that is not for this user.
        wanted = (self.effective, self.permitted, self.inheritable)
        if identity.uid != 0:
            wanted = (self.ambient, self.ambient, self.inheritable)
        privileges.set_capabilities(*wanted)
        privileges.set_ambient(self.ambient, self.last)
        if privileges.get_capabilities() != wanted:
            raise Refused("the kernel did not take the capabilities as they were set")
        if entered is not None:
            raise _no_directory(self.directory, entered)
        # A path like /proc/self/fd/N could lead out (CVE-2024-21626).
        try:
            stands_at = os.getcwd()
        except FileNotFoundError:
            stands_at = ""
        if not stands_at.startswith("/"):
            raise Refused("current working directory is outside of container mount namespace root")


def _enter(directory: str) -> OSError | None:
    try:
        os.chdir(directory)
    except OSError as error:
        return error
    return None


def _no_directory(directory: str, error: OSError) -> Refused:
    code = 126 if error.errno in (errno.EACCES, errno.ENOTDIR) else 127
    return Refused(f'chdir to cwd ("{directory}") set in config.json failed: {reason(error)}', code)


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
        os.execve(program, self.arguments, environment)


def cannot_execute(program: str, error: OSError) -> Refused:
    return Refused(f"exec {program}: {reason(error)}", 127 if error.errno == errno.ENOENT else 126)


def find_program(name: str, search_path: str) -> str:
    """Where `name` is, as the user that this process is by now. Raises Refused with Go's and
    so Docker's words: clients tell 126 from 127 by them."""
    if "/" in name:
        try:
            found = os.stat(name)
        except OSError as error:
            code = 126 if error.errno == errno.EACCES else 127
            raise Refused(f'exec: "{name}": stat {name}: {reason(error)}', code) from None
        if stat.S_ISDIR(found.st_mode):
            raise Refused(f'exec: "{name}": is a directory: permission denied', 126)
        if not os.access(name, os.X_OK, effective_ids=True):
            raise Refused(f'exec: "{name}": permission denied', 126)
        return name
    for folder in search_path.split(":") if name else ():
        # An empty part means the working directory, which Go and we leave out.
        candidate = f"{folder}/{name}"
        if folder and _is_program(candidate):
            return candidate
    raise Refused(f'exec: "{name}": executable file not found in $PATH', 127)


def _is_program(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and os.access(path, os.X_OK, effective_ids=True)
