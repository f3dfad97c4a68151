"""What stands at the top level beside the services, out of the tree."""

import ipaddress

from compose.load.fields import Fields, absolute
from compose.load.tree import spelled
from compose.model.resources import ConfigFile, Ipam, IpamPool, Model, Network, Secret, Volume


def bind_network(key: str, fields: Fields, project_name: str) -> Network:
    ipam = fields.inner("ipam")
    extra = [name for name in fields.names() if name not in ("external", "name")]
    if fields.flag("external") and extra and not extra[0].startswith("x-"):
        fields.problems.warn(
            fields.node.keys[extra[0]],
            (*fields.place, extra[0]),
            f"an external network is as it is: {extra[0]} changes nothing",
            'remove it, or remove "external"',
        )
    return Network(
        key=key,
        name=_resource_name(key, fields, project_name),
        driver=fields.text("driver"),
        driver_opts=fields.pairs("driver_opts"),
        ipam=_ipam(ipam) if ipam else Ipam(),
        external=fields.flag("external"),
        internal=fields.flag("internal"),
        attachable=fields.flag("attachable"),
        labels=fields.pairs("labels"),
        enable_ipv4=fields.optional_flag("enable_ipv4"),
        enable_ipv6=fields.optional_flag("enable_ipv6"),
    )


def _ipam(fields: Fields) -> Ipam:
    return Ipam(
        driver=fields.text("driver"),
        config=tuple(_pool(entry) for entry in fields.each("config")),
        options=fields.pairs("options"),
    )


def _pool(fields: Fields) -> IpamPool:
    subnet = _subnet(fields, "subnet")
    inner = _subnet(fields, "ip_range")
    if subnet and inner and not (inner.version == subnet.version and inner.subnet_of(subnet)):  # type: ignore[arg-type]
        fields.add("ip_range", f"{inner} lies outside of the subnet {subnet}")
    gateway = fields.address("gateway")
    if subnet and _is_address(gateway) and ipaddress.ip_address(gateway) not in subnet:
        fields.add("gateway", f"{gateway} lies outside of the subnet {subnet}")
    return IpamPool(
        subnet=fields.text("subnet"),
        gateway=gateway,
        ip_range=fields.text("ip_range"),
        aux_addresses=fields.pairs("aux_addresses"),
    )


def _subnet(fields: Fields, key: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    given = fields.text(key)
    if not given:
        return None
    try:
        return ipaddress.ip_network(given, strict=False)
    except ValueError:
        fields.add(key, f'"{given}" isn\'t a subnet', 'write it as in "10.5.0.0/16"')
        return None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def bind_volume(key: str, fields: Fields, project_name: str) -> Volume:
    options = fields.pairs("driver_opts")
    driver = fields.text("driver")
    # A bind in disguise: its folder may be written relative to the project. As in Compose, only
    # where the driver is named.
    inner = fields.inner("driver_opts")
    device = inner.scalar("device") if inner else None
    if device is not None and driver == "local" and options.get("o") == "bind":
        options["device"] = absolute(spelled(device.value) or ".", device)
    return Volume(
        key=key,
        name=_resource_name(key, fields, project_name),
        driver=driver,
        driver_opts=options,
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
    )


def bind_config(key: str, fields: Fields, project_name: str) -> ConfigFile:
    return ConfigFile(
        key=key,
        name=_resource_name(key, fields, project_name),
        file=fields.path("file"),
        environment=fields.text("environment"),
        inline=fields.text("content"),
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
        template_driver=fields.text("template_driver"),
    )


def bind_secret(key: str, fields: Fields, project_name: str) -> Secret:
    return Secret(
        key=key,
        name=_resource_name(key, fields, project_name),
        file=fields.path("file"),
        environment=fields.text("environment"),
        external=fields.flag("external"),
        labels=fields.pairs("labels"),
        driver=fields.text("driver"),
        driver_opts=fields.pairs("driver_opts"),
        template_driver=fields.text("template_driver"),
    )


def bind_model(key: str, fields: Fields) -> Model:
    return Model(
        key=key,
        name=fields.text("name"),
        model=fields.required("model", "say which model to run"),
        context_size=fields.whole("context_size"),
        runtime_flags=fields.texts("runtime_flags"),
    )


def _resource_name(key: str, fields: Fields, project_name: str) -> str:
    """What the engine calls it: projects don't share what doesn't say so. A name that is written
    and blank stays so, for the checks to tell."""
    if "name" in fields:
        return fields.text("name")
    return key if fields.flag("external") else f"{project_name}_{key}"
