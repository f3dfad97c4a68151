"""schemas/engine-api.yaml says what the routes are, what they read and what they answer."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from engine.api.routes import ROUTES, Route
from tests.engine.api.conftest import Make
from tests.host import ROOT, Daemon

DESCRIPTION: Mapping[str, Any] = yaml.load(
    (ROOT / "schemas/engine-api.yaml").read_text(), yaml.CSafeLoader
)
METHODS = ("get", "head", "post", "put", "delete")
READS = ("text", "texts", "flag", "integer", "seconds")


def described() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in DESCRIPTION["paths"].items():
        for method in METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def path_of(route: Route) -> str:
    return route.path.replace(":.*", "").rstrip("/")


def test_routes_and_description_agree() -> None:
    written = {(method, path): one.get("x-since") for method, path, one in described()}
    routes = {
        (route.method, path_of(route)): None
        if route.since == (1, 24)
        else "{}.{}".format(*route.since)
        for route in ROUTES
        if route.method != "OPTIONS"
    }
    assert written == routes


def references(document: object) -> Iterator[str]:
    if isinstance(document, dict):
        if isinstance(target := document.get("$ref"), str):
            yield target
        for value in document.values():
            yield from references(value)
    elif isinstance(document, list):
        for value in document:
            yield from references(value)


def resolve(reference: str) -> Mapping[str, Any]:
    found: Any = DESCRIPTION
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def test_every_reference_leads_somewhere() -> None:
    assert all(resolve(reference) for reference in set(references(DESCRIPTION)))
    for schema in DESCRIPTION["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def read_by(handler: Any) -> set[str]:
    """The query parameters that a handler asks for, itself or by functions of its module."""
    module = inspect.getmodule(handler)
    assert module is not None
    functions = {
        node.name: node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    found: set[str] = set()
    waiting, seen = [handler.__name__], set()
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        for node in ast.walk(functions[name]):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Name(called):
                    waiting.append(called)
                case ast.Attribute(ast.Name("query") | ast.Attribute(attr="query"), method):
                    if method == "filters":
                        found.add("filters")
                    elif method in READS and isinstance(node.args[0], ast.Constant):
                        found.add(str(node.args[0].value))
    return found


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_what_a_handler_reads_is_described(route: Route) -> None:
    if route.method == "OPTIONS":
        return
    one = DESCRIPTION["paths"][path_of(route)][route.method.lower()]
    parameters = [
        resolve(each["$ref"]) if "$ref" in each else each for each in one.get("parameters", ())
    ]
    assert read_by(route.handler) <= {each["name"] for each in parameters}
    assert re.fullmatch(r".*[.]", one["summary"], re.DOTALL)


def test_what_is_answered_is_as_described(engine: Daemon, make: Make) -> None:
    name = make(
        "sleep", "100", Healthcheck={"Test": ["CMD", "true"]}, ExposedPorts={"80/tcp": {}},
        HostConfig={"NetworkMode": "bridge", "PortBindings": {"80/tcp": [{"HostPort": ""}]}},
    )  # fmt: skip
    fresh = make("true", HostConfig={"Binds": ["described:/v"], "Ulimits": []})
    assert engine.call("POST", f"/containers/{name}/start")[0] == 204
    _, made = engine.call("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
    assert isinstance(made, dict)
    for path, schema in (
        ("/version", "Version"), ("/info", "Info"), ("/system/df", None),
        (f"/containers/{name}/json?size=1", "Container"),
        (f"/containers/{fresh}/json", "Container"),
        (f"/containers/{name}/stats?stream=0&one-shot=1", "Stats"),
        (f"/containers/{fresh}/stats?stream=0", "Stats"),
        ("/containers/json?all=1&size=1", ["ContainerSummary"]), ("/images/json", ["ImageSummary"]),
        ("/images/rootfs:%2F/json", "Image"), ("/images/rootfs:%2F/history", ["HistoryLine"]),
        ("/networks", ["Network"]), ("/networks/bridge", "Network"),
        ("/volumes/described", "Volume"), ("/volumes", None),
        (f"/exec/{made['Id']}/json", "Exec"), ("/containers/nosuch/json", "Error"),
    ):  # fmt: skip
        _, answer = engine.call("GET", path)
        check(path, schema, answer)
    engine.call("DELETE", f"/containers/{fresh}?force=1")
    engine.call("DELETE", "/volumes/described")


def check(path: str, schema: str | list[str] | None, answer: object) -> None:
    if schema is None:
        content = DESCRIPTION["paths"][path]["get"]["responses"]["200"]["content"]
        wanted = content["application/json"]["schema"]
    elif isinstance(schema, list):
        wanted = {"type": "array", "items": {"$ref": f"#/components/schemas/{schema[0]}"}}
    else:
        wanted = {"$ref": f"#/components/schemas/{schema}"}
    validator = Draft202012Validator({**wanted, "components": DESCRIPTION["components"]})
    problems = [
        f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(answer)
    ]
    assert not problems, (path, problems)
