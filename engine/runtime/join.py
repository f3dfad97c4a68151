"""Another process in a running container: join its cgroup and namespaces, then walk the steps.

Two forks: only a child can be in the PID namespace that its parent joined (`EnterPidNamespace`).
The first child ends with that and the second is the shim's (CLONE_PARENT), which so can reap it
and read its exit code.

Most are scripts for the walker, which the daemon writes and a shim hands on: no process of the
interpreter is forked then. Walked by one of those is what takes more than calls: a user namespace.
"""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import NoReturn

from engine.kernel import mount, namespaces, process
from engine.runtime import channel, init, lead_in
from engine.runtime.cgroup_tree import Cgroup
from engine.runtime.script import CONTAINER, SUPERVISOR, Known, Refusal, Script, Written
from engine.runtime.steps import Confine, Place, SetOomScore, Step
from engine.runtime.users import Identity

_ALL = (
    namespaces.CLONE_NEWNS
    | namespaces.CLONE_NEWPID
    | namespaces.CLONE_NEWNET
    | namespaces.CLONE_NEWIPC
    | namespaces.CLONE_NEWUTS
    | namespaces.CLONE_NEWCGROUP
)


def start(
    plan: init.Plan,
    place: Place,
    stdio: tuple[int, ...],
    *,
    container: int,
    oom_score: int,
    apparmor: str,
    crowded: bool,
) -> int:
    """Start the walk inside the container whose first process is behind the pidfd `container`.

    The joiner, whose pidfd is returned, tells the rest through the place's supervisor. `crowded`:
    the container has as many processes as it may; to get in, one more is sent (NO_ROOM).
    """
    is_counted = not crowded or not place.cgroup.counts_in_unified()
    group = place.cgroup.unified_fd() if is_counted else -1
    try:
        pid, pidfd = process.clone3(cgroup=group)
    finally:
        if group >= 0:
            os.close(group)
    if pid == 0:
        _join(plan, place, stdio, container, oom_score, apparmor, crowded)
    return pidfd


def _join(
    plan: init.Plan,
    place: Place,
    stdio: tuple[int, ...],
    container: int,
    oom_score: int,
    apparmor: str,
    crowded: bool,
) -> NoReturn:
    try:
        # By the host's /proc, while it is still the one at /proc.
        SetOomScore(oom_score).run(place)
        if apparmor:
            Confine(apparmor).run(place)
        place.cgroup.enter(unified=False, counted=not crowded)
        if crowded and (path := place.cgroup.counting_file()):
            place.counting = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        namespaces.setns(container, _ALL)
        place.container = container
        if place.owner != (0, 0):
            place.user = container  # a process's pidfd stands for its namespaces, too
        os.chdir("/")
        place.root = mount.open_by_name("/", os.O_PATH | os.O_DIRECTORY)
        init.use_stdio(stdio)
        init.become(plan, place)
    except OSError as error:
        text = f"cannot join the container: {error}"
        channel.send(place.supervisor, {"state": "refused", "text": text, "code": 128})
    finally:
        os._exit(0)


# --- by a script ------------------------------------------------------------------------------

_CANNOT_JOIN = Refusal("cannot join the container")


@lru_cache(maxsize=64)  # health checks, mostly
def script_of(
    walked: tuple[Step, ...],
    identity: Identity,
    *,
    streams: tuple[bool, ...],
    terminal: bool,
    oom_score: int,
    apparmor: str,
) -> Written:
    """The steps for this user; `streams`: which of 0, 1 and 2 are pipes, and not null."""
    pipes = tuple(number for number, is_pipe in enumerate(streams) if is_pipe)
    nulls = tuple(number for number, is_pipe in enumerate(streams) if not is_pipe)
    known = Known(identity, nulls=nulls, pipes=(0,) if terminal else pipes)
    to = Script(SUPERVISOR)
    to.begin(_CANNOT_JOIN)
    SetOomScore(oom_score).write(to, known)
    if apparmor:
        Confine(apparmor).write(to, known)
    to.must(_CANNOT_JOIN, "setns", CONTAINER, _ALL)
    to.must(_CANNOT_JOIN, "chdir", to.text(b"/"))
    for step in walked:
        step.write(to, known)
    return to.written()


def start_script(
    script: int, cgroup: Cgroup, supervisor: int, stdio: Sequence[int], *, container: int
) -> int:
    """The same as `start` for what `script_of` wrote."""
    group = cgroup.unified_fd()
    places = {**dict(enumerate(stdio)), SUPERVISOR: supervisor, CONTAINER: container}
    try:
        return lead_in.bear(script, places, supervisor=supervisor, group=group)[1]
    finally:
        if group >= 0:
            os.close(group)
