"""`pyengine network …` but for inspect and prune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.tables import Row, print_rows
from compose.client.times import parse_time
from engine.cli import words
from engine.cli.containers.readers import key_values
from engine.cli.options import Container, Filter, Format, Network, Networks, NoTrunc, Quiet, filters
from engine.cli.session import each, missing_is_fine, on_engine
from engine.cli.subnets import pools

TITLES = {
    "ID": "NETWORK ID",
}
COLUMNS = ("ID", "Name", "Driver", "Scope")


def ls(
    ctx: typer.Context,
    filter: Filter = None,
    format: Format = "",
    no_trunc: NoTrunc = False,
    quiet: Quiet = False,
) -> None:
    async def ask(engine: Engine) -> object:
        return await engine.transport.json("GET", "/networks", query={"filters": filters(filter)})

    found = fields.items(on_engine(ctx, ask), "the list of networks")
    rows = [row(fields.mapping(item, "a network"), whole=no_trunc) for item in found]
    rows.sort(key=lambda row: str(row["Name"]))
    print_rows(rows, format, titles=TITLES, columns=COLUMNS, quiet="ID" if quiet else "")


def row(network: Mapping[str, object], *, whole: bool) -> Row:
    labels = fields.text_map(network, "Labels")
    return {
        "ID": words.short_id(fields.text(network, "Id"), whole=whole),
        "Name": fields.text(network, "Name"),
        "Driver": fields.text(network, "Driver", ""),
        "Scope": fields.text(network, "Scope", ""),
        "IPv4": words.yes(fields.flag(network, "EnableIPv4")),
        "IPv6": words.yes(fields.flag(network, "EnableIPv6")),
        "Internal": words.yes(fields.flag(network, "Internal")),
        "Labels": words.pairs(labels),
        "Label": lambda name: labels.get(name, ""),
        "CreatedAt": words.local_time(parse_time(fields.text(network, "Created", "")) / 1e9),
    }


def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NETWORK", hidden=True)],
    driver: Annotated[str, typer.Option("-d", "--driver", help="bridge or macvlan.")] = "bridge",
    opt: Annotated[
        list[str] | None, typer.Option("-o", "--opt", help="For the driver.", metavar="KEY=VALUE")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Its label.", metavar="KEY[=VALUE]")
    ] = None,
    subnet: Annotated[
        list[str] | None, typer.Option("--subnet", help="Its addresses.", metavar="CIDR")
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="Of the subnet.", metavar="ADDRESS")
    ] = None,
    ip_range: Annotated[
        list[str] | None,
        typer.Option("--ip-range", help="Containers get one of these.", metavar="CIDR"),
    ] = None,
    aux_address: Annotated[
        list[str] | None,
        typer.Option("--aux-address", help="Kept free for something else.", metavar="NAME=ADDRESS"),
    ] = None,
    ipam_driver: Annotated[
        str, typer.Option("--ipam-driver", help="What manages its addresses.")
    ] = "default",
    ipam_opt: Annotated[
        list[str] | None, typer.Option("--ipam-opt", help="For that.", metavar="KEY=VALUE")
    ] = None,
    ipv4: Annotated[bool, typer.Option("--ipv4/--no-ipv4", help="IPv4 addresses.")] = True,
    ipv6: Annotated[bool, typer.Option("--ipv6/--no-ipv6", help="IPv6 addresses.")] = False,
    internal: Annotated[bool, typer.Option("--internal", help="No way out.")] = False,
    attachable: Annotated[
        bool, typer.Option("--attachable", help="For containers of no service, too.")
    ] = False,
    ingress: Annotated[bool, typer.Option("--ingress", help="A swarm's routing mesh.")] = False,
    scope: Annotated[str, typer.Option("--scope", help="local or swarm.")] = "",
    config_only: Annotated[
        bool, typer.Option("--config-only", help="Only a configuration for others.")
    ] = False,
    config_from: Annotated[
        str, typer.Option("--config-from", help="Configured as this one.", metavar="NETWORK")
    ] = "",
) -> None:
    kept_free = key_values("--aux-address", aux_address or ())
    body: dict[str, object] = {
        "Name": name,
        "Driver": driver,
        "Scope": scope,
        "Internal": internal,
        "Attachable": attachable,
        "Ingress": ingress,
        "ConfigOnly": config_only,
        "EnableIPv4": ipv4,
        "EnableIPv6": ipv6,
        "Options": key_values("--opt", opt or ()),
        "Labels": key_values("--label", label or ()),
        "IPAM": {
            "Driver": ipam_driver,
            "Options": key_values("--ipam-opt", ipam_opt or ()),
            "Config": pools(subnet or (), ip_range or (), gateway or (), kept_free),
        },
    }
    if config_from:
        body["ConfigFrom"] = {"Network": config_from}

    async def work(engine: Engine) -> str:
        return await engine.networks.create(body)

    print(on_engine(ctx, work))


def rm(
    ctx: typer.Context,
    networks: Networks,
    force: Annotated[
        bool, typer.Option("-f", "--force", help="One that isn't there is fine.")
    ] = False,
) -> int:
    async def act(engine: Engine, name: str) -> None:
        with missing_is_fine(force):
            await engine.networks.remove(name)

    return each(ctx, networks, act)


def connect(
    ctx: typer.Context,
    network: Network,
    container: Container,
    alias: Annotated[
        list[str] | None, typer.Option("--alias", help="Another name for it there.")
    ] = None,
    ip: Annotated[str, typer.Option("--ip", help="Its IPv4 address there.")] = "",
    ip6: Annotated[str, typer.Option("--ip6", help="Its IPv6 address there.")] = "",
    link: Annotated[
        list[str] | None,
        typer.Option("--link", help="A name for another container.", metavar="CONTAINER[:ALIAS]"),
    ] = None,
    link_local_ip: Annotated[
        list[str] | None, typer.Option("--link-local-ip", help="A link-local address.")
    ] = None,
    driver_opt: Annotated[
        list[str] | None,
        typer.Option("--driver-opt", help="For the driver.", metavar="KEY=VALUE"),
    ] = None,
    gw_priority: Annotated[
        int, typer.Option("--gw-priority", help="The highest gives the default route.")
    ] = 0,
) -> None:
    addresses = {
        "IPv4Address": ip,
        "IPv6Address": ip6,
        "LinkLocalIPs": link_local_ip or [],
    }
    endpoint = {
        "Aliases": alias or [],
        "Links": link or [],
        "DriverOpts": key_values("--driver-opt", driver_opt or ()),
        "GwPriority": gw_priority,
        "IPAMConfig": {name: value for name, value in addresses.items() if value},
    }

    async def work(engine: Engine) -> None:
        await engine.networks.connect(network, container, endpoint)

    on_engine(ctx, work)


def disconnect(
    ctx: typer.Context,
    network: Network,
    container: Container,
    force: Annotated[bool, typer.Option("-f", "--force", help="Whatever state it is in.")] = False,
) -> None:
    async def work(engine: Engine) -> None:
        await engine.networks.disconnect(network, container, force=force)

    on_engine(ctx, work)
