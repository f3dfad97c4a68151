"""`config` and its forms, in this process: no engine is asked."""

import json
from pathlib import Path

import pytest

from tests.compose.corpus import ours

STACK = """
x-own: {b: 1, a10: 2, a2: 3}
services:
  web:
    image: nginx:${TAG:-1.25}
    build: ./site
    env_file: vars.env
    environment: {A: "${NEED:?say so}", C: "${ALT:+yes}"}
    command: echo $$HOME
    ports: ["${PORT:-80}:80"]
    volumes: ["./data:/data"]
    depends_on: [db]
    x-in: {z: "12:30", y: "on"}
    labels: {text: "one\\ntwo\\n", price: "a: b"}
  db:
    image: postgres
    secrets: [key]
    profiles: [full]
secrets:
  key: {environment: KEY, x-kept: here}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/compose.yaml").write_text(STACK)
    (tmp_path / "shop/vars.env").write_text("FROM_FILE=1\n")
    return tmp_path / "shop"


def config(folder: Path, *options: str, **variables: str) -> str:
    code, text, said = ours(
        ["--profile", "*", "config", *options], {"NEED": "1", **variables}, folder
    )
    assert code == 0, said
    return text.replace(str(folder), "/SHOP")


def test_yaml_is_laid_out_as_compose_does(folder: Path) -> None:
    assert (
        config(folder)
        == """\
name: shop
services:
  db:
    profiles:
      - full
    image: postgres
    networks:
      default: null
    secrets:
      - source: key
        target: /run/secrets/key
  web:
    build:
      context: /SHOP/site
      dockerfile: Dockerfile
    command:
      - echo
      - $$HOME
    depends_on:
      db:
        condition: service_started
        required: true
    environment:
      A: "1"
      C: ""
      FROM_FILE: "1"
    image: nginx:1.25
    labels:
      price: 'a: b'
      text: |
        one
        two
    networks:
      default: null
    ports:
      - mode: ingress
        target: 80
        published: "80"
        protocol: tcp
    volumes:
      - type: bind
        source: /SHOP/data
        target: /data
        bind:
          create_host_path: true
    x-in:
      "y": "on"
      z: "12:30"
networks:
  default:
    name: shop_default
secrets:
  key:
    name: shop_key
    environment: KEY
    x-kept: here
x-own:
  a2: 3
  a10: 2
  b: 1
"""
    )


def test_variables_stay_where_they_are_asked_to(folder: Path) -> None:
    document = json.loads(config(folder, "--no-interpolate", "--format", "json"))
    web = document["services"]["web"]
    assert web["image"] == "nginx:${TAG:-1.25}"
    assert web["ports"] == ["${PORT:-80}:80"]
    assert web["environment"]["A"] == "${NEED:?say so}"
    assert web["build"] == {"context": "/SHOP/site", "dockerfile": "Dockerfile"}
    assert document["networks"] == {"default": {"name": "shop_default"}}


def test_variables_as_yaml_are_laid_out_as_there(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'x:${TAG:-1}'}}")
    assert (
        config(tmp_path, "--variables", "--format", "yaml")
        == """\
TAG:
    name: TAG
    defaultvalue: "1"
    presencevalue: ""
    required: false
"""
    )


def test_without_variables_everything_else_is_understood(folder: Path) -> None:
    """As Docker Compose 2.40 prints it: lists of NAME=value stay lists, and merge to lists."""
    (folder / "compose.yaml").write_text("""
services:
  web:
    image: x
    environment: [B=1, "A=${A}", B=2]
    labels: {n: 1, m: }
    tmpfs: /run
    ports: ["80:80", {target: 90}]
    volumes: ["${DATA:-./d}:/d", "./e:/e"]
    env_file: "${DIR}/e.env"
    volumes_from: [db]
    depends_on: {db: {condition: service_healthy}}
  db: {image: y, ports: ["${PORT}:80", "81:81"], build: {args: [A=1, B]}}
