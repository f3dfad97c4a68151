"""Where a build's files come from when they don't come with the request: named contexts, and
addresses of repositories and archives."""

import os
from collections.abc import Mapping
from pathlib import Path

from engine.builder import download, git
from engine.builder.access import Access
from engine.builder.context import unpack_context
from engine.builder.copy import is_archive
from engine.builder.remote import is_git, is_remote, parse_git_address
from engine.errors import InvalidRequest
from engine.oci.reference import parse_reference

IMAGE, KEPT = "docker-image://", "kept:"


def kept_ids(contexts: Mapping[str, str], main: str) -> set[str]:
    named = {value.removeprefix(KEPT) for value in contexts.values() if value.startswith(KEPT)}
    return named | ({main} if main else set())


def check_contexts(contexts: Mapping[str, str]) -> None:
    """Raises InvalidRequest."""
    for name, value in contexts.items():
        if not value.startswith((IMAGE, KEPT)) and not is_remote(value):
            raise InvalidRequest(
                f"cannot use {value!r} as the context {name!r}: it has to be "
                f"{IMAGE}REFERENCE, {KEPT}ID, or the address of a repository or an archive"
            )


def cache_reference(text: str) -> str:
    """Of a `cache_from`: an image's name, or BuildKit's `type=registry,ref=NAME`. Raises
    InvalidRequest for what no image is."""
    if "=" not in text:
        return text
    fields = dict(part.partition("=")[::2] for part in text.split(","))
    if fields.get("type", "registry") != "registry" or not fields.get("ref"):
        raise InvalidRequest("only images of registries can be, as in type=registry,ref=NAME")
    return fields["ref"]


def context_value(contexts: Mapping[str, str], name: str) -> str:
    """What a name in a Dockerfile stands for; "" where it is no context's. A context may have the
    name of an image, however that is written."""
    if name.lower() in contexts or not contexts:
        return contexts.get(name.lower(), "")
    wanted = _full_name(name)
    found = (value for known, value in contexts.items() if wanted and _full_name(known) == wanted)
    return next(found, "")


def _full_name(text: str) -> str:
    try:
        return str(parse_reference(text).with_default_tag())
    except InvalidRequest:
        return ""


def fetch(address: str, folder: Path, access: Access, *, keep_git: bool = False) -> bytes | None:
    """The files of a repository or an archive below `folder`, which is made; the content of any
    other file, and no folder. Blocks; for a thread."""
    if is_git(address):
        parsed = parse_git_address(address)
        if keep_git:
            parsed = parsed.keeping_git()
        git.check_out(parsed, folder, access)
        return None
    path = folder.with_name(f"{folder.name}.download")
    download.download(address, path, access)
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not is_archive(above, path.name):
            return path.read_bytes()
    finally:
        os.close(above)
    folder.mkdir(mode=0o755)
    with open(path, "rb", buffering=0) as stream:
        unpack_context(stream, folder)
    path.unlink()
    return None
