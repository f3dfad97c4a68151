"""A registry to pull from and push to: small, real, and as faulty as a test wants it to be.

In a test's event loop (`async with serving()`), or as a process that serves one image:
`python -m tests.engine.registry.server PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import ssl
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from aiohttp import web

from tests.engine.images.archives import config, digest, entry, tar

OCI = "application/vnd.oci.image."
MANIFEST, INDEX = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json"
USER, PASSWORD = "ann", "secret"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def zipped(layer: bytes) -> bytes:
    return gzip.compress(layer, mtime=0)


@dataclass
class Registry:
    port: int = 0
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # "repo:tag|digest"
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)
    # Faults and fashions.
    auth: str = ""  # "basic", "bearer"
    realm: str = ""  # of the tokens, if it isn't here
    token: str = "tok"
    refresh_token: str = ""
    private: str = ""  # the only repositories that want to know who asks begin so
    strangers: bool = True  # who has no name gets a token
    elsewhere: str = ""  # where blobs redirect to
    uploads_at: str = ""  # where their content is to be sent
    upload_cuts: list[int] = field(default_factory=list)  # the next uploads break after so much
    uploads: dict[str, bytearray] = field(default_factory=dict)
    unknown_uploads: int = 0  # so many times their content is for an upload nobody knows
    forgets: bool = False  # what came of an upload that broke
    busy: list[str] = field(default_factory=list)  # Retry-After of the next manifests' 429
    retry_after: str = ""  # goes with `failures`
    cuts: list[int] = field(default_factory=list)  # the next bodies end after so many bytes
    ranges: bool = True
    searchable: list[dict[str, object]] | None = None  # results of any search
    failures: list[int] = field(default_factory=list)  # statuses of the next blobs
    gate: asyncio.Event = field(default_factory=asyncio.Event)  # bodies wait for it, half sent
    stuck: set[str] = field(default_factory=set)  # blobs that never end
    reached: asyncio.Event = field(default_factory=asyncio.Event)  # a body waits, or was sent
    most_at_once: int = 0
    at_once: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked(self, part: str) -> list[web.Request]:
        return [request for request in self.seen if part in request.path]

    def add_blob(self, content: bytes) -> dict[str, object]:
        self.blobs[digest(content)] = content
        return {"digest": digest(content), "size": len(content)}

    def add_manifest(self, name: str, document: Mapping[str, object] | bytes, kind: str) -> str:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        repository = name.partition(":")[0]
        self.manifests[name] = self.manifests[f"{repository}:{digest(content)}"] = (kind, content)
        return digest(content)

    def add_image(
        self, name: str, layers: Sequence[bytes], *, changes: Mapping[str, object] | None = None,
        document: bytes = b"", compress: Callable[[bytes], bytes] = zipped,
    ) -> str:  # fmt: skip
        """A manifest by that name, of tars; its digest."""
        image = document or config([digest(layer) for layer in layers])
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": f"{OCI}config.v1+json", **self.add_blob(image)},
            "layers": [
                {"mediaType": f"{OCI}layer.v1.tar+gzip", **self.add_blob(compress(layer))}
                for layer in layers
            ],
            **(changes or {}),
        }
        return self.add_manifest(name, manifest, MANIFEST)

    def add_index(self, name: str, entries: Sequence[tuple[str, str, str]]) -> str:
        """Of (manifest's name, os, architecture)."""
        found = []
        for image, system, architecture in entries:
            kind, content = self.manifests[image]
            platform = {"os": system, "architecture": architecture}
            descriptor = {"mediaType": kind, "digest": digest(content), "size": len(content)}
            found.append({**descriptor, "platform": platform})
        return self.add_manifest(
            name, {"schemaVersion": 2, "mediaType": INDEX, "manifests": found}, INDEX
        )

    # ---- what it serves

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/", self._root)
        app.router.add_get("/v2/_catalog", self._catalog)
        app.router.add_get("/v1/search", self._search)
        app.router.add_get("/token", self._token)
        app.router.add_post("/token", self._token)
        app.router.add_get("/v2/{name:.+}/manifests/{tag}", self._manifest)
        app.router.add_put("/v2/{name:.+}/manifests/{tag}", self._put_manifest)
        app.router.add_post("/v2/{name:.+}/blobs/uploads/", self._begin)
        app.router.add_route("*", "/v2/{name:.+}/blobs/uploads/{id}", self._upload)
        app.router.add_head("/v2/{name:.+}/blobs/{digest}", self._has_blob)
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._blob, allow_head=False)
        app.router.add_get("/v2/{name:.+}/tags/list", self._tags)
        return app

    def _refused(self, request: web.Request) -> web.Response | None:
        self.seen.append(request)
        if not request.match_info.get("name", "").startswith(self.private):
            return None
        sent = request.headers.get("Authorization", "")
        if self.auth == "basic" and sent != BASIC:
            return _error(401, "UNAUTHORIZED", "authentication required",
                          {"WWW-Authenticate": 'Basic realm="here"'})  # fmt: skip
        if self.auth == "bearer" and sent != f"Bearer {self.token}":
            realm = self.realm or f"http://{self.host}/token"
            known = ',error="insufficient_scope"' if sent else ""
            challenge = f'Bearer realm="{realm}",service="here",scope="x"{known}'
            return _error(401, "UNAUTHORIZED", "authentication required",
                          {"WWW-Authenticate": challenge})  # fmt: skip
        return None

    async def _root(self, request: web.Request) -> web.Response:
        return self._refused(request) or web.Response()

    async def _token(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        sent = request.headers.get("Authorization", "")
        form = parse_qs((await request.read()).decode())
        if sent not in ("", BASIC) or (form and form["refresh_token"] != ["identity"]):
            return _error(401, "UNAUTHORIZED", "incorrect username or password", {})
        named = bool(sent or form)
        token = self.token if named or self.strangers else "poor"
        kept = {"refresh_token": self.refresh_token} if "offline_token" in request.query else {}
        return web.json_response({"token": token, **kept})

    async def _manifest(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        if self.busy:
            headers = {"Retry-After": self.busy.pop(0)}
            return _error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit", headers)
        found = self.manifests.get("{name}:{tag}".format(**request.match_info))
        if found is None:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown", {})
        kind, content = found
        lie = digest(b"a lie")
        return web.Response(
            body=content, headers={"Content-Type": kind, "Docker-Content-Digest": lie}
        )

    async def _catalog(self, request: web.Request) -> web.Response:
        """One a page."""
        if refused := self._refused(request):
            return refused
        names = sorted({name.partition(":")[0] for name in self.manifests})
        last = int(request.query.get("last", "0"))
        more = {"Link": f'</v2/_catalog?last={last + 1}&n=1>; rel="next"'}
        headers = more if last + 1 < len(names) else {}
        return web.json_response({"repositories": names[last : last + 1]}, headers=headers)

    async def _search(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        if self.searchable is None:
            return web.Response(status=404)
        return web.json_response({"results": self.searchable, "num_results": 1})

    async def _tags(self, request: web.Request) -> web.Response:
        """One a page."""
        if refused := self._refused(request):
            return refused
        prefix = request.match_info["name"] + ":"
        tags = [name[len(prefix) :] for name in self.manifests if name.startswith(prefix)]
        tags = sorted(tag for tag in tags if ":" not in tag)
        page = int(request.query.get("page", "0"))
        following = {"Link": f'</v2/x/tags/list?page={page + 1}>; rel="next"'}
        return web.json_response({"tags": tags[page : page + 1] or None}, headers=following)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        if refused := self._refused(request):
            return refused
        if self.elsewhere:
            location = f"{self.elsewhere}{request.path}?signature=x"
            return web.Response(status=307, headers={"Location": location})
        content = self.blobs.get(request.match_info["digest"])
        if content is None:
            return _error(404, "BLOB_UNKNOWN", "blob unknown", {})
        if content.startswith(b"{"):
            return web.Response(body=content)
        if self.failures:
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.Response(status=self.failures.pop(0), headers=headers)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._body(request, content)
        finally:
            self.at_once -= 1

    async def _has_blob(self, request: web.Request) -> web.Response:
        refused = self._refused(request)
        known = request.match_info["digest"] in self.blobs
        return refused or web.Response(status=200 if known else 404)

    async def _begin(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        name = str(len(self.uploads))
        self.uploads[name] = bytearray()
        return self._accepted(request, name, 202)

    def _accepted(self, request: web.Request, name: str, status: int) -> web.Response:
        location = (
            f"{self.uploads_at}/v2/{request.match_info['name']}/blobs/uploads/{name}?_state=a%3D"
        )
        end = max(0, len(self.uploads[name]) - 1)
        return web.Response(status=status, headers={"Location": location, "Range": f"0-{end}"})

    async def _upload(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        name = request.match_info["id"]
        if request.method == "GET":
            return web.Response(status=404) if self.forgets else self._accepted(request, name, 204)
        if self.unknown_uploads:
            self.unknown_uploads -= 1
            self.uploads[name].clear()
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {})
        content = self.uploads[name]
        cut = self.upload_cuts.pop(0) if self.upload_cuts and request.method == "PATCH" else None
        async for chunk in request.content.iter_any():
            self.reached.set()
            await self.gate.wait()
            content += chunk
            if cut is not None and len(content) > cut:
                del content[cut:]
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
        if request.method == "PATCH":
            return self._accepted(request, name, 202)
        if digest(bytes(content)) != request.query["digest"]:
            return _error(400, "DIGEST_INVALID", "provided digest did not match", {})
        self.add_blob(bytes(content))
        return web.Response(status=201)

    async def _put_manifest(self, request: web.Request) -> web.Response:
        if refused := self._refused(request):
            return refused
        name = "{name}:{tag}".format(**request.match_info)
        self.add_manifest(name, await request.read(), request.headers["Content-Type"])
        return web.Response(status=201)

    async def _body(self, request: web.Request, content: bytes) -> web.StreamResponse:
        response = web.StreamResponse()
        wanted = request.headers.get("Range", "") if self.ranges else ""
        if wanted:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            whole, content = len(content), content[start:]
            response.set_status(206)
            response.headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        response.content_length = len(content)
        await response.prepare(request)
        half = len(content) // 2
        await response.write(content[:half])
        self.reached.set()
        await (asyncio.Event() if digest(content) in self.stuck else self.gate).wait()
        if self.cuts:
            await response.write(content[half : self.cuts.pop(0)])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(content[half:])
        await response.write_eof()
        return response


def _error(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    errors = {"errors": [{"code": code, "message": message}]}
    return web.json_response(errors, status=status, headers=headers)


@asynccontextmanager
async def serving(port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[Registry]:
    registry = Registry()
    runner = web.AppRunner(registry.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls)
    await site.start()
    registry.port = runner.addresses[0][1]
    try:
        yield registry
    finally:
        registry.gate.set()
        await runner.cleanup()


def machine_layer() -> bytes:
    """Enough of this machine to run /bin/sh."""
    import subprocess

    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True).stdout
    words = [word for line in listed.splitlines() for word in line.split() if word[0] == "/"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as archive:
        for path in ("/bin/sh", *dict.fromkeys(words)):
            archive.add(path, arcname=path[1:])
    return buffer.getvalue()


async def main(port: int) -> None:
    async with serving(port) as registry:
        layers = [machine_layer(), tar([entry("etc/motd", b"pulled\n")])]
        registry.add_image("library/shell:1", layers)
        registry.add_image("private/shell:1", layers)
        registry.add_image("library/stuck:1", [tar([entry("never", b"whole")])])
        registry.stuck = set(registry.blobs) - {digest(zipped(layer)) for layer in layers}
        registry.auth, registry.private = "basic", "private/"
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
