"""`${NAME:-default}` and kin: variables put into the values of a file. Pure.

    $NAME  ${NAME}       its value; blank, with a warning, when it isn't set
    ${NAME:-d} ${NAME-d} d when it is unset or empty / unset
    ${NAME:?e} ${NAME?e} an error with the text e when it is unset or empty / unset
    ${NAME:+r} ${NAME+r} r when it is set and not empty / set
    $$                   a dollar sign

d, e and r may hold variables themselves; only the one that is needed is looked at.
"""

import re
from collections.abc import Callable, Iterator, Mapping

from compose.dataclass import dataclass
from compose.load.tree import Broken, Map, Node, Problems, Scalar, Sequence
from compose.model.project import Place

MAX_DEPTH = 50
Lookup = Callable[[str], str | None]

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR = re.compile(r":-|:\?|:\+|-|\?|\+")


class BadTemplate(ValueError):
    """The text isn't in the grammar; `offset` says where in it."""

    def __init__(self, reason: str, hint: str, offset: int) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.offset = reason, hint, offset


class MissingVariable(ValueError):
    """`${NAME:?text}` and NAME isn't there."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name)
        self.name, self.text = name, text


def substitute(text: str, lookup: Lookup, unset: Callable[[str], None]) -> str:
    """`text` with its variables filled in; `unset` is told of those that are missing.

    Raises BadTemplate and MissingVariable.
    """
    return _Template(text, lookup, unset).whole()


@dataclass(frozen=True, slots=True)
class Variable:
    """One use of a variable in a text."""

    name: str
    required: bool = False
    default: str = ""
    alternate: str = ""  # what stands there when it is set


def variables_in(text: str) -> Iterator[Variable]:
    """Those of defaults too. Raises BadTemplate."""
    at = 0
    while (at := text.find("$", at)) >= 0:
        if text.startswith("$$", at):
            at += 2
            continue
        braced = text.startswith("${", at)
        name = _NAME.match(text, at + (2 if braced else 1))
        if name is None:
            at += 1
            continue
        at = name.end()
        operator = _OPERATOR.match(text, at) if braced else None
        if operator is None:
            yield Variable(name[0])
            continue
        end = _Template(text, lambda _: None, lambda _: None).end_of(operator.end())
        given = text[operator.end() : end]
        match operator[0][-1]:
            case "-":
                yield Variable(name[0], default=given)
            case "?":
                yield Variable(name[0], required=True)
            case _:
                yield Variable(name[0], alternate=given)
        at = operator.end()


def escape(text: str) -> str:
    """`text` such that interpolation gives it back."""
    return text.replace("$", "$$")


class _Template:
    def __init__(self, text: str, lookup: Lookup, unset: Callable[[str], None]) -> None:
        self._text, self._lookup, self._unset = text, lookup, unset
        self._depth = 0

    def whole(self) -> str:
        value, _ = self._run(0, inside=False, wanted=True)
        return value

    def end_of(self, at: int) -> int:
        """Where the braces end that are open at `at`."""
        return self._run(at, inside=True, wanted=False)[1]

    def _run(self, at: int, *, inside: bool, wanted: bool) -> tuple[str, int]:
        """From `at` to the end, or to the brace that closes what we are inside of."""
        text = self._text
        pieces: list[str] = []
        while at < len(text):
            letter = text[at]
            if inside and letter == "}":
                return "".join(pieces), at
            if letter != "$":
                end = at + 1
                while end < len(text) and text[end] != "$" and not (inside and text[end] == "}"):
                    end += 1
                pieces.append(text[at:end])
                at = end
            elif text.startswith("$$", at):
                pieces.append("$")
                at += 2
            elif text.startswith("${", at):
                value, at = self._braced(at, wanted=wanted)
                pieces.append(value)
            elif name := _NAME.match(text, at + 1):
                pieces.append(self._value(name[0]) if wanted else "")
                at = name.end()
            else:  # $1, $(command), a lone $: meant for a shell
                pieces.append("$")
                at += 1
        if inside:
            raise BadTemplate("a ${ is never closed", 'add the missing "}"', 0)
        return "".join(pieces), at

    def _braced(self, start: int, *, wanted: bool) -> tuple[str, int]:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise BadTemplate(
                f"defaults are nested more than {MAX_DEPTH} levels deep", "nest them less", start
            )
        try:
            return self._variable(start, wanted=wanted)
        finally:
            self._depth -= 1

    def _variable(self, start: int, *, wanted: bool) -> tuple[str, int]:
        text = self._text
        name = _NAME.match(text, start + 2)
        if name is None:
            raise self._bad(start)
        at = name.end()
        if text.startswith("}", at):
            return (self._value(name[0]) if wanted else ""), at + 1
        operator = _OPERATOR.match(text, at)
        if operator is None:
            raise self._bad(start)
        value = self._lookup(name[0])
        present = bool(value) if operator[0][0] == ":" else value is not None
        kind = operator[0][-1]
        # The text after + counts when the variable is there, that after - and ? when it isn't.
        needed = wanted and present is (kind == "+")
        try:
            given, end = self._run(operator.end(), inside=True, wanted=needed)
        except BadTemplate as error:
            raise self._bad(start, error) from error
        if not wanted:
            return "", end + 1
        match kind:
            case "-":
                return (value or "") if present else given, end + 1
            case "+":
                return given if present else "", end + 1
        if not present:
            raise MissingVariable(name[0], given)
        return value or "", end + 1

    def _value(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self._unset(name)
            return ""
        return value

    def _bad(self, start: int, inner: BadTemplate | None = None) -> BadTemplate:
        if inner is not None and inner.offset > start:
            return inner
        text = self._text[start:]
        shown = text if len(text) <= 30 else text[:27] + "..."
        if "}" not in text:
            return BadTemplate(
                f'"{shown}" is never closed',
                'close it with "}", or write $$ for a plain dollar sign',
                start,
            )
        return BadTemplate(
            f'"{shown[: shown.find("}") + 1] or shown}" isn\'t a variable',
            "write ${NAME} or ${NAME:-default}, or $$ for a plain dollar sign",
            start,
        )


def interpolate(
    node: Node, place: Place, environment: Mapping[str, str], problems: Problems
) -> Node:
    """The tree with variables filled in. Keys stay as they are; so does what needs no change."""
    return _Walk(environment, problems).node(node, place)


class _Walk:
    def __init__(self, environment: Mapping[str, str], problems: Problems) -> None:
        self._environment, self._problems = environment, problems
        # An anchored node hangs in the tree at several places.
        self._done: dict[int, Node] = {}

    def node(self, node: Node, place: Place) -> Node:
        if isinstance(node, Scalar):
            if isinstance(node.value, str) and "$" in node.value:
                return self._scalar(node, node.value, place)
            return node
        if isinstance(node, Broken) or node.merging == "reset":
            return node
        known = self._done.get(id(node))
        if known is None:
            known = self._done[id(node)] = self._inner(node, place)
        return known

    def _inner(self, node: Map | Sequence, place: Place) -> Node:
        changed = False
        if isinstance(node, Map):
            entries: dict[str, Node] = {}
            for key, value in node.entries.items():
                new = self.node(value, (*place, key))
                changed = changed or new is not value
                entries[key] = new
            return node.holding(entries) if changed else node
        items: list[Node] = []
        for index, item in enumerate(node.items):
            new = self.node(item, (*place, index))
            changed = changed or new is not item
            items.append(new)
        return node.holding(items) if changed else node

    def _scalar(self, node: Scalar, text: str, place: Place) -> Node:
        def unset(name: str) -> None:
            self._problems.warn(
                node,
                place,
                f"the variable {name} is not set: it becomes blank",
                hint=f"set it in the shell or in .env, or write ${{{name}:-default}}; "
                f"for a plain dollar sign write $${name}",
            )

        try:
            return node.holding(substitute(text, self._environment.get, unset))
        except BadTemplate as error:
            self._problems.add(node, place, error.reason, error.hint)
        except MissingVariable as error:
            what = f"the variable {error.name} must be set"
            self._problems.add(
                node,
                place,
                f"{what}: {error.text}" if error.text else what,
                f"set it in the shell or in .env, for example: {error.name}=value",
            )
        return Broken(node.source, node.line, node.column, node.merging)
