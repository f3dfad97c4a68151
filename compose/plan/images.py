"""pure: which images to get before anything else happens."""

from __future__ import annotations

from compose.model.mount import Mount
from compose.model.project import Project
from compose.model.service import Service
from compose.model.units import parse_duration, seconds
from compose.plan.observed import Observed, ObservedImage
from compose.plan.options import PlanOptions

REFRESH = {"daily": "24h", "weekly": "168h"}


def image_of(project: Project, service: Service) -> str:
    """What its containers are made from, as the engine is told."""
    reference = project.image_name(service)
    return project.pins.get(reference, reference)


def mounted_image(project: Project, mount: Mount) -> str:
    """What a mount of an image, or of a service's image, leads to, as the engine is told."""
    if (service := project.services.get(mount.source)) is not None:
        return image_of(project, service)
    return project.pins.get(mount.source, mount.source)


def is_directory(reference: str) -> bool:
    """`rootfs:/path` is a directory of the engine's machine: nothing to pull."""
    return reference.startswith("rootfs:")


def is_latest(reference: str) -> bool:
    """Said or implied: what that is changes without a word."""
    name = reference.rpartition("/")[2]
    return "@" not in name and (":" not in name or name.endswith(":latest"))


def pull_cause(project: Project, service: Service, observed: Observed, options: PlanOptions) -> str:
    """Why its image has to be pulled; empty if it needn't."""
    reference = image_of(project, service)
    if is_directory(reference) or reference in options.pulled:
        return ""
    image = observed.images.get(reference)
    if reference.startswith("sha256:"):
        return ""  # known by its id alone: it is there, or nowhere
    policy = options.pull or service.pull_policy or "missing"
    if "@" in reference and image is not None:
        return ""  # what a digest names never changes
    if policy == "never" or (policy == "build" and service.build):
        return ""
    if image is None:
        return "" if service.build else "missing"
    if policy == "always":
        return "pull policy always" if not service.build else ""
    if policy == "refresh" or (service.pull_refresh_after and not options.pull):
        policy = f"every_{service.pull_refresh_after or '24h'}"
    return _age_cause(policy, image, observed.now)


def _age_cause(policy: str, image: ObservedImage, now: int) -> str:
    text = REFRESH.get(policy, policy.removeprefix("every_"))
    if policy not in REFRESH and not policy.startswith("every_"):
        return ""
    if not image.tagged_at or now - image.tagged_at < seconds(parse_duration(text)):
        return ""
    return f"pull policy {policy}"
