"""How a service proves that it is well."""

from compose.dataclass import dataclass
from compose.model.document import Document, filled
from compose.model.units import Duration, format_duration


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """None means: what the image says."""

    test: tuple[str, ...] = ()  # ("CMD", ...), ("CMD-SHELL", text) or ("NONE",)
    timeout: Duration | None = None
    interval: Duration | None = None
    retries: int | None = None
    start_period: Duration | None = None
    start_interval: Duration | None = None
    disable: bool = False

    @property
    def is_disabled(self) -> bool:
        return self.disable or self.test[:1] == ("NONE",)

    def to_document(self) -> Document:
        document = filled(test=list(self.test))
        for name, value in (("timeout", self.timeout), ("interval", self.interval)):
            if value is not None:
                document[name] = format_duration(value)
        if self.retries is not None:
            document["retries"] = self.retries
        for name, value in (
            ("start_period", self.start_period),
            ("start_interval", self.start_interval),
        ):
            if value is not None:
                document[name] = format_duration(value)
        return document | filled(disable=self.disable)
