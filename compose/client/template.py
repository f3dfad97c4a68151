"""pure: the part of Go's templates that `--format` needs: text with {{actions}}.

Fields (.A.B), variables, pipes, parentheses, if, with, range, else, end, comments, trimming (`{{-`)
and the functions below. What is beyond that is refused in words. Numbers, lists and maps print as
Go prints them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import NoReturn

from compose.dataclass import dataclass
from compose.errors import UsageError

_ACTION = re.compile(
    r"""\{\{(?P<left>-(?=\s))?\s*
        (?P<body>/\*.*?\*/|(?:"(?:\\.|[^"\\])*"|`[^`]*`|[^"`])*?)
        \s*(?P<right>(?<=\s)-)?\}\}""",
    re.VERBOSE | re.DOTALL,
)
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*"|`[^`]*`)
        |(?P<number>-?\d+(?:\.\d+)?)
        |(?P<path>\$?\w*(?:\.\w+)+|\$\w*|\.)
        |(?P<word>\w+)
        |(?P<sign>:=|[|(),=]))""",
    re.VERBOSE,
)
_VERB = re.compile(r"%(?P<flags>[-+ 0#]*\d*(?:\.\d+)?)(?P<verb>[a-zA-Z%])")

Values = dict[str, object]  # variables by name, `$` among them


@dataclass(frozen=True, slots=True)
class Literal:
    value: object


@dataclass(frozen=True, slots=True)
class Path:
    """`start`: a variable, "" for the dot, or what stands in parentheses."""

    start: str | Pipeline
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function by its name, or a field that may take arguments."""

    head: str | Path | Literal
    arguments: tuple[Path | Literal | Call, ...]


@dataclass(frozen=True, slots=True)
class Pipeline:
    calls: tuple[Call, ...]
    variables: tuple[str, ...] = ()  # set to what comes out


@dataclass(slots=True)
class Block:
    """A list of nodes; `kind` is what opened it."""

    kind: str = ""
    pipeline: Pipeline | None = None
    nodes: list[str | Pipeline | Block] = field(default_factory=list)
    otherwise: list[str | Pipeline | Block] | None = None


@dataclass(frozen=True, slots=True)
class Template:
    text: str
    root: Block

    def render(self, dot: object) -> str:
        """Raises UsageError where a field is missing or a function can't take its arguments."""
        try:
            return "".join(_run(self.root.nodes, dot, {"$": dot}))
        except _Wrong as error:
            raise UsageError(f"cannot follow the template {self.text!r}: {error}") from None


class _Wrong(Exception): ...


def parse_template(text: str) -> Template:
    try:
        return Template(text, _parse(text))
    except _Wrong as error:
        raise UsageError(f"cannot read the template {text!r}: {error}") from None


def fields_of(template: Template) -> Iterator[str]:
    """The fields that it takes from the dot, in order: for the titles of a table's columns."""
    found = re.findall(r"\{\{[^{}]*?\.(\w+)[^{}]*\}\}", template.text)
    yield from found


# --- reading ------------------------------------------------------------------------------------


def _parse(text: str) -> Block:
    open_blocks = [Block()]
    position, trim = 0, False
    while True:
        match = _ACTION.search(text, position)
        piece = text[position : match.start() if match else len(text)]
        if trim:
            piece = piece.lstrip()
        if match and match["left"]:
            piece = piece.rstrip()
        if match is None and "{{" in piece:
            raise _Wrong("an action isn't closed: }} is missing")
        if piece:
            _nodes(open_blocks[-1]).append(piece)
        if match is None:
            break
        if not match["body"].startswith("/*"):
            _take(match["body"].strip(), open_blocks)
        position, trim = match.end(), bool(match["right"])
    if len(open_blocks) > 1:
        raise _Wrong(f"{{{{{open_blocks[-1].kind}}}}} has no {{{{end}}}}")
    return open_blocks[0]


def _nodes(block: Block) -> list[str | Pipeline | Block]:
    return block.nodes if block.otherwise is None else block.otherwise


def _take(action: str, open_blocks: list[Block]) -> None:
    word, _, rest = action.partition(" ")
    match word:
        case "if" | "with" | "range":
            block = Block(word, _pipeline(rest))
            _nodes(open_blocks[-1]).append(block)
            open_blocks.append(block)
        case "else":
            block = open_blocks[-1]
            if not block.kind or block.otherwise is not None:
                raise _Wrong("{{else}} without {{if}}, {{with}} or {{range}}")
            block.otherwise = []
            if rest:  # `else if`: an if inside of the else, closed by the same end
                inner, _, condition = rest.partition(" ")
                if inner not in ("if", "with"):
                    raise _Wrong(f"{{{{else {inner}}}}} is not known")
                nested = Block(f"else {inner}", _pipeline(condition))
                block.otherwise.append(nested)
                open_blocks.append(nested)
        case "end":
            while open_blocks[-1].kind.startswith("else "):
                open_blocks.pop()
            if len(open_blocks) == 1:
                raise _Wrong("{{end}} without {{if}}, {{with}} or {{range}}")
            open_blocks.pop()
        case "template" | "define" | "block" | "break" | "continue":
            raise _Wrong(f"{{{{{word}}}}} is not supported")
        case _:
            _nodes(open_blocks[-1]).append(_pipeline(action))


def _pipeline(text: str) -> Pipeline:
    tokens = list(_tokens(text))
    if not tokens:
        raise _Wrong("an action is empty")
    pipeline = _read_pipeline(tokens)
    if tokens:
        raise _Wrong(f"unexpected {tokens[0][1]!r} in {text!r}")
    return pipeline


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _Wrong(f"unexpected {text[position:].strip()[:10]!r}")
        glued = match.end() > position and match.start(match.lastgroup) == position
        yield ("glued" if glued and match["path"] else match.lastgroup), match[match.lastgroup]
        position = match.end()


def _read_pipeline(tokens: list[tuple[str, str]]) -> Pipeline:
    names: list[str] = []
    signs = [value for kind, value in tokens if kind == "sign"]
    if ":=" in signs or "=" in signs:
        while True:
            kind, name = tokens.pop(0)
            if kind not in ("path", "glued") or not name.startswith("$") or "." in name:
                raise _Wrong(f"{name!r} is no variable")
            names.append(name)
            _, sign = tokens.pop(0)
            if sign in (":=", "="):
                break
    calls = [_read_call(tokens)]
    while tokens and tokens[0][1] == "|":
        tokens.pop(0)
        calls.append(_read_call(tokens))
    return Pipeline(tuple(calls), tuple(names))


def _read_call(tokens: list[tuple[str, str]]) -> Call:
    operands: list[Path | Literal | Call] = []
    while tokens and tokens[0] not in (("sign", "|"), ("sign", ")")):
        operands.append(_read_operand(tokens))
    if not operands:
        raise _Wrong("something is missing beside a | or in parentheses")
    first, *arguments = operands
    # A bare word is the function's name.
    head = first.head if isinstance(first, Call) else first
    if arguments and isinstance(head, Literal):
        raise _Wrong(f"{head.value!r} takes no arguments")
    return Call(head, tuple(arguments))


def _read_operand(tokens: list[tuple[str, str]]) -> Path | Literal | Call:
    kind, value = tokens.pop(0)
    if kind == "text":
        return Literal(value[1:-1] if value[0] == "`" else json.loads(value))
    if kind == "number":
        return Literal(float(value) if "." in value else int(value))
    if kind == "word":
        constants = {"true": True, "false": False, "nil": None}
        if value not in constants and value not in _KNOWN:
            raise _Wrong(f"there is no function {value!r}; there are: {', '.join(_KNOWN)}")
        return Literal(constants[value]) if value in constants else Call(value, ())
    if kind in ("path", "glued"):
        start, *fields = value.split(".")
        return Path(start, tuple(name for name in fields if name))
    if value == "(":
        inner = _read_pipeline(tokens)
        if not tokens or tokens.pop(0)[1] != ")":
            raise _Wrong("a ) is missing")
        fields = []
        if tokens and tokens[0][0] == "glued":
            fields = tokens.pop(0)[1].split(".")[1:]
        return Path(inner, tuple(fields))
    raise _Wrong(f"unexpected {value!r}")


# --- following ----------------------------------------------------------------------------------


def _run(nodes: Sequence[str | Pipeline | Block], dot: object, known: Values) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Pipeline):
            value = _evaluate(node, dot, known)
            if node.variables:
                known[node.variables[0]] = value
            else:
                yield shown(value)
        else:
            yield from _run_block(node, dot, known)


