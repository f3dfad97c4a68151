"""What the changes of commit and import do."""

from __future__ import annotations

import pytest

from engine.builder.changes import edit_of
from engine.errors import InvalidRequest
from engine.oci.image_config import Healthcheck, ImageConfig

CONFIG = ImageConfig(env=("P=x",), cmd=("old",), working_dir="/w")


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ('CMD ["a", "b"]', "cmd", ("a", "b")),
        ("cmd lower", "cmd", ("/bin/sh", "-c", "lower")),
        ("ENTRYPOINT x y", "entrypoint", ("/bin/sh", "-c", "x y")),
        ('ENTRYPOINT ["x"]', "cmd", ()),
        ('CMD y\nENTRYPOINT ["x"]', "cmd", ("/bin/sh", "-c", "y")),
        ("ENV A=$P B='two words'\nENV C $A", "env", ("P=x", "A=x", "B=two words", "C=x")),
        ("EXPOSE 80-81 53/udp", "exposed_ports", ("53/udp", "80/tcp", "81/tcp")),
        ("LABEL a=$P c='d e'", "labels", {"a": "x", "c": "d e"}),
        ("ONBUILD RUN true", "on_build", ("RUN true",)),
        ("STOPSIGNAL SIGINT", "stop_signal", "SIGINT"),
        ("USER 5:6", "user", "5:6"),
        ("VOLUME /v /w", "volumes", ("/v", "/w")),
        ("WORKDIR a/../b", "working_dir", "/w/b"),
        ("HEALTHCHECK NONE", "healthcheck", Healthcheck(("NONE",))),
        (
            "HEALTHCHECK --interval=5s --start-interval=2s --retries=3 CMD true",
            "healthcheck",
            Healthcheck(
                ("CMD-SHELL", "true"), interval=5 * 10**9, start_interval=2 * 10**9, retries=3
            ),
        ),
    ],
)
def test_change(change: str, field: str, value: object) -> None:
    assert getattr(edit_of([change])(CONFIG), field) == value


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("RUN x", "^RUN is not a valid change command$"),
        ('SHELL ["x"]', "^SHELL is not a valid change command$"),
        ("nosuch x", "^nosuch is not a valid change command$"),
        ("LABEL", "^LABEL requires at least one argument$"),
        ("ENV A", "^ENV must have two arguments$"),
        ("ONBUILD FROM x", "^FROM isn't allowed as an ONBUILD trigger$"),
        ("HEALTHCHECK --bad=5s CMD true", "^unknown flag: "),
        ("STOPSIGNAL ?", "^invalid signal: "),
    ],
)
def test_refused(change: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        edit_of([change])(CONFIG)
