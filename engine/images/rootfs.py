"""`rootfs:/path`: a directory of the host as an image. Its id comes from the path alone, so it is
the same one after a restart, and on the next day. Once used it is listed, until it is removed."""

import contextlib
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import Failure, InvalidRequest, NotFound
from engine.images.masks import resolve_directory
from engine.images.model import ROOTFS_PREFIX, Image
from engine.kernel.libc import told
from engine.oci.digest import Digest, digest_of
from engine.oci.document import as_object, text_map_field
from engine.oci.image_config import HistoryEntry, ImageConfig, ImageDocument, image_document_json
from engine.oci.platform import Platform
from engine.records import read_record, write_record

# Docker's own clients refuse a name that ends in a slash before they ask anybody.
HOST_NAME = "rootfs:/"
HOST_ALIASES = ("rootfs", "rootfs:latest")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHORTEST_PREFIX = 12


class Directories:
    """Those that were used as images. The first use of each writes a record; later ones nothing."""

    def __init__(self, root: Path, platform: Platform, private: Sequence[str]) -> None:
        self._record = root / "directories.json"
        self._platform = platform
        self._private = private
        self._known: dict[Digest, str] = {}  # image id -> name, "rootfs:/path"

    def load(self) -> None:
        try:
            record = as_object(read_record(self._record), "record of directories")
        except FileNotFoundError:
            return
        except (ValueError, InvalidRequest) as error:
            raise Failure(f"cannot read {self._record}: {error}") from error
        names = text_map_field(record, "names")
        self._known = {Digest(image_id): name for image_id, name in names.items()}

    def use(self, name: str) -> Image:
        """Raises NotFound, InvalidRequest."""
        # A URL path loses the slash: /images/rootfs:/json.
        name = HOST_NAME if name == ROOTFS_PREFIX else name
        path = name.removeprefix(ROOTFS_PREFIX)
        image = rootfs_image(name, resolve_directory(path, self._private), self._platform)
        if image.id not in self._known:
            self._write({**self._known, image.id: name})
        return image

    def find(self, reference: str) -> Image | None:
        """By name, id, or the beginning of an id; None if it isn't one of these."""
        wanted = reference.removeprefix("sha256:")
        for image_id, name in self._known.items():
            is_prefix = len(wanted) >= _SHORTEST_PREFIX and image_id[7:].startswith(wanted)
            if reference == name or is_prefix:
                return self.use(name)
        return None

    def list(self) -> list[Image]:
        images = []
        for name in tuple(self._known.values()):
            with contextlib.suppress(NotFound, InvalidRequest):  # gone from the host since
                images.append(self.use(name))
        return images

    def forget(self, image: Image) -> None:
        self._write({key: name for key, name in self._known.items() if key != image.id})

    def retire(self) -> None:
        """No container is left that was made from one: nothing refers to the record any more."""
        self._record.unlink(missing_ok=True)
        self._known = {}

    def _write(self, known: dict[Digest, str]) -> None:
        try:
            write_record(self._record, {"names": known})
        except OSError as error:
            raise Failure(f"cannot record the directory as an image: {told(error)}") from error
        self._known = known


def rootfs_image(name: str, directory: str, platform: Platform) -> Image:
    """`name` as given; `directory` resolved."""
    document = ImageDocument(
        platform=platform,
        config=ImageConfig(env=(PATH,), cmd=("/bin/sh",), working_dir="/"),
        diff_ids=(),
        history=(HistoryEntry(created_by=f"{ROOTFS_PREFIX}{directory}", empty_layer=True),),
        comment=f"the directory {directory} of the host, read-only",
    )
    changed = datetime.fromtimestamp(int(os.stat(directory).st_mtime), UTC)
    return Image(
        id=digest_of(image_document_json(document)),
        tags=(name, HOST_ALIASES[1]) if name == HOST_NAME else (name,),
        digests=(),
        document=document,
        created=changed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        size=0,  # it takes no space of its own
        rootfs_path=directory,
    )