def _run_block(block: Block, dot: object, known: Values) -> Iterator[str]:
    assert block.pipeline is not None
    value = _evaluate(block.pipeline, dot, known)
    names = block.pipeline.variables
    if not value:
        yield from _run(block.otherwise or (), dot, known)
    elif block.kind == "range":
        for key, item in _pairs(value):
            given = dict(zip(reversed(names), (item, key), strict=False))
            yield from _run(block.nodes, item, {**known, **given} if names else known)
    else:
        inner = {**known, names[0]: value} if names else known
        is_with = block.kind.endswith("with")
        yield from _run(block.nodes, value if is_with else dot, inner)


def _pairs(value: object) -> list[tuple[object, object]]:
    if isinstance(value, Mapping):
        return sorted(value.items())
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return [(number, number) for number in range(value)]
    raise _Wrong(f"range can't go through {shown(value)}")


def _evaluate(pipeline: Pipeline, dot: object, known: Values) -> object:
    piped: tuple[object, ...] = ()
    for call in pipeline.calls:
        piped = (_call(call, dot, known, piped),)
    return piped[0]


def _call(call: Call, dot: object, known: Values, piped: tuple[object, ...]) -> object:
    if call.head in ("and", "or"):  # the rest isn't looked at once it is decided
        for argument in (*call.arguments, *(Literal(value) for value in piped)):
            value = _operand(argument, dot, known)
            if bool(value) == (call.head == "or"):
                break
        else:
            if not (call.arguments or piped):
                raise _Wrong(f"{call.head} needs arguments")
        return value
    arguments = (*(_operand(argument, dot, known) for argument in call.arguments), *piped)
    if isinstance(call.head, str):
        try:
            return FUNCTIONS[call.head](*arguments)
        except (TypeError, AttributeError, ValueError, IndexError) as error:
            raise _Wrong(f"{call.head} can't take that: {error}") from None
    value = _operand(call.head, dot, known)
    if callable(value):
        result: object = value(*arguments)
        return result
    if arguments:
        raise _Wrong("only functions take arguments")
    return value


