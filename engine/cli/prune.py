"""`prune`: what nothing uses goes, of one kind or of all."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from compose.client import fields
from compose.client.containers import encode_filters
from compose.client.engine import Engine
from compose.client.human import human_size
from compose.errors import UsageError
from engine.cli.images.names import removed_lines
from engine.cli.options import PruneFilter, Yes, pairs
from engine.cli.session import on_engine

Filters = Mapping[str, Sequence[str]]
# Kind -> its call, the list of what went, and that list's title.
CALLS = {
    "containers": ("/containers/prune", "ContainersDeleted", "Deleted Containers:"),
    "images": ("/images/prune", "ImagesDeleted", "Deleted Images:"),
    "networks": ("/networks/prune", "NetworksDeleted", "Deleted Networks:"),
    "volumes": ("/volumes/prune", "VolumesDeleted", "Deleted Volumes:"),
    "build": ("/build/prune", "CachesDeleted", "Deleted build cache objects:"),
}


def prune_containers(ctx: typer.Context, filter: PruneFilter = None, force: Yes = False) -> None:
    sure(force, "all stopped containers")
    _prune(ctx, {"containers": pairs("--filter", filter)})


def prune_networks(ctx: typer.Context, filter: PruneFilter = None, force: Yes = False) -> None:
    sure(force, "all networks that no container is on, but for those that the engine made")
    _prune(ctx, {"networks": pairs("--filter", filter)}, total=False)


def prune_images(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="Also those that have a name.")] = False,
    filter: PruneFilter = None,
    force: Yes = False,
) -> None:
    sure(force, "all images that no container uses" if all else "all images without a name")
    _prune(ctx, {"images": {**pairs("--filter", filter), "dangling": [_no(all)]}})


def prune_volumes(
    ctx: typer.Context,
    all: Annotated[
        bool, typer.Option("-a", "--all", help="Also those that were given a name.")
    ] = False,
    filter: PruneFilter = None,
    force: Yes = False,
) -> None:
    kind = "volumes" if all else "volumes without a name of their own"
    sure(force, f"all {kind} that no container uses")
    _prune(ctx, {"volumes": {**pairs("--filter", filter), **({"all": ["true"]} if all else {})}})


def prune_builds(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="Also what is in use.")] = False,
    filter: PruneFilter = None,
    force: Yes = False,
    keep_storage: Annotated[
        str, typer.Option("--keep-storage", help="How much may stay, as 1g.", metavar="BYTES")
    ] = "",
) -> None:
    from engine.cli.containers.readers import size

    sure(force, "the builder's cache" if all else "what of the builder's cache isn't in use")
    more = {"all": all, "keep-storage": size("--keep-storage", keep_storage) or None}
    _prune(ctx, {"build": pairs("--filter", filter)}, build=more)


def prune_system(
    ctx: typer.Context,
    all: Annotated[bool, typer.Option("-a", "--all", help="Also images that have a name.")] = False,
    filter: PruneFilter = None,
    force: Yes = False,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Also volumes without a name of their own.")
    ] = False,
) -> None:
    chosen = pairs("--filter", filter)
    if volumes and "until" in chosen:
        raise UsageError("cannot use --volumes with --filter until: volumes don't tell their age")
    sure(
        force,
        "all stopped containers",
        "all networks that no container is on",
        *(["all volumes without a name of their own that no container uses"] if volumes else []),
        "all images that no container uses" if all else "all images without a name",
        "the builder's cache",
    )
    kinds: dict[str, Filters] = {"containers": chosen, "networks": chosen}
    if volumes:
        kinds["volumes"] = chosen
    kinds["images"] = {**chosen, "dangling": [_no(all)]}
    kinds["build"] = {key: value for key, value in chosen.items() if key == "until"}
    _prune(ctx, kinds, build={"all": all})


def _no(flag: bool) -> str:
    return "false" if flag else "true"


def sure(force: bool, *what: str) -> None:
    """Raises Abort unless the user says yes."""
    if force:
        return
    if len(what) == 1:
        print(f"WARNING! This will remove {what[0]}.")
    else:
        print("WARNING! This will remove:", *(f"  - {line}" for line in what), "", sep="\n")
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise typer.Exit(1)


def _prune(
    ctx: typer.Context,
    kinds: Mapping[str, Filters],
    *,
    build: Mapping[str, bool | int | None] | None = None,
    total: bool = True,
) -> None:
    """In the order of `kinds`: networks are free only when the containers have gone."""

    async def work(engine: Engine) -> int:
        reclaimed = 0
        for kind, chosen in kinds.items():
            path, key, title = CALLS[kind]
            query = {"filters": encode_filters(chosen), **(build or {} if kind == "build" else {})}
            answer = fields.mapping(
                await engine.transport.json("POST", path, query=query), "what was removed"
            )
            reclaimed += fields.number(answer, "SpaceReclaimed", 0)
            gone = fields.items(answer.get(key), key)
            if gone:
                lines = removed_lines(gone) if kind == "images" else "\n".join(map(str, gone))
                print(f"{title}\n{lines}\n")
        return reclaimed

    reclaimed = on_engine(ctx, work)
    if total:
        print(f"Total reclaimed space: {human_size(reclaimed)}")
