"""Pure: what is wrong with an instruction whatever its variables hold: told before all else."""

from engine.builder.config import changed_config
from engine.builder.dockerfile import (
    Instruction,
    copy_words,
    parse_line,
    refusal,
    suggestion,
)
from engine.builder.expand import split_words
from engine.builder.mounts import step_mounts
from engine.builder.run_request import run_flags
from engine.builder.stages import mount_fields
from engine.oci.image_config import ImageConfig

FLAGS = {
    "ADD": {"chown", "chmod", "link", "exclude", "checksum", "unpack", "keep-git-dir"},
    "COPY": {"chown", "chmod", "link", "parents", "exclude", "from"},
    "FROM": {"platform"},
    "HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
    "RUN": {"device", "mount", "network", "security"},
}
_SEVERAL = ("device", "exclude", "mount")
_BOOLEAN = ("keep-git-dir", "link", "parents", "unpack")
# Nothing in them is expanded, so all of them can be judged.
_WITHOUT_VARIABLES = ("CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD", "SHELL")


def check_syntax(one: Instruction, escape: str) -> None:
    """Raises InvalidRequest."""
    flags = [flag.name for flag in one.flags]
    for flag in one.flags:
        if flag.name not in FLAGS.get(one.keyword, ()):
            close = suggestion(flag.name, FLAGS.get(one.keyword, ()))
            raise refusal(one.line, f"unknown flag: --{flag.name}{close}")
        is_boolean = flag.name in _BOOLEAN
        if flag.value == "" if is_boolean else flag.value is None:
            raise refusal(one.line, f"missing a value on flag: --{flag.name}")
        if flag.name not in _SEVERAL and flags.count(flag.name) > 1:
            raise refusal(one.line, f"duplicate flag specified: --{flag.name}")
        if is_boolean and (flag.value or "true").lower() not in ("true", "false"):
            raise refusal(
                one.line, f"expecting boolean value for flag --{flag.name}, not: {flag.value}"
            )
        if flag.name == "from" and "$" in (flag.value or "").rstrip("$"):
            raise refusal(
                one.line,
                "variable expansion is not supported for --from: "
                "define a stage with FROM, using an ARG from before the first one",
            )
        if flag.name == "mount" and "$" in mount_fields(flag.value or "").get("from", ""):
            raise refusal(
                one.line,
                "variable expansion is not supported for 'from' of a mount: "
                "define a stage with FROM, using an ARG from before the first one",
            )
    match one.keyword:
        case "COPY" | "ADD":
            words = copy_words(one, escape)
            if len(words) < 2:
                raise refusal(
                    one.line,
                    f"{one.keyword} requires at least two arguments, but only one was provided. "
                    "Destination could not be determined",
                )
            if one.heredocs and words[-1].lstrip("0123456789").startswith("<<"):
                raise refusal(one.line, f"{one.keyword} cannot accept a heredoc as a destination")
        case "ENV" | "LABEL":
            words = split_words(one.arguments, escape)
            if "=" in words[0] and not all("=" in word for word in words):
                word = next(word for word in words if "=" not in word)
                raise refusal(
                    one.line,
                    f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
                )
            if "=" not in words[0] and len(words) < 2:
                raise refusal(one.line, f"{one.keyword} must have two arguments")
            if any(word.startswith("=") for word in words if "=" in words[0]):
                raise refusal(one.line, f"{one.keyword} names can not be blank")
        case "VOLUME":
            if not one.words():
                raise refusal(one.line, "VOLUME requires at least one argument")
            if not all(word.strip() for word in one.words()):
                raise refusal(one.line, "VOLUME specified can not be an empty string")
        case "ARG":
            names = (word.partition("=")[0] for word in split_words(one.arguments, escape))
            if not all(name.strip("\"'") for name in names):
                raise refusal(one.line, "ARG names can not be blank")
        case "RUN":
            run_flags(one)
            if not any("$" in (flag.value or "") for flag in one.flags):
                step_mounts(one, {}, escape, None)
        case keyword if keyword in _WITHOUT_VARIABLES:
            config = changed_config(ImageConfig(), one, {}, escape)
            for trigger in config.on_build:
                check_syntax(parse_line(trigger, one.line, escape), escape)
        case _:
            return
