"""COPY and ADD: what they mean, what stands for it in the cache's key, and the work itself."""

import contextlib
import os
import re
import stat
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from engine.builder import download, git
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
from engine.builder.remote import is_git, is_remote, is_url, parse_git_address
from engine.builder.trees import Tree
from engine.builder.workshop import Workshop
from engine.errors import InvalidRequest
from engine.kernel.libc import KernelError
from engine.kernel.mount import open_in_root
from engine.kernel.overlay import on_overlay
from engine.runtime.users import UnknownUser, resolve

_HEREDOC = re.compile(r"\d*<<-?(.+)")


@dataclass(frozen=True, slots=True)
class Prepared:
    """`job` does it, with the root of a view of the image so far; `digests` and `flags` stand
    for all that goes into it."""

    digests: tuple[str, ...]
    flags: tuple[str, ...]
    created_by: str
    job: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Made:
    """A source that the builder itself has put below a folder of the step."""

    path: str
    unpack: bool = False


class CopyStep:
    """`names`: variables; `lowers`: the layers below; `tree`: where the sources are."""

    def __init__(
        self,
        workshop: Workshop,
        one: Instruction,
        sources: tuple[str, ...],
        destination: str,
        names: Mapping[str, str],
        lowers: Callable[[], Sequence[str]],
        tree: Tree,
    ) -> None:
        self._workshop = workshop
        self._one = one
        self._sources = sources
        self._destination = destination
        self._names = names
        self._lowers = lowers
        self._tree = tree
        self._parents = one.is_set("parents")
        self.is_linked = one.is_set("link")
        excluded = (flag.value or "" for flag in one.flags if flag.name == "exclude")
        self._ignored: tuple[Pattern, ...] = parse_ignore("\n".join(excluded))

    @contextlib.asynccontextmanager
    async def prepared(self) -> AsyncIterator[Prepared]:
        """What is to be copied lies ready for as long as the block lasts."""
        one, workshop, tree = self._one, self._workshop, self._tree
        attributes = await self._attributes()
        flags = [f"{flag.name}={flag.value}" for flag in one.flags if flag.name != "from"]
        flags.append(f"{attributes.uid}:{attributes.gid}")
        async with contextlib.AsyncExitStack() as held:
            folder = workshop.folder
            if any(map(_is_to_be_made, self._sources)):
                folder = await held.enter_async_context(workshop.scratch())
            made = await self._make_sources(folder)
            plain = tuple(source for source in self._sources if source not in made)
            digests = await self._digests(folder, made, plain, attributes)
            summary = digests[0] if len(digests) == 1 else "multi:" + _together(digests)
            said = " ".join(
                f"--{flag.name}{'' if flag.value is None else f'={flag.value}'}"
                for flag in one.flags
                if flag.name != "from"
            )
            what = f"{said} {summary}" if said else summary
            created_by = f"/bin/sh -c #(nop) {one.keyword} {what} in {self._destination} "

            def job(target: int) -> None:
                def copy(source: int) -> None:
                    found = self._found(source, plain)
                    copy_sources(
                        source, found, target, self._place(found), attributes, self._ignored
                    )

                if plain:
                    on_overlay(tree.lowers, "", "", copy, scratch=str(workshop.folder))
                if made:
                    self._copy_made(folder, target, made, attributes)

            yield Prepared(tuple(digests), tuple(flags), created_by, job)

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
        self, folder: Path, target: int, made: Mapping[str, Made], attributes: Attributes
    ) -> None:
        source = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for one in made.values():
                found = self._found_made(source, one)
                copy_sources(source, found, target, self._destination, attributes, self._ignored)
        finally:
            os.close(source)

    def _found_made(self, root: int, made: Made) -> list[Found]:
        return [
            replace(each, is_archive=made.unpack and is_archive(root, each.path))
            for each in find_sources(root, made.path)
        ]

    def _found(self, root: int, patterns: Sequence[str]) -> list[Found]:
        found: list[Found] = []
        for pattern in patterns:
            for each in find_sources(root, pattern, parents=self._parents):
                unpacked = (
                    self._one.keyword == "ADD"
                    and self._one.is_set("unpack", default=True)
                    and not each.is_folder
                    and is_archive(root, each.path)
                )
                found.append(replace(each, is_archive=unpacked))
        return found

    async def _digests(
        self,
        folder: Path,
        made: Mapping[str, Made],
        plain: Sequence[str],
        attributes: Attributes,
    ) -> list[str]:
        workshop, tree = self._workshop, self._tree

        def digest(root: int, sources: Sequence[Found]) -> str:
            found = digest_of_sources(root, sources, attributes, self._ignored)
            is_file = len(sources) == 1 and not sources[0].is_folder
            return f"{'file' if is_file else 'dir'}:{found}"

        async def of_plain() -> str:
            return await workshop.on_tree(tree, lambda root: digest(root, self._found(root, plain)))

        def of_made() -> str:
            root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = [each for one in made.values() for each in self._found_made(root, one)]
                return digest(root, found)
            finally:
                os.close(root)

        found = []
        if plain:
            selection = (
                *plain, self._one.keyword, self._one.flag("unpack"), self._parents, self._ignored,
                attributes.uid, attributes.gid, self._one.flag("chmod"),
            )  # fmt: skip
            found.append(await workshop.digests.of(tree, selection, of_plain))
        if made:
            found.append(await workshop.in_thread(of_made))
        return found

    async def _make_sources(self, folder: Path) -> dict[str, Made]:
        """Here-documents and what is far away, as files of the folder."""
        heredocs = {heredoc.name: heredoc for heredoc in self._one.heredocs}
        made: dict[str, Made] = {}
        if self._one.flag("checksum") and not all(map(is_remote, self._sources)):
            raise InvalidRequest("checksum requires HTTP(S) or Git sources")
        for number, source in enumerate(self._sources):
            match = _HEREDOC.fullmatch(source)
            heredoc = heredocs.get(match[1]) if match else None
            if heredoc is not None:
                path = f"{number}/{heredoc.name}"
                content = heredoc.content
                if heredoc.expand:
                    content = expand_text(content, self._names, self._workshop.escape)
                (folder / str(number)).mkdir()
                (folder / path).write_text(content, errors="surrogateescape")
                os.utime(folder / path, (0, 0))
                (folder / path).chmod(0o644)
                made[source] = Made(path)
            elif is_remote(source) and self._one.keyword != "ADD":
                raise InvalidRequest(f"source can't be a URL for COPY: {source}")
            elif is_git(source):
                made[source] = await self._clone(source, folder / str(number))
            elif is_url(source):
                (folder / str(number)).mkdir()
                made[source] = await self._download(source, folder, str(number))
        return made

    async def _clone(self, source: str, folder: Path) -> Made:
        address = parse_git_address(source)
        address = replace(
            address,
            keep_git=self._one.is_set("keep-git-dir", default=address.keep_git),
            checksum=self._one.flag("checksum") or address.checksum,
        )
        workshop = self._workshop
        await workshop.in_thread(lambda: git.check_out(address, folder, workshop.access))
        return Made(folder.name)

    async def _download(self, url: str, folder: Path, number: str) -> Made:
        name = download.file_name(url)
        if not name and self._destination.endswith("/"):
            raise InvalidRequest(f"cannot determine filename from url: {url}")
        path = f"{number}/{name or 'download'}"
        workshop = self._workshop

        def fetch() -> str:
            modified = download.download(url, folder / path, workshop.access)
            os.utime(folder / path, (modified, modified))
            (folder / path).chmod(0o600)
            return download.digest(folder / path)

        digest = await workshop.in_thread(fetch)
        wanted = self._one.flag("checksum")
        if wanted and not re.fullmatch("sha256:[0-9a-f]{64}", wanted):
            raise InvalidRequest(f"invalid checksum {wanted!r}: write sha256:HASH")
        if wanted and digest != wanted:
            raise InvalidRequest(f"digest mismatch {digest}: {wanted}")
        return Made(path, unpack=self._one.is_set("unpack"))

    async def _attributes(self) -> Attributes:
        names = self._names
        chown, chmod = self._one.flag("chown"), self._one.flag("chmod")
        mode, of_folders = None, None
        if chmod:
            mode, of_folders = parse_mode(expand_word(chmod, names, self._workshop.escape))
        if not chown:
            # What another stage made keeps its owners; whose files a client sent is its own affair.
            owner = 0 if self._tree.is_context else None
            return Attributes(owner, owner, mode=mode, mode_of_folders=of_folders)
        user, _, group = expand_word(chown, names, self._workshop.escape).partition(":")
        if user.isdecimal():  # a number alone is both; of a name it is the account's own group
            group = group or user
        found = await account(self._workshop, self._lowers(), f"{user}:{group}".rstrip(":"))
        return replace(found, is_asked=True, mode=mode, mode_of_folders=of_folders)


def _is_to_be_made(source: str) -> bool:
    return is_remote(source) or _HEREDOC.fullmatch(source) is not None


async def account(workshop: Workshop, lowers: Sequence[str], user: str) -> Attributes:
    """Ids of `name`, `uid`, `name:group`, ..., by the account files of these layers."""
    passwd = groups = ""
    if not user.replace(":", "").isdecimal():
        passwd, groups = await workshop.on_layers(lowers, _account_files)
    try:
        found = resolve(user, (), passwd, groups)
    except UnknownUser as error:
        raise InvalidRequest(str(error)) from None
    return Attributes(found.uid, found.gid)


def _together(digests: Sequence[str]) -> str:
    return sha256(" ".join(digests).encode()).hexdigest()


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