""")
    (folder / "compose.override.yaml").write_text("services: {web: {labels: [o=3]}}")
    document = json.loads(config(folder, "--no-interpolate", "--format", "json"))
    web, db = document["services"]["web"], document["services"]["db"]
    assert web["environment"] == ["B=2", "A=${A}"]
    assert web["labels"] == ["m", "n=1", "o=3"]
    assert web["tmpfs"] == "/run"
    assert web["ports"] == [
        {"mode": "ingress", "protocol": "tcp", "published": "80", "target": 80},
        {"mode": "ingress", "protocol": "tcp", "target": 90},
    ]
    assert [mount["source"] for mount in web["volumes"]] == ["${DATA:-./d}", "/SHOP/e"]
    assert web["env_file"] == [{"path": "/SHOP/${DIR}/e.env", "required": True}]
    assert web["depends_on"] == {"db": {"condition": "service_healthy", "required": True}}
    assert db["ports"] == ["${PORT}:80", "81:81"]
    assert db["build"] == {"args": ["A=1"], "context": "/SHOP", "dockerfile": "Dockerfile"}


@pytest.mark.parametrize("option", ["--no-interpolate", "--variables"])
def test_a_mistake_is_told_where_no_variable_can_mend_it(option: str, folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {a: {image: x, imgae: y, init: '${I}'}}")
    code, _, said = ours(["config", option], {}, folder)
    assert code == 1
    assert said.splitlines()[0] == 'compose.yaml:1:26: services.a.imgae: unknown key "imgae"'
    assert "init" not in said


def test_variables_are_listed_with_what_the_files_say_of_them(folder: Path) -> None:
    assert (
        config(folder, "--variables")
        == """\
NAME   REQUIRED   DEFAULT VALUE   ALTERNATE VALUE
ALT    false                      yes
NEED   true
PORT   false      80
TAG    false      1.25
"""
    )
    assert json.loads(config(folder, "--variables", "--format", "json"))["TAG"] == {
        "Name": "TAG", "DefaultValue": "1.25", "PresenceValue": "", "Required": False,
    }  # fmt: skip


def test_only_what_the_files_say(folder: Path) -> None:
    document = json.loads(config(folder, "--no-normalize", "--format", "json"))
    assert "networks" not in document
    assert document["services"]["web"]["build"] == {"context": "/SHOP/site"}
    assert document["secrets"] == {"key": {"environment": "KEY"}}
    with (folder / "compose.yaml").open("a") as file:
        file.write("networks: {default: {driver: bridge}}\n")
    assert "networks" not in json.loads(config(folder, "--no-normalize", "--format", "json"))
    assert list(document["services"]["web"]["depends_on"]) == ["db"]


def test_paths_stay_as_they_are_written(folder: Path) -> None:
    web = json.loads(config(folder, "--no-path-resolution", "--format", "json"))["services"]["web"]
    assert web["build"]["context"] == "./site"
    assert web["volumes"][0]["source"] == "./data"


def test_env_files_are_left_alone(folder: Path) -> None:
    (folder / "vars.env").unlink()
    text = config(folder, "--no-env-resolution")
    assert "FROM_FILE" not in text
    code, _, said = ours(["config"], {"NEED": "1"}, folder)
    assert code == 1
    assert "env file vars.env not found" in said


def test_what_makes_no_sense_is_printed_on_request(folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {a: {image: x, depends_on: [b]}}")
    assert '"b": {' in config(folder, "--no-consistency", "--format", "json")
    assert ours(["config", "-q"], {}, folder)[0] == 1


def test_every_value_says_where_it_comes_from(folder: Path) -> None:
    (folder / "more.yaml").write_text(
        "services:\n  web:\n    image: nginx:2\n    label_file: [web.labels]\n"
        "    env_file: [own.env]\n"
    )
    (folder / "own.env").write_text("# ours\n\nOWN=1\nFROM_FILE=2\n")
    (folder / "web.labels").write_text("tier=front\ntext=less\n")
    rows = config(folder, "--origin", COMPOSE_FILE="compose.yaml:more.yaml")
    found = {row.split()[1]: row.split()[0] for row in rows.splitlines()}
    assert found["services.web.image:"] == "more.yaml:3:12"
    assert found["services.web.volumes[0].source:"] == "compose.yaml:11:15"
    assert found["services.web.environment.OWN:"] == "own.env:3:1"
    assert found["services.web.environment.FROM_FILE:"] == "own.env:4:1"
    assert found["services.web.labels.tier:"] == "web.labels:1:1"
    assert found["services.web.labels.text:"].startswith("compose.yaml:")
    assert found["networks.default.name:"] == "(default)"
    document = json.loads(config(folder, "--origin", "--format", "json"))
    assert {"path": "services.db.image", "value": "postgres", "file": "compose.yaml", "line": 16,
            "column": 12} in document  # fmt: skip


def test_a_secret_is_never_printed(folder: Path) -> None:
    for options in ((), ("--format", "json"), ("--origin",), ("--no-interpolate",)):
        assert "hunter2" not in config(folder, *options, KEY="hunter2")
    assert "hunter2" in config(folder, "--environment", KEY="hunter2")


def test_names_are_listed(folder: Path) -> None:
    assert config(folder, "--services").split() == ["web", "db"]
    assert config(folder, "--images").split() == ["nginx:1.25", "postgres"]
    assert config(folder, "--profiles") == "full\n"
    assert config(folder, "--networks") == "default\n"
    assert config(folder, "--quiet") == ""
