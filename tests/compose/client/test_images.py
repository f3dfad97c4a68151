"""What names of images mean."""

from __future__ import annotations

import pytest

from compose.client.images import whole_reference


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("alpine:3.14", "docker.io/library/alpine:3.14"),
        ("index.docker.io/grafana/loki:3", "docker.io/grafana/loki:3"),
        ("docker.io/alpine", "docker.io/library/alpine:latest"),
        ("localhost/a:1", "localhost/a:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("ghcr.io/a/b:1@sha256:00", "ghcr.io/a/b@sha256:00"),
    ],
)
def test_the_whole_name_says_registry_and_tag(written: str, meant: str) -> None:
    assert whole_reference(written) == meant
