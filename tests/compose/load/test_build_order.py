"""Which images are built on others of the project, as their Dockerfiles say."""

from __future__ import annotations

from pathlib import Path

from compose.load.build_order import images_of
from tests.compose.load.projects import load


def built_on(folder: Path, text: str) -> dict[str, tuple[str, ...]]:
    services = load(folder, text).services
    return {name: one.build.built_on for name, one in services.items() if one.build}


def test_a_dockerfile_that_names_the_image_of_another_service_waits_for_it(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "ARG BASE\nFROM --platform=linux/amd64 ${BASE:-x} AS own\n"
    )
    assert built_on(
        tmp_path,
        """\
name: shop
services:
  web: {build: {context: ., args: {BASE: "docker.io/library/base"}}}
  other: {build: .}
  tools: {build: {dockerfile_inline: "FROM own/tools:3"}, image: "shop/tools"}
  base: {build: {dockerfile_inline: "FROM alpine\\nCOPY --from=shop/tools / /"}, image: base}
  late: {build: {dockerfile_inline: "FROM shop-other"}}
""",
    ) == {"web": ("base",), "other": (), "tools": (), "base": ("tools",), "late": ("other",)}


def test_images_of_a_circle_are_those_of_a_registry(tmp_path: Path) -> None:
    assert built_on(
        tmp_path,
        """\
services:
  a: {build: {dockerfile_inline: "FROM b"}, image: a}
  b: {build: {dockerfile_inline: "FROM a"}, image: b}
  c: {build: {dockerfile_inline: "FROM c"}, image: c}
""",
    ) == {"a": ("b",), "b": (), "c": ()}


def test_stages_and_numbers_are_no_images() -> None:
    dockerfile = """\
ARG TAG=1
FROM golang:$TAG AS make
RUN --mount=type=bind,from=tools,target=/t go build
FROM scratch
COPY --from=make /a \\
  /b
COPY --from=0 /a /b
COPY --from=nginx:${TAG} /c /d
"""
    assert [*images_of(dockerfile, {})] == ["golang:1", "tools", "scratch", "nginx:1"]
    assert next(images_of(dockerfile, {"TAG": "2"})) == "golang:2"
