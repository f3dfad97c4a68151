"""Pure: `changes` of import and commit, Dockerfile instructions that alter an image's config."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from engine.errors import InvalidRequest
from engine.oci.image_config import ImageConfig


def apply_changes(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """Raises InvalidRequest for an instruction that isn't one of those that change a config."""
    for line in changes:
        for change in line.splitlines():
            keyword, _, rest = change.strip().partition(" ")
            if not keyword:
                continue
            rule = _RULES.get(keyword.upper())
            if rule is None:
                raise InvalidRequest(f"{keyword} is not a valid change command")
            if not rest.strip():
                raise InvalidRequest(f"{keyword.upper()} requires at least one argument")
            config = rule(config, rest.strip())
    return config


def _command(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
    return ("/bin/sh", "-c", text)


def _words(text: str) -> tuple[str, ...]:
    if text.startswith("["):
        return _command(text)
    return tuple(text.split())


def _pairs(keyword: str, text: str) -> Mapping[str, str]:
    """`A=b C="d e"`, or of old `A b c`."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidRequest(f"{keyword}: {error}") from None
    if "=" not in words[0]:
        name, _, value = text.partition(" ")
        if not value:
            raise InvalidRequest(f"{keyword} must have two arguments")
        return {name: value.strip()}
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not equals or not name:
            raise InvalidRequest(
                f"Syntax error - can't find = in {name!r}. Must be of the form: name=value"
            )
    return {name: value for name, _, value in pairs}


def _env(config: ImageConfig, text: str) -> ImageConfig:
    pairs = _pairs("ENV", text)
    kept = [entry for entry in config.env if entry.partition("=")[0] not in pairs]
    return replace(config, env=(*kept, *(f"{name}={value}" for name, value in pairs.items())))


def _label(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, labels={**config.labels, **_pairs("LABEL", text)})


def _expose(config: ImageConfig, text: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    for word in text.split():
        number, _, protocol = word.partition("/")
        if not number.isdecimal() or not 0 < int(number) < 65536:
            raise InvalidRequest(f"invalid containerPort: {word}")
        ports.add(f"{int(number)}/{protocol.lower() or 'tcp'}")
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _volume(config: ImageConfig, text: str) -> ImageConfig:
    return replace(config, volumes=tuple(sorted({*config.volumes, *_words(text)})))


_RULES: Mapping[str, Callable[[ImageConfig, str], ImageConfig]] = {
    "CMD": lambda config, text: replace(config, cmd=_command(text)),
    "ENTRYPOINT": lambda config, text: replace(config, entrypoint=_command(text)),
    "ENV": _env,
    "EXPOSE": _expose,
    "LABEL": _label,
    "ONBUILD": lambda config, text: replace(config, on_build=(*config.on_build, text)),
    "STOPSIGNAL": lambda config, text: replace(config, stop_signal=text),
    "USER": lambda config, text: replace(config, user=text),
    "VOLUME": _volume,
    "WORKDIR": lambda config, text: replace(config, working_dir=text),
}
