"""`x-pycompose` of a service: what can be asked of pycompose alone."""

from __future__ import annotations

from collections.abc import Mapping

from compose.model.service import Service

KEY = "x-pycompose"
IN_PLACE = "in-place"


def own_wishes(service: Service) -> Mapping[str, object]:
    wishes = service.extensions.get(KEY)
    return wishes if isinstance(wishes, dict) else {}


def reload_of(service: Service) -> str:
    """`reload`: what a change of what it reads asks for: "restart", or the name of a signal; ""
    for nothing."""
    wish = own_wishes(service).get("reload")
    return {"signal": "SIGHUP"}.get(wish, wish) if isinstance(wish, str) else ""


def writes_in_place(service: Service) -> bool:
    """`files: in-place`: new contents of configs and secrets go into the files that its containers
    have."""
    return own_wishes(service).get("files") == IN_PLACE
