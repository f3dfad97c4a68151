from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.host import ROOT

PROGRAM = """\
import asyncio, os, signal
from compose.process import carry_out
async def fail():
    await asyncio.sleep(0)
    raise ValueError
async def work():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    except* ValueError:
        pass
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)
def main(*_):
    try:
        asyncio.run(work())
    except KeyboardInterrupt:
        return 130
carry_out("it", main, is_warm=True)
"""


def test_an_interrupt_is_one_also_after_something_failed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_a_folder_has_the_name_by_which_its_user_came(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    told = (
        "from compose.process import carry_out\n"
        "carry_out('it', lambda *given: print(given[2]), is_warm=True)"
    )
    for pwd, expected in (("link", "link"), ("elsewhere", "real"), ("", "real")):
        environment = {"PYTHONPATH": str(ROOT), "PWD": str(tmp_path / pwd) if pwd else ""}
        done = subprocess.run(
            [sys.executable, "-c", told], cwd=tmp_path / "link", env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.strip() == str(tmp_path / expected), done.stderr
