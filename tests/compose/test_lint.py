"""What works, but will hurt: each rule finds its case, at its place, and can be silenced."""

from pathlib import Path

import pytest

from compose.lint import RULES, lint
from compose.load.pipeline import LoadRequest, load_project

FINE = """
    image: nginx:1.25
    healthcheck: {test: "true"}
    mem_limit: 1g
    restart: always
"""
CASES = {
    "cannot-run": ('env_file: ["nowhere"]', "compose.yaml:8:16"),
    "latest-image": ("image: nginx", "compose.yaml:4:12"),
    "secret-in-environment": (
        "environment: {DB_PASSWORD: x, DB_PASSWORD_FILE: /y}",
        "compose.yaml:8:32",
    ),
    "privileged": ("privileged: true", "compose.yaml:8:17"),
    "unconfined": ('security_opt: ["seccomp=unconfined"]', "compose.yaml:8:20"),
    "host-namespace": ("network_mode: host", "compose.yaml:8:19"),
    "engine-socket": ('volumes: ["/var/run/docker.sock:/s"]', "compose.yaml:8:15"),
    "host-folder": ('volumes: ["/etc:/host/etc"]', "compose.yaml:8:15"),
    "open-database": ('ports: ["5432:5432"]', "compose.yaml:8:13"),
    "depends-on-started": ("depends_on: [other]", "compose.yaml:8:18"),
    "no-healthcheck": ("healthcheck:", "compose.yaml:3:3"),
    "no-limit": ("mem_limit:", "compose.yaml:3:3"),
    "no-restart": ("restart:", "compose.yaml:3:3"),
    "unpinned-image": ("", "compose.yaml:4:12"),
    "container-name": ("container_name: web", "compose.yaml:8:21"),
    "links": ('links: ["other"]', "compose.yaml:8:5"),
}


def found(tmp_path: Path, extra: str, more: str = "") -> dict[str, str]:
    key = extra.partition(":")[0]
    lines = [
        line for line in FINE.splitlines() if line.strip() and line.split(":")[0].strip() != key
    ]
    missing = not extra.partition(":")[2].strip()
    if extra and not missing:
        lines.insert(0 if key == "image" else len(lines), f"    {extra}")
    if key == "healthcheck":
        lines.append('    ports: ["8080:80"]')
    text = "\n".join(
        ["services:", "  web:", *lines, "  other:", *FINE.strip("\n").splitlines(), more]
    )
    (tmp_path / "compose.yaml").write_text("\n" + text)
    project = load_project(LoadRequest(tmp_path, {}, require_files=False))
    return {
        each.code: str(each.problem.at)
        for each in lint(project)
        if each.problem.path.startswith("services.web")
    }


def test_every_rule_has_a_case() -> None:
    assert sorted(CASES) == sorted(rule.code for rule in RULES)


@pytest.mark.parametrize("code", CASES)
def test_it_is_found_where_it_stands(code: str, tmp_path: Path) -> None:
    extra, place = CASES[code]
    assert found(tmp_path, extra).get(code) == place


def test_what_is_fine_is_fine(tmp_path: Path) -> None:
    assert set(found(tmp_path, "")) == {"unpinned-image"}


def test_a_project_says_what_it_does_not_want_to_hear(tmp_path: Path) -> None:
    everywhere = "x-lint: {ignore: [privileged, unpinned-image]}"
    assert found(tmp_path, "privileged: true", everywhere) == {}
    own = found(tmp_path, "x-lint: {ignore: [unpinned-image]}")
    assert own == {}
