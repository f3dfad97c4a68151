"""Pure: what a catalog says of an image, and by which words one is found in it."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from itertools import repeat

from engine.errors import InvalidRequest, NotFound
from engine.images.catalog import Catalog
from engine.images.model import HistoryLine, Image
from engine.oci.digest import Digest, is_digest
from engine.oci.image_config import HistoryEntry, ImageDocument
from engine.oci.reference import Reference, parse_reference, parse_tag

_ID_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


def find(catalog: Catalog, reference: str) -> tuple[Digest, Reference | None]:
    """The id, and the name it was found by; None for an id or the beginning of one."""
    full = f"sha256:{reference}" if len(reference) == 64 else reference
    if is_digest(full) and Digest(full) in catalog.images:
        return Digest(full), None
    missing = reference
    if not is_digest(full):
        try:
            name = parse_reference(reference).with_default_tag()
            if name.digest:  # it says all; the tag beside it is for people
                name = replace(name, tag="")
        except InvalidRequest:
            if not _ID_PREFIX.fullmatch(reference):
                raise
        else:
            missing = name.familiar
            known = catalog.names.get(str(name))
            if known is not None:
                return known, name
    match = _ID_PREFIX.fullmatch(reference)
    if match:
        prefix = f"sha256:{match[1]}"
        found = [image_id for image_id in catalog.images if image_id.startswith(prefix)]
        if len(found) == 1:
            return found[0], None
    raise NotFound(f"No such image: {missing}")


def image_of(catalog: Catalog, document: ImageDocument, image_id: Digest) -> Image:
    record = catalog.images[image_id]
    names = [parse_reference(name) for name in catalog.names_of(image_id)]
    return Image(
        id=image_id,
        tags=tuple(name.familiar for name in names if name.tag),
        digests=tuple(name.familiar for name in names if name.digest),
        document=document,
        created=document.created,
        size=sum(catalog.layers[diff_id].size for diff_id in record.layers),
        last_tagged=record.last_tagged,
        base=record.base,
        parent=record.parent,
    )


def stack_of(image: Image) -> tuple[Digest, ...]:
    """Its layers, bottom first. overlayfs refuses a directory that comes twice: the upper
    one hides the lower."""
    stack: list[Digest] = []
    for diff_id in reversed(image.document.diff_ids):
        if diff_id not in stack:
            stack.append(diff_id)
    return tuple(reversed(stack))


def history_of(catalog: Catalog, image: Image) -> tuple[HistoryLine, ...]:
    """Newest first. A commit adds one line: that before it is the newest of its parent."""
    sizes = [catalog.layers[diff_id].size for diff_id in image.document.diff_ids]
    entries = image.document.history or tuple(HistoryEntry() for _ in sizes)
    told: list[tuple[HistoryEntry, int]] = []
    for entry in entries:
        told.append((entry, sizes.pop(0) if sizes and not entry.empty_layer else 0))
    known = _ancestry(catalog, image)
    return tuple(
        HistoryLine(image_id, _seconds(line.created), line.created_by, tags, size, line.comment)
        for (line, size), (image_id, tags) in zip(reversed(told), known, strict=False)
    )


def _ancestry(catalog: Catalog, image: Image) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Ids and tags of its lineage."""
    for image_id in lineage(catalog, image.id):
        names = map(parse_reference, catalog.names_of(image_id))
        yield image_id, tuple(name.familiar for name in names if name.tag)
    yield from repeat(("<missing>", ()))


def lineage(catalog: Catalog, image_id: Digest) -> Iterator[Digest]:
    """The image, what it was committed on, and so on as far as they are here."""
    yield image_id
    record = catalog.images.get(image_id)
    while record and (record := catalog.images.get(Digest(record.parent))):
        yield record.id


def shared_sizes(catalog: Catalog) -> Mapping[Digest, int]:
    """Of each image the bytes in layers that another image has too."""
    records = catalog.images.values()
    users = Counter(diff_id for record in records for diff_id in set(record.layers))
    return {
        record.id: sum(
            catalog.layers[diff_id].size for diff_id in record.layers if users[diff_id] > 1
        )
        for record in records
    }


def tags_of(catalog: Catalog, repository: str) -> tuple[Reference, ...]:
    """Nothing where that is more than a repository's name, or less."""
    try:
        wanted = parse_reference(repository)
    except InvalidRequest:
        return ()
    return () if wanted.tag or wanted.digest else tagged(catalog, wanted)


def tagged(catalog: Catalog, repository: Reference) -> tuple[Reference, ...]:
    """All names with a tag that a repository has here."""
    names = [parse_reference(name) for name in sorted(catalog.names)]
    return tuple(name for name in names if name.tag and name.name == repository.name)


def new_name(repository: str, tag: str) -> Reference:
    name = parse_reference(repository)
    if name.digest:
        raise InvalidRequest("refusing to create a tag with a digest reference")
    if name.familiar.partition(":")[0] == "sha256":
        raise InvalidRequest("refusing to create an ambiguous tag using digest algorithm as name")
    if tag:
        name = Reference(name.domain, name.path, parse_tag(tag))
    return name.with_default_tag()


def _seconds(stamp: str) -> int:
    """RFC 3339 as seconds; 0 where an image doesn't say, or says nonsense."""
    try:
        return int(datetime.fromisoformat(stamp).timestamp())
    except (ValueError, OverflowError):
        return 0
