"""Pure: what a Dockerfile does that is better done otherwise, by the rules and in the words of the
reference's build checks. Source: docs.docker.com/reference/build-checks.
"""

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.builder.config import env_names
from engine.builder.dockerfile import Dockerfile, Instruction, copy_words, exec_form, suggestion
from engine.builder.expand import expand_word, split_words
from engine.builder.ignore import Pattern, is_ignored
from engine.builder.remote import is_remote
from engine.builder.stages import Plan, Stage, arguments
from engine.errors import InvalidRequest
from engine.oci.image_config import ImageDocument
from engine.oci.platform import Platform
from engine.oci.reference import parse_reference

EXPERIMENTAL = frozenset(("InvalidDefinitionDescription",))
_RESERVED = ("context", "scratch")
_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.I
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.I)
_ONCE = ("CMD", "ENTRYPOINT", "HEALTHCHECK")
_EXPANDED = ("ADD", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR")


@dataclass(frozen=True, slots=True)
class Finding:
    rule: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text} (line {self.line})"


@dataclass(frozen=True, slots=True)
class Checks:
    """What a `check` directive asks for."""

    skipped: frozenset[str] = frozenset()  # "all" for all of them
    experimental: frozenset[str] = frozenset()
    is_error: bool = False

    def wants(self, rule: str) -> bool:
        if rule in EXPERIMENTAL:
            return bool(self.experimental & {"all", rule})
        return not self.skipped & {"all", rule}


def parse_checks(text: str) -> Checks:
    """`skip=A,B;error=true`. Raises InvalidRequest."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals or name.strip() not in ("skip", "experimental", "error"):
            raise InvalidRequest(f"invalid check option {part.strip()!r}")
        found[name.strip()] = value.strip()
    is_error = found.get("error", "false").lower()
    if is_error not in ("true", "t", "1", "false", "f", "0"):
        raise InvalidRequest(f"failed to parse check option error={is_error}: it is true or false")
    skipped, experimental = (
        frozenset(word.strip() for word in found.get(key, "").split(",") if word.strip())
        for key in ("skip", "experimental")
    )
    return Checks(skipped, experimental, is_error in ("true", "t", "1"))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What counts besides the file. `known`: arguments that need no declaration. `base`: an image;
    None where nobody knows it yet, and then none of its variables is called undefined."""

    known: Mapping[str, str]
    base: Callable[[str], ImageDocument | None]
    ignored: tuple[Pattern, ...] = ()  # of files in the context
    platform: Platform | None = None  # that images are to be of


def findings(
    dockerfile: Dockerfile, plan: Plan, checks: Checks, surroundings: Surroundings
) -> tuple[Finding, ...]:
    reader = _Reader(dockerfile, plan, surroundings)
    of_line = {one.line: _own_checks(one, checks) for one in dockerfile.instructions}
    found = [each for each in reader.all() if of_line.get(each.line, checks).wants(each.rule)]
    return tuple(sorted(found, key=lambda each: each.line))


def _own_checks(one: Instruction, checks: Checks) -> Checks:
    """A comment right before an instruction may skip rules for it alone."""
    for comment in one.comments:
        match = re.fullmatch(r"check\s*=\s*(\S+).*", comment, re.I)
        if match:
            try:
                own = parse_checks(match[1])
            except InvalidRequest:
                continue
            return Checks(checks.skipped | own.skipped, checks.experimental | own.experimental)
    return checks


class _Noting(dict[str, str]):
    """Variables, and which were asked for that aren't there: `${A:-b}` may be without."""

    def __init__(self, names: Mapping[str, str]) -> None:
        super().__init__(names)
        self.missing: list[str] = []

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        if key not in self and default is not None and key not in self.missing:
            self.missing.append(key)
        return super().get(key, default)


