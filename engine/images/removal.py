"""Pure: what removing an image by a name or an id does, and when it is refused (Docker's rules)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.errors import Conflict
from engine.ids import short_id
from engine.images.catalog import Catalog
from engine.images.model import Image, ImageUser, Removal, Removed
from engine.oci.digest import Digest
from engine.oci.reference import Reference, parse_reference

Users = Callable[[str], Sequence[ImageUser]]


@dataclass(frozen=True, slots=True)
class RemovalPlan:
    names: tuple[str, ...]  # that go
    deletes: bool  # the image goes as well
    removed: tuple[Removed, ...]


def plan_removal(
    catalog: Catalog, image: Image, name: Reference | None, *, force: bool, users: Users
) -> RemovalPlan:
    """`name` is None where the image was asked for by its id. Raises Conflict."""
    image_id = image.id
    names = tuple(parse_reference(text) for text in catalog.names_of(image_id))
    using = users(image_id)
    if name is not None:
        if not force and _is_one_tag(names) and using:
            raise Conflict(
                f'conflict: unable to remove repository reference "{name.familiar}" (must force) - '
                f"container {short_id(using[0].container_id)} is using its referenced image "
                f"{short_id(image_id)}"
            )
        going = _names_with(name, names)
        if len(going) < len(names) or using:
            return _plan(going, image, name, deletes=False)
        return _plan(going, image, name, deletes=True)
    running = [user for user in using if user.is_running]
    if running:
        raise _conflict(image_id, "cannot be forced", "image is being used by running container "
                        + short_id(running[0].container_id))  # fmt: skip
    if not force and not _is_one_tag(names):
        raise _conflict(image_id, "must be forced", "image is referenced in multiple repositories")
    if using and not force:
        raise _conflict(image_id, "must be forced", "image is being used by stopped container "
                        + short_id(using[0].container_id))  # fmt: skip
    # A stopped container needs its layers to start again: then only the names go.
    return _plan(names, image, None, deletes=not using)


def refuse_used(image: Image, using: Sequence[ImageUser]) -> None:
    """For a directory: it has one name, and forgetting it is all that can be done."""
    if using:
        raise Conflict(
            f'conflict: unable to remove repository reference "{image.name}" - container '
            f"{short_id(using[0].container_id)} is using its referenced image {short_id(image.id)}"
        )


def _plan(
    names: Sequence[Reference], image: Image, asked: Reference | None, *, deletes: bool
) -> RemovalPlan:
    removed = [
        Removed(
            Removal.UNTAGGED,
            name.familiar,
            image.id,
            image.labels,
            is_companion=asked not in (None, name),
        )
        for name in names
    ]
    if deletes:
        removed.append(Removed(Removal.DELETED, image.id, image.id))
    return RemovalPlan(tuple(str(name) for name in names), deletes, tuple(removed))


def _names_with(name: Reference, names: Sequence[Reference]) -> tuple[Reference, ...]:
    """A tag, and the digests of its repository if no other tag of that is left."""
    going = [name]
    if not name.digest and not any(
        other.tag and other.name == name.name and other != name for other in names
    ):
        going += [other for other in names if other.digest and other.name == name.name]
    return tuple(going)


def _is_one_tag(names: Sequence[Reference]) -> bool:
    repositories = {name.name for name in names}
    return len(repositories) <= 1 and sum(bool(name.tag) for name in names) <= 1


def _conflict(image_id: Digest, how: str, why: str) -> Conflict:
    return Conflict(f"conflict: unable to delete {short_id(image_id)} ({how}) - {why}")
