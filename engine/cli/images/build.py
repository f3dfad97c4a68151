"""`pyengine build`: a folder goes to the engine as it is read; what the steps write comes back."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from compose.client import fields
from compose.client.build_context import (
    context_tar,
    list_named,
    listed_tar,
    own_rules,
    read_context,
)
from compose.client.credentials import CredentialStore
from compose.client.engine import Engine
from compose.client.images import SECRETS_HEADER
from compose.client.ssh_agent import agents
from compose.client.transport import Query
from compose.errors import UsageError
from engine.cli.containers import readers
from engine.cli.options import ContentTrust, Platform, check_content_trust
from engine.cli.progress import Screen, objects
from engine.cli.session import on_engine, session
from engine.cli.streams import read_blocks, write_text

# What a compressed tar starts with: gzip, bzip2, xz, zstd.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
_REMOTE = ("http://", "https://", "git://", "git@", "ssh://", "github.com/")
_HEAD = 512


def build(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FOLDER|URL|-", hidden=True)],
    tag: Annotated[
        list[str] | None, typer.Option("-t", "--tag", help="Its name.", metavar="NAME[:TAG]")
    ] = None,
    file: Annotated[
        str, typer.Option("-f", "--file", help="Instead of FOLDER/Dockerfile; - is standard input.")
    ] = "",
    build_arg: Annotated[
        list[str] | None,
        typer.Option(
            "--build-arg", help="For ARG; without =, as it is here.", metavar="NAME[=VALUE]"
        ),
    ] = None,
    target: Annotated[str, typer.Option("--target", help="The last stage.", metavar="STAGE")] = "",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Do every step anew.")] = False,
    pull: Annotated[
        bool, typer.Option("--pull", help="Look for newer images to build on.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only the id at the end.")] = False,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Its label.", metavar="KEY[=VALUE]")
    ] = None,
    secret: Annotated[
        list[str] | None,
        typer.Option(
            "--secret",
            help="For RUN --mount=type=secret; this engine only.",
            metavar="id=NAME,src=FILE|env=VARIABLE",
        ),
    ] = None,
    ssh: Annotated[
        list[str] | None,
        typer.Option(
            "--ssh",
            help="An SSH agent for RUN --mount=type=ssh and git; this engine only.",
            metavar="default|ID=SOCKET|ID=KEYFILE",
        ),
    ] = None,
    build_context: Annotated[
        list[str] | None,
        typer.Option(
            "--build-context",
            help="For FROM and --from; this engine only.",
            metavar="NAME=FOLDER|URL|docker-image://IMAGE",
        ),
    ] = None,
    no_cache_filter: Annotated[
        list[str] | None,
        typer.Option(
            "--no-cache-filter", help="Do its steps anew; this engine only.", metavar="STAGE"
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", help="To RUN; this engine only.", metavar="network.host|security.insecure"
        ),
    ] = None,
    iidfile: Annotated[
        str, typer.Option("--iidfile", help="Write its id there.", metavar="FILE")
    ] = "",
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say what could be better; this engine only."),
    ] = False,
    platform: Platform = "",
    network: Annotated[str, typer.Option("--network", help="For RUN.")] = "",
    add_host: Annotated[
        list[str] | None,
        typer.Option("--add-host", help="A name for RUN.", metavar="NAME:IP"),
    ] = None,
    cache_from: Annotated[
        list[str] | None, typer.Option("--cache-from", help="Take steps from it.", metavar="IMAGE")
    ] = None,
    cgroup_parent: Annotated[str, typer.Option("--cgroup-parent", help="Of RUN.")] = "",
    cpu_period: Annotated[int, typer.Option("--cpu-period", help="Of RUN.", metavar="N")] = 0,
    cpu_quota: Annotated[int, typer.Option("--cpu-quota", help="Of RUN.", metavar="N")] = 0,
    cpu_shares: Annotated[int, typer.Option("-c", "--cpu-shares", help="Of RUN.", metavar="N")] = 0,
    cpuset_cpus: Annotated[str, typer.Option("--cpuset-cpus", help="Of RUN.")] = "",
    cpuset_mems: Annotated[str, typer.Option("--cpuset-mems", help="Of RUN.")] = "",
    memory: Annotated[str, typer.Option("-m", "--memory", help="Of RUN.", metavar="BYTES")] = "",
    memory_swap: Annotated[
        str, typer.Option("--memory-swap", help="Of RUN.", metavar="BYTES")
    ] = "",
    shm_size: Annotated[str, typer.Option("--shm-size", help="Of RUN.", metavar="BYTES")] = "",
    ulimit: Annotated[
        list[str] | None,
        typer.Option("--ulimit", help="Of RUN.", metavar="NAME=SOFT[:HARD]"),
    ] = None,
    security_opt: Annotated[
        list[str] | None, typer.Option("--security-opt", help="Of RUN.")
    ] = None,
    isolation: Annotated[str, typer.Option("--isolation", help="default.", metavar="KIND")] = "",
    compress: Annotated[bool, typer.Option("--compress", help="Send the context as gzip.")] = False,
    disable_content_trust: ContentTrust = True,
    squash: Annotated[bool, typer.Option("--squash", help="Into one new layer.")] = False,
    rm: Annotated[
        bool, typer.Option("--rm/--no-rm", help="Remove the containers of its steps.")
    ] = True,
    force_rm: Annotated[
        bool, typer.Option("--force-rm", help="Also those of steps that failed.")
    ] = False,
) -> None:
    check_content_trust(disable_content_trust)
    at = session(ctx)
    query: Query = {
        "t": [*(tag or ())],
        "buildargs": _arguments(build_arg or (), at.environment),
        "labels": _json(readers.key_values("--label", label or ())),
        "target": target or None,
        "nocache": no_cache,
        "pull": pull,
        "platform": platform or None,
        "networkmode": network or None,
        "extrahosts": [readers.extra_host(word) for word in add_host or ()],
        "cachefrom": _json([*(cache_from or ())]),
        "cgroupparent": cgroup_parent or None,
        "cpuperiod": cpu_period or None,
        "cpuquota": cpu_quota or None,
        "cpushares": cpu_shares or None,
        "cpusetcpus": cpuset_cpus or None,
        "cpusetmems": cpuset_mems or None,
        "memory": readers.size("--memory", memory) or None,
        "memswap": readers.size("--memory-swap", memory_swap) or None,
        "shmsize": readers.size("--shm-size", shm_size) or None,
        "ulimits": _json([readers.ulimit(word) for word in ulimit or ()]),
        "securityopt": _json([*(security_opt or ())]),
        "isolation": isolation or None,
        "squash": squash,
        "rm": "1" if rm else "0",
        "forcerm": force_rm,
    }
    secrets = _secrets(secret or (), at.directory, at.environment)
    named = readers.key_values("--build-context", build_context or (), alone=False)
    lent = _lent(ssh or (), at.directory, at.environment)
    own: Query = {
        "nocachestages": _json([*(no_cache_filter or ())]),
        "entitlements": _json([*(allow or ())]),
        "check": check,
    }
    context = _context(source, file, at.directory)
    content = _packed(context.body) if compress and context.body else context.body

    async def work(engine: Engine) -> str:
        if not engine.is_ours and (secrets or named or lent or any(own.values())):
            raise UsageError(
                "this engine's classic build call knows no secrets, SSH agents, named contexts, "
                "stages to do anew, allowances and checks"
            )
        headers = {"X-Registry-Config": await CredentialStore(at.environment).all_header()}
        if secrets:
            headers[SECRETS_HEADER] = base64.urlsafe_b64encode(
                json.dumps(secrets).encode()
            ).decode()
        contexts = {
            name: await _named(engine, place, at.directory) for name, place in named.items()
        }
        async with agents(lent) as sockets:
            known = {"ssh": _json(sockets), "contexts": _json(contexts)}
            asked = engine.proxies.in_query({**query, **own, **known, **context.query})
            async with engine.transport.stream(
                "POST", "/build", query=asked, body=content, headers=headers
            ) as answer:
                return await _follow(objects(answer.objects()), quiet=quiet)

    identity = on_engine(ctx, work)
    if iidfile:
        write_text(at.directory, iidfile, identity)
    if quiet:
        print(identity)


async def _follow(messages: AsyncIterator[Mapping[str, object]], *, quiet: bool) -> str:
    """The image's id. With `quiet` only what a failed build wrote is shown."""
    identity = ""
    written = io.StringIO()
    screen = Screen(written if quiet else sys.stdout, quiet=False)
    try:
        async for message in messages:
            identity = fields.text(fields.child(message, "aux"), "ID", identity)
            screen.show(message)
    except BaseException:
        sys.stderr.write(written.getvalue())
        raise
    return identity


