"""Calls about networks."""

from __future__ import annotations

import time

from aiohttp import web

from engine.api.answer import empty, reply
from engine.api.fields import Fields
from engine.api.parts import Engine
from engine.api.request import Request
from engine.api.selection import select_networks, wanted_for_prune
from engine.api.shown import Document, timestamp
from engine.api.wire import read_endpoint, read_network
from engine.errors import InvalidRequest, NotFound
from engine.networks.model import (
    BOOLEANS,
    AddressPool,
    Endpoint,
    GatewayMode,
    Network,
    version_of,
)
from engine.networks.request import warnings_of


async def create(request: Request, engine: Engine) -> web.Response:
    spec = read_network(await request.document())
    network = await engine.networks.create(spec)
    tell(engine, "create", network)
    return reply(201, {"Id": network.id, "Warning": warnings_of(spec)})


async def listing(request: Request, engine: Engine) -> web.Response:
    chosen = select_networks(
        engine.networks.list(),
        request.query.filters(),
        is_used=engine.containers.usage().networks.__contains__,
    )
    shown = inspect_json if request.version < (1, 28) else lambda _, network: network_json(network)
    return reply(200, [shown(engine, network) for network in chosen])


async def inspect(request: Request, engine: Engine) -> web.Response:
    verbose, scope = request.query.text("verbose"), request.query.text("scope")
    if verbose.lower() not in BOOLEANS and verbose:
        raise InvalidRequest(f"invalid value for verbose: {verbose}")
    if scope not in ("", "local"):  # other scopes are a swarm's: nothing is found there
        raise NotFound(f"network {request['id']} not found")
    return reply(200, inspect_json(engine, engine.networks.get(request["id"])))


def inspect_json(engine: Engine, network: Network) -> Document:
    document = network_json(network)
    document["Containers"] = {
        place.endpoint.container_id: endpoint_json(place.endpoint)
        for record in engine.containers.network_users(network.id)
        for place in record.attachments
        if place.endpoint is not None and place.network_id == network.id
    }
    return document


async def remove(request: Request, engine: Engine) -> web.Response:
    tell(engine, "destroy", await engine.networks.remove(request["id"]))
    return empty(204)


def tell(engine: Engine, action: str, network: Network) -> None:
    engine.events.publish(
        "network", action, network.id, {"name": network.name, "type": network.driver}
    )


async def connect(request: Request, engine: Engine) -> web.Response:
    body = Fields(await request.document())
    settings = read_endpoint(body.inside("EndpointConfig"))
    await engine.containers.connect(request["id"], body.text("Container"), settings)
    return empty(200)


async def disconnect(request: Request, engine: Engine) -> web.Response:
    body = Fields(await request.document())
    await engine.containers.disconnect(
        request["id"], body.text("Container"), force=body.flag("Force")
    )
    return empty(200)


async def prune(request: Request, engine: Engine) -> web.Response:
    wanted = wanted_for_prune(request.query.filters(), now=time.time_ns())
    removed = await engine.networks.prune(
        lambda network: (
            wanted(network.labels, network.created)
            and not engine.containers.network_users(network.id)
        )
    )
    for network in removed:
        tell(engine, "destroy", network)
    engine.events.publish("network", "prune", "", {"reclaimed": "0"})
    return reply(200, {"NetworksDeleted": [network.name for network in removed] or None})


# How the default bridge works, in the words that Docker has for it.
_DEFAULT_BRIDGE = {
    "com.docker.network.bridge.enable_icc": "true",
    "com.docker.network.bridge.enable_ip_masquerade": "true",
    "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
    "com.docker.network.driver.mtu": "1500",
}


def network_json(network: Network) -> Document:
    is_default = network.predefined and network.bridge
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created),
        "Scope": network.scope,
        "Driver": network.driver,
        "EnableIPv4": network.enable_ipv4,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver,
            "Options": network.ipam_options,
            "Config": [pool_json(network, pool) for pool in network.listed_pools] or None,
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": network.ingress,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": {},
        "Options": {**_DEFAULT_BRIDGE, **network.options} if is_default else network.options,
        "Labels": network.labels,
    }


def pool_json(network: Network, pool: AddressPool) -> Document:
    """Of a subnet that was asked for, what was asked for; of another one also its gateway."""
    document: Document = {"Subnet": pool.subnet}
    if pool.ip_range:
        document["IPRange"] = pool.ip_range
    is_plain = network.gateway_mode(version_of(pool.subnet)) is not GatewayMode.ISOLATED
    if pool.gateway and (not pool.gateway_chosen or (pool.subnet_chosen and is_plain)):
        document["Gateway"] = pool.gateway
    if pool.auxiliary:
        document["AuxiliaryAddresses"] = pool.auxiliary
    return document


def endpoint_json(endpoint: Endpoint) -> Document:
    ipv4 = f"{endpoint.ipv4_address}/{endpoint.ipv4_prefix}" if endpoint.ipv4_address else ""
    ipv6 = f"{endpoint.ipv6_address}/{endpoint.ipv6_prefix}" if endpoint.ipv6_address else ""
    return {
        "Name": endpoint.container_name,
        "EndpointID": endpoint.endpoint_id,
        "MacAddress": endpoint.mac_address,
        "IPv4Address": ipv4,
        "IPv6Address": ipv6,
    }