class _Reader:
    def __init__(self, dockerfile: Dockerfile, plan: Plan, surroundings: Surroundings) -> None:
        self._file = dockerfile
        self._plan = plan
        self._known = surroundings.known
        self._around = surroundings
        self._names: dict[int, dict[str, str] | None] = {}  # of a stage at its end, by index
        self._has_folder: set[int] = set()  # stages that have said where they work

    def all(self) -> Iterator[Finding]:
        yield from self._casing()
        for one in self._file.instructions:
            yield from _alone(one)
        yield from self._stage_names()
        for stage in self._plan.stages:
            yield from self._from(stage)
            yield from self._once(stage)
            yield from self._body(stage)

    def _casing(self) -> Iterator[Finding]:
        words = [(one.line, one.source.split(maxsplit=1)[0]) for one in self._file.instructions]
        counts = Counter(word.islower() for _, word in words if word.islower() or word.isupper())
        is_lower = counts[True] > counts[False]
        for line, word in words:
            if word != (word.lower() if is_lower else word.upper()):
                case = "lowercase" if is_lower else "uppercase"
                yield Finding(
                    "ConsistentInstructionCasing", line,
                    f"Command '{word}' should match the case of the command majority ({case})",
                )  # fmt: skip

    def _stage_names(self) -> Iterator[Finding]:
        seen: set[str] = set()
        for stage in self._plan.stages:
            if stage.name in _RESERVED:
                yield Finding(
                    "ReservedStageName", stage.start.line,
                    f'Stage name should not use the same name as reserved stage "{stage.name}"',
                )  # fmt: skip
            if stage.name in seen:
                yield Finding(
                    "DuplicateStageName", stage.start.line,
                    f'Duplicate stage name "{stage.name}", stage names should be unique',
                )  # fmt: skip
            seen |= {stage.name} - {""}

    def _from(self, stage: Stage) -> Iterator[Finding]:
        line, base = stage.start.line, stage.start.words()[0]
        platform = stage.start.flag("platform") or ""
        names = _Noting({**self._known, **self._plan.global_names})
        for text in (base, platform):
            expand_word(text, names, self._file.escape)
        declared = {name for one in self._plan.global_args for name in _declared(one)}
        for name in names.missing:
            if name not in declared:
                near = suggestion(name, {*names, *declared})
                yield Finding(
                    "UndefinedArgInFrom", line, f"FROM argument '{name}' is not declared{near}"
                )
        if platform in ("$TARGETPLATFORM", "${TARGETPLATFORM}"):
            yield Finding(
                "RedundantTargetPlatform", line,
                f"Setting platform to predefined {platform} in FROM is redundant as this is the "
                "default behavior",
            )  # fmt: skip
        if platform and "$" not in platform and not _is_named_after(stage.name, platform):
            yield Finding(
                "FromPlatformFlagConstDisallowed", line,
                f'FROM --platform flag should not use constant value "{platform}"',
            )  # fmt: skip
        yield from self._base_platform(stage)
        if not self._is_reference(base):
            yield Finding(
                "InvalidDefaultArgInFrom", line,
                f"Default value for ARG {base} results in empty or invalid base image name",
            )  # fmt: skip

    def _base_platform(self, stage: Stage) -> Iterator[Finding]:
        """Where a platform is said, an image of that one is taken."""
        expected = self._around.platform
        is_image = stage.base != "scratch" and self._plan.base(stage) is None
        if stage.platform or expected is None or not is_image:
            return
        document = self._around.base(stage.base)
        if document is None or not document.platform.architecture:
            return
        actual = document.platform
        if (actual.os, actual.architecture) != (expected.os, expected.architecture):
            yield Finding(
                "InvalidBaseImagePlatform", stage.start.line,
                f'Base image {stage.base} was pulled with platform "{actual}", expected '
                f'"{expected}" for current build',
            )  # fmt: skip

    def _is_reference(self, base: str) -> bool:
        """Also where nobody gives any argument."""
        defaults = dict(self._known)
        try:
            for one in self._plan.global_args:
                for name, default in arguments(one, defaults, self._file.escape):
                    defaults[name] = default or ""
            text = expand_word(base, defaults, self._file.escape)
            if not text.startswith("rootfs:"):
                parse_reference(text)
        except InvalidRequest:
            return False
        return True

    def _once(self, stage: Stage) -> Iterator[Finding]:
        for keyword in _ONCE:
            for one in [each for each in stage.body if each.keyword == keyword][:-1]:
                yield Finding(
                    "MultipleInstructionsDisallowed", one.line,
                    f"Multiple {keyword} instructions should not be used in the same stage "
                    "because only the last one will be used",
                )  # fmt: skip

    def _body(self, stage: Stage) -> Iterator[Finding]:
        names = self._first_names(stage)
        below = self._plan.base(stage)
        has_folder = below is not None and below.index in self._has_folder
        has_shell = False
        for one in stage.body:
            if not one.line:
                continue  # a label of the request
            has_shell = has_shell or one.keyword == "SHELL"
            if one.keyword in ("CMD", "ENTRYPOINT") and not has_shell:
                yield from _json_form(one)
            if one.keyword == "WORKDIR":
                path = one.arguments.strip("\"'")
                if not has_folder and not path.startswith(("/", "$")):
                    yield Finding(
                        "WorkdirRelativePath", one.line,
                        f'Relative workdir "{path}" can have unexpected results if the base image '
                        "changes",
                    )  # fmt: skip
                has_folder = True
            if one.keyword in ("ADD", "COPY") and one.flag("from") is None:
                yield from self._ignored(one)
            if names is not None:
                yield from self._undefined(one, names)
                names.update(dict.fromkeys(_declared(one), ""))
        self._names[stage.index] = names
        if has_folder:
            self._has_folder.add(stage.index)

    def _first_names(self, stage: Stage) -> dict[str, str] | None:
        below = self._plan.base(stage)
        if below is not None:
            names = self._names.get(below.index)
            return None if names is None else dict(names)
        if stage.base == "scratch":
            return {"PATH": ""}
        document = self._around.base(stage.base)
        if document is None:
            return None
        return dict.fromkeys((*env_names(document.config), "PATH"), "")

    def _ignored(self, one: Instruction) -> Iterator[Finding]:
        """Nobody can tell where a pattern takes files back: a folder that is left out may hold
        one of them."""
        patterns = self._around.ignored
        if any(pattern.takes_back for pattern in patterns):
            return
        for source in copy_words(one, self._file.escape)[:-1]:
            path = posixpath.normpath(source).strip("/")
            if source.startswith("<<") or "$" in source or is_remote(source) or path == ".":
                continue
            if is_ignored(patterns, path):
                yield Finding(
                    "CopyIgnoredFile", one.line,
                    f'Attempting to {one.keyword.capitalize()} file "{path}" that is excluded by '
                    ".dockerignore",
                )  # fmt: skip

    def _undefined(self, one: Instruction, names: Mapping[str, str]) -> Iterator[Finding]:
        noting = _Noting(names)
        for text in _expanded(one, self._file.escape):
            try:
                expand_word(text, noting, self._file.escape)
            except InvalidRequest:
                continue  # told when it is done
        for name in noting.missing:
            if name not in _declared(one):
                near = suggestion(name, names, "$")
                yield Finding(
                    "UndefinedVar", one.line, f"Usage of undefined variable '${name}'{near}"
                )


