"""How a service's image is made."""

from collections.abc import Mapping
from dataclasses import field

from compose.dataclass import dataclass
from compose.model.document import Document, documents, filled, mapping
from compose.model.mount import FileReference
from compose.model.units import Bytes

_REMOTE = ("http://", "https://", "git://", "ssh://", "git@", "github.com/")
IMAGE, SERVICE = "docker-image://", "service:"  # what an additional context may begin with


@dataclass(frozen=True, slots=True)
class Ulimit:
    soft: int
    hard: int
    single: bool = False  # written as one number, and shown so

    def to_document(self) -> Document | int:
        if self.single and self.soft:
            return self.soft
        return filled(soft=self.soft, hard=self.hard)


@dataclass(frozen=True, slots=True)
class Build:
    context: str = ""  # absolute path or URL
    dockerfile: str = ""  # relative to the context, or absolute
    dockerfile_inline: str = ""
    entitlements: tuple[str, ...] = ()
    args: Mapping[str, str | None] = field(default_factory=dict)
    provenance: str = ""
    sbom: str = ""
    ssh: Mapping[str, str] = field(
        default_factory=dict
    )  # id -> path of a key or socket; "" = agent
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    additional_contexts: Mapping[str, str] = field(default_factory=dict)
    pull: bool = False
    extra_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    isolation: str = ""
    network: str = ""
    target: str = ""
    secrets: tuple[FileReference, ...] = ()
    shm_size: Bytes | None = None
    tags: tuple[str, ...] = ()
    ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()
    privileged: bool = False
    built_on: tuple[str, ...] = ()  # other services whose images its Dockerfile names

    @property
    def context_services(self) -> tuple[str, ...]:
        """Whose images are its contexts."""
        contexts = self.additional_contexts.values()
        return tuple(value.removeprefix(SERVICE) for value in contexts if value.startswith(SERVICE))

    @property
    def base_services(self) -> tuple[str, ...]:
        """Whose images have to be there before it."""
        return (*self.context_services, *self.built_on)

    def to_document(self) -> Document:
        return filled(
            context=self.context,
            dockerfile=self.dockerfile,
            dockerfile_inline=self.dockerfile_inline,
            entitlements=list(self.entitlements),
            args=mapping(self.args),
            provenance=self.provenance,
            sbom=self.sbom,
            ssh=[f"{key}={path}" if path else key for key, path in sorted(self.ssh.items())],
            labels=mapping(self.labels),
            cache_from=list(self.cache_from),
            cache_to=list(self.cache_to),
            no_cache=self.no_cache,
            no_cache_filter=list(self.no_cache_filter),
            additional_contexts=mapping(self.additional_contexts),
            pull=self.pull,
            extra_hosts=host_lines(self.extra_hosts),
            isolation=self.isolation,
            network=self.network,
            target=self.target,
            secrets=documents(self.secrets),
            shm_size=str(self.shm_size) if self.shm_size else None,
            tags=list(self.tags),
            ulimits=mapping(self.ulimits, Ulimit.to_document),
            platforms=list(self.platforms),
            privileged=self.privileged,
        )


def is_remote(context: str) -> bool:
    """The address of a repository or an archive."""
    return context.startswith(_REMOTE)


def host_lines(hosts: Mapping[str, tuple[str, ...]]) -> list[str]:
    """`extra_hosts` as Compose prints it: `name=address`, in order."""
    return sorted(f"{name}={address}" for name, addresses in hosts.items() for address in addresses)
