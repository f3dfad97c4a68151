"""`graph`: the stack as text, Mermaid, DOT, SVG and PNG."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.compose.corpus import ours

STACK = """
services:
  web:
    image: nginx
    ports: ["8080:80"]
    networks: [front, back]
    depends_on:
      db: {condition: service_healthy}
      job: {condition: service_completed_successfully, required: false}
  db: {image: pg:1, volumes: ["data:/data:ro"], secrets: [key], networks: [back]}
  job: {build: ., deploy: {replicas: 2}, networks: [back]}
networks: {front: , back: {internal: true}}
volumes: {data: }
secrets: {key: {environment: KEY}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(STACK)
    return tmp_path


def graph(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "compose", "-p", "shop", "graph", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": str(Path(__file__).parents[3])})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_as_text(folder: Path) -> None:
    assert (
        graph(folder)
        == """\
db   pg:1
  on     back
  mounts data -> /data (read only)
  secret key -> /run/secrets/key

job   shop-job, built here, 2 replicas
  on     back

web   nginx, ports 8080:80
  needs  db (healthy), job (completed, optional)
  on     front, back

networks: front, back (internal)
volumes: data
secrets: key
"""
    )


def test_as_mermaid_and_dot(folder: Path) -> None:
    text = graph(folder, "--format", "mermaid")
    assert 'n1["db<br>pg:1"]' in text
    assert 'n0 -.->|"completed, optional"| n2' in text
    text = graph(folder, "--format", "dot")
    assert r'"service db" [shape=box, label="db\npg:1"];' in text
    assert '"service web" -> "service db" [label="healthy", style=solid, arrowhead=normal];' in text


def test_as_pictures(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    graph(folder, "-o", "stack.svg")
    texts = {
        "".join(node.itertext())
        for node in ElementTree.parse(folder / "stack.svg").iter("{http://www.w3.org/2000/svg}text")
    }
    assert {"shop", "web", "network front", "healthy", "ports 8080:80"} <= texts
    graph(folder, "-o", "stack.png")
    assert (folder / "stack.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install(folder: Path) -> None:
    (folder / "matplotlib.py").write_text("raise ImportError('not here')")
    command = [sys.executable, "-m", "compose", "graph", "--format", "svg"]
    paths = f"{folder}:{Path(__file__).parents[3]}"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": paths})  # fmt: skip
    assert done.returncode == 1
    assert "pip install matplotlib" in done.stderr


def test_alpha_viz_is_docker_composes(folder: Path) -> None:
    code, text, _ = ours(["-p", "shop", "alpha", "viz", "--ports"], {}, folder)
    assert code == 0
    assert text.startswith('digraph "shop" {\n\tlayout=dot;\n')
    assert "<b>Ports:</b><br/>8080:80 (tcp, ingress)</font>>];" in text
    assert '\t"web" -> "db";\n' in text
