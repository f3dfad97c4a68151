"""`pyengine login` and `logout`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from compose.client import fields, keychain
from compose.client.credentials import HUB, CredentialStore, host_of
from compose.client.engine import Engine
from compose.errors import UsageError
from engine.cli.session import Session, on_engine, session

Server = Annotated[str, typer.Argument(metavar="[SERVER]", hidden=True)]
_HUB_NAMES = ("", "docker.io", "index.docker.io", "registry-1.docker.io")


def login(
    ctx: typer.Context,
    server: Server = "",
    password: Annotated[
        str, typer.Option("-p", "--password", help="Better: --password-stdin, or be asked.")
    ] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="The password comes on standard input.")
    ] = False,
    username: Annotated[str, typer.Option("-u", "--username", help="Who you are there.")] = "",
) -> None:
    """Without a server it is Docker Hub. What was typed is kept as Docker's command keeps it."""
    registry = registry_of_server(server)
    at = session(ctx)
    if password:
        print("WARNING! Others see a password on a command line: use --password-stdin.",
              file=sys.stderr)  # fmt: skip
    if password_stdin:
        if password or not username:
            raise UsageError("--password-stdin needs --username, and no --password")
        password = sys.stdin.read().rstrip("\r\n")

    async def work(engine: Engine) -> str:
        known: dict[str, str] = {}
        if not username and not password:
            known = await CredentialStore(at.environment).known(registry)
        if known:
            print("Authenticating with existing credentials...")
        wanted = known or await asked(username, password)
        answer = fields.mapping(
            await engine.transport.json(
                "POST", "/auth", body={**wanted, "serveraddress": registry}
            ),
            "the log-in",
        )
        if not known:
            await _keep(answer, wanted, registry, at)
        return fields.text(answer, "Status", "Login Succeeded")

    print(on_engine(ctx, work))


async def _keep(answer: object, wanted: dict[str, str], registry: str, at: Session) -> None:
    token = fields.text(fields.mapping(answer, "the log-in"), "IdentityToken", "")
    place = await keychain.remember(
        registry, wanted["username"], token or wanted["password"], at.environment,
        token=bool(token),
    )  # fmt: skip
    if place.startswith("/"):
        print(f"WARNING! The password is kept unencrypted in {place}; credsStore in that file names"
              " a program that keeps it better.", file=sys.stderr)  # fmt: skip


async def asked(username: str, password: str) -> dict[str, str]:
    """What wasn't said is asked for."""
    import asyncio
    import getpass

    if not (username and password) and not sys.stdin.isatty():
        raise UsageError(
            "cannot ask for user and password: standard input is no terminal\n"
            "  hint: pyengine login --username NAME --password-stdin"
        )
    username = username or (await asyncio.to_thread(input, "Username: ")).strip()
    password = password or await asyncio.to_thread(getpass.getpass, "Password: ")
    if not username or not password:
        raise UsageError("cannot log in without user and password")
    return {"username": username, "password": password}


def logout(ctx: typer.Context, server: Server = "") -> None:
    """Without a server it is Docker Hub."""
    import asyncio

    registry = registry_of_server(server)
    print(f"Removing login credentials for {registry}")
    asyncio.run(keychain.forget(registry, session(ctx).environment))


def registry_of_server(server: str) -> str:
    """As the configuration calls it: the host's name, or Docker Hub's address."""
    host = host_of(server)
    return HUB if server == HUB or host in _HUB_NAMES else host
