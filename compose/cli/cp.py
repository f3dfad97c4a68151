"""`pycompose cp`: files from a service's container to this machine, and the other way."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, Annotated

import typer

from compose.cli.context import Context
from compose.cli.find import check_services, find_project, number, project_containers
from compose.cli.tars import pack, unpack
from compose.client.containers import ContainerSummary, PathStat
from compose.client.engine import Engine
from compose.client.errors import NotFound
from compose.dataclass import dataclass
from compose.errors import UsageError

_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Place:
    """`service` "": this machine. `path` "-" there: standard input or output, as a tar."""

    service: str
    path: str

    @property
    def takes_content(self) -> bool:
        """`folder/.` means what is in it."""
        return self.path == "." or self.path.endswith("/.")


def register(app: typer.Typer) -> None:
    @app.command("cp")
    def cp(
        ctx: typer.Context,
        source: Annotated[str, typer.Argument(metavar="[SERVICE:]PATH", hidden=True)],
        target: Annotated[str, typer.Argument(metavar="[SERVICE:]PATH", hidden=True)],
        archive: Annotated[
            bool, typer.Option("-a", "--archive", help="Keep the owners' ids.")
        ] = False,
        follow: Annotated[
            bool, typer.Option("-L", "--follow-link", help="What a link leads to.")
        ] = False,
        index: Annotated[int, typer.Option("--index", help="Which replica.", metavar="NUMBER")] = 0,
        all: Annotated[bool, typer.Option("--all", help="Those of run, too.")] = False,
    ) -> int:
        one, other = parse_place(source), parse_place(target)
        if bool(one.service) == bool(other.service):
            raise UsageError(
                "one of the two must be in a service, and one here\n"
                "  hint: pycompose cp web:/etc/hosts . or pycompose cp page.html web:/srv/"
            )
        asyncio.run(_copy(ctx.obj, one, other, archive, follow, index, all))
        return 0


def parse_place(text: str) -> Place:
    """`SERVICE:PATH`; a colon behind a slash is part of a name here."""
    head, colon, path = text.partition(":")
    if colon and head and not head.startswith(".") and "/" not in head:
        return Place(head, path or "/")
    return Place("", text)


async def _copy(
    context: Context,
    source: Place,
    target: Place,
    archive: bool,
    follow: bool,
    index: int,
    one_offs: bool,
) -> None:
    service = source.service or target.service
    name, project = find_project(context)
    check_services(project, [service])
    engine = await context.engine()
    rows = await project_containers(engine, name, [service], oneoff=one_offs)
    rows = [row for row in rows if index in (0, number(row))]
    if not rows:
        which = f"container {index} of service" if index else "container of service"
        raise UsageError(f"there is no {which} {service!r}\n  hint: make it with: pycompose up -d")
    if source.service:
        await _copy_out(context, engine, rows[0], source, target.path, archive, follow)
    else:
        await _copy_in(context, engine, rows, source, target.path, archive, follow)


# --- from a container -------------------------------------------------------------------------


async def _copy_out(
    context: Context,
    engine: Engine,
    row: ContainerSummary,
    source: Place,
    target: str,
    archive: bool,
    follow: bool,
) -> None:
    # Engines differ in what names they give to what is in a folder; not so for the folder.
    path = (
        (source.path.removesuffix(".").rstrip("/") or "/") if source.takes_content else source.path
    )
    if follow and (link := (await engine.containers.stat_path(row.id, path)).link_target):
        path = link
    async with engine.containers.get_archive(row.id, path) as blocks:
        if target == "-":
            async for block in blocks:
                sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            return
        found = await engine.containers.stat_path(row.id, path)
        folder, name = outside(context.directory / target, target, source, found)
        with tempfile.TemporaryFile() as spool:
            async for block in blocks:
                spool.write(block)
            spool.seek(0)
            await asyncio.to_thread(unpack, spool, folder, name, owners=archive)


def outside(place: Path, written: str, source: Place, found: PathStat) -> tuple[Path, str]:
    """The folder that exists, and what the copy is called in it, as `cp -r` decides."""
    if place.is_dir():
        return place, "" if source.takes_content and found.is_directory else found.name
    if place.exists():
        if found.is_directory:
            raise UsageError(f"cannot copy a folder onto the file {written}")
        return place.parent, place.name
    if not place.parent.is_dir():
        raise UsageError(f"cannot copy to {written}: there is no folder {place.parent}")
    if written.endswith("/") and not found.is_directory:
        raise UsageError(f"cannot copy to {written}: there is no such folder")
    return place.parent, place.name


# --- into containers --------------------------------------------------------------------------


async def _copy_in(
    context: Context,
    engine: Engine,
    rows: Sequence[ContainerSummary],
    source: Place,
    target: str,
    archive: bool,
    follow: bool,
) -> None:
    if source.path == "-":
        with tempfile.TemporaryFile() as spool:
            await asyncio.to_thread(_read_input, spool)
            for row in rows:
                await _put(engine, row, target, spool, archive)
        return
    here = context.directory / source.path
    if not here.exists() and not here.is_symlink():
        raise UsageError(f"cannot copy {source.path}: there is no such file")
    for row in rows:
        folder, name = await _inside(engine, row, target, here, source)
        with tempfile.TemporaryFile() as spool:
            await asyncio.to_thread(pack, spool, here, name, follow=follow)
            await _put(engine, row, folder, spool, archive)


async def _inside(
    engine: Engine, row: ContainerSummary, target: str, here: Path, source: Place
) -> tuple[str, str]:
    """The container's folder, and what the copy is called in it."""
    try:
        found = await engine.containers.stat_path(row.id, target)
        if found.link_target:
            target = found.link_target
            found = await engine.containers.stat_path(row.id, target)
        if found.is_directory:
            return target, "" if source.takes_content and here.is_dir() else here.name
        if here.is_dir():
            raise UsageError(f"cannot copy a folder onto the file {target} in {row.name}")
    except NotFound:
        if target.endswith("/") and not here.is_dir():
            raise UsageError(
                f"cannot copy to {target} in {row.name}: there is no such folder"
            ) from None
    folder, _, name = target.rstrip("/").rpartition("/")
    return folder or "/", name


def _read_input(spool: IO[bytes]) -> None:
    while block := sys.stdin.buffer.read(_BLOCK):
        spool.write(block)


async def _put(
    engine: Engine, row: ContainerSummary, folder: str, spool: IO[bytes], archive: bool
) -> None:
    spool.seek(0)

    async def blocks() -> AsyncIterator[bytes]:
        while block := spool.read(_BLOCK):
            yield block

    await engine.containers.put_archive(
        row.id, folder, blocks(), keep_owners=archive, keep_kinds=True
    )
