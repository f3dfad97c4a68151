"""Another process in a running container: join its cgroup and namespaces, then walk the steps.

Two forks: only a child can be in the PID namespace that its parent joined (`EnterPidNamespace`).
The first child ends with that and the second is the shim's (CLONE_PARENT), which so can reap it
and read its exit code.
"""

import os
from typing import NoReturn

from engine.kernel import mount, namespaces, process
from engine.runtime import channel, init
from engine.runtime.steps import Confine, Place, SetOomScore

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
) -> int:
    """Start the walk inside the container whose first process is behind the pidfd `container`.

    The joiner, whose pidfd is returned, tells the rest through the place's supervisor.
    """
    group = place.cgroup.unified_fd()
    try:
        pid, pidfd = process.clone3(cgroup=group)
    finally:
        if group >= 0:
            os.close(group)
    if pid == 0:
        _join(plan, place, stdio, container, oom_score, apparmor)
    return pidfd


def _join(
    plan: init.Plan,
    place: Place,
    stdio: tuple[int, ...],
    container: int,
    oom_score: int,
    apparmor: str,
) -> NoReturn:
    try:
        # By the host's /proc, while it is still the one at /proc.
        SetOomScore(oom_score).run(place)
        if apparmor:
            Confine(apparmor).run(place)
        place.cgroup.enter(unified=False)
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
