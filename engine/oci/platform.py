"""Pure: operating system, architecture and variant, and which of several images fits a machine."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

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
_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_ARM_VARIANTS = ("v8", "v7", "v6", "v5")


@dataclass(frozen=True, slots=True)
class Platform:
    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def platform_of(os: str, architecture: str, variant: str = "") -> Platform:
    """Normalised: `aarch64` is `arm64` with variant `v8`, and so on."""
    known, usual = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    return Platform(os.lower(), known, variant.lower() or usual)


def parse_platform(text: str) -> Platform:
    """`linux/arm64/v8`, `linux/amd64`, or an architecture alone. Raises InvalidRequest."""
    parts = text.split("/")
    for part in parts:
        if not _COMPONENT.fullmatch(part):
            raise InvalidRequest(
                f'"{part}" is an invalid component of "{text}": platform specifier component must '
                f'match "^[A-Za-z0-9_.-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidRequest(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) == 1:
        if parts[0].lower() not in _ARCHITECTURES:
            raise InvalidRequest(
                f'"{text}": unknown operating system or architecture: invalid argument'
            )
        return platform_of("linux", parts[0])
    return platform_of(*parts)


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
