"""`proxies` of Docker's config.json: containers and builds that a client asks for get them as
variables, as docker and docker compose do it. What is said otherwise of a variable wins."""

from __future__ import annotations

import json
from collections.abc import Mapping

from compose.client import fields
from compose.client.credentials import config_path, load_config
from compose.client.errors import BadAnswer, ClientError
from compose.client.transport import Query
from compose.dataclass import dataclass

_NAMES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "ftpProxy": "FTP_PROXY",
    "noProxy": "NO_PROXY",
    "allProxy": "ALL_PROXY",
}


@dataclass(frozen=True, slots=True)
class ProxyVariables:
    environment: Mapping[str, str]
    engine: str  # its address, as config.json may name it

    def variables(self) -> dict[str, str]:
        """Those for this engine, in capitals and not. Raises ClientError."""
        path = config_path(self.environment)
        try:
            known = fields.child(load_config(path), "proxies")
            said = fields.text_map(known, self.engine if self.engine in known else "default")
        except BadAnswer as error:
            raise ClientError(
                f"cannot use the proxies in {path}: they are no objects of texts",
                hint='write "proxies": {"default": {"httpProxy": "http://HOST:PORT"}}',
            ) from error
        found = {_NAMES[key]: text for key, text in said.items() if key in _NAMES and text}
        return {**found, **{name.lower(): text for name, text in found.items()}}

    def in_body(self, body: Mapping[str, object]) -> dict[str, object]:
        """The body of a container's creation with them in its Env."""
        given = fields.texts(body, "Env")
        named = {line.partition("=")[0] for line in given}
        added = [f"{name}={text}" for name, text in self.variables().items() if name not in named]
        return {**body, "Env": [*given, *added]} if added else {**body}

    def in_query(self, query: Query) -> Query:
        """The query of a build with them among its arguments."""
        variables = self.variables()
        if not variables:
            return query
        text = query.get("buildargs")
        given = json.loads(text) if isinstance(text, str) else {}
        return {**query, "buildargs": json.dumps({**variables, **given}, sort_keys=True)}
