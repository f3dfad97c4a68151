"""What services share: networks, volumes, configs, secrets, models."""

from collections.abc import Mapping
from dataclasses import field

from compose.dataclass import dataclass
from compose.model.document import Document, documents, filled, mapping


@dataclass(frozen=True, slots=True)
class IpamPool:
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(
            subnet=self.subnet,
            gateway=self.gateway,
            ip_range=self.ip_range,
            aux_addresses=mapping(self.aux_addresses),
        )


@dataclass(frozen=True, slots=True)
class Ipam:
    driver: str = ""
    config: tuple[IpamPool, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(
            driver=self.driver, config=documents(self.config), options=mapping(self.options)
        )


@dataclass(frozen=True, slots=True)
class Network:
    key: str  # how services of this project call it
    name: str  # how the engine calls it
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    ipam: Ipam = field(default_factory=Ipam)
    external: bool = False
    internal: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None

    def to_document(self) -> Document:
        document = filled(name=self.name, driver=self.driver, driver_opts=mapping(self.driver_opts))
        document["ipam"] = self.ipam.to_document()
        document |= filled(
            external=self.external,
            internal=self.internal,
            attachable=self.attachable,
            labels=mapping(self.labels),
        )
        if self.enable_ipv4 is not None:
            document["enable_ipv4"] = self.enable_ipv4
        if self.enable_ipv6 is not None:
            document["enable_ipv6"] = self.enable_ipv6
        return document


@dataclass(frozen=True, slots=True)
class Volume:
    key: str
    name: str
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    external: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    def to_document(self) -> Document:
        return filled(
            name=self.name,
            driver=self.driver,
            driver_opts=mapping(self.driver_opts),
            external=self.external,
            labels=mapping(self.labels),
        )


@dataclass(frozen=True, slots=True)
class FileObject:
    """A config or a secret: a file that services get without it being in their image.

    `content` is what it holds; None when that isn't known here (external, a driver's, unreadable).
    """

    key: str
    name: str
    file: str = ""  # absolute
    environment: str = ""
    inline: str = ""  # `content:` of a config, as the file says it
    external: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    template_driver: str = ""
    content: bytes | None = field(default=None, repr=False)
    digest: str = ""  # "sha256:..." of content; "" when that is None
    executable: bool = False  # the file is
    detached: bool = False  # the file holds something else: content counts

    def to_document(self) -> Document:
        # What an environment variable holds is never printed: it may be a secret.
        return filled(
            name=self.name,
            file=self.file,
            environment=self.environment,
            content=self.inline,
            external=self.external,
            labels=mapping(self.labels),
            driver=self.driver,
            driver_opts=mapping(self.driver_opts),
            template_driver=self.template_driver,
        )


@dataclass(frozen=True, slots=True)
class ConfigFile(FileObject):
    """An entry of the top-level `configs`."""


@dataclass(frozen=True, slots=True)
class Secret(FileObject):
    """An entry of the top-level `secrets`."""


@dataclass(frozen=True, slots=True)
class Model:
    """An entry of the top-level `models`."""

    key: str
    name: str
    model: str
    context_size: int | None = None
    runtime_flags: tuple[str, ...] = ()

    def to_document(self) -> Document:
        return filled(
            name=self.name,
            model=self.model,
            context_size=self.context_size,
            runtime_flags=list(self.runtime_flags),
        )
