"""`pyengine info` and `version`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from compose.client import fields
from compose.client.engine import Engine
from compose.client.errors import ClientError
from compose.client.human import human_size
from compose.client.template import parse_template, to_json
from compose.errors import UsageError
from engine import VERSION
from engine.cli.session import on_engine

Format = Annotated[
    str,
    typer.Option("-f", "--format", help="json, or a template as '{{.Version}}'.", metavar="FORMAT"),
]
# Field of /info -> how it is called; an empty one parts what belongs together.
_INFO = (
    ("Containers", "Containers"),
    ("ContainersRunning", " Running"),
    ("ContainersPaused", " Paused"),
    ("ContainersStopped", " Stopped"),
    ("Images", "Images"),
    ("ServerVersion", "Server Version"),
    ("Driver", "Storage Driver"),
    ("LoggingDriver", "Logging Driver"),
    ("CgroupDriver", "Cgroup Driver"),
    ("CgroupVersion", "Cgroup Version"),
    ("DefaultRuntime", "Default Runtime"),
    ("KernelVersion", "Kernel Version"),
    ("OperatingSystem", "Operating System"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("NCPU", "CPUs"),
    ("MemTotal", "Total Memory"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("DockerRootDir", "Docker Root Dir"),
    ("HttpProxy", "HTTP Proxy"),
    ("HttpsProxy", "HTTPS Proxy"),
    ("NoProxy", "No Proxy"),
    ("LiveRestoreEnabled", "Live Restore Enabled"),
)


def info(ctx: typer.Context, format: Format = "") -> None:
    template = parse_template(format) if format not in ("", "json") else None

    async def ask(engine: Engine) -> Mapping[str, object]:
        return await engine.info()

    found = on_engine(ctx, ask)
    if template:
        print(template.render(found))
    elif format:
        print(to_json(found))
    else:
        print("\n".join(info_lines(found)))


def info_lines(found: Mapping[str, object]) -> list[str]:
    lines = []
    for name, title in _INFO:
        value = found.get(name)
        if value in (None, ""):
            continue
        if name == "MemTotal" and isinstance(value, int):
            value = human_size(value, base=1024)
        elif isinstance(value, bool):
            value = str(value).lower()
        lines.append(f"{title}: {value}")
    plugins = fields.child(found, "Plugins")
    shown = {kind: fields.texts(plugins, kind) for kind in plugins}
    lines += ["Plugins:", *(f" {kind}: {' '.join(v)}" for kind, v in shown.items() if v)]
    options = fields.texts(found, "SecurityOptions")
    lines += ["Security Options:", *(f" {option.removeprefix('name=')}" for option in options)]
    return [*lines, *fields.texts(found, "Warnings")]


def version(ctx: typer.Context, format: Format = "") -> int:
    """This command's version is told, whether an engine answers or not."""
    template = parse_template(format) if format not in ("", "json") else None
    client = {"Version": VERSION, "ApiVersion": "", "Os": "linux"}
    server: Mapping[str, object] | None = None
    trouble: ClientError | None = None

    async def ask(engine: Engine) -> Mapping[str, object]:
        client["ApiVersion"] = ".".join(map(str, engine.api_version))
        return await engine.version()

    try:
        server = on_engine(ctx, ask)
    except ClientError as error:
        trouble = error
    if template:
        # Templates have the names of Docker's own source.
        named = {
            side: found and {**found, "APIVersion": found["ApiVersion"]}
            for side, found in (("Client", client), ("Server", server))
        }
        try:
            print(template.render(named))
        except UsageError as error:
            raise trouble or error from None
    elif format:
        print(to_json({"Client": client, "Server": server}))
    else:
        print("Client: pyengine", *_facts(client, ("Version", "ApiVersion")), sep="\n")
        if server is not None:
            platform = fields.text(fields.child(server, "Platform"), "Name", "")
            facts = ("Version", "ApiVersion", "MinAPIVersion", "Os", "Arch", "KernelVersion")
            print("", f"Server: {platform or 'engine'}", *_facts(server, facts), sep="\n")
    if trouble is not None:
        raise trouble
    return 0


def _facts(found: Mapping[str, object], names: Sequence[str]) -> list[str]:
    titles = {"ApiVersion": "API version", "MinAPIVersion": "Minimum API", "Os": "OS",
              "KernelVersion": "Kernel"}  # fmt: skip
    return [f" {titles.get(n, n) + ':':<18} {found[n]}" for n in names if found.get(n)]
