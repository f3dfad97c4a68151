"""Files of versions 1 and 2 in today's words: what comes out loads, and says the same."""

import textwrap
from pathlib import Path

from compose.load.pipeline import LoadRequest, load_project
from tests.compose.corpus import ours

FIRST = """
web:
  build: ./site
  dockerfile: Dockerfile.web
  net: "container:db"
  log_driver: syslog
  log_opt: {tag: "$TAG"}
  volumes: ["named:/x", "./here:/y"]
  volumes_from: [db, stranger]
db:
  image: postgres
"""


def convert(tmp_path: Path, text: str) -> tuple[str, str]:
    (tmp_path / "compose.yaml").write_text(textwrap.dedent(text))
    code, out, said = ours(["convert"], {}, tmp_path)
    assert code == 0, said
    return out, said


def test_the_first_version(tmp_path: Path) -> None:
    text, said = convert(tmp_path, FIRST)
    assert (
        text
        == """\
services:
  web:
    build:
      context: ./site
      dockerfile: Dockerfile.web
    network_mode: service:db
    logging:
      driver: syslog
      options:
        tag: $TAG
    volumes:
      - named:/x
      - ./here:/y
    volumes_from:
      - db
      - container:stranger
  db:
    image: postgres
volumes:
  named:
    name: named
"""
    )
    assert "compose.yaml:5:3: web.net: net is network_mode now: service:db" in said
    (tmp_path / "compose.yaml").write_text(text)
    project = load_project(LoadRequest(tmp_path, {"TAG": "t"}))
    assert list(project.services["web"].depends_on) == ["db"]


def test_the_second_version_keeps_its_volumes(tmp_path: Path) -> None:
    text, said = convert(
        tmp_path,
        """
        version: "2.4"
        services: {a: {image: x, volumes: ["v:/v"], volume_driver: flocker}}
        volumes: {v: {labels: {a: b}}}
        """,
    )
    assert "version" not in text
    assert "volume_driver" not in text
    assert "labels:\n      a: b" in text
    assert "the driver is said where the volume is declared" in said


def test_a_file_of_today_is_printed_as_config_prints_it(tmp_path: Path) -> None:
    text, said = convert(tmp_path, "services: {a: {image: x}}")
    assert text == ours(["config"], {}, tmp_path)[1]
    assert said == ""


def test_without_a_file_it_is_told(tmp_path: Path) -> None:
    code, _, said = ours(["convert"], {}, tmp_path)
    assert code == 1
    assert "there is no Compose file" in said
