"""Pure: what a client lets the engine know about itself at a registry (header X-Registry-Auth).

Credentials live for one pull. They are never written down, and never shown.
"""

import base64
import binascii
from dataclasses import dataclass, field

from engine.errors import InvalidRequest
from engine.oci.document import parse_object, text_field

LONGEST = 64 << 10


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # to be changed for a token, OAuth 2
    registry_token: str = field(default="", repr=False)  # to be shown to the registry as it is

    def basic(self) -> str:
        """An Authorization header's value; empty without a name and a password."""
        if not self.username:
            return ""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


ANONYMOUS = Credentials()


def parse_registry_auth(header: str) -> Credentials:
    """base64url of a JSON object, padded or not. What can't be read is nobody, as in Docker."""
    if not header or len(header) > LONGEST:
        return ANONYMOUS
    text = header.strip().rstrip("=").replace("+", "-").replace("/", "_")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        document = parse_object(raw, "X-Registry-Auth")
        return Credentials(
            username=text_field(document, "username"),
            password=text_field(document, "password"),
            identity_token=text_field(document, "identitytoken"),
            registry_token=text_field(document, "registrytoken"),
        )
    except (binascii.Error, InvalidRequest):
        return ANONYMOUS
