"""Whatever stands in the files: a project, or problems in words; never another error."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.errors import Problem, ProjectError
from tests.compose.load.projects import load
from tests.compose.load.test_schema import _files

_here = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def load_or_tell(folder: Path, text: str | bytes) -> None:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    (folder / "compose.yaml").write_bytes(content)
    problems: tuple[Problem, ...] = ()
    refused = False
    try:
        json.dumps(load(folder).to_document())
    except ProjectError as error:
        refused, problems = True, error.problems
    assert refused == bool(problems)
    assert all(problem.at for problem in problems)


@_here
@given(_files)
def test_any_document(tmp_path: Path, document: object) -> None:
    load_or_tell(tmp_path, json.dumps(document))


@_here
@given(st.text(alphabet="services: a\n-{}[]&*!<\"'#|>\t${x}?,:=0", max_size=60))
def test_any_text(tmp_path: Path, text: str) -> None:
    load_or_tell(tmp_path, text)


@_here
@given(st.binary(max_size=30))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    load_or_tell(tmp_path, content)


_NUMBERS = ["9" * 5000, ".inf", "-.inf", ".nan", "1e999", "-0", "0x" + "f" * 5000, "1_", "٣"]


@pytest.mark.parametrize("number", _NUMBERS)
@pytest.mark.parametrize("quote", ["", '"'])
def test_any_number(tmp_path: Path, number: str, quote: str) -> None:
    value = f"{quote}{number}{quote}"
    keys = ["scale", "cpus", "mem_limit", "cpu_shares", "pids_limit", "mem_swappiness"]
    keys += ["oom_score_adj", "stop_grace_period", "shm_size", "cpu_percent", "cpu_period"]
    for line in (
        *(f"{key}: {value}" for key in keys),
        f"ports: [{value}]",
        f'ports: ["{number}:{number}", "1-{number}:1"]',
        f"ports: [{{target: {value}, published: {value}}}]",
        f"expose: [{value}]",
        f"ulimits: {{nofile: {value}}}",
        f"environment: {{A: {value}}}",
        f"healthcheck: {{retries: {value}, interval: {value}}}",
        f"configs: [{{source: c, mode: {value}}}]",
        f"blkio_config: {{weight: {value}}}",
        f"deploy: {{replicas: {value}, update_config: {{max_failure_ratio: {value}}}}}",
    ):
        load_or_tell(tmp_path, f"services:\n  a:\n    image: x\n    {line}\n")
