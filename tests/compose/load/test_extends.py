from pathlib import Path

import pytest

from compose.errors import ProjectError
from tests.compose.load.projects import load, write


def test_a_service_is_laid_over_the_one_it_extends(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
        services:
          base:
            image: x
            command: [a]
            environment: {A: 1, B: 2}
            cap_add: [X]
          web:
            extends: base
            command: [b]
            environment: [B=3]
            cap_add: [Y]
        """,
    )
    web = project.services["web"]
    assert (web.image, web.command, web.cap_add) == ("x", ("b",), ("X", "Y"))
    assert web.environment == {"A": "1", "B": "3"}
    assert str(project.at("services", "web", "image")) == "compose.yaml:3:12"
    assert str(project.at("services", "web", "environment", "B")) == "compose.yaml:10:19"


def test_paths_of_another_file_start_at_its_folder(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": """
                services:
                  web:
                    extends: {file: common/base.yaml, service: base}
                    volumes: [./own:/own]
                """,
            "common/base.yaml": """
                services:
                  base:
                    extends: {file: deeper/base.yaml, service: deep}
                    volumes: [./data:/data]
                    build: .
                  broken:
                    imge: not looked at
                """,
            "common/deeper/base.yaml": "services: {deep: {volumes: ['./deep:/deep'], user: me}}",
        },
    )
    project = load(tmp_path)
    web = project.services["web"]
    assert [mount.source for mount in web.volumes] == [
        str(tmp_path / "common/deeper/deep"),
        str(tmp_path / "common/data"),
        str(tmp_path / "own"),
    ]
    assert web.build is not None
    assert web.build.context == str(tmp_path / "common")
    assert web.user == "me"
    assert list(project.services) == ["web"]
    assert tmp_path / "common/deeper/base.yaml" in project.watched_files


def test_an_override_file_may_extend_a_service_of_the_base(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "services: {a: {image: x, user: me}}",
            "compose.override.yaml": "services: {b: {extends: a, command: c}}",
        },
    )
    b = load(tmp_path).services["b"]
    assert (b.image, b.user, b.command) == ("x", "me", ("c",))


def test_reset_and_override_work_on_what_is_extended(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
        services:
          base: {image: x, user: me, dns: [a], ports: ["80:80"]}
          web:
            extends: base
            user: !reset null
            dns: !override [b]
            ports: !reset []
        """,
    )
    web = project.services["web"]
    assert (web.user, web.dns, web.ports) == ("", ("b",), ())


def test_problems_of_what_is_extended_are_told_at_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "services: {a: {extends: {file: b.yaml, service: b}}}",
            "b.yaml": "services:\n  b: {image: x, mem_limit: 1x, prts: []}\n",
        },
    )
    with pytest.raises(ProjectError) as error:
        load(tmp_path)
    first, second = (str(problem).splitlines()[0] for problem in error.value.problems)
    assert first == 'b.yaml:2:28: services.a.mem_limit: "1x" isn\'t a size'
    assert second == 'b.yaml:2:32: services.b.prts: unknown key "prts"'


def test_a_circle_over_two_files_is_told(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "services:\n  a:\n    extends: {file: b.yaml, service: b}\n",
            "b.yaml": "services:\n  b:\n    extends: {file: compose.yaml, service: a}\n",
        },
    )
    with pytest.raises(
        ProjectError, match=r"in a circle: a \(compose.yaml:3:5\) -> b \(b.yaml:3:5\) -> a"
    ):
        load(tmp_path)


def test_a_service_of_another_file_may_be_empty(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "services: {web: {image: x, extends: {file: base.yaml, service: b}}}",
            "base.yaml": "services: {b: , c: {image: y}}",
        },
    )
    assert load(tmp_path).services["web"].image == "x"
