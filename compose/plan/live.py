"""pure: changes that an engine makes to a container as it runs.

pycompose's own notes in the container's labels what it is then. Docker's labels stay as they were
made: there the limits and networks that the container has tell which changes it has had already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from compose.model.document import number
from compose.model.own import writes_in_place
from compose.model.project import Project
from compose.model.service import Service
from compose.plan.container import make_limits
from compose.plan.diff import ABSENT, Difference, Place, summary
from compose.plan.observed import ObservedContainer

# Of a service -> fields of HostConfig that `POST /containers/{id}/update` takes.
LIMITS = {
    "blkio_config": ("BlkioWeight",),
    "cpu_period": ("CpuPeriod",),
    "cpu_quota": ("CpuQuota",),
    "cpu_shares": ("CpuShares",),
    "cpus": ("NanoCpus",),
    "cpuset": ("CpusetCpus",),
    "mem_limit": ("Memory", "MemorySwap"),
    "mem_reservation": ("MemoryReservation",),
    "memswap_limit": ("Memory", "MemorySwap"),
    "pids_limit": ("PidsLimit",),
    "restart": ("RestartPolicy",),
}
IN_DEPLOY: Mapping[Place, tuple[str, ...]] = {
    ("resources", "limits", "cpus"): ("NanoCpus",),
    ("resources", "limits", "memory"): ("Memory", "MemorySwap"),
    ("resources", "limits", "pids"): ("PidsLimit",),
    ("resources", "reservations", "memory"): ("MemoryReservation",),
    ("restart_policy",): ("RestartPolicy",),
}


# Limits that are taken off: on pycompose's engine all but those that have no neutral value; on
# Docker's those for which an update has one, where 0 means as before.
NEVER_OFF = frozenset({"BlkioWeight", "CpusetCpus"})
OFF_ON_DOCKER = {"CpuQuota": -1, "MemoryReservation": -1, "PidsLimit": -1}


def is_live(service: Service, differences: Iterable[Difference], *, is_ours: bool) -> bool:
    """Whether all of them can be made without making the container anew."""
    found = tuple(differences)
    return _are_of_a_kind(service, found, is_ours=is_ours) and not _stuck(
        service, found, is_ours=is_ours
    )


def obstacle(service: Service, differences: Iterable[Difference], *, is_ours: bool) -> str:
    """Why they can't be made so, where their kind would allow it; else "" """
    found = tuple(differences)
    if not _are_of_a_kind(service, found, is_ours=is_ours):
        return ""
    is_stuck = bool(_stuck(service, found, is_ours=is_ours))
    return "that can't be taken off as it runs" * is_stuck


def _are_of_a_kind(service: Service, found: tuple[Difference, ...], *, is_ours: bool) -> bool:
    writes = is_ours and writes_in_place(service)
    return bool(found) and all(
        _network(each) or _fields(each) or (writes and _content(each)) for each in found
    )


def _stuck(service: Service, found: tuple[Difference, ...], *, is_ours: bool) -> frozenset[str]:
    """Fields of HostConfig that the engine can't take off a container that runs."""
    fields = {name for each in found for name in _fields(each)}
    off = taken_off(fields, make_limits(service))
    if is_ours:
        return off & NEVER_OFF
    # Docker refuses one way to say how much of a processor while there was the other.
    both_ways = off & {"CpuPeriod", "CpuQuota"} if "NanoCpus" in fields else frozenset()
    return (off - OFF_ON_DOCKER.keys()) | both_ways


def taken_off(fields: Collection[str], limits: Mapping[str, object]) -> frozenset[str]:
    """Those of HostConfig's fields that are no longer in `limits`, of the container as it would be
    made now, and have no value that follows from others."""
    follows = {"RestartPolicy"} | ({"MemorySwap"} if "Memory" in limits else set())
    return frozenset(fields) - limits.keys() - follows


def outstanding(
    project: Project, service: Service, container: ObservedContainer, found: list[Difference]
) -> list[Difference]:
    """Without what the container has had done to it since its labels were written."""
    if container.limits is None:
        return found
    wanted, actual = make_limits(service), container.limits
    names = {project.networks[key].name for key in service.networks}

    def is_so(difference: Difference) -> bool:
        if _network(difference):
            if difference.new is ABSENT:
                return container.networks.keys() <= names
            return project.networks[str(difference.place[1])].name in container.networks
        fields = _fields(difference)
        return bool(fields) and all(_effect(f, wanted) == _effect(f, actual) for f in fields)

    return [_from_now(each, actual) for each in found if not is_so(each)]


def by_hand(service: Service, container: ObservedContainer) -> tuple[str, list[Difference]]:
    """The limits that were changed since, in words, and as the fields that declare them."""
    document = service.to_document()
    if container.limits is None:
        words = f"changed by hand: {container.edited.replace(',', ', ')}"
        return (words, told_again(container.edited, document)) if container.edited else ("", [])
    wanted, actual = make_limits(service), container.limits
    # Only what both sides have: an engine may leave out, or add, what its kernel asks for.
    other = [
        _snake(name)
        for name in sorted({field for fields in LIMITS.values() for field in fields})
        if (name == "RestartPolicy" or (wanted.get(name) and actual.get(name)))
        and _effect(name, wanted) != _effect(name, actual)
    ]
    found = [_from_now(each, actual) for each in told_again(",".join(other), document)]
    return summary(found), found


