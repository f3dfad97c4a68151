"""What a build is asked for and what it tells, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.containers.model import HostConfig
from engine.errors import Failure
from engine.images.model import Progress
from engine.oci.reference import Reference
from engine.registry.credentials import ANONYMOUS, Credentials

Told = str | Progress  # a line of output, or of a pull


@dataclass(frozen=True, slots=True)
class BuildRequest:
    tags: tuple[Reference, ...] = ()
    dockerfile: str = ""  # a path in the context; "" = Dockerfile
    remote: str = ""  # where the context comes from instead of the request's body
    context: str = ""  # a kept context; the body has the Dockerfile alone then
    contexts: Mapping[str, str] = field(default_factory=dict)  # by name: see contexts.py
    build_args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    platform: str = ""
    no_cache: bool = False
    no_cache_stages: tuple[str, ...] = ()
    cache_from: tuple[str, ...] = ()  # images here, instead of the own cache: as Docker has it
    cache_sources: tuple[str, ...] = ()  # images of registries, beside it: as BuildKit has it
    entitlements: frozenset[str] = frozenset()  # "network.host", "security.insecure"
    pull: bool = False
    host: HostConfig = field(
        default_factory=HostConfig
    )  # what limits RUN: network, memory, extra hosts
    credentials: Mapping[str, Credentials] = field(default_factory=dict)  # by registry
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    ssh: Mapping[str, str] = field(default_factory=dict)  # id -> the socket of an agent

    def credentials_for(self, reference: Reference) -> Credentials:
        names = [reference.domain]
        if reference.domain == "docker.io":
            names += ["https://index.docker.io/v1/", "index.docker.io"]
        known = (self.credentials[name] for name in names if name in self.credentials)
        return next(known, ANONYMOUS)


class StepFailed(Failure):
    """A command of a build ended badly; the text says which, in Docker's words. `details`: lines
    on where it stands and what it wrote last."""

    def __init__(self, text: str, code: int, details: str) -> None:
        super().__init__(text)
        self.code = code
        self.details = details
