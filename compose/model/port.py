"""A published port."""

from compose.dataclass import dataclass
from compose.model.document import Document, filled


@dataclass(frozen=True, slots=True)
class Port:
    target: int  # in the container
    published: str = (
        ""  # on the host: "8080"; a range "9000-9005" means any free one of it; "" = any
    )
    protocol: str = "tcp"
    host_ip: str = ""  # "" = every address
    mode: str = "ingress"
    name: str = ""
    app_protocol: str = ""

    @property
    def host_ports(self) -> range:
        """The host ports that may be used; empty when any will do."""
        if not self.published:
            return range(0)
        first, _, last = self.published.partition("-")
        return range(int(first), int(last or first) + 1)

    def to_document(self) -> Document:
        return filled(
            name=self.name,
            mode=self.mode,
            host_ip=self.host_ip,
            target=self.target,
            published=self.published,
            protocol=self.protocol,
            app_protocol=self.app_protocol,
        )

    def __str__(self) -> str:
        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        outside = ":".join(part for part in (host, self.published) if part)
        return f"{outside}:{self.target}/{self.protocol}" if outside else self.inside

    @property
    def inside(self) -> str:
        return f"{self.target}/{self.protocol}"
