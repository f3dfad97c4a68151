"""Pulls through a forward proxy, which alone knows where the registry is."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.errors import Failure
from engine.images.operations import Images
from engine.proxies import Proxies
from engine.registry.client import RegistryClient
from engine.settings import Registries
from tests.engine.registry.server import Registry, serving
from tests.engine.registry.test_pull import BASE, TOP, pull
from tests.proxy import proxying

pytestmark = pytest.mark.kernel
NAME = "registry.example:5000"


@pytest.fixture
async def registry() -> AsyncIterator[Registry]:
    async with serving() as served:
        served.add_image("app:1", [BASE, TOP])
        yield served


async def opened(folder: Path, proxies: Proxies, certificates: tuple[Path, ...] = ()) -> Images:
    insecure = () if certificates else (NAME,)
    registries = Registries(insecure=insecure, certificates=certificates, attempts=1)
    return await Images.open(
        folder / "images", client=RegistryClient(registries, proxies, pauses=(0, 0))
    )


async def test_all_of_a_pull_goes_through_the_proxy(registry: Registry, tmp_path: Path) -> None:
    with proxying({NAME: registry.port}) as proxy:
        address = f"http://ann:p%40ss@{proxy.address}"
        images = await opened(tmp_path, Proxies(http=address))
        await pull(images, f"{NAME}/app:1")
        assert images.resolve(f"{NAME}/app:1").size
        assert {who for method, _, who in proxy.seen if method == "GET"} == {
            "Basic YW5uOnBAc3M="  # ann:p@ss
        }
        assert not any("Proxy-Authorization" in request.headers for request in registry.seen)
        await images.close()


async def test_what_is_named_goes_past_it(registry: Registry, tmp_path: Path) -> None:
    with proxying({}) as proxy:
        address = f"http://{proxy.address}"
        images = await opened(tmp_path, Proxies(address, address))
        await pull(images, f"{registry.host}/app:1")  # this machine itself
        assert proxy.seen == []
        await images.close()


async def test_tls_is_a_tunnel_and_a_refusal_is_told(tmp_path: Path) -> None:
    with proxying({}) as proxy:
        images = await opened(tmp_path, Proxies(https=f"http://{proxy.address}"))
        with pytest.raises(Failure, match="the proxy refuses: 407"):
            await pull(images, "private.example/app:1")
        assert {(method, target) for method, target, _ in proxy.seen} == {
            ("CONNECT", "private.example:443")
        }
        await images.close()


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_registry_with_tls_is_reached_through_the_tunnel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Who it is is checked inside of it; the proxy learns neither what is asked nor by whom."""
    server = vouched_for(tmp_path, "registry.example", "127.0.0.1")
    (tmp_path / "certs" / NAME).mkdir(parents=True)
    shutil.copy(tmp_path / "crt", tmp_path / "certs" / NAME / "ours.crt")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "crt"))  # for the proxy's own
    async with serving(tls=server) as registry:
        registry.add_image("app:1", [BASE, TOP])
        tls = server if scheme == "https" else None
        with proxying({NAME: registry.port, "other.example:5000": registry.port}, tls=tls) as proxy:
            proxies = Proxies(https=f"{scheme}://ann:pass@{proxy.address}")
            images = await opened(tmp_path, proxies, (tmp_path / "certs",))
            await pull(images, f"{NAME}/app:1")
            assert images.resolve(f"{NAME}/app:1").size
            assert set(proxy.seen) == {("CONNECT", NAME, "Basic YW5uOnBhc3M=")}
            assert not any("Proxy-Authorization" in request.headers for request in registry.seen)
            with pytest.raises(Failure, match="failed to verify certificate: Hostname mismatch"):
                await pull(images, "other.example:5000/app:1")
            await images.close()


def vouched_for(folder: Path, *names: str) -> ssl.SSLContext:
    """A server's: a certificate of its own, at `crt`."""
    kinds = ("IP" if name[0].isdecimal() else "DNS" for name in names)
    known = ",".join(f"{kind}:{name}" for kind, name in zip(kinds, names, strict=True))
    key, certificate = folder / "key", folder / "crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=ours", "-addext", f"subjectAltName={known}",
         "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


async def test_a_proxy_that_is_not_there_is_named(tmp_path: Path) -> None:
    images = await opened(tmp_path, Proxies(https="http://127.0.0.1:1"))
    with pytest.raises(Failure, match=r"proxyconnect tcp: dial tcp 127\.0\.0\.1:1: connection ref"):
        await pull(images, "private.example/app:1")
    await images.close()
