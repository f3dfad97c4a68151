from __future__ import annotations

import pytest

from compose.errors import UsageError
from engine.cli.dialect import spelled

SWITCHES = {"--rm": "", "--proxy": "--no-proxy", "-i": "", "-t": ""}
VALUED = frozenset({"--env", "-e", "-p"})


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--rm=true x", "--rm x"),
        ("--rm=false --proxy=0 --proxy=1 x", "--no-proxy --proxy x"),
        ("-it=false x", "-i x"),
        ("-itp80:80 x", "-i -t -p 80:80 x"),
        ("-p=80:80 -e A=1 x", "-p 80:80 -e A=1 x"),
        ("--env --rm=true x", "--env --rm=true x"),
        ("-e --rm=true --env=--rm=true x", "-e --rm=true --env=--rm=true x"),
        ("x --rm=true -it", "x --rm=true -it"),
        ("-- --rm=true", "-- --rm=true"),
        ("- --rm=true", "- --rm"),
        ("-e", "-e"),
    ],
)
def test_options_as_gos_flags_are_written(typed: str, meant: str) -> None:
    interspersed = typed.startswith("- ")
    words = spelled(typed.split(), switches=SWITCHES, valued=VALUED, interspersed=interspersed)
    assert words == meant.split()


def test_what_is_neither_true_nor_false() -> None:
    with pytest.raises(UsageError, match="--rm=maybe: it is either true or false"):
        spelled(["--rm=maybe"], switches=SWITCHES, valued=VALUED, interspersed=True)
