"""`.env`, `env_file` and `label_file`: text -> variables. Pure.

[export ]NAME=value     trailing spaces go; " #" starts a comment; ${NAME} is filled in
NAME: value             the same
NAME='value'            taken as it is, also over several lines; \\' is a quote
NAME="value"            \\n, \\t, \\", \\\\, \\$ and kin, then ${NAME}; also over several lines
NAME                    from the environment, if it is set there
"""

import re
from collections.abc import Mapping

from compose.dataclass import dataclass
from compose.load.interpolate import BadTemplate, MissingVariable, substitute

_EXPORT = re.compile(r"export[ \t]+(?=\S)")
_KEY = re.compile(r"[A-Za-z0-9_.\-\[\]]+")
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "c": "",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
}


@dataclass(frozen=True, slots=True)
class Fault:
    line: int
    column: int
    what: str
    hint: str = ""


class BadEnvFile(ValueError):
    def __init__(self, *faults: Fault) -> None:
        super().__init__(f"line {faults[0].line}: {faults[0].what}")
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class EnvFile:
    variables: Mapping[str, Variable]
    unset: tuple[tuple[str, int], ...] = ()  # names that were wanted and missing, and the line

    def values(self) -> dict[str, str]:
        return {name: variable.value for name, variable in self.variables.items()}


def parse_env(text: str, environment: Mapping[str, str]) -> EnvFile:
    """The variables of a file. Lookups see `environment` first, then what the file set so far.

    Raises BadEnvFile with all faults.
    """
    return _Reader(text, environment).read()


def parse_raw(text: str, environment: Mapping[str, str]) -> EnvFile:
    """`format: raw`: everything after the first = is the value, quotes and dollar signs too."""
    found: dict[str, Variable] = {}
    faults: list[Fault] = []
    for number, line in enumerate(_lines(text), 1):
        stripped = line.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.partition("=")
        if not name or any(letter.isspace() for letter in name):
            faults.append(_bad_name(name, number, 1))
        elif equals:
            found[name] = Variable(name, value, number)
        elif name in environment:
            found[name] = Variable(name, environment[name], number)
    if faults:
        raise BadEnvFile(*faults)
    return EnvFile(found)


def _lines(text: str) -> list[str]:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")


def _bad_name(name: str, line: int, column: int) -> Fault:
    if not name.strip():
        return Fault(line, column, "a name is missing before the =", "write NAME=value")
    return Fault(
        line,
        column,
        f'"{name.strip()}" can\'t be the name of a variable',
        "names are made of letters, digits, _, . and -; a comment starts with #",
    )


class _Reader:
    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self._text = "\n".join(_lines(text))
        self._environment = environment
        self._found: dict[str, Variable] = {}
        self._unset: list[tuple[str, int]] = []
        self._faults: list[Fault] = []
        self._at = 0
        self._line = 1

    def read(self) -> EnvFile:
        while self._at < len(self._text):
            self._statement()
        if self._faults:
            raise BadEnvFile(*self._faults)
        return EnvFile(self._found, tuple(self._unset))

    def _statement(self) -> None:
        end = self._end_of_line()
        line = self._text[self._at : end]
        body = line.lstrip()
        start = self._at + len(line) - len(body)
        if not body or body.startswith("#"):
            self._skip_to(end + 1)
            return
        if export := _EXPORT.match(self._text, start):
            start = export.end()
        key = _KEY.match(self._text, start)
        after = key.end() if key else start
        while after < end and self._text[after] in " \t":
            after += 1
        separator = self._text[after : after + 1] if after < end else ""
        if key is None or separator not in ("", "=", ":", "#"):
            name = re.split("[=:]", self._text[start:end], maxsplit=1)[0]
            self._faults.append(_bad_name(name, self._line, start - self._at + 1))
            self._skip_to(end + 1)
            return
        if separator in ("", "#"):
            if key[0] in self._environment:
                self._store(key[0], self._environment[key[0]])
            self._skip_to(end + 1)
            return
        after += 1
        while after < end and self._text[after] in " \t":
            after += 1
        self._value(key[0], after, end)

    def _value(self, name: str, start: int, end: int) -> None:
        quote = self._text[start : start + 1] if start < end else ""
        if quote not in ("'", '"'):
            raw = self._text[start:end]
            comment = re.search(r"(?:^| )#", raw)
            self._fill(name, (raw[: comment.start()] if comment else raw).rstrip())
            self._skip_to(end + 1)
            return
        close = start + 1
        while close < len(self._text) and self._text[close] != quote:
            close += 2 if self._text[close] == "\\" else 1
        if close >= len(self._text):
            self._faults.append(
                Fault(
                    self._line,
                    start - self._at + 1,
                    f"the quote that opens the value of {name} is never closed",
                    f"add the closing {quote}",
                )
            )
            self._skip_to(end + 1)  # the lines below may be fine
            return
        inner = self._text[start + 1 : close]
        if quote == "'":
            self._store(name, inner.replace("\\'", "'"))
        else:
            self._fill(name, inner, quoted=True)
        self._skip_to(close)
        self._skip_to(self._end_of_line() + 1)

    def _fill(self, name: str, text: str, *, quoted: bool = False) -> None:
        line = self._line
        try:
            value = substitute(
                _unescaped(text) if quoted else text,
                self._lookup,
                lambda missing: self._unset.append((missing, line)),
            )
        except BadTemplate as error:
            self._faults.append(Fault(line, 1, f"{name}: {error.reason}", error.hint))
        except MissingVariable as error:
            what = f"{name}: the variable {error.name} must be set"
            self._faults.append(Fault(line, 1, f"{what}: {error.text}" if error.text else what))
        else:
            self._store(name, value)

    def _lookup(self, name: str) -> str | None:
        if name in self._environment:
            return self._environment[name]
        variable = self._found.get(name)
        return variable.value if variable else None

    def _store(self, name: str, value: str) -> None:
        self._found[name] = Variable(name, value, self._line)

    def _end_of_line(self) -> int:
        end = self._text.find("\n", self._at)
        return len(self._text) if end < 0 else end

    def _skip_to(self, at: int) -> None:
        self._line += self._text.count("\n", self._at, at)
        self._at = at


def _unescaped(text: str) -> str:
    """Escapes of double quotes; an escaped dollar sign stays out of interpolation's hands."""

    def one(match: re.Match[str]) -> str:
        escape = match[1]
        if escape[0] == "0":
            return chr(int(escape, 8))
        if escape == "$":
            return "$$"
        return _ESCAPES.get(escape, match[0])

    return re.sub(r"\\(0[0-7]{1,3}|.)", one, text, flags=re.DOTALL)
