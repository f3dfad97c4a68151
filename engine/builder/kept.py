"""Contexts that stay for the next build: a client that can say "as last time" sends nothing.

One is <root>/<id>/tree, and <root>/<id>/source says which folder of whose it is of: a newer one of
the same source takes the place of the older. The id is the client's, and stands for the content.
They aren't synced: a reboot ends them, as nobody knows whether they were whole.
"""

import contextlib
import os
import re
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from engine.builder.context import unpack_context
from engine.builder.trees import Tree
from engine.errors import InvalidRequest, NotFound
from engine.images.feed import Feed, run_fed
from engine.images.layers import remove_directory

_ID = re.compile(r"[0-9a-f]{64}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class KeptContexts:
    def __init__(self, root: Path, temporary: Path, threads: ThreadPoolExecutor) -> None:
        self.root = root
        self._temporary = temporary
        self._threads = threads
        self.in_use: Counter[str] = Counter()

    def clear_after_boot(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for each in self.ids():
            mark = self.root / each / "boot"
            if not mark.is_file() or mark.read_text() != _BOOT.read_text():
                self.remove(each)

    def ids(self) -> list[str]:
        return [path.name for path in self.root.glob("[0-9a-f]*")]

    def has(self, context_id: str) -> bool:
        return (self.root / _checked(context_id)).is_dir()

    def ask(self, context_id: str) -> bool:
        """The same, and it counts as used now: whoever asks is about to build with it."""
        found = self.has(context_id)
        if found:
            os.utime(self.root / context_id)
        return found

    def tree(self, context_id: str) -> Tree:
        """Raises NotFound."""
        if not self.has(context_id):
            raise NotFound(f"no such build context: {context_id}")
        path = self.root / context_id / "tree"
        return Tree((str(path),), f"context {context_id}", is_context=True)

    @contextlib.contextmanager
    def lease(self, context_ids: set[str]) -> Iterator[None]:
        """They stay as long as the block lasts, and count as used now. Raises NotFound."""
        for each in context_ids:
            self.tree(each)
            os.utime(self.root / each)
        self.in_use.update(context_ids)
        try:
            yield
        finally:
            self.in_use.subtract(context_ids)

    async def receive(self, context_id: str, source: str, archive: AsyncIterator[bytes]) -> None:
        """Unpacks a tar. Raises InvalidRequest where it is at fault."""
        target = self.root / _checked(context_id)
        folder = self._temporary / secrets.token_hex(8)
        feed = Feed(archive)

        def unpack() -> None:
            folder.mkdir(mode=0o700, parents=True)
            (folder / "tree").mkdir(mode=0o755)
            (folder / "tree").chmod(0o755)
            (folder / "source").write_text(source)
            (folder / "boot").write_text(_BOOT.read_text())
            unpack_context(feed, folder / "tree")

        try:
            await run_fed(self._threads, feed, unpack)
            if not target.exists():
                folder.rename(target)
                for each in self._of_source(source):
                    if each != context_id and self.in_use[each] <= 0:
                        self.remove(each)
        finally:
            if folder.exists():
                remove_directory(folder)

    def _of_source(self, source: str) -> list[str]:
        def belongs(path: Path) -> bool:
            return bool(source) and (path / "source").read_text() == source

        return [each for each in self.ids() if belongs(self.root / each)]

    def remove(self, context_id: str) -> None:
        trash = self._temporary / f"trash-{secrets.token_hex(8)}"
        trash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / context_id).rename(trash)
        remove_directory(trash)


def _checked(context_id: str) -> str:
    if not _ID.fullmatch(context_id):
        raise InvalidRequest(f"invalid build context {context_id!r}: 64 hexadecimal digits are due")
    return context_id
