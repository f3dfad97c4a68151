"""A project folder on a host of its own, driven through the command line as a person does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from tests.host import ROOT, Daemon, Host

PYCOMPOSE = (sys.executable, "-m", "compose")


class Project:
    """`folder` is a copy that tests may edit; commands talk to `daemon`."""

    def __init__(self, host: Host, daemon: Daemon, folder: Path) -> None:
        self.host = host
        self.daemon = daemon
        self.folder = folder
        self.environment = {"PYCOMPOSE_HOST": daemon.address, "PYTHONPATH": str(ROOT)}

    def __call__(
        self, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run pycompose in the folder."""
        environment = {**self.environment, **(env or {})}
        return self.host.run(*PYCOMPOSE, *arguments, env=environment, cwd=self.folder, check=check)

    def start(self, *arguments: str, stderr: int = subprocess.STDOUT) -> subprocess.Popen[str]:
        """A command that goes on while the test does; the host ends it if the test doesn't."""
        command = self.host.command([*PYCOMPOSE, *arguments], cwd=self.folder)
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr,
            text=True, env=self.host.environment(self.environment),
            process_group=0,  # a job of its own: a group that nobody started can't be stopped
        )  # fmt: skip
        self.host.processes.append(process)
        return process

    def git(self, *arguments: str) -> str:
        """What git says in the folder."""
        who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        )
        return done.stdout

    def write(self, text: str, name: str = "compose.yaml") -> None:
        (self.folder / name).write_text(text)

    def replace(self, old: str, new: str, name: str = "compose.yaml") -> None:
        text = (self.folder / name).read_text()
        assert old in text
        self.write(text.replace(old, new), name)

    def containers(self) -> dict[str, dict[str, object]]:
        """Name -> its row of the engine's list, stopped ones too."""
        status, rows = self.daemon.call("GET", "/containers/json?all=1")
        assert status == 200
        assert isinstance(rows, list)
        return {row["Names"][0].removeprefix("/"): row for row in rows}

    def ids(self) -> dict[str, str]:
        return {name: str(row["Id"]) for name, row in self.containers().items()}

    def clear(self) -> None:
        """Take away what the project of this folder left on the engine, sooner than `down` does."""
        label = f"com.docker.compose.project={self.folder.name}"
        filters = quote(json.dumps({"label": [label]}))
        _, rows = self.daemon.call("GET", f"/containers/json?all=1&filters={filters}")
        assert isinstance(rows, list)
        for row in rows:
            self.daemon.call("DELETE", f"/containers/{row['Id']}?force=1&v=1")
        filters = quote(json.dumps({"label": [label], "all": ["1"]}))
        assert self.daemon.call("POST", f"/volumes/prune?filters={filters}")[0] == 200
        filters = quote(json.dumps({"label": [label]}))
        assert self.daemon.call("POST", f"/networks/prune?filters={filters}")[0] == 200

    def inspect(self, name: str) -> dict[str, object]:
        status, document = self.daemon.call("GET", f"/containers/{name}/json")
        assert status == 200, document
        assert isinstance(document, dict)
        return document

    def ps(self) -> list[dict[str, object]]:
        lines = self("ps", "--all", "--format", "json").stdout.splitlines()
        return [json.loads(line) for line in lines]


def example(host: Host, name: str) -> Project:
    """A copy of examples/NAME, with a daemon for it."""
    folder = host.folder / name
    shutil.copytree(ROOT / "examples" / name, folder)
    return Project(host, host.daemon(), folder)


def project(host: Host, text: str, name: str = "shop", daemon: Daemon | None = None) -> Project:
    """A folder with that compose.yaml, on `daemon` or on one of its own."""
    folder = host.folder / name
    folder.mkdir()
    made = Project(host, daemon or host.daemon(), folder)
    made.write(text)
    return made
