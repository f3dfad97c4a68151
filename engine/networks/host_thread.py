"""`HostNetwork`, asked from the event loop: what the kernel has to do (RTNL may make it wait)
happens in one thread, in order. That thread decides nothing and changes nothing here."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from engine.errors import Failure
from engine.networks.borrowed import Borrowed, NetworkSockets
from engine.networks.catalog import Catalog
from engine.networks.firewall import FirewallWatch
from engine.networks.host_network import HostNetwork
from engine.networks.model import Network
from engine.networks.netlink_socket import NetlinkError
from engine.settings import PoolOfSubnets

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

FADING = 2.0  # seconds that the kernel has for the links of a removed network


class HostThread:
    def __init__(self, tag: str, thread: ThreadPoolExecutor, network: HostNetwork) -> None:
        self.network = network  # used in the thread only
        self.bridges: dict[str, int] = {}  # network id -> index of the interface, where it is up
        self._behind_firewall: frozenset[str] = frozenset()  # ids of the networks in its sets
        self._thread = thread
        self._watch = FirewallWatch(tag)
        self._sweeping: asyncio.TimerHandle | None = None

    @classmethod
    async def open(
        cls, tag: str, forwarding_record: Path, pools: Sequence[PoolOfSubnets] = ()
    ) -> "HostThread":
        thread = ThreadPoolExecutor(1, "networks")
        opened = thread.submit(HostNetwork, tag, forwarding_record, pools)
        return cls(tag, thread, await asyncio.wrap_future(opened))

    async def run(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """`function`'s result, from the thread."""
        return await self.end(self.begin(function, *arguments, **named))

    def begin(self, function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> "Future[T]":
        """In the thread from now on; for who has something to do until its `end`."""
        return self._thread.submit(function, *arguments, **named)

    async def end(self, call: "Future[T]") -> T:
        try:
            return await asyncio.wrap_future(call)
        except NetlinkError as error:
            raise Failure(str(error)) from error

    async def restore(self, networks: Sequence[Network]) -> None:
        """Their bridges are up, and the firewall is told of by whoever takes it away."""
        self.bridges = await self.run(self.network.restore, networks)
        self._behind_firewall = frozenset(self.bridges)
        asyncio.get_running_loop().add_reader(self._watch, self._look_after_firewall)

    def _look_after_firewall(self) -> None:
        """A reload of the host's firewall must not open the networks (CVE-2025-54410), nor close
        them."""
        if self._watch.changed():
            self._thread.submit(self.network.check_firewall).add_done_callback(_log_failure)

    async def wall(self, catalog: Catalog) -> None:
        """The firewall knows every bridge that is up."""
        present = frozenset(self.bridges)
        if present != self._behind_firewall:
            await self.run(self.network.wall, [catalog[each] for each in present])
            self._behind_firewall = present

    async def retire(self, bridges: Sequence[str]) -> None:
        """Nothing of ours is left on the host."""
        self.bridges.clear()
        self._behind_firewall = frozenset()
        await self.run(self.network.retire, bridges)

    def delete_soon(self, bridges: Sequence[str]) -> None:
        """Nobody waits for the kernel, which takes 50 ms to let go of a bridge: what is made under
        their names, or with their subnets, comes after it in the thread. What a crash leaves, the
        next daemon deletes."""
        deletion = self._thread.submit(self.network.delete, bridges)
        deletion.add_done_callback(_log_failure)
        self._sweep_later()

    def _sweep_later(self) -> None:
        """Once for all networks that are removed together, when their links have had their time."""
        if self._sweeping is not None:
            self._sweeping.cancel()

        def sweep() -> None:
            self._thread.submit(self.network.sweep).add_done_callback(_log_failure)

        self._sweeping = asyncio.get_running_loop().call_later(FADING, sweep)

    @contextlib.contextmanager
    def borrowing(self, sockets: NetworkSockets) -> Iterator[Borrowed]:
        borrowed = Borrowed(sockets)
        try:
            yield borrowed
        finally:
            if not borrowed.is_closed:
                self._thread.submit(borrowed.close)  # nobody needs to wait for it

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await self.run(self.network.sweep)
        self.abandon()

    def abandon(self) -> None:
        """Descriptors go, and nothing else happens: as with the process that dies."""
        asyncio.get_running_loop().remove_reader(self._watch)
        self._watch.close()
        self._thread.submit(self.network.close).result()
        self._thread.shutdown()


def _log_failure(call: "Future[None]") -> None:
    if error := call.exception():
        log.error("cannot look after the host's network: %s", error)
