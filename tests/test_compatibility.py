"""docs/compatibility.md has a row for each attribute; what it calls refused is."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ProjectError
from compose.load.pipeline import LoadRequest, load_project
from compose.plan.make import make_plan
from compose.plan.observed import Observed
from compose.plan.options import PlanOptions
from tests.host import ROOT

PAGE = (ROOT / "docs/compatibility.md").read_text().partition("## Attribute by attribute")[2]
SCHEMA = json.loads((ROOT / "schemas/compose.schema.json").read_text())
STATES = {"works", "engine", "builds", "told", "refused", "description"}
# Section of the page -> definition of the schema.
SECTIONS = {
    "include": "include",
    "service": "service",
    "build": "build",
    "depends_on": "depends_on",
    "env_file": "env_file",
    "healthcheck": "healthcheck",
    "pre_start": "init_hook",
    "post_start and pre_stop": "hook",
    "develop": "development",
    "deploy": "deploy",
    "update_config and rollback_config": "update_config",
    "devices of deploy": "device_requests",
    "generic_resources": "generic_resources",
    "gpus": "gpus",
    "blkio_config, devices by rate": "blkio_limit",
    "blkio_config, devices by weight": "blkio_weight",
    "ulimits": "ulimits",
    "port": "port",
    "volumes of a service": "volume_mount",
    "configs and secrets of a service": "file_references",
    "networks of a service": "service_network",
    "network": "network",
    "volume": "volume",
    "config": "config",
    "secret": "secret",
    "model": "model",
    "external": "external",
}


def rows() -> dict[str, dict[str, str]]:
    """Section -> attribute -> state."""
    found: dict[str, dict[str, str]] = {}
    for section in PAGE.split("\n### ")[1:]:
        title, _, body = section.partition("\n")
        found[title] = dict(re.findall(r"^\| `([^`]+)` \| (\w+) \|", body, re.M))
    return found


def properties(schema: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, inner in schema.get("properties", {}).items():
        yield above + name
        yield from properties(inner, f"{above}{name}.")
    for inner in [*schema.get("anyOf", ()), *schema.get("patternProperties", {}).values()]:
        yield from properties(inner, above)
    if "items" in schema:
        yield from properties(schema["items"], above)


def test_every_attribute_has_a_row() -> None:
    found = rows()
    assert set(found["top level"]) == set(SCHEMA["properties"])
    for section, definition in SECTIONS.items():
        assert set(found[section]) == set(properties(SCHEMA["$defs"][definition])), section
    described = {name for name, d in SCHEMA["$defs"].items() if [*properties(d)]}
    assert described == set(SECTIONS.values())
    assert {state for section in found.values() for state in section.values()} <= STATES


ATTRIBUTES = {
    "models": "[m]",
    "credential_spec": "{file: x}",
    "cpu_count": "2",
    "cpu_percent": "50",
    "isolation": "hyperv",
}


def problems(tmp_path: Path, text: str) -> str:
    (tmp_path / "compose.yaml").write_text(text)
    project = load_project(LoadRequest(tmp_path, {}))
    with pytest.raises(ProjectError) as error:
        make_plan(project, Observed(), PlanOptions())
    return str(error.value)


def test_what_is_refused_is_refused_with_its_place(tmp_path: Path) -> None:
    named = {name for name, state in rows()["service"].items() if state == "refused"}
    assert {name.partition(".")[0] for name in named} == set(ATTRIBUTES)
    for name, value in ATTRIBUTES.items():
        said = problems(
            tmp_path,
            f"services:\n  a:\n    image: x\n    {name}: {value}\nmodels: {{m: {{model: y}}}}\n",
        )
        assert re.search(
            rf"compose.yaml:4:\d+: services.a.{name}: {name} is not supported\n  hint: ", said
        )


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("configs: {c: {content: x, template_driver: golang}}", "template_driver is not supported"),
        ("configs: {c: {external: true}}", "only Swarm keeps such"),
    ],
)
def test_what_only_swarm_has_is_refused(extra: str, reason: str, tmp_path: Path) -> None:
    assert reason in problems(tmp_path, f"services: {{a: {{image: x, configs: [c]}}}}\n{extra}\n")


def test_what_changes_nothing_here_is_told(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        "services:\n  a:\n    image: x\n    deploy:\n      labels: {a: b}\n"
        "      endpoint_mode: vip\n      placement: {constraints: [x]}\n"
        "      restart_policy: {delay: 5s, window: 1m}\n"
        "      resources: {reservations: {cpus: '1'}}\n"
    )
    plan = make_plan(load_project(LoadRequest(tmp_path, {})), Observed(), PlanOptions())
    told = {note.path.removeprefix("services.a.deploy.") for note in plan.notes}
    assert told == {"labels", "endpoint_mode", "placement", "restart_policy.delay",
                    "restart_policy.window", "resources.reservations.cpus"}  # fmt: skip
    for path in told:
        assert rows()["deploy"][path] == "told"