def _from_now(difference: Difference, actual: Mapping[str, object]) -> Difference:
    """From what the container has by now; the label tells what it was made with."""
    fields, spelt = _fields(difference), difference.new
    spelt = difference.old if spelt is ABSENT else spelt
    if not fields or isinstance(spelt, Mapping):
        return difference
    name = "MemorySwap" if difference.place == ("memswap_limit",) else fields[0]
    value = _effect(name, actual)
    if isinstance(value, tuple):
        policy, attempts = value
        value = "" if policy == "no" else f"{policy}:{attempts}" if attempts else policy
    elif name == "NanoCpus" and isinstance(value, int):
        value = number(value / 1e9)
    elif isinstance(spelt, str) and value:
        value = str(value)
    return Difference(difference.place, value or ABSENT, difference.new)


def _effect(name: str, limits: Mapping[str, object]) -> object:
    """What a field of HostConfig comes to, however it is said."""
    value = limits.get(name)
    if name == "RestartPolicy":
        policy = value if isinstance(value, Mapping) else {}
        return policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0
    if name == "CpusetCpus":
        return value or ""
    count = value if isinstance(value, int) else 0
    if name == "MemorySwap":
        memory = limits.get("Memory")
        return count or (2 * memory if isinstance(memory, int) else 0)
    return max(count, 0)


def _snake(name: str) -> str:
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower()


def told_again(edited: str, service: Mapping[str, object]) -> list[Difference]:
    """Limits that were changed by hand, as the fields that declare them, or could, old and new the
    same. `edited`: as the engine calls them; what no field declares keeps that name and isn't live.
    `service`: its canonical form."""
    found: dict[Place, object] = {}
    for name in filter(None, edited.split(",")):
        wanted = "".join(word.capitalize() for word in name.split("_"))
        places = [place for place, fields in _PLACES if wanted in fields]
        declared = [place for place in places if value_at(service, place) is not ABSENT]
        place = next(iter(declared or places), (name,))
        found[place] = value_at(service, place)
    return [Difference(place, value, value) for place, value in found.items()]


_PLACES: list[tuple[Place, tuple[str, ...]]] = [
    *(((key,), fields) for key, fields in LIMITS.items() if key != "blkio_config"),
    (("blkio_config", "weight"), LIMITS["blkio_config"]),
    *((("deploy", *place), fields) for place, fields in IN_DEPLOY.items()),
]


def value_at(document: object, place: Place) -> object:
    for step in place:
        if not isinstance(document, Mapping) or step not in document:
            return ABSENT
        document = document[step]
    return document


def has_new_contents(differences: Iterable[Difference]) -> bool:
    return any(_content(each) for each in differences)


def _content(difference: Difference) -> bool:
    """Of a config or a secret that stays: its digest."""
    place = difference.place
    stays = ABSENT not in (difference.old, difference.new)
    return len(place) == 2 and place[0] in ("configs", "secrets") and stays


def networks(differences: Iterable[Difference]) -> tuple[list[str], list[str]]:
    """Keys of the networks that come, and of those that go."""
    changed = [(str(each.place[1]), each) for each in differences if _network(each)]
    come = [key for key, each in changed if each.old is ABSENT]
    return come, [key for key, each in changed if each.new is ABSENT]


def update_body(
    differences: Iterable[Difference], limits: Mapping[str, object], *, is_ours: bool
) -> dict[str, object]:
    """`limits`: of the container as it would be made now."""
    names = dict.fromkeys(name for each in differences for name in _fields(each))
    body = {name: limits[name] for name in names if name in limits}
    memory = body.get("Memory")
    if isinstance(memory, int) and "MemorySwap" not in body:
        body["MemorySwap"] = 2 * memory  # as for a container that is made so
    if "RestartPolicy" in names and not body.get("RestartPolicy"):
        body["RestartPolicy"] = {"Name": "no"}
    off = sorted(taken_off(names, limits))
    if is_ours:
        return {**body, "Unset": off} if off else body
    return {**body, **{name: OFF_ON_DOCKER[name] for name in off}}


def _network(difference: Difference) -> bool:
    """It comes or goes; what changes at one that stays needs a new container."""
    place = difference.place
    return len(place) == 2 and place[0] == "networks" and ABSENT in (difference.old, difference.new)


def _fields(difference: Difference) -> tuple[str, ...]:
    """What `update` has to be told; () if it can't be."""
    first, *rest = difference.place
    if first == "deploy":
        place = tuple(rest)
        # The policy is one value, whatever of it changed.
        known = IN_DEPLOY.get(place[:1], ()) or IN_DEPLOY.get(place, ())
    elif first == "blkio_config":
        known = LIMITS["blkio_config"] if rest == ["weight"] else ()
    else:
        known = LIMITS.get(str(first), ())
    return known
