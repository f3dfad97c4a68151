"""How a build reaches what is far away, and as whom."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.proxies import Proxies


@dataclass(frozen=True, slots=True)
class Access:
    proxies: Proxies
    secrets: Mapping[str, bytes] = field(repr=False)  # of the build, by their ids
    agent: str  # the socket of the SSH agent that was lent; "" for none
    known_hosts: Path  # keys of SSH servers that were met before
    stopped: threading.Event = field(default_factory=threading.Event)  # nobody waits any more

    def secret(self, *names: str) -> str:
        """The first of these that there is, as text."""
        found = next((self.secrets[name] for name in names if name in self.secrets), b"")
        return found.decode(errors="replace").strip()
