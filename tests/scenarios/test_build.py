"""Projects whose images are built: before anything starts, again when asked, and under watch."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.compose.engines import missing
from tests.engine.builder.conftest import import_busybox
from tests.host import Daemon, Host, host
from tests.scenarios.project import Project, project

pytestmark = pytest.mark.kernel

FILE = """\
services:
  web:
    build:
      context: web
      args: {GREETING: hello}
      labels: {own: label}
      tags: ["extra:tag"]
    command: sleep 1000
    stop_grace_period: 0s
    depends_on: [worker]
  worker:
    image: worker:built
    build:
      context: web
      target: base
      dockerfile_inline: |
        FROM busybox:test AS base
        COPY . /files
        FROM base
        RUN exit 1
    command: sleep 1000
    stop_grace_period: 0s
"""
DOCKERFILE = """\
FROM busybox:test
ARG GREETING=none
COPY page /page
RUN echo $GREETING >> /page
"""


@pytest.fixture(scope="module")
def built_host() -> Iterator[Host]:
    if reason := missing("pyengine"):
        pytest.skip(reason)
    with host() as opened:
        yield opened


@pytest.fixture(scope="module")
def built_engine(built_host: Host) -> Daemon:
    daemon = built_host.daemon()
    import_busybox(daemon)
    return daemon


@pytest.fixture
def shop(
    built_host: Host, built_engine: Daemon, request: pytest.FixtureRequest
) -> Iterator[Project]:
    name = request.node.name.replace("_", "")[-30:]
    made = project(built_host, FILE, name, built_engine)
    (made.folder / "web").mkdir()
    made.write(DOCKERFILE, "web/Dockerfile")
    made.write("page\n", "web/page")
    made.write("left out\n", "web/left-out")
    made.write(".dockerignore\nleft-out\n", "web/.dockerignore")
    yield made
    made.clear()


def page(shop: Project, service: str = "web") -> str:
    return shop("exec", "-T", service, "cat", "/page").stdout


def test_up_builds_what_is_missing_and_nothing_twice(shop: Project) -> None:
    planned = shop("plan", check=False).stdout
    assert f"build image {shop.folder.name}-web" in planned
    shop("up", "-d")
    assert page(shop) == "page\nhello\n"
    assert shop("exec", "-T", "worker", "ls", "/files").stdout == "Dockerfile\npage\n"
    status, image = shop.daemon.call("GET", f"/images/{shop.folder.name}-web/json")
    assert status == 200
    assert isinstance(image, dict)
    labels = image["Config"]["Labels"]
    assert labels["own"] == "label"
    assert labels["com.docker.compose.project"] == shop.folder.name
    assert labels["com.docker.compose.service"] == "web"
    assert shop.daemon.call("GET", "/images/extra:tag/json")[0] == 200
    before = shop.ids()
    assert "is up to date" in shop("up", "-d").stderr
    shop("up", "-d", "--build")
    assert shop.ids() == before  # all from the cache: the same image
    shop.write("other\n", "web/page")
    shop("up", "-d", "--build")
    assert page(shop) == "other\nhello\n"


def test_build_alone_and_with_arguments(shop: Project) -> None:
    said = shop("build", "--build-arg", "GREETING=given", "web", env={"CI": ""}).stdout
    assert "Step 1/" in said
    assert shop.containers() == {}
    shop("up", "-d", "--no-deps", "web")
    assert page(shop) == "page\ngiven\n"
    refused = shop("build", "--push", check=False)
    assert refused.returncode == 1
    assert "cannot push" in refused.stderr


def test_checks_alone_build_nothing(shop: Project) -> None:
    assert "no warnings found" in shop("build", "--check", "worker", env={"CI": ""}).stdout
    shop.write(f"{DOCKERFILE}COPY left-out /\nCMD x\n", "web/Dockerfile")
    checked = shop("build", "--check", check=False)
    assert checked.returncode == 1
    assert "2 warnings have been found:" in checked.stderr
    assert '- CopyIgnoredFile: Attempting to Copy file "left-out"' in checked.stderr
    assert "- JSONArgsRecommended: " in checked.stderr
    assert "missing" in shop("plan", check=False).stdout


def test_proxies_of_the_user_reach_builds_and_containers(shop: Project) -> None:
    shop.write("FROM busybox:test\nRUN echo $HTTPS_PROXY > /page\n", "web/Dockerfile")
    shop.write(
        '{"proxies": {"default": {"httpsProxy": "http://proxy.example:3128"}}}', "config.json"
    )
    shop("up", "-d", "web", env={"DOCKER_CONFIG": str(shop.folder)})
    assert page(shop) == "http://proxy.example:3128\n"
    said = shop("exec", "-T", "web", "sh", "-c", "echo $https_proxy").stdout
    assert said == "http://proxy.example:3128\n"
    # They are no part of what is declared: nothing changes by them.
    assert "Recreate" not in shop("up", "-d", "web").stderr


def test_a_failing_step_says_where(shop: Project) -> None:
    shop.write(DOCKERFILE + "RUN echo the reason; exit 4\n", "web/Dockerfile")
    failed = shop("up", "-d", check=False)
    assert failed.returncode == 1
    assert "compose.yaml:3:" in failed.stderr
    assert "returned a non-zero code: 4" in failed.stderr
    assert "Dockerfile:5: RUN" in failed.stderr
    assert "the reason" in failed.stderr
    assert shop.containers() == {}


def test_what_cannot_be_done_is_refused_with_its_place(shop: Project) -> None:
    shop.replace(
        "      target: base\n",
        "      target: base\n      ssh: [default]\n      sbom: true\n"
        "      cache_to: [type=inline]\n      entitlements: [all]\n",
    )
    refused = shop("up", "-d", "--build", check=False, env={"SSH_AUTH_SOCK": ""})
    assert refused.returncode == 1
    for words in ("SSH_AUTH_SOCK is not set", "sbom is not supported", "cache_to is not supported",
                  "no entitlement 'all'"):  # fmt: skip
        assert any("compose.yaml:" in line for line in refused.stderr.splitlines() if words in line)
    absent = shop("up", "-d", "--no-build", check=False)
    assert "is not on the engine" in absent.stderr


CONTEXTS = """\
services:
  top:
    build:
      context: web
      dockerfile_inline: |
        FROM base
        COPY --from=files note /note
        COPY --from=img /bin/busybox /other
      additional_contexts:
        base: service:bottom
        files: ./files
        img: docker-image://busybox:test
    command: sleep 1000
    stop_grace_period: 0s
  bottom:
    build:
      context: web
      dockerfile_inline: |
        FROM busybox:test
        COPY page /page
    command: sleep 1000
    stop_grace_period: 0s