@dataclass(frozen=True, slots=True)
class Source:
    """What the engine builds from: a body, or a query that says where it is."""

    query: Query
    body: AsyncIterator[bytes] | None


def _context(source: str, file: str, directory: Path) -> Source:
    if source == "-":
        if file == "-":
            raise UsageError("cannot read both context and Dockerfile from standard input")
        return _from_input(file)
    if source.startswith(_REMOTE) or source.endswith(".git"):
        return Source({"remote": source, "dockerfile": file or None}, None)
    inline = sys.stdin.read() if file == "-" else ""
    if file == "-" and not inline:
        raise UsageError("there is no Dockerfile on standard input")
    dockerfile = str(directory / file) if file and file != "-" else ""
    context = read_context(directory / source, dockerfile, inline)
    return Source({"dockerfile": context.dockerfile}, context_tar(context))


async def _packed(blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)  # with the head of a gzip file
    async for block in blocks:
        if packed := await asyncio.to_thread(packer.compress, block):
            yield packed
    yield packer.flush()


async def _named(engine: Engine, place: str, directory: Path) -> str:
    """A context as the engine is told of it. A folder is sent, and stays there."""
    if place.startswith(("docker-image://", *_REMOTE)):
        return place
    folder = directory / place
    listed = list_named(folder, own_rules(folder))
    await engine.images.keep_context(listed.id, listed.source, lambda: listed_tar(listed))
    return f"kept:{listed.id}"


