import pytest

from compose.load.short import (
    BadSyntax,
    ShortDevice,
    ShortMount,
    ShortPort,
    parse_device,
    parse_mount,
    parse_port,
)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", [(80, "", "tcp", "")]),
        ("80/udp", [(80, "", "udp", "")]),
        ("80/UDP", [(80, "", "udp", "")]),
        ("8080:80", [(80, "8080", "tcp", "")]),
        ("127.0.0.1:8080:80", [(80, "8080", "tcp", "127.0.0.1")]),
        ("127.0.0.1::80", [(80, "", "tcp", "127.0.0.1")]),
        ("[::1]:8080:80", [(80, "8080", "tcp", "::1")]),
        ("::1:8080:80", [(80, "8080", "tcp", "::1")]),
        ("80-81", [(80, "", "tcp", ""), (81, "", "tcp", "")]),
        ("8080-8081:80-81", [(80, "8080", "tcp", ""), (81, "8081", "tcp", "")]),
        ("9000-9005:80", [(80, "9000-9005", "tcp", "")]),
        ("19-20:9-10", [(10, "20", "tcp", ""), (9, "19", "tcp", "")]),
        ("0:80", [(80, "0", "tcp", "")]),
    ],
)
def test_a_port_in_short_form(text: str, ports: list[tuple[int, str, str, str]]) -> None:
    assert parse_port(text) == [ShortPort(*port) for port in ports]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80:",
        "a",
        "a:80",
        "80:a",
        "65536",
        "0",
        "80-79",
        "80-81:80-82",
        "1.2.3:80:80",
        "80/x",
        "-1",
    ],
)
def test_a_port_that_cannot_be(text: str) -> None:
    with pytest.raises(BadSyntax):
        parse_port(text)


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("/data", ShortMount("", "/data", False)),
        ("data:/data", ShortMount("data", "/data", False)),
        ("d:/data", ShortMount("d", "/data", False)),
        ("./data:/data", ShortMount("./data", "/data", True)),
        ("../x:/x/", ShortMount("../x", "/x", True)),
        ("~/x:/x", ShortMount("~/x", "/x", True)),
        ("/a:/b:ro", ShortMount("/a", "/b", True, read_only=True)),
        ("/a:/b:rw,Z", ShortMount("/a", "/b", True, selinux="Z")),
        ("a:/b:nocopy", ShortMount("a", "/b", False, nocopy=True)),
        ("/a:/b:rslave", ShortMount("/a", "/b", True, propagation="rslave")),
        ("/a:/b:cached", ShortMount("/a", "/b", True)),
        ("/a:/b:fast", ShortMount("/a", "/b", True, unknown=("fast",))),
        ("/a://b//c/", ShortMount("/a", "/b/c", True)),
        ("C:\\x:/x", ShortMount("C:\\x", "/x", True)),
    ],
)
def test_a_mount_in_short_form(text: str, mount: ShortMount) -> None:
    assert parse_mount(text) == mount


@pytest.mark.parametrize("text", ["", ":", ":/a", "a:", "a:b:c:d", "a::ro"])
def test_a_mount_that_cannot_be(text: str) -> None:
    with pytest.raises(BadSyntax):
        parse_mount(text)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/a", ShortDevice("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ShortDevice("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:/dev/b:r", ShortDevice("/dev/a", "/dev/b", "r")),
        ("vendor.com/gpu=0", ShortDevice("vendor.com/gpu=0", "vendor.com/gpu=0", "rwm")),
    ],
)
def test_a_device_in_short_form(text: str, device: ShortDevice) -> None:
    assert parse_device(text) == device


@pytest.mark.parametrize("text", ["", ":", "/a:", "/a:/b:r:x"])
def test_a_device_that_cannot_be(text: str) -> None:
    with pytest.raises(BadSyntax):
        parse_device(text)
