from pathlib import Path

import pytest

from compose.errors import ProjectError
from compose.load.files import normal_name
from tests.compose.load.projects import load, write

ONE = "services: {a: {image: x}}"


def test_the_file_is_searched_upwards(tmp_path: Path) -> None:
    write(tmp_path, {"compose.yaml": ONE})
    inner = tmp_path / "sub" / "deeper"
    inner.mkdir(parents=True)
    project = load(inner)
    assert project.working_dir == tmp_path
    assert str(project.at("services")) == "../../compose.yaml:1:1"


def test_names_of_files_have_an_order_and_several_are_warned_about(tmp_path: Path) -> None:
    write(tmp_path, {"docker-compose.yml": "services: {b: {image: x}}", "compose.yml": ONE})
    project = load(tmp_path)
    assert list(project.services) == ["a"]
    assert "compose.yml, docker-compose.yml; compose.yml is used" in str(project.warnings[0])


def test_several_files_are_merged_and_the_first_says_where_paths_start(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "base/compose.yaml": ONE,
            "more.yaml": "services: {a: {volumes: ['./d:/d']}}",
        },
    )
    project = load(tmp_path, files=("base/compose.yaml", "more.yaml"))
    assert project.services["a"].volumes[0].source == str(tmp_path / "base" / "d")
    assert project.files == (tmp_path / "base/compose.yaml", tmp_path / "more.yaml")


def test_standard_input_is_a_file(tmp_path: Path) -> None:
    project = load(tmp_path, files=("-",), stdin=ONE)
    assert list(project.services) == ["a"]
    assert str(project.at("services")) == "<stdin>:1:1"


def test_compose_file_names_the_files_also_from_dotenv(tmp_path: Path) -> None:
    write(tmp_path, {"x.yaml": ONE, "y.yaml": "services: {b: {image: x}}"})
    (tmp_path / ".env").write_text("COMPOSE_FILE=x.yaml:y.yaml\nCOMPOSE_PROJECT_NAME=named")
    project = load(tmp_path)
    assert (list(project.services), project.name) == (["a", "b"], "named")
    other = load(
        tmp_path, environment={"COMPOSE_FILE": "y.yaml;x.yaml", "COMPOSE_PATH_SEPARATOR": ";"}
    )
    assert list(other.services) == ["b", "a"]


def test_no_file_is_said_with_the_names_that_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ProjectError, match=r"there is no Compose file in .*\n.*create compose.yaml"
    ):
        load(tmp_path)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"^cannot read nope.yaml: there is no such file"):
        load(tmp_path, files=("nope.yaml",))


def test_remote_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="from this machine only"):
        load(tmp_path, files=("oci://example.com/app",))


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_bytes("services:\n  ä: ".encode() + b"\xff")
    with pytest.raises(ProjectError, match=r"^compose.yaml:2:6: this letter isn't UTF-8"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("given", "environment", "name"),
    [
        ("cli", {"COMPOSE_PROJECT_NAME": "env"}, "cli"),
        ("", {"COMPOSE_PROJECT_NAME": "env"}, "env"),
        ("", {}, "in-file"),
    ],
)
def test_the_name_comes_from(
    given: str, environment: dict[str, str], name: str, tmp_path: Path
) -> None:
    text = "name: in-file\n" + ONE
    assert load(tmp_path, text, environment=environment, project_name=given).name == name


def test_the_folder_gives_the_name_when_nothing_else_does(tmp_path: Path) -> None:
    folder = tmp_path / "My.App-1"
    folder.mkdir()
    assert load(folder, ONE).name == "myapp-1"
    assert normal_name("_-Ünix_App") == "nix_app"


def test_the_name_may_hold_variables_and_is_one_itself(tmp_path: Path) -> None:
    text = "name: app-${STAGE:-dev}\nservices: {a: {image: 'x:${COMPOSE_PROJECT_NAME}'}}"
    assert load(tmp_path, text).services["a"].image == "x:app-dev"
    assert load(tmp_path, text, environment={"STAGE": "prod"}).name == "app-prod"


def test_a_name_from_the_command_line_must_be_normal(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match='--project-name: "A B" can\'t be the name'):
        load(tmp_path, ONE, project_name="A B")


# ---- variables ----

SHOW = "services: {a: {image: 'x:${A:-none}-${B:-none}'}}"


def shown(folder: Path, **options: object) -> str:
    return load(folder, SHOW, **options).services["a"].image  # type: ignore[arg-type]


def test_the_shell_wins_over_dotenv(tmp_path: Path) -> None:
    write(tmp_path, {".env": "A=file\nB=file\n"})
    assert shown(tmp_path) == "x:file-file"
    assert shown(tmp_path, environment={"A": "shell"}) == "x:shell-file"


def test_env_files_replace_dotenv_and_later_ones_win(tmp_path: Path) -> None:
    write(tmp_path, {".env": "A=0\nB=0", "one.env": "A=1\nB=1", "two.env": "A=2"})
    assert shown(tmp_path, env_files=("one.env", "two.env")) == "x:2-1"
    assert shown(tmp_path, environment={"COMPOSE_ENV_FILES": "two.env"}) == "x:2-none"


def test_dotenv_can_be_switched_off(tmp_path: Path) -> None:
    write(tmp_path, {".env": "A=0"})
    assert shown(tmp_path, environment={"COMPOSE_DISABLE_ENV_FILE": "1"}) == "x:none-none"


def test_a_folder_named_dotenv_is_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert shown(tmp_path) == "x:none-none"


def test_dotenv_of_the_project_is_read_after_that_of_the_current_folder(tmp_path: Path) -> None:
    write(tmp_path, {"p/compose.yaml": SHOW, "p/.env": "A=project\nB=project", ".env": "A=here"})
    assert load(tmp_path, files=("p/compose.yaml",)).services["a"].image == "x:here-project"


def test_a_missing_env_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"^env file nope.env not found"):
        shown(tmp_path, env_files=("nope.env",))


def test_a_fault_in_dotenv_is_told_with_its_place(tmp_path: Path) -> None:
    write(tmp_path, {".env": "A=1\nB B=2\n"})
    with pytest.raises(ProjectError, match=r"^\.env:2:1: \"B B\" can't be the name"):
        shown(tmp_path)


def test_an_unset_variable_is_warned_about_once_with_its_place(tmp_path: Path) -> None:
    project = load(tmp_path, "services:\n  a: {image: 'x$T'}\n  b: {image: 'y${T}'}\n")
    assert [str(warning) for warning in project.warnings] == [
        "compose.yaml:2:14: services.a.image: the variable T is not set: it becomes blank\n"
        "  hint: set it in the shell or in .env, or write ${T:-default}; "
        "for a plain dollar sign write $$T"
    ]