"""


def test_named_contexts_of_folders_images_and_services(shop: Project) -> None:
    shop.write(CONTEXTS)
    (shop.folder / "files").mkdir()
    shop.write("noted\n", "files/note")
    shop("build", "top")  # and what it stands on, though nobody named it
    assert shop.containers() == {}
    assert shop("run", "--rm", "--build", "--no-deps", "top", "cat", "/page", "/note").stdout == (
        "page\nnoted\n"
    )
    shop.write("changed\n", "web/page")
    shop("create", "--build")
    shop("up", "-d", "--no-build")
    assert page(shop, "top") == "changed\n"
    shop.replace(
        "COPY page /page\n", "COPY page /page\n      additional_contexts: {x: 'service:top'}\n"
    )
    refused = shop("build", check=False)
    assert "would be built on itself" in refused.stderr


def test_a_context_is_sent_once(shop: Project) -> None:
    """Two services with one folder, and again: what the engine has is not sent."""
    shop.write(CONTEXTS.replace("        files: ./files\n", "        files: ./web\n"))
    shop.write("noted\n", "web/note")
    contexts = shop.daemon.data_root / "builder/contexts"
    shop("build")  # what was written a moment before is not yet taken for what it will be
    shop("build")
    before = {path.name: path.stat().st_ino for path in contexts.iterdir()}
    shop("build")
    assert {path.name: path.stat().st_ino for path in contexts.iterdir()} == before
    sources = [(path / "source").read_text() for path in contexts.iterdir()]
    assert len(sources) == len(set(sources))


def test_secrets_reach_a_step_and_no_layer(shop: Project) -> None:
    shop.write(
        """\
services:
  web:
    build:
      context: web
      secrets: [token]
    command: sleep 1000
    stop_grace_period: 0s
secrets:
  token: {file: ./token}
"""
    )
    shop.write("hidden\n", "token")
    shop.write(
        "FROM busybox:test\n"
        "RUN --mount=type=secret,id=token tail -c 4 /run/secrets/token > /page\n",
        "web/Dockerfile",
    )
    shop("up", "-d")
    assert page(shop) == "den\n"
    assert "No such" in shop("exec", "-T", "web", "ls", "/run/secrets", check=False).stderr


def test_a_key_in_a_file_signs_for_a_step(shop: Project) -> None:
    shop.write(
        "services:\n  web:\n    build:\n      context: web\n      ssh: [deploy=./key]\n"
        "      dockerfile_inline: |\n        FROM rootfs:/\n"
        "        RUN --mount=type=ssh,id=deploy ssh-add -L\n"
    )
    for name, passphrase in (("key", ""), ("locked", "secret")):
        generate = ("ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", name)
        subprocess.run(generate, cwd=shop.folder, check=True)
    (shop.folder / "key").chmod(0o644)  # as git leaves it; no mistake for who builds with it
    assert (shop.folder / "key.pub").read_text().strip() in shop("build", env={"CI": ""}).stdout
    shop.replace("./key", "./locked")
    refused = shop("build", check=False).stderr
    assert f"cannot use the key {shop.folder}/locked: it has a passphrase" in refused


def test_watch_builds_again(shop: Project) -> None:
    shop.replace(
        "    depends_on: [worker]\n",
        "    depends_on: [worker]\n    develop:\n      watch:\n"
        "        - {action: rebuild, path: web}\n",
    )
    shop("up", "-d")
    shop.write("edited before\n", "web/page")
    process = shop.start("watch")
    assert process.stdout is not None
    for line in process.stdout:
        if "watching" in line:
            break
    assert page(shop) == "edited before\nhello\n"
    shop.write("changed\n", "web/page")
    for line in process.stdout:
        if "rebuilt" in line:
            break
    assert page(shop) == "changed\nhello\n"
    process.terminate()
    process.wait(20)
