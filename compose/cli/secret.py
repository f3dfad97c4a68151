"""`pycompose secret`: what `external: true` secrets hold, kept encrypted on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from compose.cli.context import Context
from compose.cli.render import Format, check_format, stamp, table
from compose.errors import UsageError
from compose.secrets import SecretStore, store_of

ACTIONS = ("create", "rotate", "ls", "rm")


def register(app: typer.Typer) -> None:
    @app.command("secret")
    def secret(
        ctx: typer.Context,
        action: Annotated[str, typer.Argument(metavar="create|rotate|ls|rm")],
        names: Annotated[list[str] | None, typer.Argument(metavar="NAME [FILE]")] = None,
        format: Format = "table",
        quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Only names.")] = False,
    ) -> int:
        """The value comes from FILE, or from standard input where that is "-" or left out."""
        check_format(format)
        context: Context = ctx.obj
        store = store_of(context.environment)
        given = names or []
        match action, given:
            case "ls", []:
                _list(store, format, quiet=quiet)
            case "rm", [_, *_]:
                for name in given:
                    store.remove(name)
            case "create", [name, *rest] if len(rest) <= 1:
                store.create(name, _value(context, rest))
                context.say(f"created the secret {name}")
            case "rotate", [name, *rest] if len(rest) <= 1:
                version = store.rotate(name, _value(context, rest)).version
                context.say(f"rotated the secret {name}: version {version}")
                context.say("  hint: pycompose up gives it to the services that have it")
            case _:
                raise UsageError(
                    "cannot read this\n  hint: secret create NAME [FILE], secret rotate NAME"
                    " [FILE], secret ls, secret rm NAME..."
                )
        return 0


def _value(context: Context, rest: list[str]) -> bytes:
    if rest and rest[0] != "-":
        path = Path(context.directory, rest[0])
        try:
            return path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {rest[0]}: {error.strerror}") from error
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("value (not shown): ").encode()
    return sys.stdin.buffer.read()


def _list(store: SecretStore, format: str, *, quiet: bool) -> None:
    entries = list(store.entries())
    if quiet:
        print("".join(f"{entry.name}\n" for entry in entries), end="")
    elif format == "json":
        rows = [
            {
                "Name": entry.name,
                "Version": entry.version,
                "CreatedAt": stamp(entry.created)[:19],
                "RotatedAt": stamp(entry.rotated)[:19],
            }
            for entry in entries
        ]
        print(json.dumps(rows))
    else:
        rows_ = [
            (e.name, str(e.version), stamp(e.created)[:16], stamp(e.rotated)[:16]) for e in entries
        ]
        print(table(("NAME", "VERSION", "CREATED", "ROTATED"), rows_))
