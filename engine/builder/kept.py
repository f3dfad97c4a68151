"""Contexts that stay for the next build: a client that can say "as last time" sends nothing.

One is <root>/<id>/tree, and <root>/<id>/source says which folder of whose it is of: a newer one of
the same source takes the place of the older. The id is the client's, and stands for the content.
They aren't synced: a reboot ends them, as nobody knows whether they were whole.

What is sent with a build is kept as well, under the digest of its tar: if the same comes again, it
isn't unpacked and read again.
"""

import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from engine.builder.context import Recipe, prepare, unpack_context
from engine.builder.trees import Tree
from engine.errors import InvalidRequest, NotFound
from engine.images.compression import Source
from engine.images.feed import Abortable, Feed, run_fed
from engine.images.layers import remove_directory

_ID = re.compile(r"[0-9a-f]{64}")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CHUNK = 1 << 18
_IN_MEMORY = 8 << 20  # bytes of a sent tar; a larger one waits in a file


class _Nothing:
    """What can't be aborted: it doesn't wait for anybody."""

    def abort(self) -> None:
        pass


_NOTHING = _Nothing()


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
                remove_directory(self._set_aside(each))

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
        with self._spared(context_ids):
            yield

    @contextlib.contextmanager
    def _spared(self, context_ids: set[str]) -> Iterator[None]:
        """A newer one of their source leaves them alone, also such as come only meanwhile."""
        self.in_use.update(context_ids)
        try:
            yield
        finally:
            self.in_use.subtract(context_ids)

    async def receive(self, context_id: str, source: str, archive: AsyncIterator[bytes]) -> None:
        """Unpacks a tar. Raises InvalidRequest where it is at fault."""
        feed = Feed(archive)
        await self._keep(
            _checked(context_id), source, lambda folder: unpack_context(feed, folder / "tree"), feed
        )

    async def _keep(
        self,
        context_id: str,
        source: str,
        unpack: Callable[[Path], None],
        feed: Abortable = _NOTHING,
    ) -> None:
        """`unpack` fills the folder `tree` of the one that it is given, in a thread."""
        folder = self._temporary / secrets.token_hex(8)

        def fill() -> None:
            folder.mkdir(mode=0o700, parents=True)
            (folder / "tree").mkdir(mode=0o755)
            (folder / "tree").chmod(0o755)
            (folder / "source").write_text(source)
            (folder / "boot").write_text(_BOOT.read_text())
            unpack(folder)

        try:
            await run_fed(self._threads, feed, fill)
            if not (self.root / context_id).exists():
                folder.rename(self.root / context_id)
                older = set(self._of_source(source)) - {context_id}
                trash = [self._set_aside(each) for each in older if self.in_use[each] <= 0]
                for path in trash:
                    await asyncio.to_thread(remove_directory, path)
        finally:
            if folder.exists():
                await asyncio.to_thread(remove_directory, folder)

    @contextlib.asynccontextmanager
    async def sent(
        self, archive: AsyncIterator[bytes], dockerfile: str, source: str
    ) -> AsyncIterator[tuple[Tree, Recipe]]:
        """The context of a build that a client sends. Raises InvalidRequest where the tar is at
        fault."""
        self._temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
        feed = Feed(archive)
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._temporary)) as spool:
            context_id = await run_fed(
                self._threads, feed, lambda: _spooled(feed, spool, dockerfile)
            )
            with self._spared({context_id}):
                if not self.ask(context_id):
                    await self._keep(
                        context_id, source, lambda folder: _unpack(spool, folder, dockerfile)
                    )
                yield self.tree(context_id), _kept_recipe(self.root / context_id)

    def _of_source(self, source: str) -> list[str]:
        def belongs(path: Path) -> bool:
            return bool(source) and (path / "source").read_text() == source

        return [each for each in self.ids() if belongs(self.root / each)]

    def _set_aside(self, context_id: str) -> Path:
        trash = self._temporary / f"trash-{secrets.token_hex(8)}"
        trash.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / context_id).rename(trash)
        return trash


def _spooled(source: Source, spool: IO[bytes], dockerfile: str) -> str:
    """What stands for a sent context: its bytes, and whose ignore file counts."""
    checksum = hashlib.sha256(b"sent, with ignore " + os.fsencode(dockerfile) + b"\0")
    while chunk := source.read(_CHUNK):
        checksum.update(chunk)
        spool.write(chunk)
    spool.seek(0)
    return checksum.hexdigest()


def _unpack(content: Source, folder: Path, dockerfile: str) -> None:
    unpack_context(content, folder / "tree")
    recipe = prepare(folder / "tree", dockerfile)
    (folder / "dockerfile").write_bytes(os.fsencode(recipe.name) + b"\0" + recipe.content)
    (folder / "ignore").write_text(recipe.ignore)


def _kept_recipe(folder: Path) -> Recipe:
    name, _, content = (folder / "dockerfile").read_bytes().partition(b"\0")
    return Recipe(os.fsdecode(name), content, (folder / "ignore").read_text())


def _checked(context_id: str) -> str:
    if not _ID.fullmatch(context_id):
        raise InvalidRequest(f"invalid build context {context_id!r}: 64 hexadecimal digits are due")
    return context_id
