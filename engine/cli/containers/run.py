"""`pyengine run`."""

from __future__ import annotations

import sys

import typer

from compose.client.engine import Engine
from compose.client.errors import ApiError, code_of_refusal
from compose.client.terminal import stdin_is_terminal
from compose.errors import ComposeError, UsageError
from engine.cli.containers.create import make_container, read_body
from engine.cli.containers.creation import Body
from engine.cli.containers.flags import RunFlags, given, with_options
from engine.cli.containers.talk import Wishes, start_and_talk
from engine.cli.options import Image, Words
from engine.cli.session import on_engine, session
from engine.errors import EngineError

COULD_NOT_START = 125


class _AtOdds(UsageError):
    """Options that are right each, and don't go together here: Docker's code for it is 1."""


@with_options(RunFlags)
def run(ctx: typer.Context, image: Image, command: Words = None, **options: object) -> int:
    """Whatever goes wrong on the way has a code of its own: the others are the command's."""
    try:
        return _run(ctx, image, command or [], given(RunFlags, options))
    except _AtOdds:
        raise
    except (ComposeError, EngineError) as error:
        print(f"pyengine: {error}", file=sys.stderr)
        message = error.message if isinstance(error, ApiError) else ""
        return code_of_refusal(message) or COULD_NOT_START


def _run(ctx: typer.Context, image: str, command: list[str], flags: RunFlags) -> int:
    at = session(ctx)
    body = read_body(at, flags, image, command)
    if flags.detach and flags.attach:
        raise _AtOdds("cannot use --detach with --attach")
    if flags.detach:
        body["AttachStdin"] = body["AttachStdout"] = body["AttachStderr"] = False
        body["StdinOnce"] = False
    elif flags.tty and flags.interactive and not stdin_is_terminal():
        raise _AtOdds("cannot use -it: standard input is no terminal\n  hint: leave -t out")

    async def work(engine: Engine) -> int:
        identity = await make_container(engine, flags, body, at)
        return await _start(engine, identity, flags, body)

    return on_engine(ctx, work)


async def _start(engine: Engine, identity: str, flags: RunFlags, body: Body) -> int:
    if flags.detach:
        await engine.containers.start(identity)
        print(identity)
        return 0
    wishes = Wishes(
        tty=flags.tty,
        stdin=bool(body.get("AttachStdin")),
        stdout=bool(body.get("AttachStdout")),
        stderr=bool(body.get("AttachStderr")),
        sig_proxy=flags.sig_proxy,
        detach_keys=flags.detach_keys,
    )
    return await start_and_talk(engine, identity, wishes, removed=flags.rm)
