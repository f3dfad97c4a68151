"""What `docker login` left behind: the credentials that an engine is lent for one pull.

They are in the user's config.json, or with a helper program that it names. The engine gets those of
the one registry that is asked, as the header X-Registry-Auth.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from pathlib import Path

from compose.client import fields
from compose.client.errors import BadAnswer, ClientError
from compose.dataclass import dataclass

HUB = "https://index.docker.io/v1/"  # what Docker Hub is called in these files
PATIENCE = 120.0  # seconds; a helper may ask the user
_HELPER = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN_USER = "<token>"


@dataclass(frozen=True, slots=True)
class CredentialStore:
    environment: Mapping[str, str]

    async def header(self, reference: str) -> str:
        """The value of X-Registry-Auth for an image; empty where nothing is known.

        Raises ClientError where the file or a helper is of no use.
        """
        registry = registry_of(reference)
        known = await self.known(registry)
        if not known:
            return ""
        return _encoded({**known, "serveraddress": registry})

    async def known(self, registry: str) -> dict[str, str]:
        """As the API spells them, empty where there are none."""
        return await self._known(load_config(config_path(self.environment)), registry)

    async def all_header(self) -> str:
        """The value of X-Registry-Config for a build, which may need images of any registry."""
        return _encoded(await self._all())

    async def config(self) -> bytes:
        """A config.json that says all that is known, with no helper."""
        entries: dict[str, dict[str, str]] = {}
        for registry, known in (await self._all()).items():
            user, password = (known.pop(key, "") for key in ("username", "password"))
            auth = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
            entries[registry] = {**known, **({"auth": auth} if auth else {})}
        return json.dumps({"auths": entries}, indent=2).encode()

    async def _all(self) -> dict[str, dict[str, str]]:
        config = load_config(config_path(self.environment))
        registries = {*fields.child(config, "auths"), *fields.text_map(config, "credHelpers")}
        found = {registry: await self._known(config, registry) for registry in sorted(registries)}
        return {registry: known for registry, known in found.items() if known}

    async def _known(self, config: Mapping[str, object], registry: str) -> dict[str, str]:
        if helper := helper_of(config, registry):
            return await ask_helper(helper, registry, self.environment)
        return find_entry(fields.child(config, "auths"), registry)


def _encoded(document: Mapping[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


def config_path(environment: Mapping[str, str]) -> Path | None:
    """None: the environment says of no home where it could be."""
    if folder := environment.get("DOCKER_CONFIG"):
        return Path(folder) / "config.json"
    home = environment.get("HOME")
    return Path(home) / ".docker" / "config.json" if home else None


def load_config(path: Path | None) -> Mapping[str, object]:
    if path is None:
        return {}
    try:
        return fields.mapping(json.loads(path.read_bytes()), "the configuration")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, BadAnswer) as error:
        raise ClientError(
            f"cannot read the registry credentials in {path}: {error}",
            hint="repair or remove the file; `docker login` writes it",
        ) from error


def registry_of(reference: str) -> str:
    """The registry of an image as config.json calls it."""
    first, slash, _ = reference.partition("/")
    is_host = slash and (first == "localhost" or "." in first or ":" in first)
    if not is_host or first in ("docker.io", "index.docker.io"):
        return HUB
    return first


def host_of(key: str) -> str:
    """`https://host/v1/` and `host` mean the same."""
    if key == HUB:
        return key
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def helper_of(config: Mapping[str, object], registry: str) -> str:
    """The helper program that keeps a registry's credentials; empty: the file itself does."""
    return fields.text_map(config, "credHelpers").get(
        host_of(registry), fields.text(config, "credsStore", "")
    )


def find_entry(entries: Mapping[str, object], registry: str) -> dict[str, str]:
    """Of the registry itself, else of another way to write it."""
    names = [registry, *(key for key in entries if host_of(key) == host_of(registry))]
    for name in names:
        if name in entries:
            return parse_entry(fields.child(entries, name), name)
    return {}


def parse_entry(entry: Mapping[str, object], name: str) -> dict[str, str]:
    known = {key: fields.text(entry, key, "") for key in ("identitytoken", "registrytoken")}
    encoded = fields.text(entry, "auth", "")
    if encoded:
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, ValueError):
            raise ClientError(
                f"cannot read the credentials of {name}: `auth` is no base64",
                hint=f"log in again: docker login {name}",
            ) from None
        known["username"], _, password = pair.partition(":")
        known["password"] = password.rstrip("\0")
    else:
        known["username"] = fields.text(entry, "username", "")
        known["password"] = fields.text(entry, "password", "")
    return {key: value for key, value in known.items() if value}


async def ask_helper(helper: str, registry: str, environment: Mapping[str, str]) -> dict[str, str]:
    """What it has of the registry; empty where it has nothing."""
    code, output = await run_helper(helper, "get", f"{registry}\n".encode(), environment)
    if code != 0:
        said = output.decode("utf-8", "replace").strip()
        if "credentials not found" in said:
            return {}
        raise ClientError(
            f"docker-credential-{helper} has no credentials for {registry}: {said or 'it failed'}"
        )
    return parse_helper(output, f"docker-credential-{helper}")


async def run_helper(
    helper: str, action: str, text: bytes, environment: Mapping[str, str]
) -> tuple[int, bytes]:
    """Docker's protocol: `docker-credential-NAME get|store|erase`, `text` on its standard input.
    Its exit code and what it wrote."""
    program = f"docker-credential-{helper}"
    if not _HELPER.fullmatch(helper):
        raise ClientError(f"cannot run the credential helper {helper!r}: that is no program's name")
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            action,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=dict(environment),
        )
    except OSError as error:
        raise ClientError(
            f"cannot run {program}: {error.strerror}",
            hint="install it, or take credsStore and credHelpers out of Docker's config.json",
        ) from error
    try:
        async with asyncio.timeout(PATIENCE):
            output, _ = await process.communicate(text)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise ClientError(f"{program} gave no answer in {PATIENCE:.0f} seconds") from None
    assert process.returncode is not None
    return process.returncode, output


def parse_helper(output: bytes, program: str) -> dict[str, str]:
    try:
        document = fields.mapping(json.loads(output), "the answer")
        username, secret = fields.text(document, "Username"), fields.text(document, "Secret")
    except (ValueError, BadAnswer):
        raise ClientError(f"{program} gave an answer that makes no sense") from None
    if username == _TOKEN_USER:
        return {"identitytoken": secret}
    return {"username": username, "password": secret} if username else {}