def _alone(one: Instruction) -> Iterator[Finding]:
    """What one instruction says of itself."""
    if one.has_empty_lines:
        yield Finding("NoEmptyContinuation", one.line, "Empty continuation line")
    match one.keyword:
        case "MAINTAINER":
            text = "Maintainer instruction is deprecated in favor of using label"
            yield Finding("MaintainerDeprecated", one.line, text)
        case "FROM":
            yield from _from_words(one)
        case "ENV" | "LABEL" if "=" not in one.arguments.split(maxsplit=1)[0]:
            yield Finding(
                "LegacyKeyValueFormat", one.line,
                f'"{one.keyword} key=value" should be used instead of legacy '
                f'"{one.keyword} key value" format',
            )  # fmt: skip
        case "EXPOSE":
            yield from _ports(one)
    if one.keyword in ("ARG", "ENV"):
        for name in _declared(one):
            if _SECRET.search(name) and not _NO_SECRET.search(name):
                yield Finding(
                    "SecretsUsedInArgOrEnv", one.line,
                    "Do not use ARG or ENV instructions for sensitive data "
                    f'({one.keyword} "{name}")',
                )  # fmt: skip
    yield from _description(one)


def _from_words(one: Instruction) -> Iterator[Finding]:
    command, words = one.source.split(maxsplit=1)[0], one.arguments.split()
    if len(words) != 3:
        return
    if words[2] != words[2].lower():
        text = f"Stage name '{words[2]}' should be lowercase"
        yield Finding("StageNameCasing", one.line, text)
    is_same = (words[1].islower(), words[1].isupper()) == (command.islower(), command.isupper())
    if not is_same and (command.islower() or command.isupper()):
        text = f"'{words[1]}' and '{command}' keywords' casing do not match"
        yield Finding("FromAsCasing", one.line, text)


def _ports(one: Instruction) -> Iterator[Finding]:
    for word in one.arguments.split():
        port, _, protocol = word.partition("/")
        if protocol != protocol.lower():
            text = f"Defined protocol '{word}' in EXPOSE instruction should be lowercase"
            yield Finding("ExposeProtoCasing", one.line, text)
        if ":" in port and "$" not in port:
            yield Finding(
                "ExposeInvalidFormat", one.line,
                "EXPOSE instruction should not define an IP address or host-port mapping, "
                f"found '{word}'",
            )  # fmt: skip


def _description(one: Instruction) -> Iterator[Finding]:
    words = one.arguments.split()
    names = words[2:] if one.keyword == "FROM" else _declared(one) if one.keyword == "ARG" else ()
    if names and one.comments and one.comments[-1].split()[0] not in names:
        shown = names[0] if len(names) == 1 else "<arg_key>"
        yield Finding(
            "InvalidDefinitionDescription", one.line,
            f"Comment for {one.keyword} should follow the format: `# {shown} <description>`",
        )  # fmt: skip


def _json_form(one: Instruction) -> Iterator[Finding]:
    if exec_form(one.arguments) is None:
        yield Finding(
            "JSONArgsRecommended", one.line,
            f"JSON arguments recommended for {one.keyword} to prevent unintended behavior related "
            "to OS signals",
        )  # fmt: skip


def _declared(one: Instruction) -> tuple[str, ...]:
    """Names of variables that an instruction makes."""
    if one.keyword not in ("ARG", "ENV"):
        return ()
    words = split_words(one.arguments)
    if one.keyword == "ENV" and "=" not in words[0]:
        words = words[:1]
    return tuple(word.partition("=")[0].strip("\"'") for word in words)


def _expanded(one: Instruction, escape: str) -> Sequence[str]:
    """What of an instruction is expanded."""
    if one.keyword == "ARG":
        return [word.partition("=")[2] for word in split_words(one.arguments, escape)]
    if one.keyword not in _EXPANDED:
        return ()
    flags = [flag.value or "" for flag in one.flags if flag.name in ("chown", "chmod")]
    words = copy_words(one, escape) if one.keyword in ("ADD", "COPY") else (one.arguments,)
    return [*flags, *words]


def _is_named_after(stage: str, platform: str) -> bool:
    """A stage that says for what it is has a reason."""
    return any(part and part in stage for part in platform.split("/")[:2])
