"""The tree's order is a fact: packages import downwards only, without cycles."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.host import ROOT

# Each row may import what stands in the rows below it, and in its own package.
ENGINE = (
    ("engine.cli",),
    ("engine.daemon",),
    ("engine.options", "engine.config_file"),
    ("engine.api",),
    ("engine.builder",),
    ("engine.containers",),
    ("engine.images", "engine.networks", "engine.volumes"),
    ("engine.registry",),
    ("engine.runtime",),
    ("engine.kernel",),
    ("engine.revisions",),
    ("engine.oci",),
    ("engine.settings", "engine.events", "engine.records", "engine.filters", "engine.ids"),
    ("engine.claims", "engine.proxies"),
    ("engine.errors",),
)
COMPOSE = (
    ("compose.__main__",),
    ("compose.cli",),
    ("compose.watch",),
    ("compose.one_off",),
    ("compose.converge", "compose.life"),
    ("compose.change",),
    ("compose.history",),
    ("compose.planfile",),
    ("compose.lockfile",),
    ("compose.apply",),
    ("compose.observe",),
    ("compose.remote",),
    ("compose.artifact",),
    ("compose.process",),
    ("compose.client",),
    ("compose.warm",),
    ("compose.revision",),
    ("compose.diagram",),
    ("compose.plan",),
    ("compose.lint", "compose.upgrade", "compose.bundle"),
    ("compose.git",),
    ("compose.load",),
    ("compose.graph", "compose.patterns", "compose.secrets"),
    ("compose.model",),
    ("compose.tasks",),
    ("compose.errors", "compose.shells"),
    ("compose.position",),
    ("compose.dataclass",),
)
# What the engine's own command line may use of compose: the client, what it raises, what reads the
# syntaxes that Compose files share with Docker's command line, and how a command's process begins
# and ends, which is the same for both programs: one warm server runs either.
CLIENT = (
    *("compose.client", "compose.errors", "compose.load.short", "compose.model.units"),
    *("compose.warm", "compose.process", "compose.shells"),
)
# What compose.artifact may use of the engine: projects in registries are the command's affair, as
# with Docker Compose, and the distribution protocol is spoken in one place.
REGISTRY = ("engine.registry.artifacts", "engine.oci.digest", "engine.errors")
# A third-party package has one home.
HOMES = {
    "networkx": ("compose.graph",),
    "jsonschema": ("compose.load.schema", "engine.config_file"),
    "yaml": ("compose.load.tree", "compose.cli.yaml_text"),
    "watchdog": ("compose.watch.observer",),
    "typer": ("compose.cli", "engine.cli"),
    "rich": ("compose.cli",),
    "pyroute2": ("engine.networks.links", "engine.networks.firewall"),
    "dulwich": ("engine.builder.git", "engine.builder.git_server"),
    "urllib3": ("engine.builder",),
    "dnslib": ("engine.networks.dns_message",),
    "aiohttp": ("engine.api", "engine.registry"),
    "h11": ("compose.client.http",),
    "cryptography": ("compose.secrets",),
    "matplotlib": ("compose.diagram.picture",),
    "isal": ("engine.images.compression",),
    "uvloop": ("engine.cli.daemon",),
}


def modules(package: str) -> dict[str, Path]:
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found += (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found += (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
    return tuple(found)


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def row_of(name: str, rows: tuple[tuple[str, ...], ...]) -> tuple[int, str] | None:
    for index, row in enumerate(rows):
        for package in row:
            if inside(name, package):
                return index, package
    return None


def check_rows(package: str, rows: tuple[tuple[str, ...], ...]) -> list[str]:
    wrong = []
    for name, path in modules(package).items():
        here = row_of(name, rows)
        if name == package:
            continue
        if here is None:
            wrong.append(f"{name}: has no row in the order of packages")
            continue
        for target in imports(path):
            there = row_of(target, rows)
            if there is None or there[1] == here[1]:
                continue
            if there[0] <= here[0]:
                wrong.append(f"{name} imports {target}, which does not stand below it")
    return wrong


def test_engine_imports_downwards() -> None:
    assert check_rows("engine", ENGINE) == []


def test_compose_imports_downwards() -> None:
    assert check_rows("compose", COMPOSE) == []


def test_engine_and_compose_share_only_the_api() -> None:
    for package, other in (("engine", "compose"), ("compose", "engine")):
        for name, path in modules(package).items():
            strangers = [target for target in imports(path) if inside(target, other)]
            if inside(name, "engine.cli"):
                # Talking to a daemon it is one more client of the API, and there is one client.
                strangers = [s for s in strangers if not any(inside(s, x) for x in CLIENT)]
            if name == "compose.artifact":
                strangers = [s for s in strangers if not any(inside(s, x) for x in REGISTRY)]
            assert not strangers, f"{name} imports {strangers}"


def test_each_library_has_one_home() -> None:
    wrong = []
    for package in ("engine", "compose"):
        for name, path in modules(package).items():
            for target in imports(path):
                homes = HOMES.get(target.split(".")[0])
                if homes and not any(inside(name, home) for home in homes):
                    wrong.append(f"{name} imports {target}; its home is {' or '.join(homes)}")
    assert wrong == []


def test_no_package_has_a_cycle() -> None:
    for package in ("engine", "compose"):
        known = modules(package)
        graph = {name: set() for name in known}
        for name, path in known.items():
            for node in tree(path).body:  # an import inside a function can't make an import cycle
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [f"{node.module}.{alias.name}" for alias in node.names]
                    names = [n if n in known else node.module for n in names]
                graph[name] |= {target for target in names if target in known and target != name}
        assert find_cycle(graph) == []


def find_cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def visit(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if cycle := visit(target, [*trail, name]):
                return cycle
        done.add(name)
        return []

    for name in graph:
        if cycle := visit(name, []):
            return cycle
    return []
