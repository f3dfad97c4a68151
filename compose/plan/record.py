"""pure: what a container, network or volume was made from, kept as JSON in a label.

"Has it changed?" is answered by comparing records field by field, so a cause can be given in words,
contents of configs and secrets count, and a new version of this program recreates nothing.

Labels are shown to many, and a short secret is soon guessed from its plain digest. So that of a
secret is keyed with the id of the engine, which is random and in no label: all who use the engine
come to the same value, and one who only sees the label learns nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping

from compose.model.document import Document
from compose.model.fingerprint import encode
from compose.model.mount import FileReference, MountType
from compose.model.project import Project
from compose.model.resources import FileObject, Network, Volume
from compose.model.service import Service
from compose.plan.diff import ABSENT, Difference, differences, field_by_field
from compose.plan.images import image_of, mounted_image

# They decide how many containers there are, when and from which image, not what one is like; what
# a label_file says is in the labels.
NOT_SHAPING = ("attach", "build", "depends_on", "develop", "label_file", "profiles", "pull_policy",
               "pull_refresh_after", "scale")  # fmt: skip
NOT_SHAPING_IN_DEPLOY = ("replicas", "update_config", "rollback_config", "placement", "mode",
                         "endpoint_mode")  # fmt: skip

# Sections of a service that come or go field by field.
SECTIONS = ("blkio_config", "deploy", "environment", "labels")

# What Docker Compose leaves out of its hash.
NOT_HASHED = ("build", "depends_on", "profiles", "pull_policy", "scale")


def service_record(
    project: Project, service: Service, document: Document, id_of: Callable[[str], str]
) -> Document:
    """`document`: the service's canonical form. `id_of` an image's reference; "" where it isn't
    here yet."""
    shaping = {key: document[key] for key in document if key not in NOT_SHAPING}
    deploy = shaping.pop("deploy", None)
    if isinstance(deploy, dict):
        kept = {key: deploy[key] for key in deploy if key not in NOT_SHAPING_IN_DEPLOY}
        if any(kept.values()):
            shaping["deploy"] = kept
    record: Document = {"service": shaping, "image_id": id_of(image_of(project, service))}
    mounted = {
        mount.target: found
        for mount in service.volumes
        if mount.type is MountType.IMAGE and (found := id_of(mounted_image(project, mount)))
    }
    if mounted:
        record["mounted_images"] = mounted
    if configs := _digests(service.configs, project.configs):
        record["configs"] = configs
    if secrets := _digests(service.secrets, project.secrets):
        record["secrets"] = secrets
    if service.provided:
        record["provided"] = list(service.provided)
    return record


def sealed(record: Document, engine_id: str) -> Document:
    """The record as it may be shown; one that is sealed already, or was written before there was
    this, is equal then."""
    secrets = record.get("secrets")
    if not isinstance(secrets, dict):
        return record
    found = {key: sealed_digest(str(digest), engine_id) for key, digest in secrets.items()}
    return {**record, "secrets": found}


def sealed_digest(digest: str, engine_id: str) -> str:
    if not digest.startswith("sha256:"):
        return digest
    made = hmac.new(engine_id.encode(), digest.encode(), "sha256").hexdigest()
    return f"hmac-sha256:{made}"


def config_hash(document: Document) -> str:
    """As `fingerprint.service_hash`, for a service whose canonical form is at hand already."""
    shaping = {key: document[key] for key in document if key not in NOT_HASHED}
    deploy = shaping.get("deploy")
    if isinstance(deploy, dict):
        shaping["deploy"] = {key: deploy[key] for key in deploy if key != "replicas"}
    return hashlib.sha256(encode(shaping)).hexdigest()


def network_record(network: Network) -> Document:
    return network.to_document()


def volume_record(volume: Volume) -> Document:
    return volume.to_document()


def write_record(record: Document) -> str:
    return _COMPACT.encode(record)


# Documents are trees, so there is no ring to look for.
_COMPACT = json.JSONEncoder(
    separators=(",", ":"), sort_keys=True, ensure_ascii=False, check_circular=False
)


def parse_record(label: str) -> Document | None:
    """None: there is none, or it isn't one that we can read."""
    if not label:
        return None
    try:
        record = json.loads(label)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def record_differences(old: Mapping[str, object], new: Document) -> list[Difference]:
    """Places as in the files: fields of the service stand first, without their prefix."""
    found = [
        Difference(
            difference.place[1:] if difference.place[:1] == ("service",) else difference.place,
            difference.old,
            difference.new,
        )
        for difference in differences(old, new)
        if difference.place[:1] != ("provided",)  # their values tell
        and not of_unknown_image(difference)
    ]
    return [
        part
        for each in found
        for part in (field_by_field(each) if each.place[0] in SECTIONS else (each,))
    ]


def of_unknown_image(difference: Difference, depth: int = 0) -> bool:
    """An image's id counts only where both sides know it: what isn't pulled yet has none, and
    records of before have none of what is mounted. `depth`: of the record in what is compared."""
    field = difference.place[depth : depth + 1]
    return field in (("image_id",), ("mounted_images",)) and ABSENT in (
        difference.old,
        difference.new,
    )


def _digests(
    references: Iterable[FileReference], objects: Mapping[str, FileObject]
) -> dict[str, str]:
    return {
        reference.source: objects[reference.source].digest
        for reference in references
        if reference.source in objects and objects[reference.source].digest
    }
