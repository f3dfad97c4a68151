"""Builds of four stages, two of them independent, by each engine's own Compose: Docker's has the
BuildKit of its dockerd build. Cold, without the cache; again, with nothing changed; and how much
memory our daemon takes meanwhile.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

from tests.benchmarks.engines import IMAGE, Engine
from tests.benchmarks.measures import COLD, compose, timed
from tests.host import UnixConnection

FILES = 400  # of the context, each of 8 KB
DOCKERFILE = f"""\
FROM {IMAGE} AS base
WORKDIR /work
RUN mkdir out && i=0; while [ $i -lt 200 ]; do echo $i > out/$i; i=$((i+1)); done
FROM base AS one
COPY one one
RUN cat one/* > all && sleep 0.3
RUN wc -c all > count
FROM base AS two
COPY two two
RUN cat two/* > all && sleep 0.3
RUN wc -c all > count
FROM base
COPY --from=one /work/count /one
COPY --from=two /work/count /two
COPY . /context
RUN cat /one /two > /both
CMD ["cat", "/both"]
"""
LARGE = f"""\
FROM {IMAGE} AS large
RUN head -c 300000000 /dev/zero > /zero
FROM {IMAGE}
COPY --from=large /zero /zero
"""


def prepare(engine: Engine) -> Path:
    folder = engine.host.folder / "build"
    for half in ("one", "two"):
        (folder / half).mkdir(parents=True, exist_ok=True)
        for number in range(FILES // 2):
            (folder / half / f"file{number}").write_bytes(f"{half} {number}\n".encode() * 800)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "compose.yaml").write_text("services: {built: {build: .}}\n")
    compose(engine, folder, "build")
    return folder


def again(engine: Engine) -> float:
    return compose(engine, engine.host.folder / "build", "build")


def again_cold(engine: Engine) -> float:
    return compose(engine, engine.host.folder / "build", "build", more=COLD)


def cold(engine: Engine) -> float:
    return compose(engine, engine.host.folder / "build", "build", "--no-cache")


def by_the_call(engine: Engine) -> float:
    """Nothing changed, without a client: Docker's classic builder on both sides, which gets the
    files each time."""
    folder = engine.host.folder / "build"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, ".")
    content = buffer.getvalue()
    _post(engine, content)
    return timed(lambda: _post(engine, content))


def _post(engine: Engine, content: bytes) -> None:
    connection = UnixConnection(engine.socket, 60)
    try:
        path = "/build?t=by-call&networkmode=none&rm=1"
        connection.request("POST", path, content, {"Content-Type": "application/x-tar"})
        said = connection.getresponse().read()
        assert b"Successfully tagged" in said, said[-500:]
    finally:
        connection.close()


def peak_memory(engine: Engine) -> float:
    """Megabytes that the daemon has at most, while a layer of 300 MB is made and copied."""
    folder = engine.host.folder / "large"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(LARGE)
    (folder / "compose.yaml").write_text("services: {large: {build: .}}\n")
    Path(f"/proc/{engine.pid}/clear_refs").write_text("5")  # forgets the highest so far
    compose(engine, folder, "build", "--no-cache")
    status = Path(f"/proc/{engine.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1000
