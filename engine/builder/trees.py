"""What COPY and mounts take files from, and what stands for those files in a key."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Tree:
    """Directories as overlayfs takes them, top first. `identity` says which content they have;
    "" where that may change (a directory of the host). A `is_context` is what a client sent: the
    owners of its files are its own affair, and don't count."""

    lowers: tuple[str, ...]
    identity: str = ""
    is_context: bool = False


class Digests:
    """Digests of selections of trees whose content never changes: read once, then remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[object, ...], str] = OrderedDict()

    async def of(
        self, tree: Tree, selection: tuple[object, ...], read: Callable[[], Awaitable[str]]
    ) -> str:
        if not tree.identity:
            return await read()
        key = (tree.identity, *selection)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = await read()
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found