def _operand(operand: Path | Literal | Call, dot: object, known: Values) -> object:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Call):
        return _call(operand, dot, known, ())
    if isinstance(operand.start, Pipeline):
        value = _evaluate(operand.start, dot, known)
    elif operand.start and operand.start not in known:
        raise _Wrong(f"the variable {operand.start} isn't set")
    else:
        value = known[operand.start] if operand.start else dot
    for name in operand.fields:
        value = _field(value, name)
    return value


def _field(value: object, name: str) -> object:
    if not isinstance(value, Mapping):
        raise _Wrong(f"there is no .{name} in {shown(value)}")
    if name in value:
        return value[name]
    if name[:1].islower():  # a key of the user's, as in .Labels.role; Go's own fields are upper
        return None
    raise _Wrong(f"there is no .{name}; there are: {', '.join(map(str, value)) or 'no fields'}")


def shown(value: object) -> str:
    """As Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_inner(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(_inner(item) for item in value)}]"
    return str(value)


def _inner(value: object) -> str:
    return "<nil>" if value is None else shown(value)


# --- functions ----------------------------------------------------------------------------------


def to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_no_json)


def _no_json(value: object) -> NoReturn:
    raise _Wrong(f"{value!r} has no JSON")


def _index(value: object, *keys: object) -> object:
    for key in keys:
        if isinstance(value, Mapping):
            # Go gives the map's zero value; what that is we know only of maps of texts.
            is_of_text = all(isinstance(item, str) for item in value.values())
            value = value.get(key, "" if is_of_text else None)
        elif isinstance(value, (list, tuple, str)) and isinstance(key, int):
            if not 0 <= key < len(value):
                raise _Wrong(f"index {key} is beyond the {len(value)} that there are")
            value = value[key]
        else:
            raise _Wrong(f"index can't look up {key!r} in {shown(value)}")
    return value


def _join(parts: Sequence[object], separator: str = "") -> str:
    return separator.join(shown(part) for part in parts)


def _printf(format: str, *values: object) -> str:
    rest = iter(values)

    def one(match: re.Match[str]) -> str:
        flags, verb = match["flags"], match["verb"]
        if verb == "%":
            return "%"
        value = next(rest, None)
        if verb in ("s", "v", "t"):
            return f"%{flags}s" % shown(value)
        if verb == "q":
            return f"%{flags}s" % json.dumps(shown(value), ensure_ascii=False)
        if verb in "dxXofeg" and isinstance(value, (int, float)):
            text: str = f"%{flags}{verb}" % value
            return text
        raise _Wrong(f"printf can't show {shown(value)} by %{verb}")

    return _VERB.sub(one, format)


def _equal(first: object, *others: object) -> bool:
    return any(first == other for other in others)


def _less(one: object, other: object) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one < other
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one < other
    raise _Wrong(f"{shown(one)} and {shown(other)} can't be compared")


def _truncate(text: str, length: int) -> str:
    return text[:length]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _slice(value: str | Sequence[object], start: int = 0, end: int | None = None) -> object:
    return value[start:end]


def _length(value: object) -> int:
    if isinstance(value, (str, Mapping, Sequence)):
        return len(value)
    raise _Wrong(f"{shown(value)} has no length")


FUNCTIONS: Mapping[str, Callable[..., object]] = {
    "not": lambda value: not value,
    "eq": _equal,
    "ne": lambda one, other: one != other,
    "lt": _less,
    "gt": lambda one, other: _less(other, one),
    "le": lambda one, other: not _less(other, one),
    "ge": lambda one, other: not _less(one, other),
    "index": _index,
    "join": _join,
    "json": to_json,
    "len": _length,
    "lower": lambda text: str.lower(text),
    "pad": _pad,
    "print": lambda *values: "".join(shown(value) for value in values),
    "printf": _printf,
    "println": lambda *values: " ".join(shown(value) for value in values) + "\n",
    "slice": _slice,
    "split": lambda text, separator: str.split(text, separator),
    "title": lambda text: str.title(text),
    "truncate": _truncate,
    "upper": lambda text: str.upper(text),
}
# `and` and `or` don't look at all of their arguments: see _call.
_KNOWN = sorted([*FUNCTIONS, "and", "or"])
