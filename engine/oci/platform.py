"""Pure: operating system, architecture and variant, and which of several images fits a machine."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from engine.errors import InvalidRequest

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "386": ("386", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "arm": ("arm", "v7"),
    "ppc64le": ("ppc64le", ""),
    "riscv64": ("riscv64", ""),
    "s390x": ("s390x", ""),
    "loongarch64": ("loong64", ""),
    "loong64": ("loong64", ""),
    "mips64el": ("mips64le", ""),
    "mips64le": ("mips64le", ""),
}
# What Go knows besides of operating systems and architectures: a word that stands alone is looked
# for here.
# fmt: off
_OPERATING_SYSTEMS = frozenset((
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux",
    "nacl", "netbsd", "openbsd", "plan9", "solaris", "windows", "zos",
))
_FOREIGN_ARCHITECTURES = frozenset((
    "amd64p32", "armbe", "arm64be", "ppc64", "mips", "mipsle", "mips64", "mips64p32",
    "mips64p32le", "ppc", "riscv", "s390", "sparc", "sparc64", "wasm",
))
# fmt: on
_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_OPERATING_SYSTEM = re.compile(r"([A-Za-z0-9_-]+)(?:\([A-Za-z0-9_.-]*\))?", re.ASCII)
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def as_told(self) -> "Platform":
        """Without the variant that every arm64 has, as containerd tells of what was asked for."""
        usual = (self.architecture, self.variant) == ("arm64", "v8")
        return replace(self, variant="") if usual else self


def platform_of(os: str, architecture: str, variant: str = "") -> Platform:
    """Normalised: `aarch64` is `arm64` with variant `v8`, and so on."""
    known, usual = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    return Platform(os.lower(), known, variant.lower() or usual)


def parse_platform(text: str, here: Platform) -> Platform:
    """`linux/arm64/v8`, `linux/amd64`, or an operating system or architecture alone: the rest is
    then that of `here`. Raises InvalidRequest in the words of containerd, which clients know."""
    system, *rest = text.split("/")
    named = _OPERATING_SYSTEM.fullmatch(system)
    if named is None:
        raise InvalidRequest(
            f'"{system}" is an invalid OS component of "{text}": OSAndVersion specifier component '
            f'must match "^([A-Za-z0-9_-]+)(?:\\(([A-Za-z0-9_.-]*)\\))?$": invalid argument'
        )
    for part in rest:
        if not _COMPONENT.fullmatch(part):
            raise InvalidRequest(
                f'"{part}" is an invalid component of "{text}": platform specifier component must '
                f'match "^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(rest) > 2:
        raise InvalidRequest(f'"{text}": cannot parse platform specifier: invalid argument')
    name = _system(named[1])
    if rest:
        return platform_of(name, *rest)
    if name in _OPERATING_SYSTEMS:
        return Platform(name, here.architecture, here.variant)
    if system.lower() in _ARCHITECTURES.keys() | _FOREIGN_ARCHITECTURES:
        return platform_of(here.os, system)
    raise InvalidRequest(f'"{text}": unknown operating system or architecture: invalid argument')


def _system(text: str) -> str:
    name = text.lower()
    return "darwin" if name == "macos" else name


def best_match(wanted: Platform, offered: Sequence[Platform]) -> int | None:
    """Index of the platform to take. ARM machines run older variants too: nearest below wins."""
    for candidate in _runnable(wanted):
        for index, platform in enumerate(offered):
            if platform_of(platform.os, platform.architecture, platform.variant) == candidate:
                return index
    return None


def _runnable(wanted: Platform) -> list[Platform]:
    if wanted.architecture != "arm" or wanted.variant not in _ARM_VARIANTS:
        return [wanted]
    start = _ARM_VARIANTS.index(wanted.variant)
    return [Platform(wanted.os, "arm", variant) for variant in _ARM_VARIANTS[start:]]
