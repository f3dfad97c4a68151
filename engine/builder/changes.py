"""Pure: the `changes` of commit and import, Dockerfile instructions that alter a configuration."""

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from engine.builder.config import changed_config, env_names
from engine.builder.dockerfile import Instruction, parse_line
from engine.builder.expand import expand_word
from engine.builder.syntax import check_syntax
from engine.errors import InvalidRequest
from engine.oci.image_config import Edit, ImageConfig

_ALLOWED = frozenset(
    (
        *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL"),
        *("USER", "VOLUME", "WORKDIR"),
    )
)
_ESCAPE = "\\"


def edit_of(changes: Sequence[str]) -> Edit:
    """What they do to a configuration. Raises InvalidRequest for what isn't allowed or no
    instruction; so may the edit itself."""
    lines = [line.strip() for change in changes for line in change.splitlines()]
    instructions = [_instruction(line) for line in lines if line]

    def edit(config: ImageConfig) -> ImageConfig:
        has_command = False
        for one in instructions:
            config = _changed(config, one)
            has_command = has_command or one.keyword == "CMD"
            if one.keyword == "ENTRYPOINT" and not has_command:
                # The command that was there is of the entrypoint that was there.
                config = replace(config, cmd=())
        return config

    return edit


def _instruction(line: str) -> Instruction:
    keyword = line.split()[0]
    if keyword.upper() not in _ALLOWED:
        raise InvalidRequest(f"{keyword} is not a valid change command")
    try:
        one = parse_line(line, 1)
        check_syntax(one, _ESCAPE)
    except InvalidRequest as error:
        raise _plain(error) from error
    return one


def _changed(config: ImageConfig, one: Instruction) -> ImageConfig:
    names = env_names(config)
    try:
        if one.keyword != "WORKDIR":
            return changed_config(config, one, names, _ESCAPE)
        path = expand_word(one.arguments, names, _ESCAPE)
    except InvalidRequest as error:
        raise _plain(error) from error
    folder = posixpath.join("/", config.working_dir, path)
    return replace(config, working_dir=posixpath.normpath(folder))


def _plain(error: InvalidRequest) -> InvalidRequest:
    """Each change is a file of one line: its number says nothing."""
    return InvalidRequest(str(error).removeprefix("dockerfile parse error on line 1: "))
