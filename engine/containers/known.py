"""The containers that there are: by id, by name, by prefix, and what they use of other things."""

from engine.containers.container import Container
from engine.containers.model import Record
from engine.containers.usage import Usage, usage_of
from engine.errors import Conflict, InvalidRequest, NotFound


class Known:
    def __init__(self) -> None:
        self.containers: dict[str, Container] = {}  # by id
        # name -> id; "" while the container of that name is just being created.
        self.names: dict[str, str] = {}

    def add(self, container: Container) -> None:
        self.containers[container.id] = container
        self.names[container.record.name] = container.id

    def forget(self, container: Container) -> None:
        self.containers.pop(container.id, None)
        if self.names.get(container.record.name) == container.id:
            del self.names[container.record.name]

    def all(self) -> tuple[Container, ...]:
        return tuple(self.containers.values())

    def records(self) -> tuple[Record, ...]:
        """Newest first."""
        records = (container.shown() for container in self.containers.values())
        return tuple(sorted(records, key=lambda record: record.created, reverse=True))

    def find(self, reference: str) -> Container:
        """By id, name (with or without slash), or unique id prefix. Raises NotFound."""
        if not reference:
            raise InvalidRequest('invalid name or ID supplied: ""')
        if (found := self.containers.get(reference)) is not None:
            return found
        named = self.names.get(reference.removeprefix("/"), "")
        if (found := self.containers.get(named)) is not None:
            return found
        matching = [
            container
            for container_id, container in self.containers.items()
            if container_id.startswith(reference)
        ]
        if len(matching) == 1:
            return matching[0]
        if matching:
            raise InvalidRequest(f"Multiple IDs found with provided prefix: {reference}")
        raise NotFound(f"No such container: {reference}")

    def demand_free(self, name: str) -> None:
        """Raises Conflict."""
        if name in self.names:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container '
                f'"{self.names[name]}". You have to remove (or rename) that container to be '
                "able to reuse that name."
            )

    def volume_users(self, volume: str) -> tuple[str, ...]:
        """Ids of the containers that mount it."""
        return tuple(
            container.id
            for container in self.containers.values()
            if any(mount.name == volume for mount in container.record.mounts)
        )

    def image_users(self, image_id: str) -> tuple[Record, ...]:
        """Those made from it, or with it mounted."""
        return tuple(
            record
            for record in self.records()
            if record.image_id == image_id
            or any(one.type == "image" and one.source == image_id for one in record.mounts)
        )

    def network_users(self, network_id: str) -> tuple[Record, ...]:
        """Those with an endpoint in it now."""
        return tuple(
            record
            for record in self.records()
            if any(
                attachment.network_id == network_id and attachment.endpoint is not None
                for attachment in record.attachments
            )
        )

    def usage(self) -> Usage:
        """At this moment, for lists. What is to be removed asks for its users one by one."""
        return usage_of(container.record for container in self.containers.values())