def _lent(words: Sequence[str], directory: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Id -> the socket of an agent, or a file with a key."""
    found = {}
    for word in words:
        name, _, path = word.partition("=")
        path = path or environment.get("SSH_AUTH_SOCK", "")
        if not name or not path:
            raise UsageError(
                f"cannot use --ssh {word!r}: SSH_AUTH_SOCK is not set\n"
                "  hint: start an agent (ssh-agent, ssh-add), or write ID=SOCKET or ID=KEYFILE"
            )
        place = directory / Path(path).expanduser()
        if not place.is_socket() and not place.is_file():
            raise UsageError(
                f"cannot use --ssh {word!r}: {path} is no agent's socket, nor a file with a key"
            )
        found[name] = str(place)
    return found


def _from_input(file: str) -> Source:
    """A tar, or else the text of a Dockerfile that copies nothing."""
    if sys.stdin.isatty():
        raise UsageError("cannot read a build context from a terminal\n  hint: name a folder, or .")
    stdin = sys.stdin.buffer
    head = stdin.read(_HEAD)
    if head.startswith(_COMPRESSED) or head[257:262] == b"ustar":
        return Source({"dockerfile": file or None}, _rest(head))
    text = head + stdin.read()
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    return Source({"dockerfile": "Dockerfile"}, _blocks(buffer.getvalue()))


async def _rest(head: bytes) -> AsyncIterator[bytes]:
    yield head
    async for block in read_blocks(sys.stdin.buffer):
        yield block


async def _blocks(text: bytes) -> AsyncIterator[bytes]:
    yield text


def _arguments(words: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """A name alone has the value that it has here; none here: null, so the Dockerfile's own."""
    pairs = {name: value if equals else environment.get(name)
             for name, equals, value in (word.partition("=") for word in words)}  # fmt: skip
    return _json(pairs)


def _json(value: Mapping[str, object] | Sequence[object]) -> str | None:
    return json.dumps(value) if value else None


def _secrets(
    words: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> dict[str, str]:
    """Id -> base64 of what it holds."""
    found = {}
    for word in words:
        parts = dict(part.partition("=")[::2] for part in readers.csv("--secret", word))
        kind = parts.pop("type", "file" if "env" not in parts else "env")
        name = parts.pop("id", "")
        path = parts.pop("src", parts.pop("source", ""))
        variable = parts.pop("env", path if kind == "env" else "")
        if not name or parts or kind not in ("file", "env"):
            raise UsageError(f"cannot use --secret {word!r}: write id=NAME,src=FILE or ,env=NAME")
        if variable or (not path and name in environment):
            value = environment.get(variable or name)
            if value is None:
                raise UsageError(f"cannot use --secret {word!r}: {variable} isn't set here")
            content = value.encode()
        else:
            try:
                content = (directory / (path or name)).read_bytes()
            except OSError as error:
                raise UsageError(f"cannot use --secret {word!r}: {error.strerror}") from None
        found[name] = base64.b64encode(content).decode()
    return found
