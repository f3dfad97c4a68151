from __future__ import annotations

import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from compose.cli.main import COMMANDS, main, root_command
from tests.compose.corpus import ours
from tests.host import ROOT


def test_every_command_of_the_table_is_there() -> None:
    for name in COMMANDS:
        assert hasattr(importlib.import_module(f"compose.cli.{name}"), "register")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"], {}, Path.cwd()) == 0
    shown = capsys.readouterr().out
    assert COMMANDS[name] in shown
    assert "<" not in shown, "an option without a metavar"


def test_wrong_usage_says_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["up", "--nothing"], {}, Path.cwd()) == 1
    assert capsys.readouterr().err.endswith("hint: pycompose up --help\n")
    assert main(["lgos"], {}, Path.cwd()) == 1
    assert "did you mean logs?" in capsys.readouterr().err


def test_options_that_exclude_each_other_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: 'rootfs:/'}}\n")
    for words in (["up", "-d", "--exit-code-from", "a"], ["up", "--wait", "--watch"],
                  ["up", "--force-recreate", "--no-recreate"]):  # fmt: skip
        assert main(words, {}, tmp_path) == 1
        assert "can't be used together" in capsys.readouterr().err


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for words in (["--version"], ["-v"], ["version"]):
        assert main(words, {}, Path.cwd()) == 0
        assert capsys.readouterr().out == f"pycompose version {project['version']}\n"


def test_the_console_script_answers_as_the_command_line_does(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for word in ("-v", "--version", "version"):
        done = subprocess.run(
            [sys.executable, "-m", "compose", word], capture_output=True, text=True, cwd=ROOT
        )
        assert main([word], {}, Path.cwd()) == done.returncode == 0
        assert capsys.readouterr().out == done.stdout


def test_help_and_version_import_nothing_heavy() -> None:
    script = (
        "import sys; from pathlib import Path; from compose.cli.main import main\n"
        "main([sys.argv[1]], {}, Path.cwd())\n"
        "heavy = {'asyncio', 'jsonschema', 'networkx', 'rich', 'yaml', 'watchdog'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    for word in ("--help", "--version", "version"):
        done = subprocess.run(
            [sys.executable, "-c", script, word], capture_output=True, text=True, cwd=ROOT
        )
        assert done.stderr == "[]\n", done.stderr


def test_options_that_are_not_followed_say_so(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {build: .}}")
    for words, environment, reason in [
        (["config"], {"COMPOSE_CONVERT_WINDOWS_PATHS": "1"}, "paths of Windows"),
        (["config"], {"COMPOSE_PARALLEL_LIMIT": "many"}, "is no number"),
        (["build", "--sbom", "true"], {}, "BuildKit's"),
        (["up", "--exit-code-from", "z"], {}, "isn't started by this"),
        (["up", "--attach", "z"], {}, "no such service: z"),
    ]:
        code, _, said = ours(words, environment, tmp_path)
        assert code in (1, 2), words
        assert reason in said


def test_names_are_joined_as_compose_1_did_it_on_request(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("name: shop\nservices: {a: {build: .}}")
    assert ours(["config", "--images"], {}, tmp_path)[1] == "shop-a\n"
    assert ours(["--compatibility", "config", "--images"], {}, tmp_path)[1] == "shop_a\n"
    old = {"COMPOSE_COMPATIBILITY": "1"}
    assert ours(["config", "--images"], old, tmp_path)[1] == "shop_a\n"


def test_unused_resources_are_shown_on_request(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}\nvolumes: {v: {}}")
    assert "volumes" not in ours(["config"], {}, tmp_path)[1]
    assert "volumes" in ours(["--all-resources", "config"], {}, tmp_path)[1]


def test_every_command_takes_dry_run() -> None:
    from typer._click import Context

    root = root_command()
    for name in COMMANDS:
        command = root.get_command(Context(root), name)  # type: ignore[attr-defined]
        assert any("--dry-run" in parameter.opts for parameter in command.params), name


def test_a_build_is_shown_as_a_bake_file(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "name: shop\nservices: {a: {build: {context: ., args: {X: '1'}}}, b: {image: x}}"
    )
    code, text, _ = ours(["build", "--print"], {}, tmp_path)
    assert code == 0
    target = {"context": str(tmp_path), "dockerfile": "Dockerfile", "args": {"X": "1"},
              "tags": ["shop-a"], "output": ["type=docker"]}  # fmt: skip
    assert json.loads(text) == {"group": {"default": {"targets": ["a"]}}, "target": {"a": target}}


def test_flags_may_have_values(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    assert ours(["config", "--quiet=true"], {}, tmp_path)[:2] == (0, "")
    assert (
        ours(["--all-resources=false", "config", "--services", "--quiet=false"], {}, tmp_path)[1]
        == "a\n"
    )
    assert ours(["config", "--quiet=maybe"], {}, tmp_path)[0] == 1
    assert ours(["-f=compose.yaml", "config", "--services"], {}, tmp_path)[1] == "a\n"


def test_commands_that_are_not_here_say_what_is(tmp_path: Path) -> None:
    code, _, said = ours(["bridge", "convert"], {}, tmp_path)
    assert code == 1
    assert "bridge isn't here: pycompose config --format json" in said
