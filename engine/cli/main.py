"""pyengine: the command. One file a subcommand, which imports what it needs when it runs."""

from __future__ import annotations

import typer

from engine.cli.daemon import daemon
from engine.cli.status import status
from engine.cli.stop import stop

app = typer.Typer(
    name="pyengine",
    help="The container engine of pycompose: a Docker Engine API without Docker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(daemon)
app.command()(stop)
app.command()(status)


def run() -> None:
    app()


if __name__ == "__main__":
    run()
