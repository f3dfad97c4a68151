"""Pure: what the instructions that make no layer do to an image's configuration."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from engine.builder.dockerfile import Instruction, exec_form, refusal
from engine.builder.expand import expand_word, split_words
from engine.containers.checks import parse_signal
from engine.errors import InvalidRequest
from engine.oci.image_config import Healthcheck, ImageConfig

DEFAULT_SHELL = ("/bin/sh", "-c")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Names = Mapping[str, str]
Change = Callable[[ImageConfig, Instruction, Names, str], ImageConfig]

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}
_UNITS["h"] = 3600 * 10**9
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_ONBUILD_REFUSED = ("ONBUILD", "FROM", "MAINTAINER")


def changed_config(
    config: ImageConfig, instruction: Instruction, names: Names, escape: str
) -> ImageConfig:
    """Raises InvalidRequest, with the line."""
    return _RULES[instruction.keyword](config, instruction, names, escape)


def command_words(instruction: Instruction, shell: Sequence[str]) -> tuple[str, ...]:
    """Of RUN, CMD, ENTRYPOINT: the JSON form as it is, else a text for the shell."""
    words = exec_form(instruction.arguments)
    return words if words is not None else (*(shell or DEFAULT_SHELL), instruction.arguments)


def pairs(instruction: Instruction, names: Names, escape: str) -> dict[str, str]:
    """Of ENV and LABEL: `A=b C="d e"`, or of old `A b c`."""
    words = split_words(instruction.arguments, escape)
    if "=" not in words[0]:
        name, _, value = instruction.arguments.partition(" ")
        if not value.strip():
            raise refusal(instruction.line, f"{instruction.keyword} must have two arguments")
        return {expand_word(name, names, escape): expand_word(value.strip(), names, escape)}
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise refusal(
                instruction.line,
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
            )
        if not name:
            raise refusal(instruction.line, f"{instruction.keyword} names can not be blank")
        found[expand_word(name, names, escape)] = expand_word(value, names, escape)
    return found


def with_env(env: Sequence[str], added: Mapping[str, str]) -> tuple[str, ...]:
    """A name that is there keeps its place."""
    names = {entry.partition("=")[0]: entry for entry in env}
    names.update({name: f"{name}={value}" for name, value in added.items()})
    return tuple(names.values())


def with_default_path(config: ImageConfig) -> ImageConfig:
    """As Docker has it: an image that is built has a PATH, whatever its base says."""
    return config if "PATH" in env_names(config) else replace(config, env=(PATH, *config.env))


def env_names(config: ImageConfig) -> dict[str, str]:
    pieces = (entry.partition("=") for entry in config.env)
    return {name: value for name, _, value in pieces}


def _env(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    return replace(config, env=with_env(config.env, pairs(one, names, escape)))


def _label(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    return replace(config, labels={**config.labels, **pairs(one, names, escape)})


def _cmd(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    return replace(config, cmd=command_words(one, config.shell), args_escaped=False)


def _entrypoint(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    words = command_words(one, config.shell) if one.arguments else ()
    return replace(config, entrypoint=words)


def _expose(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    ports = set(config.exposed_ports)
    # What a variable holds may be several; what is published where is nothing that an image says.
    words = [each for word in one.arguments.split() for each in _split(word, names, escape)]
    for word in words:
        ends, _, protocol = word.lower().partition("/")
        if protocol not in ("", "tcp", "udp", "sctp"):
            raise refusal(one.line, f'invalid port: "{word}": invalid proto: {protocol}')
        match = re.fullmatch(r"(?:.*:)?(\d{1,5})(?:-(\d{1,5}))?", ends)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 0 < first <= last < 65536:
            raise refusal(one.line, f"invalid containerPort: {word}")
        ports |= {f"{port}/{protocol or 'tcp'}" for port in range(first, last + 1)}
    return replace(config, exposed_ports=tuple(sorted(ports)))


def _split(word: str, names: Names, escape: str) -> list[str]:
    return expand_word(word, names, escape).split()


def _user(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    return replace(config, user=expand_word(one.arguments, names, escape))


def _stop_signal(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    signal = expand_word(one.arguments, names, escape)
    try:
        parse_signal(signal)
    except InvalidRequest:
        raise refusal(one.line, f"invalid signal: {signal}") from None
    return replace(config, stop_signal=signal)


def _volume(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    found = tuple(expand_word(word, names, escape) for word in one.words())
    if not all(found):
        raise refusal(one.line, "VOLUME specified can not be an empty string")
    return replace(config, volumes=tuple(sorted({*config.volumes, *found})))


def _shell(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    words = exec_form(one.arguments)
    if words == ():
        raise refusal(one.line, "SHELL requires at least one argument")
    if words is None:
        raise refusal(one.line, "SHELL requires the arguments to be in JSON form")
    return replace(config, shell=words)


def _on_build(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    keyword = one.arguments.split()[0].upper()
    if keyword == "ONBUILD":
        raise refusal(one.line, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if keyword in _ONBUILD_REFUSED:
        raise refusal(one.line, f"{keyword} isn't allowed as an ONBUILD trigger")
    text = one.arguments
    for heredoc in one.heredocs:
        text += f"\n{heredoc.content}{heredoc.name}"
    return replace(config, on_build=(*config.on_build, text))


def _healthcheck(config: ImageConfig, one: Instruction, names: Names, escape: str) -> ImageConfig:
    kind, _, rest = one.arguments.partition(" ")
    match kind.upper():
        case "NONE":
            if rest.strip():
                raise refusal(one.line, "HEALTHCHECK NONE takes no arguments")
            return replace(config, healthcheck=Healthcheck(("NONE",)))
        case "CMD" if rest.strip():
            words = exec_form(rest)
            test = ("CMD-SHELL", rest.strip()) if words is None else ("CMD", *words)
        case "CMD":
            raise refusal(one.line, "Missing command after HEALTHCHECK CMD")
        case _:
            raise refusal(one.line, f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    durations = {
        flag.name: _duration(one, flag.name, flag.value or "")
        for flag in one.flags
        if flag.name != "retries"
    }
    retries = one.flag("retries") or "0"
    if re.fullmatch(r"-\d+", retries):
        raise refusal(one.line, f"--retries cannot be negative ({retries})")
    if not retries.isdecimal():
        raise refusal(one.line, f'--retries has to be a number, not "{retries}"')
    check = Healthcheck(
        test,
        interval=durations.get("interval", 0),
        timeout=durations.get("timeout", 0),
        start_period=durations.get("start-period", 0),
        start_interval=durations.get("start-interval", 0),
        retries=int(retries),
    )
    return replace(config, healthcheck=check)


def _duration(one: Instruction, name: str, text: str) -> int:
    """Nanoseconds."""
    if text != "0" and not _DURATION.fullmatch(text):
        raise refusal(one.line, f'invalid duration "{text}" of --{name}')
    total = sum(int(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    if 0 < total < 10**6:
        raise refusal(one.line, f'Interval "{name}" cannot be less than 1ms')
    return total


_RULES: Mapping[str, Change] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "SHELL": _shell,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}
CONFIG_KEYWORDS = frozenset(_RULES)
