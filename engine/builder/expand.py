"""Pure: `$NAME` and its kin in a word of a Dockerfile, and quotes, as a shell would take them.

Source: the Dockerfile reference, "Environment replacement": ${NAME:-word} and its kin,
${NAME#pattern}, ##, %, %%, ${NAME/pattern/replacement} and //.
"""

import re
from collections.abc import Mapping

from engine.errors import InvalidRequest

# Known without an ARG, and no part of what a step's key is made of.
PREDEFINED = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_OPERATOR = re.compile(r":?[-+?]|##?|%%?|//?")


def expand_word(text: str, names: Mapping[str, str], escape: str = "\\") -> str:
    """One word: variables replaced, quotes and escapes taken away. Raises InvalidRequest."""
    return _Expander(text, names, escape).word()


def expand_words(text: str, names: Mapping[str, str], escape: str = "\\") -> tuple[str, ...]:
    """Split at white space that isn't quoted, each word expanded."""
    return tuple(expand_word(word, names, escape) for word in split_words(text, escape))


def expand_text(text: str, names: Mapping[str, str], escape: str = "\\") -> str:
    """As in a here-document: variables are replaced, quotes stay."""
    return _Expander(text, names, escape, quotes=False).word()


def split_words(text: str, escape: str = "\\") -> tuple[str, ...]:
    """At white space outside of quotes; nothing is taken away."""
    words: list[str] = []
    word, quote, index = "", "", 0
    while index < len(text):
        letter = text[index]
        if letter == escape and quote != "'" and index + 1 < len(text):
            word += text[index : index + 2]
            index += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter.isspace():
            if word:
                words.append(word)
            word, index = "", index + 1
            continue
        word += letter
        index += 1
    return (*words, word) if word else tuple(words)


class _Expander:
    def __init__(
        self, text: str, names: Mapping[str, str], escape: str, *, quotes: bool = True
    ) -> None:
        self._text = text
        self._names = names
        self._escape = escape
        self._quotes = quotes
        self._at = 0

    def word(self, end: str = "", *, is_raw: bool = False) -> str:
        """Up to `end`, which is passed over, or to the end of the text. `is_raw`: escapes stay,
        but that of a closing brace; a pattern has its own."""
        result = ""
        while self._at < len(self._text):
            letter = self._text[self._at]
            if end and letter == end:
                self._at += 1
                return result
            if self._quotes and letter == "'":
                result += self._single()
            elif self._quotes and letter == '"':
                result += self._double()
            elif letter == "$":
                result += self._variable()
            elif letter == self._escape and is_raw:
                escaped = self._escaped("")
                result += escaped if escaped == "}" else self._escape + escaped
            elif letter == self._escape:
                result += self._escaped("" if self._quotes else f"${self._escape}")
            else:
                result += letter
                self._at += 1
        if end:
            raise self._wrong(f"a missing {end!r}")
        return result

    def _escaped(self, only: str) -> str:
        """`only`: the letters that lose their escape; "" for all."""
        self._at += 1
        if self._at == len(self._text):
            return self._escape if only else ""
        letter = self._text[self._at]
        self._at += 1
        return letter if not only or letter in only else self._escape + letter

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise self._wrong("an unterminated quote")
        found = self._text[self._at + 1 : end]
        self._at = end + 1
        return found

    def _double(self) -> str:
        self._at += 1
        result = ""
        while self._at < len(self._text):
            letter = self._text[self._at]
            if letter == '"':
                self._at += 1
                return result
            if letter == "$":
                result += self._variable()
            elif letter == self._escape:
                result += self._escaped(f'"${self._escape}')
            else:
                result += letter
                self._at += 1
        raise self._wrong("an unterminated quote")

    def _variable(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            self._at += 1
            return self._braced()
        match = _NAME.match(self._text, self._at)
        if match is None:
            return "$"
        self._at = match.end()
        return self._names.get(match[0], "")

    def _braced(self) -> str:
        match = _NAME.match(self._text, self._at)
        if match is None:
            raise self._wrong("a bad substitution")
        name, self._at = match[0], match.end()
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1
            return self._names.get(name, "")
        operator = _OPERATOR.match(self._text, self._at)
        if operator is None:
            raise self._wrong("an unsupported modifier")
        self._at = operator.end()
        if operator[0] in ("/", "//"):
            return self._replaced(name, every=operator[0] == "//")
        word = self.word("}", is_raw=operator[0][0] in "#%")
        return self._modified(name, operator[0], word)

    def _modified(self, name: str, operator: str, word: str) -> str:
        value = self._names.get(name)
        match operator:
            case "#" | "##":
                return _without_prefix(value or "", self._pattern(word), longest=operator == "##")
            case "%" | "%%":
                return _without_suffix(value or "", self._pattern(word), longest=operator == "%%")
        counts = value if operator.startswith(":") else ("set" if value is not None else "")
        match operator[-1]:
            case "-":
                return value or "" if counts else word
            case "+":
                return word if counts else ""
        if not counts:
            raise InvalidRequest(f"{name}: {word or 'is not set'}")
        return value or ""

    def _replaced(self, name: str, *, every: bool) -> str:
        pattern = self._pattern(self.word("/", is_raw=True))
        replacement = self.word("}", is_raw=True)
        return pattern.sub(lambda _: replacement, self._names.get(name, ""), 0 if every else 1)

    def _pattern(self, text: str) -> re.Pattern[str]:
        """`*` and `?` of a shell; an escape makes them what they are, and itself."""
        collapsed = re.sub(r"(?<!\\)\*+", "*", text)  # `**` would make it try for ever
        expression, index = "", 0
        while index < len(collapsed):
            letter = collapsed[index]
            if letter == "\\":
                index += 1
                letter = collapsed[index : index + 1]
                if letter not in ("*", "?", "/", "\\"):
                    raise self._wrong(f"an invalid escape in the pattern {text!r}")
                expression += re.escape(letter)
            else:
                expression += {"*": ".*", "?": "."}.get(letter) or re.escape(letter)
            index += 1
        return re.compile(expression, re.DOTALL)

    def _wrong(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"cannot process {self._text!r}: {reason}")


def _without_prefix(value: str, pattern: re.Pattern[str], *, longest: bool) -> str:
    lengths = range(len(value), -1, -1) if longest else range(len(value) + 1)
    for length in lengths:
        if pattern.fullmatch(value[:length]):
            return value[length:]
    return value


def _without_suffix(value: str, pattern: re.Pattern[str], *, longest: bool) -> str:
    starts = range(len(value) + 1) if longest else range(len(value), -1, -1)
    for start in starts:
        if pattern.fullmatch(value[start:]):
            return value[:start]
    return value
