from pathlib import Path

import pytest

from compose.errors import ProjectError
from tests.compose.load.projects import load, write


def test_an_included_project_has_its_own_folder_and_dotenv(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "include: [sub/compose.yaml]\nservices: {a: {image: '$TAG'}}",
            ".env": "BOTH=outer\nTAG=outer",
            "sub/compose.yaml": """
                services:
                  b:
                    image: "${TAG}-${BOTH}-${OWN}"
                    volumes: [./data:/data]
                    environment: [OWN]
                """,
            "sub/.env": "BOTH=inner\nOWN=inner",
        },
    )
    project = load(tmp_path)
    assert project.services["a"].image == "outer"
    b = project.services["b"]
    assert b.image == "outer-outer-inner"
    assert b.volumes[0].source == str(tmp_path / "sub" / "data")
    assert b.environment == {"OWN": "inner"}
    assert str(project.at("services", "b", "image")) == "sub/compose.yaml:3:12"
    assert tmp_path / "sub/.env" in project.watched_files


def test_the_including_file_lies_on_top(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "include: [base.yaml]\nservices: {a: {user: me}}",
            "base.yaml": "services: {a: {image: x, user: you}}\nnetworks: {n: }",
        },
    )
    project = load(tmp_path, all_resources=True)
    assert (project.services["a"].image, project.services["a"].user) == ("x", "me")
    assert "n" in project.networks


def test_long_form_takes_folder_files_and_variables(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": """
                include:
                  - path: [a.yaml, b.yaml]
                    project_directory: elsewhere
                    env_file: own.env
                """,
            "a.yaml": "services: {a: {image: '$V', volumes: ['./x:/x']}}",
            "b.yaml": "services: {a: {user: me}}",
            "own.env": "V=image",
        },
    )
    a = load(tmp_path).services["a"]
    assert (a.image, a.user) == ("image", "me")
    assert a.volumes[0].source == str(tmp_path / "elsewhere" / "x")


def test_includes_go_as_deep_as_one_likes(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "include: [a/compose.yaml]",
            "a/compose.yaml": "include: [b/compose.yaml]",
            "a/b/compose.yaml": "services: {deep: {image: x, volumes: ['.:/x']}}",
        },
    )
    assert load(tmp_path).services["deep"].volumes[0].source == str(tmp_path / "a" / "b")


def test_a_circle_of_includes_is_told_with_its_chain(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "compose.yaml": "include: [a.yaml]",
            "a.yaml": "include: [b.yaml]",
            "b.yaml": "include:\n  - a.yaml",
        },
    )
    with pytest.raises(ProjectError) as error:
        load(tmp_path)
    assert (
        "b.yaml:2:5: include[0]: files include each other in a circle: a.yaml -> b.yaml -> a.yaml"
        in str(error.value)
    )


def test_problems_of_an_included_file_are_told_at_its_place(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"compose.yaml": "include: [sub/x.yaml]", "sub/x.yaml": "services:\n  a: {imge: x}\n"},
    )
    with pytest.raises(ProjectError, match=r"^sub/x\.yaml:2:7: services\.a\.imge: unknown key"):
        load(tmp_path)


def test_a_remote_include_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot read https://x/y: Compose files are"):
        load(tmp_path, "include: ['https://x/y']\nservices: {a: {image: x}}")
