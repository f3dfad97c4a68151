"""pure: changes that pycompose's own engine makes to a container as it runs.

Elsewhere the record of what it was made from, a label, can't be changed, so it is made anew there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from compose.model.own import writes_in_place
from compose.model.service import Service
from compose.plan.diff import ABSENT, Difference, Place

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


def is_live(service: Service, differences: Iterable[Difference]) -> bool:
    """Whether all of them can be made without making the container anew."""
    found = tuple(differences)
    writes = writes_in_place(service)
    return bool(found) and all(
        _network(each) or _fields(each) or (writes and _content(each)) for each in found
    )


def told_again(edited: str, service: Mapping[str, object]) -> tuple[Difference, ...]:
    """Limits that were changed by hand, as the fields that declare them, old and new the same.
    `edited`: as the engine calls them; what isn't declared keeps that name and isn't live.
    `service`: its canonical form."""
    found: dict[Place, object] = {}
    for name in filter(None, edited.split(",")):
        wanted = "".join(word.capitalize() for word in name.split("_"))
        place = next(_declaring(wanted, service), (name,))
        found[place] = value_at(service, place)
    return tuple(Difference(place, value, value) for place, value in found.items())


def _declaring(wanted: str, service: Mapping[str, object]) -> Iterator[Place]:
    """Places of the service that say what a field of HostConfig is to be."""
    places: list[tuple[Place, tuple[str, ...]]] = [
        *(((key,), fields) for key, fields in LIMITS.items() if key != "blkio_config"),
        (("blkio_config", "weight"), LIMITS["blkio_config"]),
        *((("deploy", *place), fields) for place, fields in IN_DEPLOY.items()),
    ]
    for place, fields in places:
        if wanted in fields and value_at(service, place) is not ABSENT:
            yield place
    if wanted == "RestartPolicy":
        yield ("restart",)  # not declared is declared, too


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
    differences: Iterable[Difference], host_config: Mapping[str, object]
) -> dict[str, object]:
    """`host_config`: of the container as it would be made now."""
    names = dict.fromkeys(name for each in differences for name in _fields(each))
    body = {name: host_config[name] for name in names if name in host_config}
    memory = body.get("Memory")
    if isinstance(memory, int) and "MemorySwap" not in body:
        body["MemorySwap"] = 2 * memory  # as for a container that is made so
    if "RestartPolicy" in names and not body.get("RestartPolicy"):
        body["RestartPolicy"] = {"Name": "no"}
    return body


def _network(difference: Difference) -> bool:
    """It comes or goes; what changes at one that stays needs a new container."""
    place = difference.place
    return len(place) == 2 and place[0] == "networks" and ABSENT in (difference.old, difference.new)


def _fields(difference: Difference) -> tuple[str, ...]:
    """What `update` has to be told; () if it can't be. A limit that is gone can't be told: to the
    engine, nothing means as before."""
    first, *rest = difference.place
    if first == "deploy":
        place = tuple(rest)
        # The policy is one value, whatever of it changed.
        known = IN_DEPLOY.get(place[:1], ()) or IN_DEPLOY.get(place, ())
    else:
        known = LIMITS.get(str(first), ())
        if first == "blkio_config" and rest != ["weight"]:
            return ()
    if difference.new is ABSENT and known != ("RestartPolicy",):
        return ()
    return known
