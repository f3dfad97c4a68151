"""The short syntaxes of ports, mounts and devices, taken apart. Pure."""

import ipaddress
import posixpath
import re

from compose.dataclass import dataclass

PROTOCOLS = ("tcp", "udp", "sctp")
HIGHEST_PORT = 65535
_PORT = re.compile(r"[0-9]{1,12}")


class BadSyntax(ValueError):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


@dataclass(frozen=True, slots=True)
class ShortPort:
    target: int
    published: str
    protocol: str
    host_ip: str


_PORT_FORMS = 'write CONTAINER, HOST:CONTAINER or IP:HOST:CONTAINER, as in "8080:80"'


def parse_port(text: str) -> list[ShortPort]:
    """`[IP:][HOST[-HOST]:]CONTAINER[-CONTAINER][/PROTOCOL]`; ranges become one entry a port."""
    outside, _, inside = text.strip().rpartition(":")
    inside, slash, protocol = inside.partition("/")
    protocol = protocol.lower() if slash else "tcp"
    if protocol not in PROTOCOLS:
        raise BadSyntax(f'"{protocol}" isn\'t a protocol', "it can be tcp, udp or sctp")
    if not inside:
        raise BadSyntax(f'"{text}" names no port of the container', _PORT_FORMS)
    host_ip, _, published = outside.rpartition(":")
    host_ip = check_host_ip(host_ip)
    targets = port_range(inside, text, least=1)
    if not published:
        ports = [ShortPort(target, "", protocol, host_ip) for target in targets]
    else:
        ports = _pair(targets, port_range(published, text, least=0), protocol, host_ip, text)
    # As Compose lists them: by the text of the port, so 10 comes before 9.
    return sorted(ports, key=lambda port: f"{port.target}/{port.protocol}")


def _pair(
    targets: range, published: range, protocol: str, host_ip: str, text: str
) -> list[ShortPort]:
    if len(targets) == 1 and len(published) > 1:
        both = f"{published[0]}-{published[-1]}"
        return [ShortPort(targets[0], both, protocol, host_ip)]
    if len(targets) != len(published):
        raise BadSyntax(
            f'"{text}" pairs {len(published)} host ports with {len(targets)} container ports',
            "make both ranges the same length, or name one container port",
        )
    return [
        ShortPort(target, str(host), protocol, host_ip)
        for target, host in zip(targets, published, strict=True)
    ]


def port_range(text: str, whole: str, *, least: int) -> range:
    first, dash, last = text.partition("-")
    if not _PORT.fullmatch(first) or (dash and not _PORT.fullmatch(last)):
        raise BadSyntax(f'"{whole}" isn\'t a port: "{text}" is not a number', _PORT_FORMS)
    low, high = int(first), int(last or first)
    for port in (low, high):
        if not least <= port <= HIGHEST_PORT:
            raise BadSyntax(
                f"cannot publish port {port}: ports run from 1 to {HIGHEST_PORT}",
                'write the host port first, as in "7000:80"',
            )
    if high < low:
        raise BadSyntax(f'the range "{text}" runs backwards', f'write it as "{high}-{low}"')
    return range(low, high + 1)


def check_host_ip(text: str) -> str:
    """The address without brackets."""
    address = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not address:
        return ""
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise BadSyntax(
            f'"{text}" isn\'t an IP address',
            'write an address of this host such as 127.0.0.1, or leave it out: "8080:80"',
        ) from None
    return address


@dataclass(frozen=True, slots=True)
class ShortMount:
    source: str  # "" = anonymous
    target: str
    is_bind: bool
    read_only: bool = False
    nocopy: bool = False
    selinux: str = ""
    propagation: str = ""
    unknown: tuple[str, ...] = ()


_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
# Wishes to other hosts' file sharing; Linux has nothing to do for them.
_WITHOUT_EFFECT = ("cached", "delegated", "consistent", "default")
_MOUNT_FORMS = 'write SOURCE:TARGET or SOURCE:TARGET:ro, as in "./data:/data"'
_DRIVE = re.compile(r"^[A-Za-z]:[\\]")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


_VARIABLE = re.compile(r"\$\{[^}]*\}+")


def parse_mount(text: str) -> ShortMount:
    """`[SOURCE:]TARGET[:MODE,MODE]`."""
    drive = text[:2] if _DRIVE.match(text) else ""
    # Where variables aren't filled in, their own colons part nothing.
    shielded = _VARIABLE.sub(lambda found: found[0].replace(":", "\0"), text[len(drive) :])
    parts = [part.replace("\0", ":") for part in shielded.split(":")]
    parts[0] = drive + parts[0]
    if len(parts) > 3:
        raise BadSyntax(f'"{text}" has too many colons', _MOUNT_FORMS)
    if not all(part.strip() for part in parts):
        raise BadSyntax(f'"{text}" has an empty part', _MOUNT_FORMS)
    if len(parts) == 1:
        return ShortMount("", clean(parts[0]), is_bind=False)
    source, target = parts[0], clean(parts[1])
    read_only = nocopy = False
    selinux = propagation = ""
    unknown: list[str] = []
    for mode in parts[2].split(",") if len(parts) == 3 else ():
        match mode:
            case "ro" | "readonly":
                read_only = True
            case "rw" | "":
                read_only = False
            case "nocopy" | "volume-nocopy":
                nocopy = True
            case "z" | "Z":
                selinux = mode
            case _ if mode in _PROPAGATION:
                propagation = mode
            case _ if mode not in _WITHOUT_EFFECT:
                unknown.append(mode)
    return ShortMount(
        source, target, is_path(source), read_only, nocopy, selinux, propagation, tuple(unknown)
    )


def is_path(source: str) -> bool:
    """A path, not the name of a volume."""
    return source[:1] in (".", "/", "~", "\\") or bool(_DRIVE.match(source))


def is_windows_path(text: str) -> bool:
    """`C:\\data`, `C:/data`, `\\\\server\\share`: nothing on this machine is called so."""
    return _WINDOWS.match(text) is not None


def clean(path: str) -> str:
    if not path:
        return ""
    # POSIX lets two leading slashes mean something else; here they don't.
    return re.sub(r"^//+", "/", posixpath.normpath(path))


@dataclass(frozen=True, slots=True)
class ShortDevice:
    source: str
    target: str
    permissions: str


def parse_device(text: str) -> ShortDevice:
    """`HOST[:CONTAINER[:PERMISSIONS]]`, or a CDI name such as `vendor.com/class=name`."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise BadSyntax(
            f'"{text}" isn\'t a device',
            'write HOST, HOST:CONTAINER or HOST:CONTAINER:rwm, as in "/dev/ttyUSB0:/dev/ttyUSB0"',
        )
    source = parts[0]
    if len(parts) == 1 and not source.startswith("/") and "=" in source:
        return ShortDevice(source, source, "rwm")
    target = parts[1] if len(parts) > 1 else source
    return ShortDevice(source, target, parts[2] if len(parts) > 2 else "rwm")
