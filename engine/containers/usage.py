"""Pure: what the containers use of images, volumes and networks, in one pass over all of them.

For lists of hundreds of volumes or networks: asking each container about each would be the product.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from engine.containers.model import Record


@dataclass(frozen=True, slots=True)
class Usage:
    images: Counter[str]  # id -> how many containers were made from it; 0 where none
    volumes: Counter[str]  # name -> how many mount it; 0 where none
    networks: frozenset[str]  # ids of those with an endpoint now


def usage_of(records: Iterable[Record]) -> Usage:
    images: Counter[str] = Counter()
    volumes: Counter[str] = Counter()
    networks: set[str] = set()
    for record in records:
        images[record.image_id] += 1
        # One that mounts a volume in two places is one user of it.
        volumes.update({mount.name for mount in record.mounts})
        networks.update(
            place.network_id for place in record.attachments if place.endpoint is not None
        )
    return Usage(images, volumes, frozenset(networks))
