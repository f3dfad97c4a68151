"""What a login leaves behind: credentials of registries, kept where Docker's command keeps them:
with the helper program that config.json names, else in that file."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path

from compose.client import fields
from compose.client.credentials import config_path, helper_of, host_of, load_config, run_helper
from compose.client.errors import ClientError


async def remember(
    registry: str, username: str, secret: str, environment: Mapping[str, str], *, token: bool
) -> str:
    """Where they are kept, in words. `token`: the secret is one that the registry gave instead of
    the password. Raises ClientError."""
    path = _path(environment)
    config = load_config(path)
    if helper := helper_of(config, registry):
        document = {
            "ServerURL": registry,
            "Username": "<token>" if token else username,
            "Secret": secret,
        }
        await _tell(helper, "store", json.dumps(document).encode(), environment)
        # So that a logout and a build know of it.
        _write(path, _with_entry(config, registry, {}))
        return f"docker-credential-{helper}"
    pair = f"{username}:{'' if token else secret}"
    entry = {"auth": base64.b64encode(pair.encode()).decode()}
    if token:
        entry["identitytoken"] = secret
    _write(path, _with_entry(config, registry, entry))
    return str(path)


async def forget(registry: str, environment: Mapping[str, str]) -> bool:
    """Whether there was something to forget. Raises ClientError."""
    path = _path(environment)
    config = load_config(path)
    if helper := helper_of(config, registry):
        await _tell(helper, "erase", registry.encode(), environment)
    entries = fields.child(config, "auths")
    kept = {name: value for name, value in entries.items() if host_of(name) != host_of(registry)}
    if len(kept) < len(entries):
        _write(path, {**config, "auths": kept})
    return len(kept) < len(entries)


async def _tell(helper: str, action: str, text: bytes, environment: Mapping[str, str]) -> None:
    code, output = await run_helper(helper, action, text, environment)
    said = output.decode("utf-8", "replace").strip()
    if code != 0 and "credentials not found" not in said:
        raise ClientError(f"docker-credential-{helper} {action} failed: {said or f'code {code}'}")


def _path(environment: Mapping[str, str]) -> Path:
    path = config_path(environment)
    if path is None:
        raise ClientError(
            "cannot keep credentials: there is no home directory",
            hint="set HOME or DOCKER_CONFIG",
        )
    return path


def _with_entry(
    config: Mapping[str, object], registry: str, entry: Mapping[str, str]
) -> Mapping[str, object]:
    return {**config, "auths": {**fields.child(config, "auths"), registry: entry}}


def _write(path: Path, config: Mapping[str, object]) -> None:
    """Whole or not at all, and for nobody else to read."""
    target = path.resolve()  # a link stays one
    part = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            json.dump(config, file, indent="\t")
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ClientError(f"cannot write {path}: {error.strerror}") from error
