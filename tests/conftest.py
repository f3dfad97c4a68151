"""What all tests share: who may run here, and a machine of one's own."""

from __future__ import annotations

import compileall
import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest

from tests.host import ROOT, Host, host


def pytest_configure() -> None:
    # How long an example takes, to make or to try, is the machine's business: an emulated one is
    # slow.
    hypothesis.settings.register_profile(
        "any machine",
        deadline=None,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("any machine")
    # A shell starts what it runs in the background with these ignored, and so would they be in the
    # programs that tests interrupt.
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is started again and again isn't compiled each time: a spawner writes no bytecode, nor
    does what has PYTHONDONTWRITEBYTECODE."""
    if not hasattr(session.config, "workerinput"):
        for package in ("engine", "compose"):
            compileall.compile_dir(ROOT / package, quiet=2, workers=0)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """`.ci/run` reads it: tests run again only after a run that came to its end."""
    cache: pytest.Cache | None = getattr(session.config, "cache", None)  # -p no:cacheprovider
    if cache is not None:
        cache.set("session/exitstatus", int(exitstatus))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # What takes one processor for longest comes first: at the end the other ones would wait for it.
    items.sort(key=lambda item: "test_lint.py::test_the_tree_is_clean[types]" not in item.nodeid)
    # What the command line gives everybody is the least: an emulated machine needs it.
    least = float(config.getoption("timeout") or 0)
    for item in items:
        own = item.get_closest_marker("timeout")
        if own is not None and own.args[0] < least:
            item.add_marker(pytest.mark.timeout(least), append=False)
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs root: it makes namespaces, mounts and bridges")
    for item in items:
        if item.get_closest_marker("kernel"):
            item.add_marker(skip)


@pytest.fixture(name="host")
def host_fixture() -> Iterator[Host]:
    with host() as opened:
        yield opened
