"""pure: --volume, --mount and --tmpfs -> what the API calls Binds, Volumes, Mounts and Tmpfs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from compose.errors import UsageError
from compose.load.short import BadSyntax, parse_mount
from engine.cli.containers.readers import csv, size

Wrong = Callable[[str], UsageError]
_TYPES = ("bind", "volume", "tmpfs", "image", "npipe", "cluster")
_YES, _NO = ("", "1", "t", "true"), ("0", "f", "false")
_ALIASES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}


def volumes(words: Sequence[str], directory: str) -> tuple[list[str], dict[str, dict[str, object]]]:
    """Binds, and paths of anonymous volumes. What starts with a dot lies in `directory`."""
    binds: list[str] = []
    anonymous: dict[str, dict[str, object]] = {}
    for word in words:
        try:
            short = parse_mount(word)
        except BadSyntax as error:
            raise UsageError(f"cannot use --volume {word!r}: {error.what}") from None
        if not short.source:
            anonymous[word] = {}
            continue
        source, _, rest = word.partition(":")
        binds.append(f"{absolute(source, directory) if short.is_bind else source}:{rest}")
    return binds, anonymous


def absolute(path: str, directory: str) -> str:
    """Only what starts with a dot is relative: another could be meant for the engine's machine."""
    return os.path.normpath(os.path.join(directory, path)) if path.startswith(".") else path


def tmpfs(words: Sequence[str]) -> dict[str, str]:
    pairs = (word.partition(":") for word in words)
    return {path: options for path, _, options in pairs}


def mount(text: str, directory: str) -> dict[str, object]:
    """`type=bind,src=/a,dst=/b,ro`: a Mount of the API."""

    def wrong(reason: str) -> UsageError:
        return UsageError(f"cannot use --mount {text!r}: {reason}")

    found: dict[str, object] = {"Type": "volume"}
    options: dict[str, dict[str, object]] = {}
    for part in csv("--mount", text):
        key, equals, value = part.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        value = value.strip()
        if not equals and key not in ("readonly", "volume-nocopy", "bind-nonrecursive"):
            raise wrong(f"{part!r} has no value")
        match key:
            case "type":
                found["Type"] = value.lower()
            case "source" | "target" | "consistency":
                found[key.capitalize()] = value
            case "readonly":
                found["ReadOnly"] = _flag(value, wrong)
            case "bind-propagation":
                options.setdefault("BindOptions", {})["Propagation"] = value.lower()
            case "bind-nonrecursive":
                options.setdefault("BindOptions", {})["NonRecursive"] = _flag(value, wrong)
            case "bind-create-src":
                options.setdefault("BindOptions", {})["CreateMountpoint"] = _flag(value, wrong)
            case "bind-recursive":
                options.setdefault("BindOptions", {}).update(_recursive(value, wrong))
            case "volume-subpath":
                options.setdefault("VolumeOptions", {})["Subpath"] = value
            case "volume-nocopy":
                options.setdefault("VolumeOptions", {})["NoCopy"] = _flag(value, wrong)
            case "volume-label":
                _pair(options.setdefault("VolumeOptions", {}), "Labels", value)
            case "volume-driver":
                _driver(options)["Name"] = value
            case "volume-opt":
                _pair(_driver(options), "Options", value)
            case "image-subpath":
                options.setdefault("ImageOptions", {})["Subpath"] = value
            case "tmpfs-size":
                options.setdefault("TmpfsOptions", {})["SizeBytes"] = size("tmpfs-size", value)
            case "tmpfs-mode":
                try:
                    options.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
                except ValueError:
                    raise wrong(f"tmpfs-mode {value!r} is no octal number") from None
            case _:
                raise wrong(f"there is no option {key!r}")
    kind = found["Type"]
    if kind not in _TYPES:
        raise wrong(f"the type {kind!r} is none of {', '.join(_TYPES)}")
    if not found.get("Target"):
        raise wrong("it needs a target")
    for name in options:
        if name != f"{str(kind).capitalize()}Options":
            raise wrong(f"a mount of type {kind} has no {name.removesuffix('Options').lower()}-…")
    if kind == "bind" and isinstance(source := found.get("Source"), str):
        found["Source"] = absolute(source, directory)
    bind = options.get("BindOptions", {})
    if bind.get("ReadOnlyForceRecursive") and bind.get("Propagation") != "rprivate":
        raise wrong("bind-recursive=readonly needs bind-propagation=rprivate")
    if (bind.get("ReadOnlyForceRecursive") or bind.get("ReadOnlyNonRecursive")) and not found.get(
        "ReadOnly"
    ):
        raise wrong("bind-recursive=readonly and =writable need readonly")
    return {**found, **options}


def _flag(value: str, wrong: Wrong) -> bool:
    if value.lower() in _YES:
        return True
    if value.lower() in _NO:
        return False
    raise wrong(f"{value!r} is neither true nor false")


def _recursive(value: str, wrong: Wrong) -> dict[str, object]:
    table: dict[str, dict[str, object]] = {
        "enabled": {},
        "disabled": {"NonRecursive": True},
        "writable": {"ReadOnlyNonRecursive": True},
        "readonly": {"ReadOnlyForceRecursive": True},
    }
    if value not in table:
        raise wrong(f"bind-recursive is one of {', '.join(table)}")
    return table[value]


def _driver(options: dict[str, dict[str, object]]) -> dict[str, object]:
    driver = options.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
    assert isinstance(driver, dict)
    return driver


def _pair(place: dict[str, object], name: str, text: str) -> None:
    known = place.setdefault(name, {})
    assert isinstance(known, dict)
    key, _, value = text.partition("=")
    known[key] = value
