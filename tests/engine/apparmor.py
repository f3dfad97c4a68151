"""A profile of AppArmor's, where the kernel has that."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

_ENABLED = Path("/sys/module/apparmor/parameters/enabled")
_PROFILE = """\
profile pycompose-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  deny /srv/** w,
}
"""

needs_apparmor = pytest.mark.skipif(
    not _ENABLED.exists() or not _ENABLED.read_text().startswith("Y"),
    reason="this kernel has no AppArmor, or it is off",
)


@contextlib.contextmanager
def profile() -> Iterator[str]:
    """The name of one that is loaded, by which nothing below /srv can be written."""
    subprocess.run(["apparmor_parser", "--replace"], input=_PROFILE, text=True, check=True)
    try:
        yield "pycompose-test"
    finally:
        subprocess.run(["apparmor_parser", "--remove"], input=_PROFILE, text=True, check=True)
