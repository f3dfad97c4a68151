from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from pathlib import Path

import pytest

from engine.kernel import procfs
from engine.runtime import cgroup_tree, refuge
from engine.runtime.handle import Shim
from tests.engine.runtime.laboratory import DAEMON, Laboratory, ended

pytestmark = pytest.mark.kernel


def inside(group: Path) -> set[str]:
    try:
        return {*(group / "cgroup.procs").read_text().split()}
    except OSError:  # it is not there, or goes at this moment
        return set()


async def test_containers_survive_the_end_of_the_daemons_service(lab: Laboratory) -> None:
    """systemd's way: SIGKILL to all that is in the service's cgroup."""
    unified = cgroup_tree.detect().unified
    if unified is None:
        pytest.skip("no unified cgroup tree here")
    service = Path(unified.point, f"pycompose-test-{os.getpid()}.service")
    service.mkdir()
    # Where this test runs in a service itself, its own spawner is in there, too.
    group = Path(unified.point, refuge.GROUP)
    own = inside(group)
    try:
        request = lab.request("sleep", "100")
        daemon = await asyncio.create_subprocess_exec(
            *("sh", "-c", f'echo $$ > {service}/cgroup.procs; exec "$@"', "sh"),
            *(sys.executable, "-c", DAEMON, pickle.dumps(request).hex()),
            stdout=asyncio.subprocess.PIPE,
            env={"PYTHONPATH": str(Path(__file__).parents[3]), "PATH": os.environ["PATH"]},
        )
        assert daemon.stdout is not None
        assert await daemon.stdout.readline() == b"started\n"
        (service / "cgroup.kill").write_text("1")
        await daemon.wait()
        shim = await Shim.adopt(request.exec_dir)
        assert isinstance(shim, Shim)
        lab.shims.append(shim)
        assert procfs.cgroup_paths(shim.shim_pid)[""] == f"/{refuge.GROUP}"
        await shim.kill_all()
        await shim.exited
        shim_pid = shim.shim_pid
        await shim.release()
        await ended(shim_pid)
        async with asyncio.timeout(10):  # the spawner and its spare leave by themselves
            while inside(group) - own if own else group.exists():
                await asyncio.sleep(0.01)
    finally:
        with contextlib.suppress(OSError):
            service.rmdir()
