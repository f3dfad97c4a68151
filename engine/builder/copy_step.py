"""COPY and ADD: what they mean, what stands for it in the cache's key, and the work itself."""

import contextlib
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.builder import cache, download
from engine.builder.copy import (
    Attributes,
    Found,
    copy_sources,
    digest_of_sources,
    find_sources,
    is_archive,
    parse_mode,
)
from engine.builder.dockerfile import Instruction
from engine.builder.expand import expand_text, expand_word
from engine.builder.ignore import Pattern, parse_ignore
from engine.builder.run_step import Origin
from engine.builder.workshop import Workshop
from engine.errors import InvalidRequest
from engine.kernel.libc import KernelError
from engine.kernel.mount import open_in_root
from engine.kernel.overlay import on_overlay
from engine.runtime.users import UnknownUser, resolve


@dataclass(frozen=True, slots=True)
class Prepared:
    """`job` does it, with the root of a view of the image so far."""

    key: str
    created_by: str
    job: Callable[[int], None]


class CopyStep:
    """`names`: variables; `parent`: the key of what lies below, `lowers` its layers. `origin`:
    what --from means."""

    def __init__(
        self,
        workshop: Workshop,
        one: Instruction,
        sources: tuple[str, ...],
        destination: str,
        names: Mapping[str, str],
        parent: str,
        lowers: Sequence[str],
        origin: Origin | None,
    ) -> None:
        self._workshop = workshop
        self._one = one
        self._sources = sources
        self._destination = destination
        self._names = names
        self._parent = parent
        self._lowers = lowers
        self._origin = origin
        self._parents = one.flag("parents") is not None or any(
            flag.name == "parents" and flag.value != "false" for flag in one.flags
        )
        excluded = (flag.value or "" for flag in one.flags if flag.name == "exclude")
        self._ignored: tuple[Pattern, ...] = parse_ignore("\n".join(excluded))

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[Prepared]:
        """What is to be copied lies ready for as long as the block lasts."""
        one, workshop, origin = self._one, self._workshop, self._origin
        attributes = await self._attributes()
        flags = [f"{flag.name}={flag.value}" for flag in one.flags if flag.name != "from"]
        flags.append(f"{attributes.uid}:{attributes.gid}")
        async with workshop.scratch() as scratch:
            made: Mapping[str, str] = {}
            if origin is not None:
                lowers = origin.lowers
                digests = [f"{origin.key}:{source}" for source in self._sources]
            else:
                lowers = (str(workshop.context),)
                made = await self._make_sources(scratch)
                digests = await self._digests(scratch, made, attributes)
            plain = tuple(source for source in self._sources if source not in made)
            key = cache.copy_key(self._parent, one.keyword, digests, self._destination, flags)
            summary = digests[0][-64:] if len(digests) == 1 else "multi"
            created_by = f"/bin/sh -c #(nop) {one.keyword} {summary} in {self._destination} "

            def job(target: int) -> None:
                def copy(source: int) -> None:
                    found = self._found(source, plain)
                    copy_sources(
                        source, found, target, self._place(found), attributes, self._ignored
                    )

                if plain:
                    on_overlay(lowers, "", "", copy, scratch=str(scratch))
                if made:
                    self._copy_made(scratch / "made", target, made, attributes)

            yield Prepared(key, created_by, job)

    def _place(self, found: Sequence[Found]) -> str:
        """A wildcard may mean several files though it is one word."""
        is_many = len(found) > 1 or len(self._sources) > 1 or self._parents
        if is_many and not self._destination.endswith("/"):
            if not self._parents and not all(each.is_folder for each in found):
                raise InvalidRequest(
                    f"When using {self._one.keyword} with more than one source file, the "
                    "destination must be a directory and end with a /"
                )
            return self._destination + "/"
        return self._destination

    def _copy_made(
        self, folder: Path, target: int, made: Mapping[str, str], attributes: Attributes
    ) -> None:
        source = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for path in made.values():
                found = find_sources(source, path)
                copy_sources(source, found, target, self._destination, attributes, ())
        finally:
            os.close(source)

    def _found(self, root: int, patterns: Sequence[str]) -> list[Found]:
        found: list[Found] = []
        for pattern in patterns:
            for each in find_sources(root, pattern, parents=self._parents):
                unpacked = (
                    self._one.keyword == "ADD"
                    and self._one.flag("unpack") != "false"
                    and not each.is_folder
                    and is_archive(root, each.path)
                )
                found.append(replace(each, is_archive=unpacked))
        return found

    async def _digests(
        self,
        scratch: Path,
        made: Mapping[str, str],
        attributes: Attributes,
    ) -> list[str]:
        plain = [source for source in self._sources if source not in made]

        def digests() -> list[str]:
            found: list[str] = []
            for folder, patterns in (
                (self._workshop.context, plain),
                (scratch / "made", tuple(made.values())),
            ):
                if not patterns:
                    continue
                root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if folder == self._workshop.context:
                        sources = self._found(root, patterns)
                    else:
                        sources = [each for path in patterns for each in find_sources(root, path)]
                    digest = digest_of_sources(root, sources, attributes, self._ignored)
                    is_file = len(sources) == 1 and not sources[0].is_folder
                    found.append(f"{'file' if is_file else 'dir'}:{digest}")
                finally:
                    os.close(root)
            return found

        return await self._workshop.in_thread(digests)

    async def _make_sources(self, scratch: Path) -> dict[str, str]:
        """Here-documents and downloads, as files of a folder: source -> path there."""
        folder = scratch / "made"
        folder.mkdir()
        heredocs = {heredoc.name: heredoc for heredoc in self._one.heredocs}
        made: dict[str, str] = {}
        for number, source in enumerate(self._sources):
            heredoc = heredocs.get(source.lstrip("<").lstrip("-")) if "<<" in source else None
            if heredoc is not None:
                path = f"{number}/{heredoc.name}"
                content = heredoc.content
                if heredoc.expand:
                    content = expand_text(content, self._names, self._workshop.escape)
                (folder / str(number)).mkdir()
                (folder / path).write_text(content, errors="surrogateescape")
                (folder / path).chmod(0o644)
                made[source] = path
            elif download.is_url(source) or download.is_git(source):
                if self._one.keyword != "ADD":
                    raise InvalidRequest(f"source can't be a URL for COPY: {source}")
                (folder / str(number)).mkdir()
                made[source] = await self._download(source, folder, str(number))
        return made

    async def _download(self, url: str, folder: Path, number: str) -> str:
        name = download.file_name(url)
        if not name and self._destination.endswith("/"):
            raise InvalidRequest(f"cannot determine filename from url: {url}")
        path = f"{number}/{name or 'download'}"
        workshop = self._workshop

        def fetch() -> str:
            download.download(url, folder / path, lambda: workshop.is_cancelled)
            os.utime(folder / path, (0, 0))
            (folder / path).chmod(0o600)
            return download.digest(folder / path)

        digest = await workshop.in_thread(fetch)
        wanted = self._one.flag("checksum")
        if wanted and digest != wanted:
            raise InvalidRequest(f"digest mismatch {digest}: {wanted}")
        return path

    async def _attributes(self) -> Attributes:
        names = self._names
        chown, chmod = self._one.flag("chown"), self._one.flag("chmod")
        mode = parse_mode(expand_word(chmod, names, self._workshop.escape)) if chmod else None
        if not chown:
            # What another stage made keeps its owners; whose files a client sent is its own affair.
            return Attributes(mode=mode) if self._origin else Attributes(0, 0, mode=mode)
        user, _, group = expand_word(chown, names, self._workshop.escape).partition(":")
        group = group or user
        if user.isdecimal() and group.isdecimal():
            passwd = groups = ""
        else:
            passwd, groups = await self._workshop.on_layers(self._lowers, _account_files)
        try:
            found = resolve(f"{user}:{group}", (), passwd, groups)
        except UnknownUser as error:
            raise InvalidRequest(str(error)) from None
        return Attributes(found.uid, found.gid, is_asked=True, mode=mode)


def _account_files(root: int) -> tuple[str, str]:
    return _text(root, "etc/passwd"), _text(root, "etc/group")


def _text(root: int, path: str) -> str:
    """Of a file of an image: no device, no FIFO, no more than an account file holds."""
    try:
        descriptor = open_in_root(root, path, os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return ""
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return stream.read(1 << 20).decode(errors="replace")
