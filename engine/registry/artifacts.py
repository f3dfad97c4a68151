"""Artifacts: what a registry keeps that is no image (image-spec, manifest.md, "Guidelines for
Artifact Usage"). For a client, which has credentials and no daemon.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import Failure, InvalidRequest
from engine.oci.digest import Digest, digest_of
from engine.oci.document import array_field, as_object, object_field, parse_object, text_field
from engine.oci.manifest import (
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    descriptor_json,
    parse_descriptor,
)
from engine.oci.reference import Reference, parse_reference
from engine.proxies import parse_proxies
from engine.registry.client import RegistryClient, Repository
from engine.registry.credentials import Credentials
from engine.registry.upload import Destination
from engine.settings import Registries

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
MOST_BLOBS = 1000


@dataclass(frozen=True, slots=True)
class Blob:
    media_type: str
    content: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        told = tuple(sorted(self.annotations.items()))
        size = len(self.content)
        return Descriptor(self.media_type, digest_of(self.content), size, annotations=told)


class Artifacts:
    """What stands under one name. Everything raises EngineError."""

    def __init__(
        self, client: RegistryClient, reference: Reference, credentials: Credentials
    ) -> None:
        self.reference = reference
        self._client, self._credentials = client, credentials

    async def digest(self) -> Digest:
        """What the name stands for now."""
        content, _ = await self._repository().written(self._name)
        return digest_of(content)

    async def pull(self, digest: Digest, wanted: Sequence[str]) -> tuple[Blob, ...]:
        """The blobs of an artifact of a wanted type, which may also be one in an index."""
        repository = self._repository()
        document = parse_object((await repository.written(digest))[0], "manifest")
        if "manifests" in document:
            inner = self._among(array_field(document, "manifests"), wanted)
            document = parse_object((await repository.written(inner))[0], "manifest")
        config = parse_descriptor(object_field(document, "config"))
        # OCI 1.0 has no artifactType: the config's media type says it there.
        found = text_field(document, "artifactType") or config.media_type
        if found not in wanted:
            raise InvalidRequest(f"{self.reference.familiar} is no {wanted[0]}, but {found!r}")
        layers = _descriptors(document, "layers")
        if len(layers) > MOST_BLOBS:
            raise InvalidRequest(f"{self.reference.familiar} has more than {MOST_BLOBS} blobs")
        return tuple(
            [
                Blob(layer.media_type, await repository.document(layer), dict(layer.annotations))
                for layer in layers
            ]
        )

    async def push(
        self, kind: str, config: Blob, blobs: Sequence[Blob], annotations: Mapping[str, str]
    ) -> Descriptor:
        """An artifact of this type, under the name; "" for what OCI 1.0 has, none."""
        destination = self._destination()
        for blob in (*blobs, config):
            if not await destination.has_blob(blob.descriptor.digest):
                await destination.put(blob.descriptor, blob.content)
        manifest = {
            **({"artifactType": kind} if kind else {}),
            "config": descriptor_json(config.descriptor),
            "layers": [descriptor_json(blob.descriptor) for blob in blobs],
        }
        return await self._put(self._name, OCI_MANIFEST, manifest, annotations)

    async def push_index(
        self, subject: Descriptor, images: Sequence[Descriptor], annotations: Mapping[str, str]
    ) -> Descriptor:
        """An index of images that refers to an artifact."""
        index = {
            "manifests": [descriptor_json(image) for image in images],
            "subject": descriptor_json(subject),
        }
        return await self._put("", OCI_INDEX, index, annotations)

    async def copy(self, source: Artifacts) -> Descriptor:
        """An image, with all that it is made of, from another name to this repository."""
        there = source.reference
        here = source.reference.domain == self.reference.domain
        destination = self._destination((there.path,) if here else ())
        return await _copied(
            source._repository(), destination, source._name, there.path if here else ""
        )

    @property
    def _name(self) -> str:
        return self.reference.digest or self.reference.tag

    def _repository(self) -> Repository:
        *_, repository = self._client.repositories(self.reference, self._credentials)
        return repository

    def _destination(self, sources: Sequence[str] = ()) -> Destination:
        return self._client.destination(self.reference, self._credentials, sources)

    async def _put(
        self,
        name: str,
        media_type: str,
        document: Mapping[str, object],
        annotations: Mapping[str, str],
    ) -> Descriptor:
        """`name` "": by its digest alone."""
        whole = {"schemaVersion": 2, "mediaType": media_type, **document}
        content = json.dumps({**whole, "annotations": dict(annotations)}).encode()
        digest = digest_of(content)
        await self._destination().put_manifest(name or digest, content, media_type)
        return Descriptor(media_type, digest, len(content))

    def _among(self, entries: Sequence[object], wanted: Sequence[str]) -> Digest:
        for entry in entries:
            manifest = as_object(entry, "manifest")
            if text_field(manifest, "artifactType") in wanted:
                return parse_descriptor(manifest).digest
        raise InvalidRequest(f"{self.reference.familiar} is an index with no {wanted[0]} in it")


@asynccontextmanager
async def registry(
    environment: Mapping[str, str], insecure: Sequence[str]
) -> AsyncIterator[RegistryClient]:
    """`insecure`: hosts that may be spoken to without TLS, beside this machine."""
    client = RegistryClient(Registries(insecure=tuple(insecure)), parse_proxies(environment))
    try:
        yield client
    finally:
        await client.close()


def named(client: RegistryClient, name: str, known: Mapping[str, str]) -> Artifacts:
    """`known`: the credentials there, as Docker's API spells them. Raises EngineError."""
    credentials = Credentials(
        known.get("username", ""), known.get("password", ""),
        known.get("identitytoken", ""), known.get("registrytoken", ""),
    )  # fmt: skip
    return Artifacts(client, parse_reference(name).with_default_tag(), credentials)


async def _copied(
    source: Repository, destination: Destination, name: str, beside: str
) -> Descriptor:
    """`beside`: the source's path, where it is of the same registry."""
    content, said = await source.written(name)
    document = parse_object(content, "manifest")
    for manifest in _descriptors(document, "manifests"):
        await _copied(source, destination, manifest.digest, beside)
    blobs = _descriptors(document, "layers")
    if config := object_field(document, "config"):
        blobs.append(parse_descriptor(config))
    for blob in blobs:
        if await destination.has_blob(blob.digest):
            continue
        if not (beside and await destination.mount(blob.digest, beside)):
            await _carry(source, destination, blob)
    digest = digest_of(content)
    media_type = text_field(document, "mediaType") or said
    await destination.put_manifest(digest, content, media_type)
    return Descriptor(media_type, digest, len(content))


async def _carry(source: Repository, destination: Destination, blob: Descriptor) -> None:
    checksum = hashlib.sha256()
    with tempfile.NamedTemporaryFile() as file:
        async with contextlib.aclosing(source.blob(blob)) as chunks:
            async for chunk in chunks:
                checksum.update(chunk)
                file.write(chunk)
        file.flush()
        if f"sha256:{checksum.hexdigest()}" != blob.digest:
            raise Failure(f"blob verification failed for digest {blob.digest}")
        await destination.upload(blob, Path(file.name), lambda _: None)


def _descriptors(document: Mapping[str, object], key: str) -> list[Descriptor]:
    return [parse_descriptor(as_object(each, key)) for each in array_field(document, key)]
