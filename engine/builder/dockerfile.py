"""Pure: the text of a Dockerfile becomes instructions, each with its line. Nothing is expanded.

Source: the Dockerfile reference (parser directives, line continuation, here-documents, exec form).
"""

import difflib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeGuard

from engine.builder.expand import expand_word, split_words
from engine.errors import InvalidRequest

LARGEST = 4 << 20
KEYWORDS = frozenset(
    (
        *("ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
        *("LABEL", "MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME"),
        "WORKDIR",
    )
)
# How many arguments each needs, where one is not enough, or two are too many.
_REQUIRED = {
    **dict.fromkeys(
        ("ADD", "COPY"),
        "at least two arguments, but only one was provided. Destination could not be determined",
    ),
    **dict.fromkeys(("MAINTAINER", "STOPSIGNAL", "USER", "WORKDIR"), "exactly one argument"),
    "FROM": "either one or three arguments",
}
_WITH_HEREDOCS = ("ADD", "COPY", "RUN")
_DIRECTIVE = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = ("escape", "syntax", "check")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")
# As Go's ParseBool takes them.
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")
_FLAG = re.compile(r"--([^=]*)(?:=(.*))?", re.DOTALL)
# Of these nothing is something, too.
_MAY_BE_EMPTY = ("CMD", "ENTRYPOINT", "RUN")
_WITH_ARRAYS = ("ADD", "CMD", "COPY", "ENTRYPOINT", "HEALTHCHECK", "RUN", "SHELL", "VOLUME")


@dataclass(frozen=True, slots=True)
class Heredoc:
    name: str
    content: str
    expand: bool  # its name was not quoted
    chomp: bool  # <<-: leading tabs go


@dataclass(frozen=True, slots=True)
class Flag:
    name: str
    value: str | None  # None for a bare `--link`


@dataclass(frozen=True, slots=True)
class Instruction:
    keyword: str  # in capitals
    arguments: str  # what follows the flags, continuation lines joined
    line: int
    flags: tuple[Flag, ...] = ()
    heredocs: tuple[Heredoc, ...] = ()
    source: str = ""  # as written, on one line
    comments: tuple[str, ...] = ()  # right before it
    has_empty_lines: bool = False  # among those that it goes on

    def words(self) -> tuple[str, ...]:
        """Of the JSON form, else what white space separates."""
        words = exec_form(self.arguments)
        return tuple(self.arguments.split()) if words is None else words

    def flag(self, name: str) -> str | None:
        return next((flag.value for flag in self.flags if flag.name == name), None)

    def is_set(self, name: str, default: bool = False) -> bool:
        """Of a flag that is true or false; a bare one is true."""
        for flag in self.flags:
            if flag.name == name:
                return flag.value is None or flag.value.lower() in TRUE
        return default


@dataclass(frozen=True, slots=True)
class Dockerfile:
    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    checks: str = ""  # as its `check` directive says


def refusal(line: int, reason: str) -> InvalidRequest:
    return InvalidRequest(f"dockerfile parse error on line {line}: {reason}")


def suggestion(wrong: str, known: Collection[str], sign: str = "") -> str:
    """` (did you mean X?)`, or nothing."""
    close = difflib.get_close_matches(wrong, sorted(known), 1, cutoff=0.55)
    return f" (did you mean {sign}{close[0]}?)" if close else ""


def parse_dockerfile(content: bytes) -> Dockerfile:
    """Raises InvalidRequest, with the line."""
    if not content:
        raise InvalidRequest("the Dockerfile (Dockerfile) cannot be empty")
    if len(content) > LARGEST:
        raise InvalidRequest(f"the Dockerfile is too large: {len(content)} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refusal(line, "it is not UTF-8") from None
    if "\0" in text:
        raise refusal(text[: text.index("\0")].count("\n") + 1, "it holds a NUL")
    lines = text.replace("\r\n", "\n").split("\n")
    directives = _directives(lines)
    escape = directives.get("escape", "\\")
    instructions = tuple(_Reader(lines, escape, at=len(directives)).read())
    if not instructions:
        raise InvalidRequest("file with no instructions")
    return Dockerfile(instructions, escape, directives.get("check", ""))


def is_own_syntax(frontend: str) -> bool:
    """Whether a `syntax` is the reference's own, whatever its version and from whatever mirror."""
    name = re.split("[:@]", frontend.rpartition("/")[2])[0]
    return name in ("dockerfile", "dockerfile-upstream", "dockerfile.v0")


def parse_line(text: str, line: int, escape: str = "\\") -> Instruction:
    """One instruction that isn't in a file: of ONBUILD."""
    return next(iter(_Reader(text.split("\n"), escape, first=line).read()))


def copy_words(one: Instruction, escape: str) -> tuple[str, ...]:
    """Of COPY and ADD. White space always parts them, but where a here-document's name has some."""
    words = exec_form(one.arguments)
    if words is not None:
        return words
    return split_words(one.arguments, escape) if one.heredocs else tuple(one.arguments.split())


def exec_form(text: str) -> tuple[str, ...] | None:
    """The words of `["a", "b"]`; None where it isn't that, and then it is the shell's."""
    words = _array(text)
    return words if words is not None and _are_texts(words) else None


def _array(text: str) -> tuple[object, ...] | None:
    if not text.lstrip().startswith("["):
        return None
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return tuple(words) if isinstance(words, list) else None


def _are_texts(words: tuple[object, ...]) -> TypeGuard[tuple[str, ...]]:
    return all(isinstance(word, str) for word in words)


def _directives(lines: Sequence[str]) -> dict[str, str]:
    """They end at the first line that is none, even a comment."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        name, value = match[1].lower(), match[2]
        if name in found:
            raise refusal(number, f"only one {name} parser directive can be used")
        if name == "escape" and value not in ("\\", "`"):
            raise refusal(number, f'invalid escape token "{value}" does not match ` or \\')
        if name == "syntax" and not is_own_syntax(value):
            raise refusal(
                number,
                f"cannot read the syntax {value}: this engine reads Dockerfiles itself, "
                "as docker/dockerfile:1 says",
            )
        found[name] = value
    return found


class _Reader:
    """`at`: where to begin, past the directives; `first`: the number of the first line."""

    def __init__(self, lines: Sequence[str], escape: str, *, at: int = 0, first: int = 1) -> None:
        self._lines = lines
        self._escape = escape
        self._first = first
        self._at = at
        self._comments: list[str] = []
        self._has_empty_lines = False

    def read(self) -> list[Instruction]:
        found = []
        while self._at < len(self._lines):
            line = self._lines[self._at].strip()
            if line and not line.startswith("#"):
                found.append(self._instruction())
                self._comments = []
                continue
            if comment := line[1:].strip():
                self._comments.append(comment)
            elif line:
                self._comments = []
            self._at += 1
        return found

    def _instruction(self) -> Instruction:
        number = self._at + self._first
        self._has_empty_lines = False
        text = self._logical_line()
        empty = self._has_empty_lines
        word, _, rest = text.strip().replace("\t", " ", 1).partition(" ")
        keyword = word.upper()
        if keyword not in KEYWORDS:
            close = suggestion(keyword, KEYWORDS)
            raise refusal(number, f"unknown instruction: {word}{close}")
        flags, arguments = _split_flags(rest.strip())
        heredocs: tuple[Heredoc, ...] = ()
        body = arguments
        if keyword == "ONBUILD":  # a here-document belongs to what it will run
            inner, _, body = arguments.partition(" ")
            inner = inner.upper()
        else:
            inner = keyword
        if inner == "HEALTHCHECK":
            body = body.partition(" ")[2]
        array = _array(body) if inner in _WITH_ARRAYS else None
        if array is not None and not _are_texts(array):
            raise refusal(
                number, "when using JSON array syntax, arrays must be comprised of strings only"
            )
        if inner in _WITH_HEREDOCS and array is None:
            heredocs = self._heredocs(body, number)
        if not arguments and keyword not in _MAY_BE_EMPTY:
            count = _REQUIRED.get(keyword, "at least one argument")
            raise refusal(number, f"{keyword} requires {count}")
        return Instruction(
            keyword, arguments, number, flags, heredocs, text.strip(), tuple(self._comments), empty
        )

    def _logical_line(self) -> str:
        """Continuation lines joined; comments and empty lines among them don't count."""
        gathered = ""
        # An escape that is escaped itself ends the line (`echo \\\\`).
        escape = re.escape(self._escape)
        goes_on = re.compile(f"(?<!{escape}){escape}[ \\t]*$")
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if gathered and (not line.strip() or line.lstrip().startswith("#")):
                self._has_empty_lines = self._has_empty_lines or not line.strip()
                continue
            ended = goes_on.search(line)
            piece = line if ended is None else line[: ended.start()]
            gathered += piece if gathered else piece.lstrip()
            if ended is None:
                break
            gathered = gathered or " "
        return gathered

    def _heredocs(self, arguments: str, number: int) -> tuple[Heredoc, ...]:
        found = (_HEREDOC.fullmatch(word) for word in split_words(arguments, self._escape))
        return tuple(
            self._heredoc(
                # Quotes around any part of its name mean that nothing is expanded.
                expand_word(match[2], {}, self._escape),
                number,
                expand=not re.search("[\"']", match[2]),
                chomp=bool(match[1]),
            )
            for match in found
            if match is not None
        )

    def _heredoc(self, name: str, number: int, *, expand: bool, chomp: bool) -> Heredoc:
        lines: list[str] = []
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if (line.lstrip("\t") if chomp else line) == name:
                content = "".join(f"{each.lstrip(chr(9)) if chomp else each}\n" for each in lines)
                return Heredoc(name, content, expand, chomp)
            lines.append(line)
        raise refusal(number, f"unterminated heredoc: no line {name!r}")


def _split_flags(text: str) -> tuple[tuple[Flag, ...], str]:
    flags: list[Flag] = []
    while text.startswith("--"):
        word = re.match(r"(?:[^\s\"']|\"[^\"]*\"|'[^']*')+", text)
        match = _FLAG.fullmatch(word[0]) if word else None
        if word is None or match is None:
            break
        if word[0] == "--":  # what comes then is no flag, whatever it looks like
            return tuple(flags), text[2:].lstrip()
        value = match[2]
        flags.append(Flag(match[1], None if value is None else _bare(value)))
        text = text[word.end() :].lstrip()
    return tuple(flags), text


def _bare(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value
